# mypy: disable-error-code="untyped-decorator, no-untyped-def, unused-ignore"
"""Triton's kernels of the codec's decoder, over signals whose channels lie last: [B, T, C].

Each computes in float32 and rounds once, to the type of what it writes. Triton takes 80 MB of a
process and is not everywhere: who imports this knows that it is wanted.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _snaked(x, alpha):
    """x + sin²(αx)/α, to 1e-7 of sin². Its period is π, so a few terms do for the sine."""
    angle = alpha * x
    turns = tl.floor(angle * 0.3183098861837907 + 0.5)
    angle = (angle - turns * 3.140625) - turns * 9.67653589793e-4  # π in two parts
    square = angle * angle
    series = -2.505210838544172e-8 * square + 2.7557319223985893e-6
    series = series * square - 1.984126984126984e-4
    series = series * square + 8.333333333333333e-3
    series = series * square - 0.16666666666666666
    sine = angle + angle * square * series
    return x + sine * sine / (alpha + 1e-9)


@triton.jit
def _snake_behind(
    x_ptr,  # [B, T, C]
    tails_ptr,  # [slots, P, C]
    rows_ptr,  # [B]
    alpha_ptr,  # [C]
    y_ptr,  # [B, P + T, C]
    past_size,  # P · C
    new_size,  # T · C
    channels,
    block: tl.constexpr,
):
    row = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * block + tl.arange(0, block)
    is_past, is_new = at < past_size, (at >= past_size) & (at < past_size + new_size)
    slot = tl.load(rows_ptr + row).to(tl.int64)
    past = tl.load(tails_ptr + slot * past_size + at, mask=is_past, other=0.0)
    x = tl.load(x_ptr + row * new_size + (at - past_size), mask=is_new, other=0.0)
    alpha = tl.load(alpha_ptr + at % channels).to(tl.float32)
    y = tl.where(is_past, past.to(tl.float32), _snaked(x.to(tl.float32), alpha))
    tl.store(y_ptr + row * (past_size + new_size) + at, y, mask=is_past | is_new)


@triton.jit
def _conv(
    x_ptr,  # [B, (taps - 1) · dilation + T, C]
    weight_ptr,  # [C', taps, C]
    bias_ptr,  # [C']
    alpha_ptr,  # [C'], of the snake behind it
    residual_ptr,  # [B, T, C'], what is added
    y_ptr,  # [B, T, C']
    length,  # T
    channels_in: tl.constexpr,
    channels_out: tl.constexpr,
    dilation,
    taps: tl.constexpr,
    has_snake: tl.constexpr,
    has_residual: tl.constexpr,
    block_t: tl.constexpr,
    block_out: tl.constexpr,
    block_in: tl.constexpr,
):
    # Neighbours read the same columns of x.
    parts: tl.constexpr = (channels_out + block_out - 1) // block_out
    blocks = tl.cdiv(length, block_t)
    place = tl.program_id(0) // parts
    row = (place // blocks).to(tl.int64)
    column = (place % blocks) * block_t + tl.arange(0, block_t)
    out = (tl.program_id(0) % parts) * block_out + tl.arange(0, block_out)
    into = tl.arange(0, block_in)
    x_ptr += row * (length + (taps - 1) * dilation) * channels_in
    total = tl.zeros((block_t, block_out), dtype=tl.float32)
    steps: tl.constexpr = (channels_in + block_in - 1) // block_in
    for step in range(taps * steps):
        tap = step // steps
        channel = (step % steps) * block_in + into
        x = tl.load(
            x_ptr + (column + tap * dilation)[:, None] * channels_in + channel[None],
            mask=(column < length)[:, None] & (channel < channels_in)[None],
            other=0.0,
        )
        weight = tl.load(
            weight_ptr + (out * taps + tap)[None] * channels_in + channel[:, None],
            mask=(out < channels_out)[None] & (channel < channels_in)[:, None],
            other=0.0,
        )
        total = tl.dot(x, weight, total)
    is_out = out < channels_out
    total += tl.load(bias_ptr + out, mask=is_out, other=0.0).to(tl.float32)[None]
    if has_snake:
        alpha = tl.load(alpha_ptr + out, mask=is_out, other=1.0).to(tl.float32)
        total = _snaked(total, alpha[None])
    at = (row * length + column)[:, None] * channels_out + out[None]
    inside = (column < length)[:, None] & is_out[None]
    if has_residual:
        total += tl.load(residual_ptr + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(y_ptr + at, total, mask=inside)


@triton.jit
def _to_one(
    x_ptr,  # [B, taps - 1 + T, C]
    weight_ptr,  # [taps, C]
    bias_ptr,  # [1]
    y_ptr,  # [B, T], float32
    length,  # T
    channels: tl.constexpr,
    taps: tl.constexpr,
    block_t: tl.constexpr,
    block_c: tl.constexpr,
):
    blocks = tl.cdiv(length, block_t)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    column = (tl.program_id(0) % blocks) * block_t + tl.arange(0, block_t)
    channel = tl.arange(0, block_c)
    x_ptr += row * (length + taps - 1) * channels
    total = tl.zeros((block_t, block_c), dtype=tl.float32)
    for tap in range(taps):
        x = tl.load(
            x_ptr + (column + tap)[:, None] * channels + channel[None],
            mask=(column < length)[:, None] & (channel < channels)[None],
            other=0.0,
        )
        weight = tl.load(weight_ptr + tap * channels + channel, mask=channel < channels, other=0.0)
        total += x.to(tl.float32) * weight.to(tl.float32)[None]
    y = tl.sum(total, axis=1) + tl.load(bias_ptr).to(tl.float32)
    tl.store(y_ptr + row * length + column, y, mask=column < length)


BLOCK = 1024


def snake_behind(x: Tensor, tails: Tensor, rows: Tensor, alpha: Tensor) -> Tensor:
    """The snake of x [B, T, C] behind the tails [slots, P, C] of `rows` [B]: [B, P + T, C]."""
    batch, length, channels = x.shape
    past = tails.shape[1]
    y = x.new_empty(batch, past + length, channels)
    grid = (-(-(past + length) * channels // BLOCK), batch)
    _snake_behind[grid](
        x, tails, rows, alpha, y, past * channels, length * channels, channels, block=BLOCK
    )
    return y


Tiles = tuple[int, int, int, int, int]
"""Columns, channels out and channels in of a block, its warps and its stages."""


def tiles_of(channels_in: int, channels_out: int) -> Tiles:
    """How a convolution is cut, as was fastest on an H100 (`benchmarks.codec_tiles`)."""
    block_in = max(16, min(64, channels_in & -channels_in))
    if 64 < channels_out <= 128 or channels_out % 128 == 0:
        return 128, 128, block_in, 8, 3 if block_in == 64 else 4
    return 128, max(16, min(64, triton.next_power_of_2(channels_out))), block_in, 4, 3


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    dilation: int = 1,
    alpha: Tensor | None = None,
    residual: Tensor | None = None,
    tiles: Tiles | None = None,
) -> Tensor:
    """The convolution of x [B, P + T, C], its past included, by weight [C', taps, C]: [B, T, C'].

    With `alpha` [C'] its snake is taken, then `residual` [B, T, C'] is added.
    """
    channels_out, taps, channels_in = weight.shape
    batch, length = x.shape[0], x.shape[1] - (taps - 1) * dilation
    y = x.new_empty(batch, length, channels_out)
    block_t, block_out, block_in, warps, stages = tiles or tiles_of(channels_in, channels_out)
    grid = (-(-channels_out // block_out) * batch * -(-length // block_t),)
    options: dict[str, Any] = {"num_warps": warps, "num_stages": stages}
    _conv[grid](
        x,
        weight,
        bias,
        bias if alpha is None else alpha,
        x if residual is None else residual,
        y,
        length,
        channels_in,
        channels_out,
        dilation,
        taps=taps,
        has_snake=alpha is not None,
        has_residual=residual is not None,
        block_t=block_t,
        block_out=block_out,
        block_in=block_in,
        **options,
    )
    return y


def to_one(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The convolution of x [B, taps - 1 + T, C] to one channel by weight [taps, C]: [B, T].

    In float32, whatever x is.
    """
    taps, channels = weight.shape
    batch, length = x.shape[0], x.shape[1] - taps + 1
    y = x.new_empty(batch, length, dtype=torch.float32)
    block_c = triton.next_power_of_2(channels)
    block_t = max(1, 4096 // block_c)
    grid = (batch * -(-length // block_t),)
    _to_one[grid](
        *(x, weight, bias, y, length),
        channels=channels,
        taps=taps,
        block_t=block_t,
        block_c=block_c,
    )
    return y
