"""How the numbers of one decode step are computed, in eager torch.

`backend.engine.compiled` holds the same computation compiled; the runner takes either.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from backend.engine.sampler import SamplingRows, draw, penalties, uniforms
from backend.model.dual_ar import DualAR, FastFrame
from backend.model.kv_cache import KVCache


@dataclass(frozen=True, slots=True)
class Draw:
    """What decides which codes the rows [B] draw from their logits."""

    sampling: SamplingRows
    keys: Tensor
    """Seeds [B], as `uniforms` takes them."""
    frames: Tensor
    """Frames made before [B]."""
    history: Tensor
    """Codes [B, W, N] that the repetition penalty looks at, -1 where there is none."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A frame of every row [B]."""

    codes: list[Tensor]
    """The codes [B] of each code book; the first may be `DualAR.end_column`."""
    logits: list[Tensor]
    """What they were drawn from [B, V], before penalties."""

    def frames(self, codebook_size: int) -> Tensor:
        """The frames [B, N] for the model to go on from."""
        return torch.stack((spoken_codes(self.codes[0], codebook_size), *self.codes[1:]), dim=1)


class Frame(Protocol):
    """Computes one step for rows that `KVCache.advance` has counted."""

    def hidden(self, codes: Tensor, positions: Tensor, cache: KVCache) -> Tensor:
        """The frames just made [B, N] at `positions` [B] to slow hidden states [B, dim]."""

    def draw(self, hidden: Tensor, given: Draw) -> Drawn:
        """Slow hidden states [B, dim] to the next frames."""


class EagerFrame:
    """One torch operation after another: ready at once, and what the compiled frame must equal."""

    def __init__(self, model: DualAR) -> None:
        self._model, self._fast = model, FastFrame(model)

    def hidden(self, codes: Tensor, positions: Tensor, cache: KVCache) -> Tensor:
        """The frames just made [B, N] at `positions` [B] to slow hidden states [B, dim]."""
        return self._model.decode(codes, positions, cache)

    def draw(self, hidden: Tensor, given: Draw) -> Drawn:
        """Slow hidden states [B, dim] to the next frames."""
        config, sampling = self._model.config, given.sampling
        books, residual = config.num_codebooks, config.residual_codebook_size
        noise = uniforms(given.keys, given.frames, books)
        factors = None
        if sampling.any_penalty:
            factors = penalties(sampling, given.history, config.codebook_size + 1)

        def pick(logits: Tensor, book: int) -> Tensor:
            penalty = None if factors is None else factors[:, book, : logits.shape[-1]]
            return draw(logits, sampling, noise[:, book], penalty)

        logits = [self._model.slow_logits(hidden)]
        drawn = [pick(logits[0], 0)]
        spoken = spoken_codes(drawn[0], config.codebook_size)
        for book in range(1, books):
            wide = (
                self._fast.start(hidden, spoken)
                if book == 1
                else self._fast.step(book - 1, drawn[-1])
            )
            logits.append(wide[:, :residual])
            drawn.append(pick(logits[-1], book))
        return Drawn(drawn, logits)


def spoken_codes(semantic: Tensor, codebook_size: int) -> Tensor:
    """Semantic codes [B] with the end of speech replaced by some code.

    A row that ends goes on to make a frame that nobody looks at: asking whether it ends would be a
    wait for the device.
    """
    return semantic.clamp(max=codebook_size - 1)
