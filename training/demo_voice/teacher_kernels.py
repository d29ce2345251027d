"""What lies between the teacher's convolutions, as Triton kernels: one pass over memory each.

Sequences are [batch, time, channels], contiguous, any float type; statistics are float32. Frames
past a sequence's end count as zero wherever they are read, and are zero wherever they are written.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_CHUNK, _ROWS, _COLUMNS = 512, 32, 128


@triton.jit  # type: ignore[untyped-decorator]
def _sums_kernel(  # type: ignore[no-untyped-def]
    values, added, bias, frames, out, sums, time, channels, chunks,
    ADD: tl.constexpr, CHUNK: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Sum and sum of squares of a chunk of time; with ADD, of values + added + bias, kept too."""
    chunk, batch = tl.program_id(0), tl.program_id(1)
    columns = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    in_width = columns < channels
    length = tl.load(frames + batch)
    begin = batch.to(tl.int64) * time
    first = tl.zeros([COLUMNS], tl.float32)
    second = tl.zeros([COLUMNS], tl.float32)
    if ADD:
        shift = tl.load(bias + columns, mask=in_width, other=0.0).to(tl.float32)
    for step in range(0, CHUNK, ROWS):
        rows = chunk * CHUNK + step + tl.arange(0, ROWS)
        valid = (rows < length)[:, None] & in_width[None, :]
        at = (begin + rows)[:, None] * channels + columns[None, :]
        value = tl.load(values + at, mask=valid, other=0.0).to(tl.float32)
        if ADD:
            value += tl.load(added + at, mask=valid, other=0.0).to(tl.float32)
            value = tl.where(valid, value + shift[None, :], 0.0)
            value = value.to(out.dtype.element_ty)
            tl.store(out + at, value, mask=(rows < time)[:, None] & in_width[None, :])
            value = value.to(tl.float32)
        first += tl.sum(value, 0)
        second += tl.sum(value * value, 0)
    at = ((batch * chunks + chunk) * 2) * channels + columns
    tl.store(sums + at, first, mask=in_width)
    tl.store(sums + at + channels, second, mask=in_width)


@triton.jit  # type: ignore[untyped-decorator]
def _activate_kernel(  # type: ignore[no-untyped-def]
    values, scale, shift, alpha, frames, out, time, channels,
    SNAKE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Scale, shift and bend: u + sin^2(alpha u) / alpha, or a rectifier leaking a fifth."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    batch = tl.program_id(1)
    columns = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    in_width = columns < channels
    length = tl.load(frames + batch)
    factor = tl.load(scale + batch * channels + columns, mask=in_width, other=0.0)
    offset = tl.load(shift + batch * channels + columns, mask=in_width, other=0.0)
    valid = (rows < length)[:, None] & in_width[None, :]
    at = (batch.to(tl.int64) * time + rows)[:, None] * channels + columns[None, :]
    value = tl.load(values + at, mask=valid, other=0.0).to(tl.float32)
    value = value * factor[None, :] + offset[None, :]
    if SNAKE:
        rate = tl.load(alpha + columns, mask=in_width, other=1.0)[None, :]
        wave = tl.sin(value * rate)
        value += wave * wave / rate
    else:
        value = tl.where(value > 0, value, value * 0.2)
    value = tl.where(valid, value, 0.0)
    stored = (rows < time)[:, None] & in_width[None, :]
    tl.store(out + at, value.to(out.dtype.element_ty), mask=stored)


def _sums(
    values: Tensor, frames: Tensor, added: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    batch, time, channels = values.shape
    chunks = triton.cdiv(time, _CHUNK)
    sums = torch.empty(batch, chunks, 2, channels, device=values.device)
    out = values if added is None else torch.empty_like(values)
    _sums_kernel[chunks, batch, triton.cdiv(channels, _COLUMNS)](
        values, values if added is None else added, values if bias is None else bias, frames,
        out, sums, time, channels, chunks,
        ADD=added is not None, CHUNK=_CHUNK, ROWS=_ROWS, COLUMNS=_COLUMNS,
    )  # fmt: skip
    return out, sums.sum(1)


def sums(values: Tensor, frames: Tensor) -> Tensor:
    """Sums and sums of squares over time, float32 [batch, 2, channels]."""
    return _sums(values, frames, None, None)[1]


def add(values: Tensor, added: Tensor, bias: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """values + added + bias, and its `sums`."""
    return _sums(values, frames, added, bias)


def activate(
    values: Tensor, scale: Tensor, shift: Tensor, alpha: Tensor | None, frames: Tensor
) -> Tensor:
    """The bent values; scale and shift are float32 [batch, channels], alpha float32 [channels]."""
    batch, time, channels = values.shape
    out = torch.empty_like(values)
    grid = triton.cdiv(time, _ROWS), batch, triton.cdiv(channels, _COLUMNS)
    _activate_kernel[grid](
        values, scale, shift, scale if alpha is None else alpha, frames, out, time, channels,
        SNAKE=alpha is not None, ROWS=_ROWS, COLUMNS=_COLUMNS,
    )  # fmt: skip
    return out
