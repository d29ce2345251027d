"""Whether a way computes what the eager one does, tried on this machine before it may speak."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from backend.core import SamplingParams
from backend.engine.frame import EagerWay, State, Way
from backend.model.packed import PackedLinear

_CASES: tuple[tuple[int, ...], ...] = ((40,), (3, 70, 21))
"""Prompt lengths of the rows that are tried together: one row and several, of one bucket of the
cache and across two."""
_FRAMES = 4
_SAMPLING = (
    SamplingParams(0.0, 1.0, 1.0),
    SamplingParams(0.7, 0.7, 1.1, 1),
    SamplingParams(1.0, 1.0, 1.5, 2),
)
"""Of each row in turn; greedy first."""

_ALLOWED = {
    torch.bfloat16: (0.5, 0.75),
    torch.float16: (0.05, 0.9),
    torch.float32: (1e-3, 1.0),
}
"""By the coarsest type that the model computes in: the largest difference of two logits that is
rounding, in standard deviations of all of them, and the least share of codes that must be the same.
In 16 bits each sum is rounded, and each way adds in another order; of logits as close as that,
either is right. Random weights make many such ties, trained ones hardly any; those that have learnt
to follow a speaker closely, and read these prompts that nobody says, came to 0.33 and 86 % (the
eager way is 0.32 from what it computes in float32). One head of one layer left out comes to 0.8 to
4.3 and at most 69 %."""
_ALLOWED_PACKED = {16: (0.15, 0.8), 8: (0.3, 0.75), 6: (0.3, 0.75)}
"""Of packed matrices of so many bits. What is multiplied is computed in float32, but keys and
values are kept in 16 bits, or with integers in few: what lies between two steps may
fall to either. Random weights of openaudio-s1-mini's size came to 0.11 and 87 % in int8, to 0.14
and 86 % in int4."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two ways agree."""

    worst_error: float
    """Largest difference of a logit, in standard deviations of the logits."""
    same_codes: float
    """Share of codes drawn the same, 0 to 1, of those drawn from the same past."""
    most_error: float
    least_same: float

    @property
    def is_close(self) -> bool:
        """The differences are rounding."""
        return self.worst_error <= self.most_error and self.same_codes >= self.least_same

    def __str__(self) -> str:
        return (
            f"logits differ by {self.worst_error:.1e} standard deviations at most (allowed "
            f"{self.most_error:g}), {self.same_codes:.1%} of the codes are the same (wanted "
            f"{self.least_same:.0%})"
        )


def compare(way: Way, state: State, pause: Callable[[], None] = lambda: None) -> Agreement:
    """Let the eager way and `way` read the same random prompts and make the same frames.

    Both go on from what the eager one drew. `state` is that of `way`, and nobody uses it yet.
    `pause` is called between steps, and may raise.
    """
    tally, model = Tally(), state.model
    for case in _CASES:
        lengths = case[: state.slots.count]
        try:
            _compare_rows(way, state, lengths, tally, pause)
        finally:
            for slot in range(len(lengths)):
                state.cache.close(slot)
    # Those of quantized weights count: their kernels round what they multiply as well.
    types = {tensor.dtype for tensor in (*model.parameters(), *model.buffers())}
    allowed = next(limits for dtype, limits in _ALLOWED.items() if dtype in types)
    packed = [module.bits for module in model.modules() if isinstance(module, PackedLinear)]
    allowed = _ALLOWED_PACKED.get(min(packed, default=32), allowed)
    return tally.agreement(*allowed)


@dataclass(frozen=True, slots=True)
class Made:
    """A frame of every row: its codes [B, N], and the logits [B, V] of each book."""

    codes: Tensor
    logits: list[Tensor]


@dataclass(slots=True)
class Tally:
    """Counts how far frames agree that were made from the same past."""

    error: float = 0.0
    same: int = 0
    drawn: int = 0

    def agreement(self, most_error: float, least_same: float) -> Agreement:
        """What was counted, and what is allowed."""
        return Agreement(self.error, self.same / self.drawn, most_error, least_same)

    def count(self, wanted: Made, made: Made) -> None:
        """Compare code book by code book, for each row up to the first code that differs."""
        alike = torch.ones_like(wanted.codes[:, 0], dtype=torch.bool)
        for book, logits in enumerate(wanted.logits):
            expected, found = logits[alike].float(), made.logits[book][alike].float()
            error = float((expected - found).abs().max() / expected.std())
            # Not max(), which hides a NaN behind a number.
            self.error = error if not error <= self.error else self.error
            self.drawn += int(alike.sum())
            alike &= wanted.codes[:, book] == made.codes[:, book]
            self.same += int(alike.sum())
            if not alike.any():
                return


@torch.inference_mode()
def _compare_rows(
    found: Way, state: State, lengths: tuple[int, ...], tally: Tally, pause: Callable[[], None]
) -> None:
    model, config, slots = state.model, state.model.config, range(len(lengths))
    plain = State.of(model, len(lengths))
    ways: tuple[tuple[Way, State], ...] = ((EagerWay(plain), plain), (found, state))
    generator, device = torch.Generator().manual_seed(len(lengths)), model.embeddings.weight.device
    for slot, length in enumerate(lengths):
        shape = (length, config.num_codebooks)
        codes = torch.randint(config.residual_codebook_size, shape, generator=generator)
        tokens, codes = (codes[:, 0] + model.semantic_begin_id).to(device), codes.to(device)
        for way, its in ways:
            its.cache.open(slot, length, length + _FRAMES)
            its.slots.open(slot, _SAMPLING[slot % len(_SAMPLING)])
            its.cache.extend([slot], length - 1)
            way.read(slot, tokens[:-1], codes[:-1])
            its.slots.begin(slot, tokens[-1], codes[-1], length - 1)
            pause()
    for _ in range(_FRAMES):
        made = []
        for way, its in ways:
            its.cache.extend(slots)
            made.append(Made(way.frame(slots).clone(), way.logits(slots)))
            pause()
        tally.count(*made)
        state.slots.copy_(plain.slots, len(lengths))
