"""The ways in which a frame's numbers are computed: what they share, and the plain one.

A way reads prompts into rows and makes one frame for rows. All of them work on one `State`, so that
the runner may go from one to another between two frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from backend.engine.sampler import SamplingRows, draw, penalties, uniforms
from backend.engine.slots import Slots
from backend.model.dual_ar import DualAR, FastFrame
from backend.model.kv_cache import KVCache
from backend.model.packed_cache import cache_of


@dataclass(frozen=True, slots=True)
class State:
    """A model, and what its rows have come to."""

    model: DualAR
    slots: Slots
    cache: KVCache

    @classmethod
    def of(cls, model: DualAR, count: int) -> "State":
        """Room for `count` rows, and one slot more that a kernel may waste work on."""
        slots = Slots(count + 1, model.config.num_codebooks, model.embeddings.weight.device)
        cache = cache_of(model, count + 1, has_spare=True)
        return cls(model, slots, cache)


class Way(Protocol):
    """Computes what the runner decided; rows that it works on have been made room for."""

    @property
    def name(self) -> str:
        """As it is told to users."""

    def prepare(self) -> bool:
        """Make something ready that will be wanted; False where nothing is left to prepare."""

    def read(self, slot: int, tokens: Tensor, codes: Tensor) -> None:
        """Write the next piece of a prompt, tokens [T] and codes [T, N] on the device, into the row
        of `slot`."""

    def frame(self, slots: Sequence[int]) -> Tensor:
        """Make a frame for each row and record it: codes [B, N] on the device.

        The first of them may be `DualAR.end_column`, which is the end of speech and no frame; all
        are -1 from the first code on whose logits were no numbers.
        """

    def logits(self, slots: Sequence[int]) -> list[Tensor]:
        """What the last frame's codes were drawn from, [B, V] each, before penalties."""


class EagerWay:
    """One torch operation after another: ready at once, and what every other way must equal."""

    name = "eager"

    def __init__(self, state: State) -> None:
        self._state, self._fast = state, FastFrame(state.model)
        self._logits: list[Tensor] = []

    def prepare(self) -> bool:
        """Nothing is made beforehand."""
        return False

    def read(self, slot: int, tokens: Tensor, codes: Tensor) -> None:
        """Write the next piece of a prompt into the row of `slot`."""
        self._state.model.prefill(tokens, codes, self._state.cache, slot)

    def frame(self, slots: Sequence[int]) -> Tensor:
        """Make a frame for each row and record it: codes [B, N]."""
        state, model = self._state.slots, self._state.model
        rows = on_device(slots, state.positions.device)
        hidden = model.decode(
            state.tokens[rows], state.codes[rows], state.positions[rows], self._state.cache, slots
        )
        sampling = state.sampling(list(slots), rows)
        codes, self._logits = draw_frame(model, self._fast, state, rows, sampling, hidden)
        state.record(rows, spoken_codes(codes, model.config.codebook_size), model.semantic_begin_id)
        return codes

    def logits(self, slots: Sequence[int]) -> list[Tensor]:
        """What the last frame's codes were drawn from."""
        return self._logits


def draw_frame(
    model: DualAR,
    fast: FastFrame,
    state: Slots,
    rows: Tensor,
    sampling: SamplingRows,
    hidden: Tensor,
) -> tuple[Tensor, list[Tensor]]:
    """Slow hidden states [B, dim] of the slots `rows` [B] to their codes [B, N], and the logits
    [B, V] of each book that they were drawn from."""
    config = model.config
    noise = uniforms(state.keys[rows], state.frames[rows], config.num_codebooks)
    factors = None
    if sampling.any_penalty:
        factors = penalties(sampling, state.history[rows], config.codebook_size + 1)
    codes: list[Tensor] = []
    every: list[Tensor] = []
    for book in range(config.num_codebooks):
        if book == 0:
            logits = model.slow_logits(hidden)
        elif book == 1:
            logits = fast.start(hidden, spoken_codes(codes[0], config.codebook_size))
        else:
            logits = fast.step(book - 1, codes[-1].clamp(min=0))
        if book:
            logits = logits[:, : config.residual_codebook_size]
        penalty = None if factors is None else factors[:, book, : logits.shape[-1]]
        codes.append(draw(logits, sampling, noise[:, book], penalty))
        every.append(logits)
    return torch.stack(codes, dim=1), every


def on_device(slots: Sequence[int], device: torch.device) -> Tensor:
    """`slots` as a tensor [B]; a GPU is not waited for."""
    rows = torch.tensor(slots)
    if device.type == "cuda":
        rows = rows.pin_memory()
    return rows.to(device, non_blocking=True)


def spoken_codes(codes: Tensor, codebook_size: int) -> Tensor:
    """Codes with the end of speech, and what was no number, replaced by some code.

    A row that ends goes on to make a frame that nobody looks at: asking whether it ends would be a
    wait for the device.
    """
    return codes.clamp(min=0, max=codebook_size - 1)
