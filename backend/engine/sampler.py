"""Logits to codes, row by row with each row's own parameters, without hidden state.

Follows `fish-speech==0.1.0`: repetition penalty, then top-p on the untempered distribution, which
drops the token that crosses the threshold too and never the best one, then temperature. The noise
is ours: a function of (seed, frame, code book) alone, so that a row draws the same whoever shares
its batch and whatever was drawn before. What is kept is laid end to end in the order of the codes,
not of their size, and the noise is a place on that line: a kernel that finds what is kept without
sorting (`backend.engine.kernels`) draws the same.
"""

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

Word = TypeVar("Word", int, Tensor)
_LOW_32 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class SamplingRows:
    """The parameters of B rows as tensors [B, 1], and what the host knows of them unasked."""

    temperature: Tensor
    top_p: Tensor
    repetition_penalty: Tensor
    """At least 1."""
    all_greedy: bool
    any_greedy: bool
    """Temperature 0."""
    any_penalty: bool
    """A repetition penalty other than 1."""


def seed_key(seed: int) -> int:
    """The 32 bits that stand for a seed of 64 in `uniforms`."""
    return _mix(_mix((seed & _LOW_32) + 1) ^ (seed >> 32))


def uniforms(keys: Tensor, frames: Tensor, books: int) -> Tensor:
    """Noise [B, books, 1] in [0, 1) for the `frames` [B] of rows whose seeds have `keys` [B]."""
    # The frame is mixed before it meets the key: two keys that differ in few bits would
    # otherwise run through the same values in another order.
    state = _mix(keys ^ _mix(frames + 0x9E3779B9))
    book = _mix(torch.arange(1, books + 1, device=keys.device) * 0x632BE5AB)
    # 24 bits are all that a float32 below 1 can hold.
    return ((_mix(state[:, None] ^ book) >> 8).float() * 2.0**-24)[..., None]


def penalties(rows: SamplingRows, history: Tensor, size: int) -> Tensor:
    """The penalty [B, N, size] on each code: that of its row if the code occurs in `history`
    [B, W, N] (-1 is none), else 1."""
    codes = history.transpose(1, 2)
    # What did not occur goes into a column that is cut off.
    factors = torch.ones((*codes.shape[:2], size + 1), device=history.device)
    penalty = rows.repetition_penalty[..., None].expand(codes.shape)
    return factors.scatter_(2, torch.where(codes < 0, size, codes), penalty)[..., :size]


def draw(logits: Tensor, rows: SamplingRows, noise: Tensor, penalty: Tensor | None) -> Tensor:
    """One column [B] of `logits` [B, V] for each row; `noise` [B, 1] decides which.

    -1 where a logit is no number. `penalty` [B, V] is that book's part of `penalties`, None where
    no row has any.
    """
    logits = _penalised(logits.float(), penalty)
    drawn = logits.argmax(-1)
    if not rows.all_greedy:
        cumulative = _weights(logits, rows).cumsum(-1)
        # noise < 1, so this lies below the last sum; the clamp only guards against NaN logits.
        place = torch.searchsorted(cumulative, noise * cumulative[:, -1:], right=True)[:, 0]
        place = place.clamp_(max=logits.shape[-1] - 1)
        drawn = torch.where(rows.temperature[:, 0] == 0, drawn, place) if rows.any_greedy else place
    return drawn.masked_fill_(logits.isnan().any(-1), -1)


def probabilities(logits: Tensor, rows: SamplingRows, penalty: Tensor | None = None) -> Tensor:
    """The distribution [B, V] that `draw` draws from, for rows that are not greedy."""
    weights = _weights(_penalised(logits.float(), penalty), rows)
    return weights / weights.sum(-1, keepdim=True)


def _penalised(logits: Tensor, penalty: Tensor | None) -> Tensor:
    if penalty is None:
        return logits
    # Times the penalty below zero, divided by it above: the lesser of both, since it is 1 or more.
    return torch.minimum(logits * penalty, logits / penalty)


def _weights(logits: Tensor, rows: SamplingRows) -> Tensor:
    """What each column [B, V] weighs, the best one 1, and 0 what top-p drops.

    Of columns that are alike the first ones are kept.
    """
    best = logits.amax(-1, keepdim=True)
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    dropped = ordered.softmax(-1).cumsum(-1) > rows.top_p
    dropped[:, 0] = False
    dropped = torch.zeros_like(dropped).scatter_(-1, order, dropped)
    weights = ((logits - best) / rows.temperature.clamp(min=1e-5)).exp_()
    return weights.masked_fill_(dropped, 0.0)


def _mix(x: Word) -> Word:
    """The finaliser of MurmurHash3 on the low 32 bits; int64, which every device multiplies."""
    x = x & _LOW_32
    x = (x ^ (x >> 16)) * 0x85EBCA6B & _LOW_32
    x = (x ^ (x >> 13)) * 0xC2B2AE35 & _LOW_32
    return x ^ (x >> 16)
