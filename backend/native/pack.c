/* Matrices as they are stored, rounded to few bits and laid out as `products.c` reads them. */

#include "lanes.h"
#include "native.h"
#include "threads.h"

#define TOGETHER 16 /* inputs */

INLINE Floats weights_at(const uint8_t *row, int64_t i, int32_t kind) {
    return kind == F32 ? load((const float *)row + i) : load_bfloat16(row + 2 * i);
}

/* Of six bits it may be negative: the largest weight takes the one step that has no counterpart. Rounded
   to bfloat16 before it divides, so that the steps are the best for what is stored. */
static float scale_of(const uint8_t *row, int64_t inputs, int32_t kind, int32_t bits) {
    Floats top = weights_at(row, 0, kind), bottom = -top;
    for (int64_t i = LANES; i < inputs; i += LANES) {
        const Floats w = weights_at(row, i, kind);
        top = larger(w, top);
        bottom = larger(-w, bottom);
    }
    const float above = largest_of(top), below = largest_of(bottom);
    float scale = bits == 8 ? (above > below ? above : below) / 127 : (above > below ? above : -below) / -32;
    if (scale == 0) scale = 1e-8f; /* of a channel of zeros, to which any scale will do */
    const uint32_t rounded = (uint32_t)to_bfloat16(scale) << 16;
    memcpy(&scale, &rounded, 4);
    return scale;
}

/* One output's weights into its lane of a tile; zeros where there is no such output. */
static void pack_row(const uint8_t *row, int64_t inputs, int32_t kind, int32_t bits, float scale, uint8_t *lane) {
    const int32_t middle = bits == 8 ? 128 : 32;
    const Floats least = all(bits == 8 ? -127.0f : -32.0f), most = all(bits == 8 ? 127.0f : 31.0f);
    for (int64_t i = 0; i < inputs; i += TOGETHER) {
        uint32_t fours[TOGETHER / 4];
        for (int64_t n = 0; n < TOGETHER; n += LANES) {
            Floats steps = row ? weights_at(row, i + n, kind) / scale : (Floats){};
            steps = choose(steps > most, most, larger(steps, least));
            narrow((int8_t *)fours + n, float_bits(steps + 12582912.0f) - 0x4B400000 + middle); /* 1.5 * 2^23 */
        }
        for (int32_t n = 0; n < (bits == 8 ? 4 : 3); n++, lane += 4 * TILE) {
            const uint32_t four = bits == 8 ? fours[n] : fours[n] | (fours[3] >> 2 * n & 0x03030303) << 6;
            memcpy(lane, &four, 4);
        }
    }
}

/* The tiles of a matrix [outputs, inputs] of `kind`, inputs being a multiple of 16. Outputs that are not there
   have weights and a scale of zero. */
EXPORT void pack_tiles(const uint8_t *weights, int32_t kind, int64_t outputs, int64_t inputs, int32_t bits,
                       uint8_t *to) {
    const int64_t size = TILE * inputs * bits / 8, row_bytes = inputs * (kind == F32 ? 4 : 2);
    for (int64_t tile = 0; tile * TILE < outputs; tile++, to += size + 4 * TILE) {
        float scales[TILE] = {0};
        for (int64_t n = 0; n < TILE; n++) {
            const int64_t output = tile * TILE + n;
            const uint8_t *row = output < outputs ? weights + output * row_bytes : NULL;
            if (row) scales[n] = scale_of(row, inputs, kind, bits);
            pack_row(row, inputs, kind, bits, scales[n], to + 4 * n);
        }
        memcpy(to + size, scales, sizeof scales);
    }
}
