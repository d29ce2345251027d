"""Whether a compiled frame computes what the eager one does, tried before it may speak."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch

from backend.core import SamplingParams
from backend.engine.frame import Drawn, EagerFrame, Frame
from backend.engine.rows import Rows
from backend.model.dual_ar import DualAR
from backend.model.kv_cache import KVCache

_CASES = ((40,), (3, 70, 21))
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
    torch.bfloat16: (0.25, 0.75),
    torch.float16: (0.05, 0.9),
    torch.float32: (1e-3, 1.0),
}
"""By the coarsest type that the model computes in: the largest difference of two logits that is
rounding, in standard deviations of all of them, and the least share of codes that must be the same.
In 16 bits each sum is rounded, and compiled code adds in another order; of logits as close as that,
either is right. Random weights make many such ties, trained ones hardly any."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two frames agree."""

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


def compare(model: DualAR, found: Frame, pause: Callable[[], None]) -> Agreement:
    """Let the eager frame and `found` make the same frames of random prompts.

    Both go on from what the eager one drew. `pause` is called between steps, and may raise.
    """
    tally = Tally()
    for lengths in _CASES:
        _compare_rows(model, found, lengths, tally, pause)
    # Those of quantized weights count: their kernels round what they multiply as well.
    types = {tensor.dtype for tensor in (*model.parameters(), *model.buffers())}
    allowed = next(limits for dtype, limits in _ALLOWED.items() if dtype in types)
    return tally.agreement(*allowed)


@dataclass(slots=True)
class Tally:
    """Counts how far frames agree that were made from the same past."""

    error: float = 0.0
    same: int = 0
    drawn: int = 0

    def agreement(self, most_error: float, least_same: float) -> Agreement:
        """What was counted, and what is allowed."""
        return Agreement(self.error, self.same / self.drawn, most_error, least_same)

    def count(self, wanted: Drawn, made: Drawn) -> None:
        """Compare code book by code book, for each row up to the first code that differs."""
        alike = torch.ones_like(wanted.codes[0], dtype=torch.bool)
        for book, logits in enumerate(wanted.logits):
            expected, found = logits[alike].float(), made.logits[book][alike].float()
            error = float((expected - found).abs().max() / expected.std())
            # Not max(), which hides a NaN behind a number.
            self.error = error if not error <= self.error else self.error
            self.drawn += int(alike.sum())
            alike &= wanted.codes[book] == made.codes[book]
            self.same += int(alike.sum())
            if not alike.any():
                return


@torch.inference_mode()
def _compare_rows(
    model: DualAR, found: Frame, lengths: tuple[int, ...], tally: Tally, pause: Callable[[], None]
) -> None:
    weight, config = model.embeddings.weight, model.config
    eager = EagerFrame(model)
    rows = Rows(len(lengths), config.num_codebooks, weight.device)
    cache = KVCache(config.slow, weight.dtype, weight.device)
    generator = torch.Generator().manual_seed(len(lengths))
    hidden = []
    for index, length in enumerate(lengths):
        rows.add(_SAMPLING[index % len(_SAMPLING)], length)
        cache.add_row(length)
        shape = (length, config.num_codebooks)
        codes = torch.randint(config.residual_codebook_size, shape, generator=generator)
        tokens = codes[:, 0] + model.semantic_begin_id
        given = tokens.to(weight.device), codes.to(weight.device)
        hidden.append(model.prefill(*given, cache, index))
        pause()
    caches, every = (cache, copy.deepcopy(cache)), slice(0, len(lengths))
    now = (torch.cat(hidden), torch.cat(hidden))
    for _ in range(_FRAMES):
        given_draw = rows.draw(every)
        wanted, made = eager.draw(now[0], given_draw), found.draw(now[1], given_draw)
        tally.count(wanted, made)
        pause()
        rows.record(every, wanted.frames(config.codebook_size))
        for each in caches:
            each.advance()
        state = rows.codes[every], rows.positions[every]
        now = (eager.hidden(*state, caches[0]), found.hidden(*state, caches[1]))
        pause()
