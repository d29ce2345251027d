"""What the device must know of each row beside its keys and values, packed like the cache."""

import math

import torch
from torch import Tensor

from backend.core import SamplingParams
from backend.engine.frame import Draw
from backend.engine.sampler import SamplingRows, seed_key

WINDOW = 16
"""Frames whose codes the repetition penalty looks at."""


class Rows:
    """One entry a row in every tensor. Written when a row joins, then only by the device."""

    def __init__(self, max_rows: int, num_codebooks: int, device: torch.device) -> None:
        def full(shape: tuple[int, ...], dtype: torch.dtype, value: float = 0) -> Tensor:
            return torch.full((max_rows, *shape), value, dtype=dtype, device=device)

        self.codes = full((num_codebooks,), torch.int64)
        """The frame made last."""
        self.positions = full((), torch.int64)
        """Where in the cache the frame made last belongs."""
        self.frames = full((), torch.int64)
        """Frames made."""
        self._history = full((WINDOW, num_codebooks), torch.int64, -1)
        self._keys = full((), torch.int64)
        """The seeds, as `uniforms` takes them."""
        self._temperature = full((1,), torch.float32)
        self._top_p = full((1,), torch.float32)
        self._penalty = full((1,), torch.float32)
        self._sampling: list[SamplingParams] = []

    def __len__(self) -> int:
        return len(self._sampling)

    def add(self, sampling: SamplingParams, prompt_tokens: int) -> int:
        """A row for a sequence whose prompt is about to be read; its index."""
        row = len(self._sampling)
        self._sampling.append(sampling)
        self.positions[row] = prompt_tokens - 1
        self.frames[row] = 0
        self._history[row] = -1
        self._keys[row] = seed_key(sampling.seed or 0)
        self._temperature[row] = sampling.temperature
        # Rounding may carry a cumulative sum past 1; a request for all tokens gets all.
        self._top_p[row] = sampling.top_p if sampling.top_p < 1 else math.inf
        self._penalty[row] = sampling.repetition_penalty
        return row

    def remove(self, row: int) -> None:
        """Free `row`; the last row takes its place."""
        last = self._sampling.pop()
        if row < len(self._sampling):
            self._sampling[row] = last
            for tensor in vars(self).values():
                if isinstance(tensor, Tensor):
                    tensor[row] = tensor[len(self._sampling)]

    def draw(self, rows: slice) -> Draw:
        """What decides which codes `rows` draw next."""
        chosen = self._sampling[rows]
        greedy = [sampling.is_greedy for sampling in chosen]
        sampling = SamplingRows(
            temperature=self._temperature[rows],
            top_p=self._top_p[rows],
            repetition_penalty=self._penalty[rows],
            all_greedy=all(greedy),
            any_greedy=any(greedy),
            any_penalty=any(sampling.repetition_penalty != 1.0 for sampling in chosen),
        )
        return Draw(sampling, self._keys[rows], self.frames[rows], self._history[rows])

    def record(self, rows: slice, codes: Tensor) -> None:
        """`codes` [B, N] are the frames that `rows` made."""
        slots = (self.frames[rows] % WINDOW).view(-1, 1, 1).expand(-1, 1, codes.shape[1])
        self._history[rows].scatter_(1, slots, codes[:, None])
        self.codes[rows] = codes
        self.positions[rows] += 1
        self.frames[rows] += 1
