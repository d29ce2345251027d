/* Attention of the rows of a span over all that came before them. */

#include <math.h>

#include "lanes.h"
#include "native.h"

INLINE Floats load_kind(const uint8_t *from, int64_t i, int32_t kind) {
    return kind == F32 ? load((const float *)from + i) : load_bfloat16(from + 2 * i);
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

INLINE void add_values(const Query *queries, const int count, const uint8_t *values, int32_t length, int32_t size,
                       int32_t begin, const int parts, const float *scores, const int kind) {
    Floats sums[QUERIES][4] = {};
    for (int32_t at = 0; at < length; at++)
        for (int part = 0; part < parts; part++) {
            Floats value = load_kind(values, (int64_t)at * size + begin + part * LANES, kind);
            for (int query = 0; query < count; query++)
                sums[query][part] += value * scores[(int64_t)query * length + at];
        }
    for (int query = 0; query < count; query++)
        for (int part = 0; part < parts; part++) store(queries[query].to + begin + part * LANES, sums[query][part]);
}

INLINE void attend_queries(const Query *queries, const int count, const uint8_t *keys, const uint8_t *values,
                           int32_t size, float *scores, const int kind) {
    const float scale = 1.0f / sqrtf((float)size);
    const int32_t length = queries[count - 1].seen; /* the last one sees most */
    for (int32_t at = 0; at < length; at++) {
        Floats sums[QUERIES] = {};
        for (int32_t i = 0; i < size; i += LANES) {
            Floats key = load_kind(keys, (int64_t)at * size + i, kind);
            for (int query = 0; query < count; query++) sums[query] += load(queries[query].q + i) * key;
        }
        for (int query = 0; query < count; query++) scores[(int64_t)query * length + at] = sum_of(sums[query]) * scale;
    }
    for (int query = 0; query < count; query++) {
        float *score = scores + (int64_t)query * length, most = score[0], whole = 0;
        const int32_t seen = queries[query].seen;
        int32_t at = 1;
        for (; at < seen; at++) most = score[at] > most ? score[at] : most;
        Floats sum = {};
        for (at = 0; at + LANES <= seen; at += LANES) {
            Floats chance = exponential(load(score + at) - most);
            store(score + at, chance);
            sum += chance;
        }
        for (; at < seen; at++) whole += score[at] = expf(score[at] - most);
        whole = 1.0f / (whole + sum_of(sum));
        for (at = 0; at < length; at++) score[at] = at < seen ? score[at] * whole : 0.0f;
    }
    int32_t i = 0;
    for (; i + 4 * LANES <= size; i += 4 * LANES) add_values(queries, count, values, length, size, i, 4, scores, kind);
    for (; i < size; i += LANES) add_values(queries, count, values, length, size, i, 1, scores, kind);
}

#define CASE(COUNT, KIND)                                                  \
    case COUNT + 16 * KIND:                                                \
        attend_queries(queries, COUNT, keys, values, size, scores, KIND);  \
        break

static void attend_some(const Query *queries, int32_t count, const uint8_t *keys, const uint8_t *values,
                        int32_t size, float *scores, int32_t kind) {
    switch (count + 16 * kind) {
        CASE(1, F32);
        CASE(2, F32);
        CASE(3, F32);
        CASE(4, F32);
        CASE(1, BF16);
        CASE(2, BF16);
        CASE(3, BF16);
        CASE(4, BF16);
    }
}

/* Row `index` of a span: its head of q, k and v made ready, k and v written; its queries. */
static void enter(const Stack *stack, const Layer *layer, float *row, int32_t position, int32_t head, uint8_t *keys,
                  uint8_t *values, float *attended, Query *queries) {
    const int32_t size = stack->head_dim, groups = stack->heads / stack->key_heads;
    const int64_t at = (int64_t)position * size * (stack->cache_kind == F32 ? 4 : 2);
    const float *rope = stack->rope + (int64_t)position * size;
    float *k = row + (stack->heads + head) * size, *v = k + stack->key_heads * size;
    turn(k, layer->k_norm, rope, stack);
    store_kind(keys + at, k, size, stack->cache_kind);
    store_kind(values + at, v, size, stack->cache_kind);
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
    const int64_t element = stack->cache_kind == F32 ? 4 : 2;
    float *scores = thread->pool->scratches[thread->id].scores;
    const int32_t pieces = span_count * stack->key_heads;
    for (int32_t piece; (piece = take(thread, pieces)) < pieces; finish(thread, pieces)) {
        const int32_t head = piece % stack->key_heads;
        const Span *span = spans + piece / stack->key_heads;
        int64_t row = 0;
        for (const Span *before = spans; before < span; before++) row += before->count;
        const int64_t head_bytes = span->capacity * size * element;
        uint8_t *keys = span->past + ((int64_t)layer * 2 * stack->key_heads + head) * head_bytes;
        uint8_t *values = keys + stack->key_heads * head_bytes;
        Query queries[MOST_ROWS * MOST_GROUPS];
        for (int32_t index = 0; index < span->count; index++, row++)
            enter(stack, own, qkv + row * own->qkv.outputs, span->begin + index, head, keys, values,
                  attended + row * stack->heads * size, queries + index * groups);
        const int32_t count = span->count * groups;
        for (int32_t first = 0; first < count; first += QUERIES)
            attend_some(queries + first, count - first < QUERIES ? count - first : QUERIES, keys, values, size, scores,
                        stack->cache_kind);
    }
    meet(thread);
}
