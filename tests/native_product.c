/* Products of every kind by the kernels, for CPUs that only an emulator has: exits with 0 if all are right. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "native.h"

enum { OUTPUTS = 48, INPUTS = 64, ROWS = 5 };

int32_t announce(Pool *pool);
void lead(Pool *pool);

static double weights[OUTPUTS][INPUTS];
static uint8_t packed[8 * OUTPUTS * INPUTS];

static float chance(void) { return (float)(rand() % 20001 - 10000) / 10000.0f; }

/* A tile of I8. */
static uint8_t *pack_eights(int values[OUTPUTS][INPUTS], const float *scales, int first, uint8_t *to) {
    for (int i = 0; i < INPUTS; i += 4)
        for (int o = first; o < first + TILE; o++)
            for (int j = i; j < i + 4; j++) *to++ = (uint8_t)(values[o][j] + 128);
    memcpy(to, scales + first, 4 * TILE);
    return to + 4 * TILE;
}

/* The same weights as doubles and as `products.c` has them. */
static void pack(int kind) {
    static int values[OUTPUTS][INPUTS], rest[OUTPUTS][INPUTS];
    float rest_scales[OUTPUTS];
    float scales[OUTPUTS];
    uint8_t *to = packed;
    for (int o = 0; o < OUTPUTS; o++) {
        scales[o] = 0.01f * (float)(1 + o);
        rest_scales[o] = scales[o] / 254;
        for (int i = 0; i < INPUTS; i++) {
            values[o][i] = (int)(chance() * (kind == I6 ? 31 : 127));
            rest[o][i] = (int)(chance() * 127);
            float exact = chance();
            uint32_t bits;
            memcpy(&bits, &exact, 4);
            bits &= 0xFFFF0000u; /* bfloat16 holds it */
            memcpy(&exact, &bits, 4);
            weights[o][i] = kind == F32 || kind == BF16 ? exact : values[o][i] * (double)scales[o];
            if (kind == I16) weights[o][i] += rest[o][i] * (double)rest_scales[o];
        }
    }
    for (int first = 0; first < OUTPUTS; first += TILE) {
        if (kind == F32 || kind == BF16)
            for (int i = 0; i < INPUTS; i++)
                for (int o = first; o < first + TILE; o++) {
                    float weight = (float)weights[o][i];
                    int size = kind == F32 ? 4 : 2;
                    memcpy(to, (uint8_t *)&weight + 4 - size, (size_t)size);
                    to += size;
                }
        if (kind == I8 || kind == I16) to = pack_eights(values, scales, first, to);
        if (kind == I16) to = pack_eights(rest, rest_scales, first, to);
        if (kind == I6) {
            for (int i = 0; i < INPUTS; i += 16)
                for (int part = 0; part < 3; part++)
                    for (int o = first; o < first + TILE; o++)
                        for (int j = i; j < i + 4; j++) {
                            int lower = values[o][j + 4 * part] + 32, upper = values[o][j + 12] + 32;
                            *to++ = (uint8_t)(lower | upper >> 2 * part << 6);
                        }
            memcpy(to, scales + first, 4 * TILE);
            to += 4 * TILE;
        }
    }
}

int main(void) {
    static float x[ROWS * INPUTS], y[ROWS * OUTPUTS], room[MOST_ROWS * INPUTS], row_scales[MOST_ROWS];
    static int8_t integers[2 * MOST_ROWS * INPUTS];
    static int32_t sums[2 * MOST_ROWS];
    Scratch scratch = {room, integers, row_scales, sums, room};
    atomic_int states[1] = {0};
    int wrong = 0;
    for (int i = 0; i < ROWS * INPUTS; i++) x[i] = chance();
    for (int kind = F32; kind <= I16; kind++) {
        pack(kind);
        Matrix matrix = {packed, NULL, OUTPUTS, INPUTS, kind};
        Pool pool = {.threads = 1, .kind = PRODUCT, .rows = ROWS, .matrix = &matrix, .input = x, .output = y,
                     .scratches = &scratch, .states = states};
        announce(&pool);
        lead(&pool);
        double worst = 0, most = 0;
        for (int row = 0; row < ROWS; row++)
            for (int o = 0; o < OUTPUTS; o++) {
                double wanted = 0;
                for (int i = 0; i < INPUTS; i++) wanted += weights[o][i] * x[row * INPUTS + i];
                worst = fmax(worst, fabs(wanted - y[row * OUTPUTS + o]));
                most = fmax(most, fabs(wanted));
            }
        printf("kind %d: off by %.1e of %.1f\n", kind, worst, most);
        wrong += !(worst < 1e-4 * most);
    }
    return wrong;
}
