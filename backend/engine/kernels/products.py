# mypy: disable-error-code="untyped-decorator, no-untyped-def, unused-ignore"
"""Products of rows with weights, and the norms and gates between them."""

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def linear(
    x, norm, w, bias, add, y, n_out, x_stride, y_stride, eps,
    ROWS: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, BK: tl.constexpr, BN: tl.constexpr,
    NORM: tl.constexpr, GATED: tl.constexpr, BIAS: tl.constexpr, ADD: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """y [ROWS, n_out] = rms-normed x [ROWS, K] times w [n_out, K], for one or two rows, say.

    GATED: w is [2 * n_out, K], and y = silu(first half) * second half. `add` [ROWS, n_out] is
    added, and may be y; rows of both are `y_stride` apart. Grid (ceil(n_out / BN),); KP is the
    power of two that holds K.
    """
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    here = (n < n_out)[:, None] & (k < K)[None, :]
    if PDL:
        gdc_launch_dependents()
    w_first = tl.load(w + n[:, None] * K + k[None, :], mask=here, other=0.0)
    if GATED:
        u_first = tl.load(w + (n + n_out)[:, None] * K + k[None, :], mask=here, other=0.0)
    if NORM:
        whole = tl.arange(0, KP)
        norm_first = tl.load(norm + k, mask=k < K, other=0.0).to(tl.float32)
    if PDL:
        gdc_wait()
    for row in tl.static_range(ROWS):
        if NORM:
            v = tl.load(x + row * x_stride + whole, mask=whole < K, other=0.0).to(tl.float32)
            scale = tl.rsqrt(tl.sum(v * v, 0) / K + eps)
        total = tl.zeros((BN,), tl.float32)
        up = tl.zeros((BN,), tl.float32)
        for begin in tl.static_range(0, K, BK):
            at = begin + k
            if NORM and KP == BK:
                part = v * scale * norm_first
            else:
                part = tl.load(x + row * x_stride + at, mask=at < K, other=0.0).to(tl.float32)
                if NORM:
                    part = part * scale * tl.load(norm + at, mask=at < K, other=0.0).to(tl.float32)
            if begin == 0:
                weight = w_first
            else:
                here = (n < n_out)[:, None] & (at < K)[None, :]
                weight = tl.load(w + n[:, None] * K + at[None, :], mask=here, other=0.0)
            total += tl.sum(weight.to(tl.float32) * part[None, :], 1)
            if GATED:
                if begin == 0:
                    weight = u_first
                else:
                    here = (n < n_out)[:, None] & (at < K)[None, :]
                    weight = tl.load(
                        w + (n + n_out)[:, None] * K + at[None, :], mask=here, other=0.0
                    )
                up += tl.sum(weight.to(tl.float32) * part[None, :], 1)
        if GATED:
            total = total * tl.sigmoid(total) * up
        if BIAS:
            total += tl.load(bias + n, mask=n < n_out, other=0.0).to(tl.float32)
        if ADD:
            total += tl.load(add + row * y_stride + n, mask=n < n_out, other=0.0).to(tl.float32)
        tl.store(y + row * y_stride + n, total.to(y.dtype.element_ty), mask=n < n_out)


@triton.jit
def rms_norm(
    x, norm, y, x_stride, eps,
    DIM: tl.constexpr, BLOCK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """y [R, DIM] = x / rms(x) * norm; rows of x are `x_stride` apart. Grid (R,)."""
    row = tl.program_id(0)
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    d = tl.arange(0, BLOCK)
    v = tl.load(x + row * x_stride + d, mask=d < DIM, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(v * v, 0) / DIM + eps)
    v = v * scale * tl.load(norm + d, mask=d < DIM, other=0.0).to(tl.float32)
    tl.store(y + row * DIM + d, v.to(y.dtype.element_ty), mask=d < DIM)


@triton.jit
def gate(h, y, WIDTH: tl.constexpr, BLOCK: tl.constexpr, PDL: tl.constexpr):
    """y [R, WIDTH] = silu(h[:, :WIDTH]) * h[:, WIDTH:]. Grid (R, ceil(WIDTH / BLOCK))."""
    row = tl.program_id(0)
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = d < WIDTH
    a = tl.load(h + row * 2 * WIDTH + d, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(h + row * 2 * WIDTH + WIDTH + d, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + row * WIDTH + d, (a * tl.sigmoid(a) * b).to(y.dtype.element_ty), mask=inside)
