/* Matrices times a few rows: each tile of weights is read once for all of them. */

#include <math.h>

#include "lanes.h"
#include "native.h"

#define BLOCK_ROWS 4 /* rows whose sums are held in registers */

/* A tile of I8 holds, for each four inputs, those four weights of one output after the other. One of I6
   holds sixteen inputs in three such vectors: their lower six bits are twelve of the weights, and the
   upper two of all three the last four. At the end of both are TILE scales in float32. */

static int64_t tile_bytes(const Matrix *matrix) {
    int64_t inputs = matrix->inputs;
    switch (matrix->kind) {
    case F32: return 4 * TILE * inputs;
    case BF16: return 2 * TILE * inputs;
    case I8: return TILE * inputs + 4 * TILE;
    default: return TILE * inputs / 4 * 3 + 4 * TILE;
    }
}

INLINE Bytes load_bytes(const uint8_t *from) {
    Bytes x;
    memcpy(&x, from, sizeof x);
    return x;
}

INLINE int32_t four_of(const int8_t *q) {
    int32_t x;
    memcpy(&x, q, 4);
    return x;
}

#define BASE 255 /* of the integers that stand for an input: the higher one times this, and the lower */

/* Rows as they are multiplied: the numbers, or two integers for each, with a scale and two sums of the
   integers for each row. */
typedef struct {
    const float *x;
    const int8_t *high, *low;
    const float *scales;
    const int32_t *high_sums, *low_sums;
    int32_t inputs;
} Input;

typedef Floats Sums[BLOCK_ROWS][PARTS];
typedef Ints IntSums[BLOCK_ROWS];

/* From here on `rows` and `kind` are constants wherever it is inlined. */

/* Four inputs, the first of which is `k`, by their weights. */
INLINE void add_four(Bytes weights, Input input, int32_t first, int32_t k, const int rows, const int kind,
                     IntSums high, IntSums low) {
    for (int row = 0; row < rows; row++) {
        const int64_t at = (int64_t)(first + row) * input.inputs + k;
        const int32_t upper = four_of(input.high + at), lower = four_of(input.low + at);
        high[row] = kind == I8 ? dot_8(high[row], weights, upper) : dot_6(high[row], weights, upper);
        low[row] = kind == I8 ? dot_8(low[row], weights, lower) : dot_6(low[row], weights, lower);
    }
}

INLINE void integers(const uint8_t *tile, Input input, int32_t first, const int rows, const int kind, Sums y) {
    const uint8_t *scales = tile + (kind == I8 ? (int64_t)TILE * input.inputs : (int64_t)TILE * input.inputs / 4 * 3);
    for (int part = 0; part < PARTS; part++) {
        const uint8_t *weights = tile + part * 4 * LANES;
        IntSums high, low;
        for (int row = 0; row < rows; row++) {
            high[row] = kind == I8 ? begin_8(input.high_sums[first + row]) : all_int(-32 * input.high_sums[first + row]);
            low[row] = kind == I8 ? begin_8(input.low_sums[first + row]) : all_int(-32 * input.low_sums[first + row]);
        }
        if (kind == I8)
            for (int32_t k = 0; k < input.inputs; k += 4, weights += 4 * TILE)
                add_four(load_bytes(weights), input, first, k, rows, kind, high, low);
        else
            for (int32_t k = 0; k < input.inputs; k += 16, weights += 12 * TILE) {
                Bytes a = load_bytes(weights), b = load_bytes(weights + 4 * TILE), c = load_bytes(weights + 8 * TILE);
                add_four(a & 63, input, first, k, rows, kind, high, low);
                add_four(b & 63, input, first, k + 4, rows, kind, high, low);
                add_four(c & 63, input, first, k + 8, rows, kind, high, low);
                /* Shifts carry bits from byte to byte: those are masked off. */
                Bytes d = ((Bytes)((Ints)a >> 6) & 3) | ((Bytes)((Ints)b >> 4) & 12) | ((Bytes)((Ints)c >> 2) & 48);
                add_four(d, input, first, k + 12, rows, kind, high, low);
            }
        Floats scale = load((const float *)scales + part * LANES);
        for (int row = 0; row < rows; row++)
            y[row][part] = (as_floats(high[row]) * (float)BASE + as_floats(low[row])) * scale * input.scales[first + row];
    }
}

INLINE void floats(const uint8_t *tile, Input input, int32_t first, const int rows, const int kind, Sums y) {
    const float *x = input.x + (int64_t)first * input.inputs;
    const int size = kind == F32 ? 4 : 2;
    Sums odd = {};
    for (int row = 0; row < rows; row++)
        for (int part = 0; part < PARTS; part++) y[row][part] = (Floats){};
    for (int32_t k = 0; k + 1 < input.inputs; k += 2, tile += 2 * TILE * size)
        for (int part = 0; part < PARTS; part++) {
            const uint8_t *at = tile + part * LANES * size;
            Floats w = kind == F32 ? load((const float *)at) : load_bfloat16(at);
            Floats v = kind == F32 ? load((const float *)(at + TILE * size)) : load_bfloat16(at + TILE * size);
            for (int row = 0; row < rows; row++) {
                y[row][part] += w * x[(int64_t)row * input.inputs + k];
                odd[row][part] += v * x[(int64_t)row * input.inputs + k + 1];
            }
        }
    for (int row = 0; row < rows; row++)
        for (int part = 0; part < PARTS; part++) {
            y[row][part] += odd[row][part];
            if (input.inputs % 2) {
                const uint8_t *at = tile + part * LANES * size;
                Floats w = kind == F32 ? load((const float *)at) : load_bfloat16(at);
                y[row][part] += w * x[(int64_t)row * input.inputs + input.inputs - 1];
            }
        }
}

INLINE void rows_by_tile(const uint8_t *tile, Input input, int32_t first, const int rows, const int kind, Sums y) {
    if (kind == I8 || kind == I6) integers(tile, input, first, rows, kind, y);
    else floats(tile, input, first, rows, kind, y);
}

#define CASE(KIND)                                                              \
    case KIND:                                                                  \
        switch (rows) {                                                         \
        case 1: rows_by_tile(tile, input, first, 1, KIND, y); break;            \
        case 2: rows_by_tile(tile, input, first, 2, KIND, y); break;            \
        case 3: rows_by_tile(tile, input, first, 3, KIND, y); break;            \
        default: rows_by_tile(tile, input, first, 4, KIND, y);                  \
        }                                                                       \
        break

static void by_tile(const Matrix *matrix, int32_t index, Input input, int32_t first, int rows, Sums y) {
    const uint8_t *tile = matrix->weights + tile_bytes(matrix) * index;
    switch (matrix->kind) {
        CASE(F32);
        CASE(BF16);
        CASE(I8);
        CASE(I6);
    }
    if (matrix->bias)
        for (int row = 0; row < rows; row++)
            for (int part = 0; part < PARTS; part++) y[row][part] += load(matrix->bias + index * TILE + part * LANES);
}

static void compute(const Matrix *matrix, const Matrix *gate, int32_t index, Input input, int32_t first, int rows,
                    float *y, int64_t stride, int32_t what) {
    Sums sums, gates;
    by_tile(matrix, index, input, first, rows, sums);
    if (gate) by_tile(gate, index, input, first, rows, gates);
    for (int row = 0; row < rows; row++)
        for (int part = 0; part < PARTS; part++) {
            float *at = y + (first + row) * stride + index * TILE + part * LANES;
            Floats sum = sums[row][part];
            if (gate) sum *= gates[row][part] / (exponential(-gates[row][part]) + 1.0f);
            store(at, what == ADD ? load(at) + sum : sum);
        }
}

/* x / rms(x) * weight. */
void normalise(const float *x, const float *weight, float eps, int32_t size, float *y) {
    Floats squares = {};
    for (int32_t i = 0; i < size; i += LANES) {
        Floats v = load(x + i);
        squares += v * v;
    }
    float factor = 1.0f / sqrtf(sum_of(squares) / (float)size + eps);
    for (int32_t i = 0; i < size; i += LANES) store(y + i, load(x + i) * factor * load(weight + i));
}

/* x as two integers each, and the scale that turns them back: 16 bits, so that what is lost is lost in the
   weights alone. */
static float round_row(const float *x, int32_t size, int8_t *high, int8_t *low, int32_t *high_sum,
                       int32_t *low_sum) {
    Floats most = {}, is_sound = {};
    for (int32_t i = 0; i < size; i += LANES) {
        Floats v = load(x + i);
        most = larger(most, larger(v, -v));
        is_sound += v * 0.0f;
    }
    const float largest = largest_of(most), range = 127.0f * BASE, round = 12582912.0f; /* 1.5 * 2^23 */
    const float factor = largest > 0 ? range / largest : 0.0f;
    Ints high_sums = {}, low_sums = {};
    for (int32_t i = 0; i < size; i += LANES) {
        Floats v = load(x + i) * factor;
        Floats upper = (v * (1.0f / BASE) + round) - round;
        Floats rest = v - upper * (float)BASE;
        rest = choose(rest > 127.0f, all(127.0f), choose(rest < -127.0f, all(-127.0f), rest));
        Ints high_int = float_bits(upper + round) - 0x4B400000, low_int = float_bits(rest + round) - 0x4B400000;
        high_sums += high_int;
        low_sums += low_int;
        narrow(high + i, high_int);
        narrow(low + i, low_int);
    }
    *high_sum = sum_of_ints(high_sums);
    *low_sum = sum_of_ints(low_sums);
    return largest / range + sum_of(is_sound); /* what is no number makes none of the whole row */
}

/* `rows` as `matrix` reads them. Each thread does it for itself: that is sooner done than waited for. */
static Input prepare(const Scratch *scratch, const Matrix *matrix, Rows rows) {
    const int32_t size = matrix->inputs;
    int8_t *high = scratch->q, *low = high + (int64_t)MOST_ROWS * size;
    int32_t *high_sums = scratch->sums, *low_sums = high_sums + MOST_ROWS;
    for (int32_t row = 0; row < rows.rows; row++) {
        const float *from = rows.x + row * rows.stride;
        const int64_t at = (int64_t)row * size;
        if (rows.norm) {
            normalise(from, rows.norm, rows.eps, size, scratch->x + at);
            from = scratch->x + at;
        }
        if (matrix->kind == I8 || matrix->kind == I6)
            scratch->scales[row] = round_row(from, size, high + at, low + at, high_sums + row, low_sums + row);
        else if (!rows.norm)
            memcpy(scratch->x + at, from, 4 * (size_t)size);
    }
    return (Input){scratch->x, high, low, scratch->scales, high_sums, low_sums, size};
}

/* y [rows, outputs] = W x, or y += W x; with a `gate` of the same kind and size, W x * silu(gate x). */
void multiply(Thread *thread, const Matrix *matrix, const Matrix *gate, Rows rows, float *y, int64_t stride,
              int32_t what) {
    const int32_t units = matrix->outputs / TILE, threads = thread->pool->threads;
    /* Several pieces a thread, so that a slow or busy core does less; none so small that taking counts. */
    const int32_t least = (int32_t)(16384 / tile_bytes(matrix)) + 1;
    int32_t size = threads == 1 ? units : units / (threads * 8) > least ? units / (threads * 8) : least;
    const int32_t pieces = (units + size - 1) / size;
    Input input = {.x = NULL};
    for (int32_t piece; (piece = take(thread, pieces)) < pieces; finish(thread, pieces)) {
        if (!input.x) input = prepare(thread->pool->scratches + thread->id, matrix, rows);
        const int32_t end = (piece + 1) * size < units ? (piece + 1) * size : units;
        for (int32_t index = piece * size; index < end; index++)
            for (int32_t first = 0; first < rows.rows; first += BLOCK_ROWS) {
                const int32_t left = rows.rows - first;
                compute(matrix, gate, index, input, first, left < BLOCK_ROWS ? left : BLOCK_ROWS, y, stride, what);
            }
    }
    meet(thread);
}

void widen(const uint8_t *from, int32_t kind, int64_t size, float *to, int adds) {
    for (int64_t i = 0; i < size; i += LANES) {
        Floats x = kind == F32 ? load((const float *)from + i) : load_bfloat16(from + 2 * i);
        store(to + i, adds ? load(to + i) + x : x);
    }
}
