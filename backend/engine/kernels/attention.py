# mypy: disable-error-code="untyped-decorator, no-untyped-def, unused-ignore"
"""From tokens to places in the cache, and the attention of rows over what lies there.

What a kernel needs of a row's keys and values is its place (`address`, `capacity`, `position`, [R]
each): where the tensor [layers, 2, KV, capacity, D] of its sequence begins.
"""

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

NOTHING = tl.constexpr(-1.0e30)
"""Less than any score; minus infinity would make NaN of a difference."""


@triton.jit
def embed(
    given, tokens, codes, positions, table, words, books, x, address, capacity, position,
    begin_id, scale,
    DUMMY: tl.constexpr, N: tl.constexpr, SIZE: tl.constexpr, DIM: tl.constexpr,
    BLOCK: tl.constexpr, PROMPT: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Rows to x [R, DIM] and their places. Grid (R,).

    For frames `given` [R] holds the slot of each row, and the slots' tokens [S], codes [S, N] and
    positions [S] say the rest. With PROMPT it is (slot, first position, count), the tokens are
    those of the rows, and rows from `count` on go to the slot DUMMY. `table` [S, 2] holds address
    and capacity; `words` [V, DIM], `books` [N * SIZE, DIM].
    """
    row = tl.program_id(0)
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    if PROMPT:
        is_there = row < tl.load(given + 2)
        slot = tl.where(is_there, tl.load(given), DUMMY)
        place = tl.where(is_there, tl.load(given + 1) + row, 0)
        source = row.to(tl.int64)
    else:
        slot = tl.load(given + row)
        place = tl.load(positions + slot)
        source = slot
    tl.store(address + row, tl.load(table + 2 * slot))
    tl.store(capacity + row, tl.load(table + 2 * slot + 1))
    tl.store(position + row, place)
    token = tl.load(tokens + source)
    d = tl.arange(0, BLOCK)
    inside = d < DIM
    value = tl.load(words + token * DIM + d, mask=inside, other=0.0).to(tl.float32)
    if (token >= begin_id) & (token < begin_id + SIZE):
        for book in tl.static_range(N):
            code = book * SIZE + tl.load(codes + source * N + book)
            value += tl.load(books + code * DIM + d, mask=inside, other=0.0).to(tl.float32)
        value *= scale
    tl.store(x + row * DIM + d, value.to(x.dtype.element_ty), mask=inside)


@triton.jit
def _turned(heads, d, inside, norm, rope, place, eps, D: tl.constexpr, NORM: tl.constexpr):
    """Heads [M, D], given by pointers [M, 1], normed and turned to `place`, in float32."""
    x = tl.load(heads + d[None, :], mask=inside, other=0.0).to(tl.float32)
    pair = tl.load(heads + (d ^ 1)[None, :], mask=inside, other=0.0).to(tl.float32)
    if NORM:
        scale = tl.rsqrt(tl.sum(x * x, 1) / D + eps)[:, None]
        x = x * scale * tl.load(norm + d).to(tl.float32)[None, :]
        pair = pair * scale * tl.load(norm + (d ^ 1)).to(tl.float32)[None, :]
    angle = rope + place * D + (d // 2) * 2
    sine = tl.load(angle + 1) * tl.where(d % 2 == 0, -1.0, 1.0)
    return x * tl.load(angle)[None, :] + pair * sine[None, :]


@triton.jit
def turn(
    qkv, q_norm, k_norm, rope, address, capacity, position, layer, eps,
    H: tl.constexpr, KV: tl.constexpr, D: tl.constexpr, NORM: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Queries of qkv [R, (H + 2 KV) * D] are normed and turned in place, keys and values stored.

    For rows of one sequence, which look at each other: `attend` follows. Grid (R, H + 2 KV).
    """
    row = tl.program_id(0)
    head = tl.program_id(1)
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    d = tl.arange(0, D)
    one = tl.arange(0, 1)[:, None]
    place = tl.load(position + row)
    room = tl.load(capacity + row)
    base = tl.load(address + row).to(tl.pointer_type(qkv.dtype.element_ty))
    heads = qkv + (row * (H + 2 * KV) + head) * D + one
    if head < H:
        q = _turned(heads, d, one == 0, q_norm, rope, place, eps, D, NORM)
        # All have read their pairs before any is overwritten.
        tl.debug_barrier()
        tl.store(heads + d[None, :], q.to(qkv.dtype.element_ty))
    elif head < H + KV:
        k = _turned(heads, d, one == 0, k_norm, rope, place, eps, D, NORM)
        keys = base + ((layer * 2 * KV + head - H) * room + place) * D + one
        tl.store(keys + d[None, :], k.to(qkv.dtype.element_ty))
    else:
        values = base + (((layer * 2 + 1) * KV + head - H - KV) * room + place) * D + one
        tl.store(values + d[None, :], tl.load(heads + d[None, :]))


@triton.jit
def attend(
    qkv, q_norm, k_norm, rope, address, capacity, position, out, partial, extremes, arrived,
    layer, eps, scale,
    H: tl.constexpr, KV: tl.constexpr, D: tl.constexpr, GP: tl.constexpr, BT: tl.constexpr,
    SPLITS: tl.constexpr, LEAST: tl.constexpr, NORM: tl.constexpr, FRESH: tl.constexpr,
    PRECISION: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """out [R, H * D]: attention of each row over its keys and values up to its own position.

    Grid (R, KV, SPLITS). FRESH: qkv [R, (H + 2 KV) * D] is as the projection left it, and the row's
    own key and value are stored here; else `turn` did that. Of SPLITS programs as many as the row
    is long take a part of its positions each, and the last to arrive puts them together: `partial`
    [R, H, SPLITS, D] and `extremes` [R, H, SPLITS, 2] in float32, `arrived` [R, KV] in int32, which
    is zero before and after.
    """
    row = tl.program_id(0)
    h = tl.program_id(1)
    split = tl.program_id(2)
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    G: tl.constexpr = H // KV
    d = tl.arange(0, D)
    g = tl.arange(0, GP)
    mine = (g < G)[:, None]
    dtype = qkv.dtype.element_ty
    place = tl.load(position + row)
    if SPLITS > 1 and split * LEAST >= tl.maximum(place + (0 if FRESH else 1), 1):
        return
    room = tl.load(capacity + row)
    base = tl.load(address + row).to(tl.pointer_type(dtype))
    keys = base + (layer * 2 * KV + h) * room * D
    values = base + ((layer * 2 + 1) * KV + h) * room * D
    first = qkv + row * (H + 2 * KV) * D
    heads = first + (h * G + g)[:, None] * D
    end = place + 1
    if FRESH:
        q = _turned(heads, d, mine, q_norm, rope, place, eps, D, NORM).to(dtype)
        one = tl.arange(0, 1)[:, None]
        k = _turned(first + (H + h) * D + one, d, one == 0, k_norm, rope, place, eps, D, NORM)
        k = k.to(dtype)
        v = tl.load(first + (H + KV + h) * D + one + d[None, :])
        if split == 0:
            tl.store(keys + place * D + one + d[None, :], k)
            tl.store(values + place * D + one + d[None, :], v)
        # The row's own position is looked at here, not read back from where it was just written.
        own = tl.sum(q.to(tl.float32) * k.to(tl.float32), 1) * scale
        most = tl.where(split == 0, own, NOTHING)
        total = tl.where(split == 0, own * 0.0 + 1.0, 0.0)
        acc = tl.where(split == 0, tl.zeros((GP, D), tl.float32) + v.to(tl.float32), 0.0)
        end = place
    else:
        q = tl.load(heads + d[None, :], mask=mine, other=0.0)
        most = tl.full((GP,), NOTHING, tl.float32)
        total = tl.zeros((GP,), tl.float32)
        acc = tl.zeros((GP, D), tl.float32)
    splits = tl.minimum(tl.maximum(tl.cdiv(end, LEAST), 1), SPLITS)
    each = tl.cdiv(tl.cdiv(end, splits), BT) * BT
    low = (split * each).to(tl.int32)
    high = tl.minimum(low + each, end).to(tl.int32)
    for begin in range(low, high, BT):
        t = begin + tl.arange(0, BT)
        seen = (t < high)[:, None]
        offset = t[:, None] * D + d[None, :]
        k_tile = tl.load(tl.multiple_of(keys + offset, (1, 16)), mask=seen, other=0.0)
        v_tile = tl.load(tl.multiple_of(values + offset, (1, 16)), mask=seen, other=0.0)
        scores = tl.dot(q, tl.trans(k_tile), input_precision=PRECISION) * scale
        scores = tl.where((t < high)[None, :], scores, NOTHING)
        now = tl.maximum(most, tl.max(scores, 1))
        weight = tl.exp(scores - now[:, None])
        fade = tl.exp(most - now)
        total = total * fade + tl.sum(weight, 1)
        more = tl.dot(weight.to(dtype), v_tile, input_precision=PRECISION)
        acc = acc * fade[:, None] + more
        most = now
    to = out + row * H * D + (h * G + g)[:, None] * D + d[None, :]
    if splits == 1:
        tl.store(to, (acc / total[:, None]).to(dtype), mask=mine)
    else:
        head = (row * H + h * G + g) * SPLITS
        tl.store(partial + (head + split)[:, None] * D + d[None, :], acc, mask=mine)
        tl.store(extremes + (head + split) * 2, most, mask=g < G)
        tl.store(extremes + (head + split) * 2 + 1, total, mask=g < G)
        tl.debug_barrier()
        if tl.atomic_add(arrived + row * KV + h, 1, sem="acq_rel") == splits - 1:
            most = tl.full((GP,), NOTHING, tl.float32)
            for s in range(splits):
                at = extremes + (head + s) * 2
                most = tl.maximum(most, tl.load(at, mask=g < G, other=0.0, cache_modifier=".cg"))
            total = tl.zeros((GP,), tl.float32)
            acc = tl.zeros((GP, D), tl.float32)
            for s in range(splits):
                at = extremes + (head + s) * 2
                its = tl.load(at, mask=g < G, other=0.0, cache_modifier=".cg")
                share = tl.exp(its - most)
                its = tl.load(at + 1, mask=g < G, other=0.0, cache_modifier=".cg")
                total += share * its
                tile = partial + (head + s)[:, None] * D + d[None, :]
                acc += share[:, None] * tl.load(tile, mask=mine, other=0.0, cache_modifier=".cg")
            tl.store(to, (acc / total[:, None]).to(dtype), mask=mine)
            tl.store(arrived + row * KV + h, 0)
