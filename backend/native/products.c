/* Matrices times a few rows: each tile of weights is read once for all of them. */

#include <math.h>

#include "integers.h"
#include "native.h"

static int64_t tile_bytes(const Matrix *matrix) {
    int64_t inputs = matrix->inputs;
    switch (matrix->kind) {
    case F32: return 4 * TILE * inputs;
    case BF16: return 2 * TILE * inputs;
    case I8: return TILE * inputs + 4 * TILE;
    case I16: return 2 * (TILE * inputs + 4 * TILE);
    default: return TILE * inputs / 4 * 3 + 4 * TILE;
    }
}

static int are_floats(int32_t kind) { return kind == F32 || kind == BF16; }

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
    if (are_floats(kind)) floats(tile, input, first, rows, kind, y);
    else if (kind == I16) wide_integers(tile, input, first, rows, y);
    else integers(tile, input, first, rows, kind, y);
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
        CASE(I16);
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
        if (!are_floats(matrix->kind))
            scratch->scales[row] = round_row(from, size, magnitude(from, size), high + at, low + at, high_sums + row,
                                             low_sums + row);
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
