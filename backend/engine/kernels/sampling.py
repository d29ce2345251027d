# mypy: disable-error-code="untyped-decorator, no-untyped-def, unused-ignore"
"""Logits to codes, as `backend.engine.sampler` draws them, without sorting."""

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def _mixed(x):
    """`sampler._mix`, in int64."""
    x = x & 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return x ^ (x >> 16)


@triton.jit
def _add_three(a, b, c, d, e, f):
    return a + d, b + e, c + f


@triton.jit
def _drawn(
    value, i, row_slot, frame, keys, history, temperature, top_p, penalty, book,
    N: tl.constexpr, V: tl.constexpr, BLOCK: tl.constexpr, WINDOW: tl.constexpr,
    STEPS: tl.constexpr,
):  # fmt: skip
    """The code that `sampler.draw` draws from logits `value` [BLOCK], the first V of which count.

    -1 where one of them is no number.
    """
    heat = tl.load(temperature + row_slot)
    keep = tl.load(top_p + row_slot)
    factor = tl.load(penalty + row_slot)
    if factor != 1.0:
        seen = i < 0
        for past in tl.static_range(WINDOW):
            seen = seen | (i == tl.load(history + (row_slot * WINDOW + past) * N + book))
        value = tl.where(seen, tl.minimum(value * factor, value / factor), value)
    best = tl.max(value, 0)
    chance = tl.exp(value - best)
    whole = tl.sum(chance, 0)
    code = tl.min(tl.where(value == best, i, BLOCK), 0).to(tl.int64)
    if heat != 0.0:
        depth = best - value
        kept = i == code
        if keep < 2.0:
            # What is kept lies as deep below the best as all down to there have at most `keep`.
            # Four parts of what is left to search are told apart at a time.
            most = keep * whole
            low = -1.0
            width = 33.0
            for _ in range(STEPS):
                width = width * 0.25
                one, two, three = tl.reduce(
                    (
                        tl.where(depth <= low + width, chance, 0.0),
                        tl.where(depth <= low + width * 2, chance, 0.0),
                        tl.where(depth <= low + width * 3, chance, 0.0),
                    ),
                    0,
                    _add_three,
                )
                fit = (one <= most).to(tl.float32) + (two <= most).to(tl.float32)
                low += width * (fit + (three <= most).to(tl.float32))
            # Of those that are alike and cross it, the first ones are kept.
            taken = tl.sum(tl.where(depth <= low, chance, 0.0), 0)
            beyond = tl.min(tl.where(depth > low, depth, float("inf")), 0)
            alike = depth == beyond
            some = (most - taken) / tl.exp(-beyond)
            kept = kept | (depth <= low) | (alike & (tl.cumsum(alike.to(tl.float32), 0) <= some))
        else:
            kept = kept | (i < V)
        weight = tl.where(kept, tl.exp(-depth / heat), 0.0)
        line = tl.cumsum(weight, 0)
        state = _mixed(tl.load(keys + row_slot) ^ _mixed(frame + 0x9E3779B9))
        noise = _mixed(state ^ _mixed((tl.full((), 1, tl.int64) + book) * 0x632BE5AB)) >> 8
        target = noise.to(tl.float32) * (1.0 / 16777216.0) * tl.max(line, 0)
        drawn = tl.min(tl.where((line > target) & (weight > 0.0), i, BLOCK), 0)
        code = tl.where(drawn < BLOCK, drawn.to(tl.int64), code)
    return tl.where(whole == whole, code, -1)


@triton.jit
def _record(
    made, row, slot, frame, tokens, codes, positions, frames, history, begin_id,
    N: tl.constexpr, SIZE: tl.constexpr, WINDOW: tl.constexpr,
):  # fmt: skip
    """Puts a whole frame, made [R, N], into the state of its slot, as `Slots.record` does."""
    for book in tl.static_range(N):
        one = tl.load(made + row * N + book)
        one = tl.minimum(tl.maximum(one, 0), SIZE - 1)
        tl.store(history + (slot * WINDOW + frame % WINDOW) * N + book, one)
        tl.store(codes + slot * N + book, one)
        if book == 0:
            tl.store(tokens + slot, begin_id + one)
    tl.store(positions + slot, tl.load(positions + slot) + 1)
    tl.store(frames + slot, frame + 1)


@triton.jit
def sample(
    logits, slots, keys, frames, history, temperature, top_p, penalty, made,
    hidden, embeddings, x, tokens, codes, positions, begin_id, book, stride,
    N: tl.constexpr, V: tl.constexpr, BLOCK: tl.constexpr, SIZE: tl.constexpr,
    DIM: tl.constexpr, DIM_BLOCK: tl.constexpr, WINDOW: tl.constexpr, DUMMY: tl.constexpr,
    FIRST: tl.constexpr, LAST: tl.constexpr, COPY: tl.constexpr, STEPS: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """Draws `book` of each row's frame from logits [R, V], rows `stride` apart. Grid (R,).

    The code goes into made [R, N], and what follows from it where it is needed next: after the
    FIRST book `hidden` [R, DIM] (with COPY) and the code's embedding into x [2 R, DIM], after
    others its embedding into x [R, DIM], after the LAST the whole frame into the state of the
    slot: tokens [S], codes [S, N], positions [S], frames [S], history [S, WINDOW, N].
    """
    row = tl.program_id(0)
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    slot = tl.load(slots + row)
    frame = tl.load(frames + slot)
    i = tl.arange(0, BLOCK)
    value = tl.load(logits + row * stride + i, mask=i < V, other=float("-inf")).to(tl.float32)
    code = _drawn(
        value, i, slot, frame, keys, history, temperature, top_p, penalty, book,
        N, V, BLOCK, WINDOW, STEPS,
    )  # fmt: skip
    tl.store(made + row * N + book, code)
    if LAST:
        tl.debug_barrier()
        if slot != DUMMY:
            _record(
                made, row, slot, frame, tokens, codes, positions, frames, history, begin_id,
                N, SIZE, WINDOW,
            )  # fmt: skip
    else:
        spoken = tl.minimum(tl.maximum(code, 0), SIZE - 1)
        d = tl.arange(0, DIM_BLOCK)
        to = x + (2 * row + 1 if FIRST else row) * DIM + d
        tl.store(to, tl.load(embeddings + spoken * DIM + d, mask=d < DIM), mask=d < DIM)
        if COPY:
            tl.store(to - DIM, tl.load(hidden + row * DIM + d, mask=d < DIM), mask=d < DIM)
