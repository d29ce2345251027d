/* Attention of the rows of a span over all that came before them. */

#include <math.h>

#include "integers.h"
#include "native.h"

#define SUMS (LANES == 8 ? 4 : 8) /* vectors of each half of a value's integers: with others they fill the registers */
#define AT_ONCE (4 * TILE)        /* positions whose values stay in the innermost cache */
#define KEYS_AHEAD 2              /* blocks of keys that are fetched before their turn */

INLINE Floats load_kind(const uint8_t *from, int64_t i, int32_t kind) {
    return kind == F32 ? load((const float *)from + i) : load_bfloat16(from + 2 * i);
}

/* Keys and values in few bits lie TILE positions together, first all of the keys of a head, then all of its values.
   Keys are tiles of I8 or I16, the kind of the cache, whose outputs are positions. Values are in six bits, or eight
   beside keys of I16: for each element, the sixteen positions as the sixteen inputs of a tile of I6 or I8. At the end
   are the TILE positions' scales in float32. */
static int64_t block_bytes(int32_t size, int32_t kind) {
    return kind == I16 ? 2 * block_bytes(size, I8) : TILE * ((int64_t)size * (kind == I8 ? 8 : 6) / 8 + 4);
}

static int32_t kind_of_values(int32_t cache_kind) { return cache_kind == I16 ? I8 : I6; }

static const float *scales_at(const uint8_t *values, int32_t position, int32_t size, int32_t kind) {
    return (const float *)(values + (position / TILE + 1) * block_bytes(size, kind) - 4 * TILE) + position % TILE;
}

/* A head's keys and values. */
typedef struct {
    uint8_t *keys, *values;
} Past;

static Past past_of(const Stack *stack, const Span *span, int32_t layer, int32_t head) {
    const int32_t size = stack->head_dim, kind = stack->cache_kind;
    if (kind == F32 || kind == BF16) {
        const int64_t bytes = span->capacity * size * (kind == F32 ? 4 : 2);
        uint8_t *keys = span->past + ((int64_t)layer * 2 * stack->key_heads + head) * bytes;
        return (Past){keys, keys + stack->key_heads * bytes};
    }
    const int64_t blocks = span->capacity / TILE, keys_bytes = blocks * block_bytes(size, kind);
    const int64_t bytes = keys_bytes + blocks * block_bytes(size, kind_of_values(kind));
    uint8_t *keys = span->past + ((int64_t)layer * stack->key_heads + head) * bytes;
    return (Past){keys, keys + keys_bytes};
}

/* The number `index` of sixteen in three vectors of bytes, each `stride` after the other. */
static void place_six(uint8_t *at, int64_t stride, int32_t index, int32_t x) {
    at += index % 4;
    if (index < 12) {
        at += index / 4 * stride;
        *at = (uint8_t)((*at & 192) | x);
    } else
        for (int32_t third = 0; third < 3; third++, at += stride, x >>= 2) *at = (uint8_t)((*at & 63) | (x & 3) << 6);
}

/* A head to whole numbers from 0 on, the middle of which is zero; their scale. Six bits have a step more on one
   side, which the largest takes. */
static float round_head(const float *head, int32_t size, int32_t kind, uint8_t *to) {
    Floats top = {}, bottom = {}, is_sound = {};
    for (int32_t i = 0; i < size; i += LANES) {
        Floats v = load(head + i);
        top = larger(top, v);
        bottom = larger(bottom, -v);
        is_sound += v * 0.0f;
    }
    const float above = largest_of(top), below = largest_of(bottom), largest = above > below ? above : below;
    const int32_t middle = kind == I8 ? 128 : 32;
    const float most = kind == I8 ? 127.0f : above > below ? -32.0f : 32.0f, factor = largest > 0 ? most / largest : 0.0f;
    for (int32_t i = 0; i < size; i += LANES) {
        Floats steps = load(head + i) * factor;
        if (kind == I6) steps = choose(steps > 31.0f, all(31.0f), steps);
        narrow((int8_t *)to + i, float_bits(steps + 12582912.0f) - 0x4B400000 + middle); /* rounds: 1.5 * 2^23 */
    }
    return largest / most + sum_of(is_sound); /* what is no number makes none of the whole head */
}

/* Of I16 what rounding took from `head` is left there, and rounded in its turn. */
static void store_key(uint8_t *keys, float *head, const Stack *stack, int32_t position, uint8_t *room) {
    const int32_t size = stack->head_dim, bytes = 4 * TILE;
    uint8_t *block = keys + position / TILE * block_bytes(size, stack->cache_kind);
    const int32_t tiles = stack->cache_kind == I16 ? 2 : 1;
    for (int32_t tile = 1; tile <= tiles; tile++, block += block_bytes(size, I8)) {
        const float scale = round_head(head, size, I8, room);
        uint8_t *lane = block + 4 * (position % TILE);
        for (int32_t i = 0; i < size; i += 4) memcpy(lane + i / 4 * bytes, room + i, 4);
        memcpy(lane + (int64_t)size / 4 * bytes, &scale, 4);
        for (int32_t i = 0; tile < tiles && i < size; i++) head[i] -= scale * (float)(room[i] - 128);
    }
}

static void store_value(uint8_t *values, const float *head, const Stack *stack, int32_t position, uint8_t *room) {
    const int32_t size = stack->head_dim, kind = kind_of_values(stack->cache_kind), at = position % TILE;
    const float scale = round_head(head, size, kind, room);
    uint8_t *block = values + position / TILE * block_bytes(size, kind);
    for (int32_t i = 0; i < size; i++)
        if (kind == I6) place_six(block + 4 * i, 4 * (int64_t)size, at, room[i]);
        else block[4 * ((int64_t)at / 4 * size + i) + at % 4] = room[i];
    memcpy(block + block_bytes(size, kind) - 4 * TILE + 4 * at, &scale, 4);
}

static void store_kind(uint8_t *to, const float *from, int32_t size, int32_t kind) {
    if (kind == F32) {
        memcpy(to, from, 4 * (size_t)size);
        return;
    }
    for (int32_t i = 0; i < size; i++) {
        const uint16_t half = to_bfloat16(from[i]);
        memcpy(to + 2 * (int64_t)i, &half, 2);
    }
}

/* A head, normalised if there is a norm, its pairs turned by the angles of its position. */
static void turn(float *head, const float *norm, const float *rope, const Stack *stack) {
    if (norm) normalise(head, norm, stack->eps, stack->head_dim, head);
    for (int32_t i = 0; i < stack->head_dim; i += 2) {
        float a = head[i], b = head[i + 1], cosine = rope[i], sine = rope[i + 1];
        head[i] = a * cosine - b * sine;
        head[i + 1] = a * sine + b * cosine;
    }
}

/* A query, how many positions it sees, and where what it sees is written. */
typedef struct {
    const float *q;
    float *to;
    int32_t seen;
} Query;

/* From here on `kind`, `count` and `parts` are constants wherever it is inlined. */

/* The highest of some scores, and of `most`. */
static float highest_of(const float *score, int32_t from, int32_t to, float most) {
    Floats highest = all(most);
    for (; from + LANES <= to; from += LANES) highest = larger(load(score + from), highest);
    most = largest_of(highest);
    for (; from < to; from++) most = score[from] > most ? score[from] : most;
    return most;
}

/* What the chances of a query come to. */
typedef struct {
    float part;    /* one over their sum */
    float largest; /* magnitude of what is stored; no number where one of them is none */
} Weighed;

/* The scores of a query, `most` of which is the highest, to chances, none of what it does not see, each times the
   scale of its value if `values` are integers, of `kind`, and no NULL. */
static Weighed weigh(const Query *query, float *score, float most, int32_t stride, const uint8_t *values,
                     int32_t size, int32_t kind) {
    const int32_t seen = query->seen, whole = seen / LANES * LANES;
    Floats sums = {}, highest = {}, is_sound = {};
    for (int32_t at = seen; at < stride; at++) score[at] = 0;
    for (int32_t at = 0; at < whole; at += LANES) {
        Floats chance = exponential(load(score + at) - most);
        sums += chance;
        if (values) chance *= load(scales_at(values, at, size, kind));
        highest = larger(highest, larger(chance, -chance));
        is_sound += chance * 0.0f;
        store(score + at, chance);
    }
    float sum = sum_of(sums), largest = largest_of(highest), no_number = sum_of(is_sound);
    for (int32_t at = whole; at < seen; at++) {
        const float chance = expf(score[at] - most);
        sum += chance;
        score[at] = values ? chance * *scales_at(values, at, size, kind) : chance;
        largest = fabsf(score[at]) > largest ? fabsf(score[at]) : largest;
        no_number += score[at] * 0.0f;
    }
    return (Weighed){1.0f / sum, largest + no_number};
}

INLINE void add_values(const Query *queries, const int count, const uint8_t *values, int32_t length, int32_t size,
                       int32_t begin, const int parts, const Scratch *scratch, int32_t stride, const int kind) {
    Floats sums[QUERIES][4] = {};
    for (int32_t at = 0; at < length; at++)
        for (int part = 0; part < parts; part++) {
            Floats value = load_kind(values, (int64_t)at * size + begin + part * LANES, kind);
            for (int query = 0; query < count; query++)
                sums[query][part] += value * scratch->scores[(int64_t)query * stride + at];
        }
    for (int query = 0; query < count; query++)
        for (int part = 0; part < parts; part++)
            store(queries[query].to + begin + part * LANES, sums[query][part] * scratch->scales[query]);
}

INLINE void attend_floats(const Query *queries, const int count, const uint8_t *keys, const uint8_t *values,
                          int32_t size, int32_t stride, const Scratch *scratch, const int kind) {
    const float scale = 1.0f / sqrtf((float)size);
    const int32_t length = queries[count - 1].seen; /* the last one sees most */
    float *scores = scratch->scores;
    for (int32_t at = 0; at < length; at++) {
        Floats sums[QUERIES] = {};
        for (int32_t i = 0; i < size; i += LANES) {
            Floats key = load_kind(keys, (int64_t)at * size + i, kind);
            for (int query = 0; query < count; query++) sums[query] += load(queries[query].q + i) * key;
        }
        for (int query = 0; query < count; query++) scores[(int64_t)query * stride + at] = sum_of(sums[query]) * scale;
    }
    for (int query = 0; query < count; query++) {
        float *score = scores + (int64_t)query * stride;
        const float most = highest_of(score, 0, queries[query].seen, score[0]);
        scratch->scales[query] = weigh(queries + query, score, most, stride, NULL, size, kind).part;
    }
    int32_t i = 0;
    for (; i + 4 * LANES <= size; i += 4 * LANES)
        add_values(queries, count, values, length, size, i, 4, scratch, stride, kind);
    for (; i < size; i += LANES) add_values(queries, count, values, length, size, i, 1, scratch, stride, kind);
}

/* `count` rows of `size`, whose magnitudes are `largest`, as integers: `from` and `q` hold one row after the other. */
static Input rounded(const float *from[QUERIES], const float largest[QUERIES], int32_t count, int32_t size,
                     const Scratch *scratch) {
    int8_t *high = scratch->q, *low = high + (int64_t)count * size;
    int32_t *sums = scratch->sums;
    for (int32_t row = 0; row < count; row++)
        scratch->scales[row] = round_row(from[row], size, largest[row], high + (int64_t)row * size,
                                         low + (int64_t)row * size, sums + row, sums + QUERIES + row);
    return (Input){NULL, high, low, scratch->scales, sums, sums + QUERIES, size};
}

/* The positions from `at` to `end` of `parts` vectors of elements, the first of which is `first`; `sums` are
   [count, 2, size]. */
INLINE void add_whole(const uint8_t *values, Input chances, const int count, int32_t size, int32_t first,
                      const int parts, int32_t at, int32_t end, int32_t *sums, const int kind) {
    const int vectors = kind == I8 ? 4 : 3;
    Ints high[QUERIES][SUMS], low[QUERIES][SUMS];
    for (int query = 0; query < count; query++)
        for (int part = 0; part < parts; part++) {
            const int32_t *from = sums + 2 * query * size + first + part * LANES;
            const int32_t upper = chances.high_sums[query], lower = chances.low_sums[query];
            high[query][part] = at ? load_ints(from) : kind == I8 ? begin_8(upper) : all_int(-32 * upper);
            low[query][part] = at ? load_ints(from + size) : kind == I8 ? begin_8(lower) : all_int(-32 * lower);
        }
    for (; at < end; at += TILE) {
        const uint8_t *block = values + at / TILE * block_bytes(size, kind) + 4 * first;
        for (int part = 0; part < parts; part++, block += 4 * LANES) {
            Bytes fours[4], held[4];
            for (int vector = 0; vector < vectors; vector++) {
                fetch(block + AT_ONCE / TILE * block_bytes(size, kind) + 4 * vector * size);
                fours[vector] = held[vector] = load_bytes(block + 4 * vector * size);
            }
            if (kind == I6) open_sixes(held[0], held[1], held[2], fours);
            for (int four = 0; four < 4; four++)
                for (int query = 0; query < count; query++) {
                    const int64_t place = (int64_t)query * chances.inputs + at + 4 * four;
                    const int32_t upper = four_of(chances.high + place), lower = four_of(chances.low + place);
                    Ints *to = &high[query][part], *rest = &low[query][part];
                    *to = kind == I8 ? dot_8(*to, fours[four], upper) : dot_6(*to, fours[four], upper);
                    *rest = kind == I8 ? dot_8(*rest, fours[four], lower) : dot_6(*rest, fours[four], lower);
                }
        }
    }
    for (int query = 0; query < count; query++)
        for (int part = 0; part < parts; part++) {
            int32_t *to = sums + 2 * query * size + first + part * LANES;
            memcpy(to, &high[query][part], sizeof(Ints));
            memcpy(to + size, &low[query][part], sizeof(Ints));
        }
}

/* All positions of all elements, for `count` queries. */
INLINE void add_all(const uint8_t *values, Input chances, const int count, int32_t size, int32_t *sums,
                    const int kind) {
    const int32_t stride = chances.inputs;
    const int parts = SUMS / count;
    for (int32_t at = 0; at < stride; at += AT_ONCE) {
        const int32_t end = at + AT_ONCE < stride ? at + AT_ONCE : stride;
        int32_t i = 0;
        for (; i + parts * LANES <= size; i += parts * LANES)
            add_whole(values, chances, count, size, i, parts, at, end, sums, kind);
        for (; i < size; i += LANES) add_whole(values, chances, count, size, i, 1, at, end, sums, kind);
    }
}

#define ADD(COUNT, KIND) \
    case COUNT + 16 * KIND: add_all(values, chances, COUNT, size, sums, KIND); break
#define ADDS(KIND) ADD(1, KIND); ADD(2, KIND); ADD(3, KIND); ADD(4, KIND)

static void add_up(const uint8_t *values, Input chances, int32_t count, int32_t size, int32_t *sums, int32_t kind) {
    switch (count + 16 * kind) {
        ADDS(I8);
        ADDS(I6);
    }
}

INLINE void attend_integers(const Query *queries, const int count, const uint8_t *keys, const uint8_t *values,
                            int32_t size, int32_t stride, const Scratch *scratch, const int kind) {
    const float scale = 1.0f / sqrtf((float)size), *rows[QUERIES];
    float *scores = scratch->scores, largest[QUERIES], whole[QUERIES];
    for (int query = 0; query < count; query++) {
        rows[query] = queries[query].q;
        largest[query] = magnitude(rows[query], size);
    }
    Input input = rounded(rows, largest, count, size, scratch);
    for (int query = 0; query < count; query++) scratch->scales[query] *= scale;
    const int32_t all_see = queries[0].seen / TILE * TILE; /* the first one sees least */
    Floats highest[QUERIES];
    for (int query = 0; query < count; query++) highest[query] = all(-INFINITY);
    for (int32_t at = 0; at < stride; at += TILE, keys += block_bytes(size, kind)) {
        for (int64_t line = 0; line < block_bytes(size, kind); line += 64)
            fetch(keys + KEYS_AHEAD * block_bytes(size, kind) + line);
        Sums y;
        if (kind == I16) wide_integers(keys, input, 0, count, y);
        else integers(keys, input, 0, count, kind, y);
        for (int query = 0; query < count; query++)
            for (int part = 0; part < PARTS; part++) {
                if (at < all_see) highest[query] = larger(y[query][part], highest[query]);
                store(scores + (int64_t)query * stride + at + part * LANES, y[query][part]);
            }
    }
    for (int query = 0; query < count; query++) {
        float *score = scores + (int64_t)query * stride;
        const float most = highest_of(score, all_see, queries[query].seen, largest_of(highest[query]));
        const Weighed weighed = weigh(queries + query, score, most, stride, values, size, kind_of_values(kind));
        whole[query] = weighed.part;
        largest[query] = weighed.largest;
        rows[query] = score;
    }
    input = rounded(rows, largest, count, stride, scratch);
    int32_t *sums = (int32_t *)scratch->x;
    add_up(values, input, count, size, sums, kind_of_values(kind));
    for (int query = 0; query < count; query++)
        for (int32_t i = 0; i < size; i += LANES) {
            const int32_t *from = sums + 2 * query * size + i;
            Floats sum = as_floats(load_ints(from)) * (float)BASE + as_floats(load_ints(from + size));
            store(queries[query].to + i, sum * (input.scales[query] * whole[query]));
        }
}

#define CASE(COUNT, KIND, HOW) \
    case COUNT + 16 * KIND: HOW(queries, COUNT, past.keys, past.values, size, stride, scratch, KIND); break
#define CASES(KIND, HOW)  \
    CASE(1, KIND, HOW);   \
    CASE(2, KIND, HOW);   \
    CASE(3, KIND, HOW);   \
    CASE(4, KIND, HOW)

static void attend_some(const Query *queries, int32_t count, Past past, int32_t size, const Scratch *scratch,
                        int32_t kind) {
    const int32_t stride = (queries[count - 1].seen + TILE - 1) / TILE * TILE;
    switch (count + 16 * kind) {
        CASES(F32, attend_floats);
        CASES(BF16, attend_floats);
        CASES(I8, attend_integers);
        CASES(I16, attend_integers);
    }
}

/* Row `index` of a span: its head of q, k and v made ready, k and v written; its queries. */
static void enter(const Stack *stack, const Layer *layer, float *row, int32_t position, int32_t head, Past past,
                  const Scratch *scratch, float *attended, Query *queries) {
    const int32_t size = stack->head_dim, groups = stack->heads / stack->key_heads;
    const float *rope = stack->rope + (int64_t)position * size;
    float *k = row + (stack->heads + head) * size, *v = k + stack->key_heads * size;
    turn(k, layer->k_norm, rope, stack);
    if (stack->cache_kind == F32 || stack->cache_kind == BF16) {
        const int64_t at = (int64_t)position * size * (stack->cache_kind == F32 ? 4 : 2);
        store_kind(past.keys + at, k, size, stack->cache_kind);
        store_kind(past.values + at, v, size, stack->cache_kind);
    } else {
        store_key(past.keys, k, stack, position, (uint8_t *)scratch->q);
        store_value(past.values, v, stack, position, (uint8_t *)scratch->q);
    }
    for (int32_t each = 0; each < groups; each++) {
        float *q = row + (head * groups + each) * size;
        turn(q, layer->q_norm, rope, stack);
        queries[each] = (Query){q, attended + (head * groups + each) * size, position + 1};
    }
}

/* The rows of `qkv` into keys and values, and what they see to `attended` [rows, heads * head_dim].
   A piece of work is a span and a head of its keys. */
void attend(Thread *thread, const Stack *stack, int32_t layer, const Span *spans, int32_t span_count, float *qkv,
            float *attended) {
    const Layer *own = stack->layers + layer;
    const int32_t size = stack->head_dim, groups = stack->heads / stack->key_heads;
    const Scratch *scratch = thread->pool->scratches + thread->id;
    const int32_t pieces = span_count * stack->key_heads;
    for (int32_t piece; (piece = take(thread, pieces)) < pieces; finish(thread, pieces)) {
        const int32_t head = piece % stack->key_heads;
        const Span *span = spans + piece / stack->key_heads;
        int64_t row = 0;
        for (const Span *before = spans; before < span; before++) row += before->count;
        const Past past = past_of(stack, span, layer, head);
        Query queries[MOST_ROWS * MOST_GROUPS];
        for (int32_t index = 0; index < span->count; index++, row++)
            enter(stack, own, qkv + row * own->qkv.outputs, span->begin + index, head, past, scratch,
                  attended + row * stack->heads * size, queries + index * groups);
        const int32_t count = span->count * groups;
        for (int32_t first = 0; first < count; first += QUERIES)
            attend_some(queries + first, count - first < QUERIES ? count - first : QUERIES, past, size, scratch,
                        stack->cache_kind);
    }
    meet(thread);
}
