"""How long rows of keys and values are, what they take, and who fits: said here alone. No torch.

Each row that is being spoken is one tensor of its own, [layers, 2, KV heads, capacity, head_dim].
It grows alone and copies only itself, so what rows take together is a sum.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from backend.model.config.transformer import TransformerConfig

KV_BUCKET = 64
"""A row's capacity is a multiple of this many positions."""

KEY_BITS, VALUE_BITS = 8, 6
"""Of an element of a key and of a value, where they are packed."""
FINE_KEY_BITS, FINE_VALUE_BITS = 16, 8
"""The same of a small transformer, whose rows are little beside its codec: 8 and 6 bits made one
most probable code in 60 another (MDs/BENCHMARKS.md)."""
STEP_BYTES = 4
"""Of the size of the steps that a head's key or value is then rounded to, once for each 8 bits."""


def last_capacity(most: int) -> int:
    """Positions that a row has room for at the end, if it can come to hold `most` of them."""
    return -(-most // KV_BUCKET) * KV_BUCKET


def first_capacity(prompt: int, most: int) -> int:
    """Positions that a row begins with, of which a prompt takes `prompt` at once.

    A bucket more than the prompt, so that it grows rarely, but not more than `most` take.
    """
    return last_capacity(max(prompt, min(prompt + KV_BUCKET, most)))


def grown_capacity(capacity: int, most: int) -> int:
    """What follows `capacity` when a row is full: half as much again, up to what `most` take.

    One that holds more than it said grows by a bucket at a time.
    """
    by_half = last_capacity(capacity * 3 // 2)
    return max(capacity + KV_BUCKET, min(by_half, last_capacity(most)))


def capacities(prompt: int, length: int, most: int) -> list[int]:
    """What a row has room for, one after the other, from its prompt until it holds `length`."""
    grown = [first_capacity(prompt, most)]
    while grown[-1] < length:
        grown.append(grown_capacity(grown[-1], most))
    return grown


def packed_bits(is_fine: bool) -> tuple[int, int]:
    """Of an element of a key and of a value."""
    return (FINE_KEY_BITS, FINE_VALUE_BITS) if is_fine else (KEY_BITS, VALUE_BITS)


def packed_bytes(head_dim: int, bits: int) -> int:
    """Of one key or value in so many bits. Those of 16 are two of 8, each with its step's size."""
    return head_dim * bits // 8 + STEP_BYTES * max(1, bits // 8)


@dataclass(frozen=True, slots=True)
class CacheGeometry:
    """What rows of keys and values take, in bytes.

    Keys and values of voices' prompts, kept for the next request, lie in what the limit leaves
    free and are let go of as soon as a row needs the room: they never count against who fits.
    """

    position_bytes: int
    """Of one position, over all layers."""

    @classmethod
    def of(cls, slow: TransformerConfig, element_bytes: int) -> Self:
        """That of the transformer over frames, whose keys and values take so much an element."""
        return cls(slow.kv_bytes_per_position(element_bytes))

    @classmethod
    def packed(cls, slow: TransformerConfig, *, is_fine: bool = False) -> Self:
        """The same where a CPU's kernels read them in `KEY_BITS` and `VALUE_BITS`, or in the finer
        ones, and of each the size of its steps."""
        head = sum(packed_bytes(slow.head_dim, bits) for bits in packed_bits(is_fine))
        return cls(slow.n_layer * slow.n_local_heads * head)

    def row_bytes(self, capacity: int) -> int:
        """Of a row with room for so many positions."""
        return capacity * self.position_bytes

    def growing_bytes(self, prompt: int, length: int, most: int) -> int:
        """What stands beside a row, at most, until it holds `length`: itself before it grew.

        The last growth copies most. Rows grow one after the other, so it is there once.
        """
        before = capacities(prompt, length, most)[:-1]
        return self.row_bytes(before[-1]) if before else 0

    def held_bytes(self, rows: Iterable[int]) -> int:
        """Of rows that can come to hold so many positions each, when all of them do."""
        return sum(self.row_bytes(last_capacity(most)) for most in rows)

    def fits(self, running: Iterable[int], newcomer: int, limit_bytes: int | None) -> bool:
        """Whether a row may join those that run, each given by the positions it can come to hold.

        None is no limit. What is alone always may: nothing that it could wait for would help.
        """
        rows = list(running)
        if limit_bytes is None or not rows:
            return True
        return self.held_bytes((*rows, newcomer)) <= limit_bytes
