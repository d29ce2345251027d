/* Products of weights that are integers, and of rows that are made integers for it. */

#ifndef SHOAL_INTEGERS_H
#define SHOAL_INTEGERS_H

#include "lanes.h"
#include "native.h"

#define BLOCK_ROWS 4 /* rows whose sums are held in registers */

/* A tile of I8 holds, for each four inputs, those four weights of one output after the other. One of I6
   holds sixteen inputs in three such vectors: their lower six bits are twelve of the weights, and the
   upper two of all three the last four. At the end of both are TILE scales in float32. One of I16 is two
   of I8, one after the other, whose sum it stands for: the second holds what the first one lost. */

INLINE Bytes load_bytes(const uint8_t *from) {
    Bytes x;
    memcpy(&x, from, sizeof x);
    return x;
}

/* Let the cache line of `from`, which may be anywhere, come into the second cache. */
INLINE void fetch(const uint8_t *from) { __builtin_prefetch(from, 0, 2); }

INLINE Ints load_ints(const int32_t *from) {
    Ints x;
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

/* The sixteen numbers of six bits in each four bytes of three vectors. */
INLINE void open_sixes(Bytes a, Bytes b, Bytes c, Bytes fours[4]) {
    fours[0] = a & 63;
    fours[1] = b & 63;
    fours[2] = c & 63;
    /* Shifts carry bits from byte to byte: those are masked off. */
    fours[3] = ((Bytes)((Ints)a >> 6) & 3) | ((Bytes)((Ints)b >> 4) & 12) | ((Bytes)((Ints)c >> 2) & 48);
}

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
                Bytes fours[4];
                open_sixes(load_bytes(weights), load_bytes(weights + 4 * TILE), load_bytes(weights + 8 * TILE), fours);
                for (int four = 0; four < 4; four++)
                    add_four(fours[four], input, first, k + 4 * four, rows, kind, high, low);
            }
        Floats scale = load((const float *)scales + part * LANES);
        for (int row = 0; row < rows; row++)
            y[row][part] = (as_floats(high[row]) * (float)BASE + as_floats(low[row])) * scale * input.scales[first + row];
    }
}

/* The same of a tile of I16. */
INLINE void wide_integers(const uint8_t *tile, Input input, int32_t first, const int rows, Sums y) {
    Sums rest;
    integers(tile, input, first, rows, I8, y);
    integers(tile + (int64_t)TILE * (input.inputs + 4), input, first, rows, I8, rest);
    for (int row = 0; row < rows; row++)
        for (int part = 0; part < PARTS; part++) y[row][part] += rest[row][part];
}

/* The largest magnitude of x; what is no number makes it none. */
static inline float magnitude(const float *x, int32_t size) {
    Floats most = {}, is_sound = {};
    for (int32_t i = 0; i < size; i += LANES) {
        Floats v = load(x + i);
        most = larger(most, larger(v, -v));
        is_sound += v * 0.0f;
    }
    return largest_of(most) + sum_of(is_sound);
}

/* x, of which `largest` is the magnitude, as two integers each, and the scale that turns them back: 16 bits, so that
   what is lost is lost in the weights alone. Of no number, it is none, and so is the whole row. */
static inline float round_row(const float *x, int32_t size, float largest, int8_t *high, int8_t *low,
                              int32_t *high_sum, int32_t *low_sum) {
    const float range = 127.0f * BASE, round = 12582912.0f; /* 1.5 * 2^23 */
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
    return largest / range;
}

#endif
