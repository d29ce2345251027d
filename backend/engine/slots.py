"""What the device must know of each slot beside its keys and values."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from backend.core import SamplingParams
from backend.engine.sampler import SamplingRows, seed_key

WINDOW = 16
"""Frames whose codes the repetition penalty looks at."""


class Slots:
    """One entry a slot in every tensor. A joining row writes its own; then only the device does."""

    def __init__(self, count: int, num_codebooks: int, device: torch.device) -> None:
        def full(shape: tuple[int, ...], dtype: torch.dtype, value: float = 0) -> Tensor:
            return torch.full((count, *shape), value, dtype=dtype, device=device)

        self.tokens = full((), torch.int64)
        """The token whose keys and values the next frame writes first."""
        self.codes = full((num_codebooks,), torch.int64)
        """Its codes, which count where it is semantic."""
        self.positions = full((), torch.int64)
        """Its place in the cache."""
        self.frames = full((), torch.int64)
        """Frames made."""
        self.history = full((WINDOW, num_codebooks), torch.int64, -1)
        self.keys = full((), torch.int64)
        """The seeds, as `uniforms` takes them."""
        self.temperature = full((), torch.float32)
        self.top_p = full((), torch.float32)
        self.penalty = full((), torch.float32, 1)
        self._sampling: dict[int, SamplingParams] = {}

    @property
    def count(self) -> int:
        """Slots for rows: one less than there are entries."""
        return self.tokens.shape[0] - 1

    def copy_(self, other: "Slots", count: int) -> None:
        """Let the first `count` slots go on from where those of `other` are."""
        for name, tensor in vars(self).items():
            if isinstance(tensor, Tensor):
                tensor[:count] = getattr(other, name)[:count]

    def open(self, slot: int, sampling: SamplingParams) -> None:
        """Begin anew in `slot`."""
        self._sampling[slot] = sampling
        self.frames[slot].fill_(0)
        self.history[slot].fill_(-1)
        self.keys[slot].fill_(seed_key(sampling.seed or 0))
        self.temperature[slot].fill_(sampling.temperature)
        # Rounding may carry a cumulative sum past 1; a request for all tokens gets all.
        self.top_p[slot].fill_(sampling.top_p if sampling.top_p < 1 else math.inf)
        self.penalty[slot].fill_(sampling.repetition_penalty)

    def begin(self, slot: int, token: Tensor, codes: Tensor, position: int) -> None:
        """Its prompt is read up to the last token [], with codes [N], whose place is `position`."""
        self.tokens[slot] = token
        self.codes[slot] = codes
        self.positions[slot].fill_(position)

    def sampling(self, slots: list[int], rows: Tensor) -> SamplingRows:
        """The parameters of `slots`, which `rows` [B] holds on the device."""
        chosen = [self._sampling[slot] for slot in slots]
        greedy = [each.is_greedy for each in chosen]
        return replace(
            self.unknown_sampling(rows),
            all_greedy=all(greedy),
            any_greedy=any(greedy),
            any_penalty=any(each.repetition_penalty != 1.0 for each in chosen),
        )

    def unknown_sampling(self, rows: Tensor) -> SamplingRows:
        """Those of the slots `rows` [B], whichever they are: for what is recorded or compiled."""
        return SamplingRows(
            temperature=self.temperature[rows, None],
            top_p=self.top_p[rows, None],
            repetition_penalty=self.penalty[rows, None],
            all_greedy=False,
            any_greedy=True,
            any_penalty=True,
        )

    def record(self, rows: Tensor, spoken: Tensor, semantic_begin_id: int) -> None:
        """`spoken` [B, N] are the codes that the slots `rows` [B] go on from."""
        self.history[rows, self.frames[rows] % WINDOW] = spoken
        self.tokens[rows] = spoken[:, 0] + semantic_begin_id
        self.codes[rows] = spoken
        self.positions[rows] += 1
        self.frames[rows] += 1
