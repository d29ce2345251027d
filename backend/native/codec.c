/* What a codec computes: a list of operations over rows, columns of sound one after another.

   To decode, weights are bfloat16, and rows that are multiplied are rounded to it where the machine
   multiplies pairs of such numbers; what is summed, normalised, turned or bent stays float32. To encode,
   all is float32: `codec_wide.c` is this file with WIDE defined. */

#include <math.h>
#include <stdatomic.h>
#include <stddef.h>

#include "lanes.h"
#include "threads.h"

#ifdef WIDE
#define NAME(x) wide_##x
#define HAS_PAIRS 0
typedef float Rounded, Weight;
#else
#define NAME(x) codec_##x
typedef uint16_t Weight; /* bfloat16 */
#if LANES == 16 && defined(__AVX512BF16__)
#define HAS_PAIRS 1
typedef uint16_t Rounded; /* bfloat16 */
#else
#define HAS_PAIRS 0
typedef float Rounded;
#endif
#endif

/* A product is made block by block: so many outputs of so many rows, which fill the registers. */
#if LANES == 16
#define BLOCK 32
#define MOST 14
#elif LANES == 8
#define BLOCK 16
#define MOST 6
#else
#define BLOCK 16
#define MOST 6
#endif
#define VECTORS (BLOCK / LANES)

#define TILE_BLOCKS 8          /* of rows, in a piece of work */
#define TILE_WORK (8 << 20)    /* products of two numbers in a piece of work, about */
#define WORK_OF_A_WEIGHT 16    /* what reading one costs, in such products */
#define LINE 16                /* weights that are packed together: a line of the cache in float32 */
#define ROWS_TOGETHER 4        /* in a piece of work that is no product */

enum { PRODUCT, ROUND, NORM, MIX, ATTEND, FILTER };
enum { AS_IT_IS, GELU, GATE };

/* Rows that reach back: `bytes` of them go from the end of one piece of a signal to the next one. */
typedef struct {
    void *rows;
    int64_t at; /* in the state of the signal */
    int64_t bytes;
} Past;

typedef struct {
    int32_t kind, rows, inputs, outputs;
    int32_t taps, dilation; /* of a product or a mix; a row sees those below it, the last one its own */
    int32_t step;           /* of a product: rows of the input from what a row sees first to the next's */
    int32_t input_stride, rounded_stride; /* numbers from a row of the input, of `rounded`, to the next */
    int32_t bend;           /* of a product's outcome; GATE takes half a block times the SiLU of the other */
    int32_t heads, window, rate; /* of an attention, and its rows for each that is given to the program */
    float eps;
    const void *input;       /* Rounded [taps.. + rows, inputs] of a product, else float32, without gaps */
    const Weight *weights;   /* of a product: float32 [outputs / BLOCK, taps, inputs, BLOCK], or bfloat16
                                [outputs / BLOCK, taps, inputs / 2, BLOCK, 2] */
    const float *bias, *scale, *taps_of, *offset; /* [outputs] or NULL; [taps, inputs] and [inputs] of a mix */
    const float *residual;   /* [rows, outputs] or NULL: added last */
    float *output;           /* [rows, outputs] or NULL */
    Rounded *rounded;        /* the same rounded, behind a snake where there is `alpha`, or NULL */
    const float *alpha, *inverse; /* [outputs] or NULL: of the snake, and what its square is multiplied by */
    float *keys;             /* of an attention: room for [heads, window - 1 + rows, 2, size] and a row a
                                head; of a mix and a filter see there */
    const float *rope;       /* [rows, size / 2, 2] */
    Past load, save;         /* for what is made here, and of what is read here */
    int64_t first;           /* pieces of work before this operation's */
    int32_t tile_rows, tile_blocks, row_tiles, tiles;
} Operation;

typedef struct {
    const Operation *operations;
    int64_t pieces;
    uint8_t *state;         /* of the signal */
    int64_t begin;          /* rows of it that were given before */
    _Atomic int64_t next, done, threads;
} Job;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

#if HAS_PAIRS
INLINE void store_rounded(Rounded *to, Floats x) {
    __m256bh y = _mm512_cvtneps_pbh((__m512)x);
    memcpy(to, &y, sizeof y);
}
#else
INLINE void store_rounded(Rounded *to, Floats x) { store(to, x); }
#endif

/* The first `count` of LANES numbers. */
INLINE Floats load_some(const float *from, int64_t count) {
    if (count >= LANES) return load(from);
    Floats x = {};
    memcpy(&x, from, 4 * (size_t)count);
    return x;
}

INLINE void store_some(float *to, Floats x, int64_t count) {
    if (count >= LANES) store(to, x);
    else memcpy(to, &x, 4 * (size_t)count);
}

INLINE void store_some_rounded(Rounded *to, Floats x, int64_t count) {
    Rounded whole[LANES];
    store_rounded(count >= LANES ? to : whole, x);
    if (count < LANES) memcpy(to, whole, sizeof(Rounded) * (size_t)count);
}

/* x + sin^2(alpha x) * inverse. The square of a sine repeats itself after pi. */
INLINE Floats snake(Floats x, Floats alpha, Floats inverse) {
    Floats y = alpha * x;
    Floats turns = y * 0.318309886f + 12582912.0f; /* rounds: 1.5 * 2^23 */
    turns -= 12582912.0f;
    Floats r = ((y - turns * 3.140625f) - turns * 9.67502593994140625e-4f) - turns * 1.509957990978376e-7f;
    Floats s = r * r;
    Floats series = s * 8.10006995e-08f + -4.23134633e-06f;
    series = series * s + 0.000141017896f;
    series = series * s + -0.00317453686f;
    series = series * s + 0.0444444157f;
    series = series * s + -0.333333343f;
    series = series * s + 1.0f;
    return x + s * series * inverse;
}

INLINE Floats sigmoid(Floats x) { return 1.0f / (1.0f + exponential(-x)); }

/* x times the chance that a normal number is below it. */
INLINE Floats gelu(Floats x) {
    Floats z = x * 0.70710678f;
    Ints is_negative = z < 0.0f;
    z = choose(is_negative, -z, z);
    Floats t = 1.0f / (1.0f + 0.3275911f * z);
    Floats series = t * 1.061405429f - 1.453152027f;
    series = series * t + 1.421413741f;
    series = series * t - 0.284496736f;
    series = series * t + 0.254829592f;
    Floats tail = series * t * exponential(-z * z); /* 1 - erf(z), to 1.5e-7 */
    return 0.5f * x * choose(is_negative, tail, 2.0f - tail);
}

/* What becomes of LANES outputs of a row. */
INLINE void finish_outputs(const Operation *op, Floats x, int64_t row, int64_t n, int64_t outputs) {
    const int64_t count = outputs - n, at = row * outputs + n;
    if (count <= 0) return;
    if (op->scale) x *= load(op->scale + n);
    if (op->residual) x += load_some(op->residual + at, count);
    if (op->output) store_some(op->output + at, x, count);
    if (!op->rounded) return;
    if (op->alpha) x = snake(x, load(op->alpha + n), load(op->inverse + n));
    store_some_rounded(op->rounded + row * op->rounded_stride + n, x, count);
}

/* The sums of a block of `rows` rows, whole vectors that are neither bent nor scaled; what else is
   asked for is a constant wherever this is inlined. */
INLINE void finish_plainly(const Operation *op, int64_t row, int64_t apart, int64_t n, int rows,
                           const Floats (*sums)[VECTORS], int v, const int has_residual, const int has_output) {
    const Floats alpha = load(op->alpha + n), inverse = load(op->inverse + n);
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        const int64_t at = (row + r * apart) * op->outputs + n;
        Floats x = sums[r][v];
        if (has_residual) x += load(op->residual + at);
        if (has_output) store(op->output + at, x);
        store_rounded(op->rounded + (row + r * apart) * op->rounded_stride + n, snake(x, alpha, inverse));
    }
}

/* The sums of rows that lie `apart`, the first one at `row`. */
static void finish_block(const Operation *op, int64_t row, int64_t apart, int64_t block, int rows, int vectors,
                         const Floats (*sums)[VECTORS]) {
    const int is_plain = op->bend == AS_IT_IS && !op->scale;
    for (int v = 0; v < vectors; v++) {
        const int64_t n = block * BLOCK + v * LANES;
        if (is_plain && op->alpha && n + LANES <= op->outputs) {
            if (!op->residual && !op->output) finish_plainly(op, row, apart, n, rows, sums, v, 0, 0);
            else if (!op->residual) finish_plainly(op, row, apart, n, rows, sums, v, 0, 1);
            else if (op->output) finish_plainly(op, row, apart, n, rows, sums, v, 1, 1);
            else finish_plainly(op, row, apart, n, rows, sums, v, 1, 0);
            continue;
        }
        for (int r = 0; r < rows; r++) {
            Floats x = sums[r][v];
            if (op->bend == GATE) {
                if (v >= VECTORS / 2) continue;
                x *= sigmoid(x) * sums[r][v + VECTORS / 2];
                finish_outputs(op, x, row + r * apart, block * (BLOCK / 2) + v * LANES, op->outputs / 2);
                continue;
            }
            finish_outputs(op, op->bend == GELU ? gelu(x) : x, row + r * apart, n, op->outputs);
        }
    }
}

/* Add to `sums` float32 rows that are `stride` bytes long by float32 weights [inputs, BLOCK]. */
INLINE void add_products(Floats (*sums)[VECTORS], const uint8_t *x, int64_t stride, const uint8_t *weights,
                         int32_t inputs, const int rows, const int vectors) {
    /* A pointer to every third row: the others are as far from it as an address can say. */
    const uint8_t *thirds[(MOST + 2) / 3];
    for (int r = 0; r < rows; r += 3) thirds[r / 3] = x + r * stride;
    for (int32_t input = 0; input < inputs; input++) {
        Floats w[VECTORS];
        for (int v = 0; v < vectors; v++) memcpy(&w[v], weights + 4 * LANES * v, sizeof w[v]);
#pragma GCC unroll 14
        for (int r = 0; r < rows; r++) {
            float one;
            memcpy(&one, thirds[r / 3] + (r % 3) * stride + 4 * (int64_t)input, 4);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) sums[r][v] += w[v] * one;
        }
        weights += 4 * BLOCK;
    }
}

/* `rows` rows by a block of weights, and what becomes of them. `rows` and `vectors` are constants
   wherever this is inlined, so that the sums lie in registers. */
INLINE void multiply_block(const Operation *op, int64_t row, int64_t block, const int rows, const int vectors) {
    const int64_t one = (int64_t)op->input_stride * (int64_t)sizeof(Rounded), stride = op->step * one;
    const uint8_t *weights = (const uint8_t *)(op->weights + block * op->taps * op->inputs * BLOCK);
    if (op->residual) /* it has left the cache by now, and lies in pieces that nothing else foresees */
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++)
                __builtin_prefetch(op->residual + (row + r) * op->outputs + block * BLOCK + v * LANES, 1);
    Floats sums[MOST][VECTORS];
    for (int v = 0; v < vectors; v++) {
        Floats bias = op->bias ? load(op->bias + block * BLOCK + v * LANES) : (Floats){};
        for (int r = 0; r < rows; r++) sums[r][v] = bias;
    }
    for (int32_t tap = 0; tap < op->taps; tap++) {
        const uint8_t *x = (const uint8_t *)op->input + row * stride + (int64_t)tap * op->dilation * one;
#ifdef WIDE
        add_products(sums, x, stride, weights, op->inputs, rows, vectors);
        weights += 4 * BLOCK * (int64_t)op->inputs;
#else
        const uint8_t *thirds[(MOST + 2) / 3]; /* as above */
        for (int r = 0; r < rows; r += 3) thirds[r / 3] = x + r * stride;
        for (int32_t pair = 0; pair < op->inputs / 2; pair++) {
#if HAS_PAIRS
            __m512bh w[VECTORS];
            for (int v = 0; v < vectors; v++) memcpy(&w[v], weights + 64 * v, 64);
#pragma GCC unroll 14
            for (int r = 0; r < rows; r++) {
                int32_t both;
                memcpy(&both, thirds[r / 3] + (r % 3) * stride + 4 * (int64_t)pair, 4);
                __m512bh y = (__m512bh)_mm512_set1_epi32(both);
#pragma GCC unroll 2
                for (int v = 0; v < vectors; v++)
                    sums[r][v] = (Floats)_mm512_dpbf16_ps((__m512)sums[r][v], w[v], y);
            }
#else
#pragma GCC unroll 2
            for (int half = 0; half < 2; half++) {
                Floats w[VECTORS];
                for (int v = 0; v < vectors; v++) {
                    Ints both;
                    memcpy(&both, weights + 4 * LANES * v, sizeof both);
                    w[v] = bits_as_floats(half ? both & all_int((int32_t)0xFFFF0000) : both << 16);
                }
#pragma GCC unroll 14
                for (int r = 0; r < rows; r++) {
                    float one;
                    memcpy(&one, thirds[r / 3] + (r % 3) * stride + 8 * (int64_t)pair + 4 * half, 4);
#pragma GCC unroll 4
                    for (int v = 0; v < vectors; v++) sums[r][v] += w[v] * one;
                }
            }
#endif
            weights += 4 * BLOCK;
        }
#endif
    }
    finish_block(op, row, 1, block, rows, vectors, sums);
}

#define CASE(r)                                                                       \
    case r:                                                                           \
        if (is_half) multiply_block(op, row, block, r, (VECTORS + 1) / 2);            \
        else multiply_block(op, row, block, r, VECTORS);                              \
        break;

static void multiply_rows(const Operation *op, int64_t row, int64_t block, int64_t rows) {
    const int is_half = op->bend != GATE && op->outputs - block * BLOCK <= BLOCK / 2;
    switch (rows) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if MOST > 6
        CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
#endif
    }
}

static void multiply(const Operation *op, int64_t tile) {
    const int64_t begin = tile % op->row_tiles * op->tile_rows, end = smaller(begin + op->tile_rows, op->rows);
    const int64_t blocks = (op->outputs + BLOCK - 1) / BLOCK;
    const int64_t first = tile / op->row_tiles * op->tile_blocks, last = smaller(first + op->tile_blocks, blocks);
    const int64_t parts = (end - begin + MOST - 1) / MOST;
    for (int64_t block = first; block < last; block++)
        for (int64_t part = 0, row = begin; part < parts; part++) {
            int64_t rows = (end - row + parts - part - 1) / (parts - part); /* alike, so that none is thin */
            multiply_rows(op, row, block, rows);
            row += rows;
        }
}

#include "codec_filter.h"

/* The sum of x[n] * y[n]. */
INLINE float dot(const float *x, const float *y, int64_t size) {
    Floats sums = {};
    int64_t n = 0;
    for (; n + LANES <= size; n += LANES) sums += load(x + n) * load(y + n);
    float sum = sum_of(sums);
    for (; n < size; n++) sum += x[n] * y[n];
    return sum;
}

static void round_rows(const Operation *op, int64_t begin, int64_t end) {
    const float *x = op->input;
    for (int64_t row = begin; row < end; row++)
        for (int64_t n = 0; n < op->outputs; n += LANES)
            finish_outputs(op, load_some(x + row * op->outputs + n, op->outputs - n), row, n, op->outputs);
}

/* x / rms(x) * scale */
static void norm_rows(const Operation *op, int64_t begin, int64_t end) {
    const int64_t size = op->inputs;
    for (int64_t row = begin; row < end; row++) {
        const float *x = (const float *)op->input + row * size;
        const float by = 1.0f / sqrtf(dot(x, x, size) / (float)size + op->eps);
        for (int64_t n = 0; n < size; n += LANES)
            finish_outputs(op, load_some(x + n, size - n) * by, row, n, size);
    }
}

/* A convolution of each channel alone, then all channels of a row to mean 0 and variance 1. `keys` is
   room for a row a piece of work. */
static void mix_rows(const Operation *op, int64_t begin, int64_t end, float *sums) {
    const int64_t size = op->inputs;
    for (int64_t row = begin; row < end; row++) {
        memcpy(sums, op->bias, 4 * (size_t)size);
        for (int32_t tap = 0; tap < op->taps; tap++) {
            const float *x = (const float *)op->input + (row + tap) * size, *w = op->taps_of + tap * size;
            for (int64_t n = 0; n < size; n++) sums[n] += x[n] * w[n];
        }
        float mean = 0;
        for (int64_t n = 0; n < size; n++) mean += sums[n];
        mean /= (float)size;
        for (int64_t n = 0; n < size; n++) sums[n] -= mean;
        const float by = 1.0f / sqrtf(dot(sums, sums, size) / (float)size + op->eps);
        for (int64_t n = 0; n < size; n++) sums[n] = sums[n] * by * op->scale[n] + op->offset[n];
        for (int64_t n = 0; n < size; n += LANES)
            store_some_rounded(op->rounded + row * op->rounded_stride + n, load_some(sums + n, size - n), size - n);
    }
}

static void turn(const float *from, const float *rope, int64_t size, float *to) {
    for (int64_t i = 0; i < size; i += 2) {
        float a = from[i], b = from[i + 1];
        to[i] = a * rope[i] - b * rope[i + 1];
        to[i + 1] = a * rope[i + 1] + b * rope[i];
    }
}

/* One head: each row sees itself and `window` - 1 rows before it, those of earlier pieces included. */
static void attend(const Operation *op, const Job *job, int64_t head) {
    const int64_t size = op->outputs / op->heads, width = 3 * op->outputs, past = op->window - 1;
    float *keys = op->keys + head * ((past + op->rows) * 2 + 1) * size, *room = keys + (past + op->rows) * 2 * size;
    float *kept = (float *)(job->state + op->save.at) + head * past * 2 * size;
    const float by = 1.0f / sqrtf((float)size);
    float scores[op->window];
    memcpy(keys, kept, 4 * (size_t)(past * 2 * size));
    for (int64_t row = 0; row < op->rows; row++) {
        const float *q = (const float *)op->input + row * width + head * size;
        float *own = keys + (past + row) * 2 * size;
        turn(q + op->outputs, op->rope + row * size, size, own);
        memcpy(own + size, q + 2 * op->outputs, 4 * (size_t)size);
        turn(q, op->rope + row * size, size, room);
        const int64_t first = row + past - smaller(past, job->begin * op->rate + row), end = past + row + 1;
        const float *seen = keys + first * 2 * size;
        const int64_t count = end - first;
        float most = -INFINITY, whole = 0;
        for (int64_t at = 0; at < count; at++) {
            scores[at] = by * dot(room, seen + at * 2 * size, size);
            most = scores[at] > most ? scores[at] : most;
        }
        for (int64_t at = 0; at < count; at++) whole += scores[at] = expf(scores[at] - most);
        memset(room, 0, 4 * (size_t)size);
        for (int64_t at = 0; at < count; at++)
            for (int64_t i = 0; i < size; i++) room[i] += scores[at] * seen[(at * 2 + 1) * size + i];
        for (int64_t i = 0; i < size; i++) room[i] /= whole;
        Rounded *to = op->rounded + row * op->rounded_stride + head * size;
        for (int64_t i = 0; i < size; i += LANES) store_some_rounded(to + i, load_some(room + i, size - i), size - i);
    }
    memcpy(kept, keys + op->rows * 2 * size, 4 * (size_t)(past * 2 * size));
}

static void do_piece(const Operation *op, const Job *job, int64_t piece, int64_t thread) {
    if (piece == op->tiles) { /* the last one: what comes from the piece before, and goes to the next */
        if (op->load.rows) memcpy(op->load.rows, job->state + op->load.at, (size_t)op->load.bytes);
        if (op->save.rows) memcpy(job->state + op->save.at, op->save.rows, (size_t)op->save.bytes);
        return;
    }
    const int64_t begin = piece * ROWS_TOGETHER, end = smaller(begin + ROWS_TOGETHER, op->rows);
    switch (op->kind) {
        case PRODUCT: multiply(op, piece); break;
        case ROUND: round_rows(op, begin, end); break;
        case NORM: norm_rows(op, begin, end); break;
        case MIX: mix_rows(op, begin, end, op->keys + piece * op->inputs); break;
        case ATTEND: attend(op, job, piece); break;
        case FILTER: filter(op, piece, op->keys + thread * FILTER_ROOM(op->inputs)); break;
    }
}

/* Cut operations into pieces of work; how many pieces there are. */
EXPORT int64_t NAME(plan)(Operation *operations, int32_t count) {
    int64_t first = 0;
    for (Operation *op = operations; op < operations + count; op++) {
        op->first = first;
        op->tiles = (op->rows + ROWS_TOGETHER - 1) / ROWS_TOGETHER;
        if (op->kind == ATTEND) op->tiles = op->heads;
        if (op->kind == FILTER) plan_filter(op);
        if (op->kind == PRODUCT) {
            const int64_t blocks = (op->outputs + BLOCK - 1) / BLOCK, reads = (int64_t)op->taps * op->inputs * BLOCK;
            op->tile_rows = (int32_t)smaller(op->rows, TILE_BLOCKS * MOST);
            const int64_t work = reads * (op->tile_rows < WORK_OF_A_WEIGHT ? WORK_OF_A_WEIGHT : op->tile_rows);
            op->tile_blocks = (int32_t)smaller(blocks, 1 + TILE_WORK / work);
            op->row_tiles = (op->rows + op->tile_rows - 1) / op->tile_rows;
            op->tiles = op->row_tiles * (int32_t)((blocks + op->tile_blocks - 1) / op->tile_blocks);
        }
        first += op->tiles + 1;
    }
    return first;
}

static void wait_for(Job *job, int64_t pieces) {
    for (int32_t spins = 0; atomic_load_explicit(&job->done, memory_order_acquire) < pieces; spins++)
        wait_a_moment(spins);
}

/* Take piece after piece until none is left. Any number of threads may, each at any time: pieces are
   given out in order, so nobody waits for a thread that has not come. */
EXPORT void NAME(help)(Job *job) {
    const Operation *op = job->operations;
    const int64_t thread = atomic_fetch_add(&job->threads, 1);
    for (int64_t piece; (piece = atomic_fetch_add(&job->next, 1)) < job->pieces;) {
        while (piece > op->first + op->tiles) op++;
        wait_for(job, op->first);
        do_piece(op, job, piece - op->first, thread);
        atomic_fetch_add(&job->done, 1);
    }
}

/* The same, and wait for those who help. */
EXPORT void NAME(run)(Job *job) {
    NAME(help)(job);
    wait_for(job, job->pieces);
}

/* Weights of a product as `Operation` has them, from where each output, tap and input lies so many
   numbers after the one before. A last block is filled up with zeros. `is_wide` is a constant wherever this
   is inlined. */
INLINE void pack_weights(const float *from, int64_t by_output, int64_t by_tap, int64_t by_input, int32_t outputs,
                         int32_t taps, int32_t inputs, void *to, const int is_wide) {
    const int64_t pair = is_wide ? 1 : 2, blocks = (outputs + BLOCK - 1) / BLOCK;
    int64_t first = 0;
    for (int64_t block = 0; block < blocks; block++)
        for (int64_t tap = 0; tap < taps; tap++, first += (int64_t)inputs * BLOCK)
            for (int64_t begin = 0; begin < inputs; begin += LINE) /* what is written stays in the cache */
                for (int64_t n = 0; n < BLOCK; n++) {
                    const float *row = from + (block * BLOCK + n) * by_output + tap * by_tap;
                    const int is_there = block * BLOCK + n < outputs;
                    for (int64_t i = begin; i < smaller(begin + LINE, inputs); i++) {
                        const int64_t at = first + (i / pair * BLOCK + n) * pair + i % pair;
                        const float weight = is_there ? row[i * by_input] : 0;
                        if (is_wide) ((float *)to)[at] = weight;
                        else ((uint16_t *)to)[at] = to_bfloat16(weight);
                    }
                }
}

EXPORT void NAME(pack)(const float *from, int64_t by_output, int64_t by_tap, int64_t by_input, int32_t outputs,
                       int32_t taps, int32_t inputs, void *to) {
    pack_weights(from, by_output, by_tap, by_input, outputs, taps, inputs, to, sizeof(Weight) == 4);
}

/* The same in float32, as filters have them. */
EXPORT void NAME(pack_wide)(const float *from, int64_t by_output, int64_t by_tap, int64_t by_input, int32_t outputs,
                            int32_t taps, int32_t inputs, void *to) {
    pack_weights(from, by_output, by_tap, by_input, outputs, taps, inputs, to, 1);
}

/* Bytes that a thread needs of an operation's `keys` for a filter of so many inputs. */
EXPORT int64_t NAME(filter_room)(int32_t inputs) { return 4 * FILTER_ROOM(inputs); }
EXPORT int32_t NAME(block)(void) { return BLOCK; }
EXPORT int32_t NAME(rounded_bytes)(void) { return (int32_t)sizeof(Rounded); }
EXPORT int32_t NAME(rows_together)(void) { return ROWS_TOGETHER; }
