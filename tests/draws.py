"""Random logits and slots to draw codes for, and what must be drawn."""

import torch
from torch import Tensor

from backend.core import SamplingParams
from backend.engine.frame import State
from backend.engine.sampler import draw, penalties, uniforms


def random_draws(state: State, book: int, rounding: float = 1.0) -> tuple[Tensor, Tensor]:
    """Fill the slots of `state` with any parameters and past: logits [S, V] of `book`, and the
    codes [S] that `sampler.draw` draws from them.

    Every other row is rounded to a multiple of `rounding`, so that many of its logits are alike;
    the row 7 has one that is no number.
    """
    slots, config, count = state.slots, state.model.config, state.slots.count
    generator = torch.Generator().manual_seed(book)
    device = slots.tokens.device

    def any_of(*values: float) -> Tensor:
        return torch.tensor(values)[torch.randint(len(values), (count,), generator=generator)]

    for slot in range(count):
        slots.open(slot, SamplingParams(1.0, 1.0, 1.0, slot))
    slots.temperature[:count] = any_of(0, 0.2, 0.7, 1, 1.5).to(device)
    slots.top_p[:count] = any_of(1e-3, 0.3, 0.8, 0.99, torch.inf).to(device)
    slots.penalty[:count] = any_of(1, 1.1, 2).to(device)
    shape = slots.history[:count].shape
    past = torch.randint(-1, config.residual_codebook_size, shape, generator=generator)
    slots.history[:count] = past.to(device)
    slots.frames[:count] = torch.randint(1000, (count,), generator=generator).to(device)
    size = config.residual_codebook_size if book else config.codebook_size + 1
    logits = 3 * torch.randn(count, size, generator=generator)
    logits[::2] = (logits[::2] / rounding).round() * rounding
    logits[7, 5] = torch.nan
    logits, rows = logits.to(device), torch.arange(count, device=device)
    sampling = slots.unknown_sampling(rows)
    noise = uniforms(slots.keys[rows], slots.frames[rows], config.num_codebooks)
    factors = penalties(sampling, slots.history[rows], config.codebook_size + 1)
    return logits, draw(logits, sampling, noise[:, book], factors[:, book, :size])
