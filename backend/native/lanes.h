/* Vectors as wide as this machine's, in the compilers' own notation; only what that notation cannot
   say is said for each kind of CPU. */

#ifndef SHOAL_LANES_H
#define SHOAL_LANES_H

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif
#define PARTS (16 / LANES) /* vectors of a tile */

#define INLINE static inline __attribute__((always_inline))

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));
typedef uint8_t Bytes __attribute__((vector_size(4 * LANES)));

INLINE Floats load(const float *from) {
    Floats x;
    memcpy(&x, from, sizeof x);
    return x;
}

INLINE void store(float *to, Floats x) { memcpy(to, &x, sizeof x); }

INLINE Floats all(float x) { return x - (Floats){}; }

INLINE Ints all_int(int32_t x) { return x - (Ints){}; }

INLINE Floats as_floats(Ints x) { return __builtin_convertvector(x, Floats); }

INLINE Floats bits_as_floats(Ints x) {
    Floats y;
    memcpy(&y, &x, sizeof y);
    return y;
}

INLINE Ints float_bits(Floats x) {
    Ints y;
    memcpy(&y, &x, sizeof y);
    return y;
}

/* LANES numbers in bfloat16. */
INLINE Floats load_bfloat16(const uint8_t *from) {
    Halves halves;
    memcpy(&halves, from, sizeof halves);
    return bits_as_floats(__builtin_convertvector(halves, Ints) << 16);
}

/* To the nearest, ties to even. */
INLINE uint16_t to_bfloat16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return x != x ? 0x7FC0 : (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

INLINE Floats choose(Ints mask, Floats yes, Floats no) {
    return bits_as_floats((mask & float_bits(yes)) | (~mask & float_bits(no)));
}

INLINE Floats larger(Floats a, Floats b) { return choose(a > b, a, b); }

INLINE float sum_of(Floats x) {
#if LANES == 16
    return _mm512_reduce_add_ps((__m512)x);
#else
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += x[i];
    return sum;
#endif
}

INLINE int32_t sum_of_ints(Ints x) {
    int32_t sum = 0;
    for (int i = 0; i < LANES; i++) sum += x[i];
    return sum;
}

typedef int8_t Small __attribute__((vector_size(LANES)));

/* Integers of -128 to 127 to bytes. */
INLINE void narrow(int8_t *to, Ints x) {
    Small y = __builtin_convertvector(x, Small);
    memcpy(to, &y, sizeof y);
}

INLINE float largest_of(Floats x) {
#if LANES == 16
    return _mm512_reduce_max_ps((__m512)x);
#else
    float most = x[0];
    for (int i = 1; i < LANES; i++) most = x[i] > most ? x[i] : most;
    return most;
#endif
}

/* e to the x, to 2e-7 of it; 0 below -87, and no more than e to the 88. */
INLINE Floats exponential(Floats x) {
    Ints is_small = x < -87.0f;
    x = choose(x > 88.0f, all(88.0f), choose(is_small, all(-87.0f), x));
    Floats shifted = x * 1.44269504f + 12582912.0f; /* rounds: 1.5 * 2^23 */
    Ints power = float_bits(shifted) << 23;
    Floats whole = shifted - 12582912.0f;
    Floats rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
    Floats series = rest * 1.9875691500e-4f + 1.3981999507e-3f;
    series = series * rest + 8.3334519073e-3f;
    series = series * rest + 4.1665795894e-2f;
    series = series * rest + 1.6666665459e-1f;
    series = series * rest + 5.0000001201e-1f;
    series = series * rest * rest + rest + 1.0f;
    return choose(is_small, all(0.0f), bits_as_floats(float_bits(series) + power));
}

/* Four weights of each lane by the four integers `x`, of -127 to 127, added to `sum`.

   Weights of 8 bits stand for what they are less 128, those of 6 bits (0 to 63) for what they are.
   Where the machine multiplies unsigned by signed bytes, `begin_8` takes the 128 off beforehand. */
#if LANES == 16 && defined(__AVX512VNNI__)
INLINE Ints begin_8(int32_t x_sum) { return all_int(-128 * x_sum); }
INLINE Ints dot_6(Ints sum, Bytes weights, int32_t x) {
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)weights, _mm512_set1_epi32(x));
}
INLINE Ints dot_8(Ints sum, Bytes weights, int32_t x) { return dot_6(sum, weights, x); }
#elif LANES == 8 && defined(__AVXVNNI__)
INLINE Ints begin_8(int32_t x_sum) { return all_int(-128 * x_sum); }
INLINE Ints dot_6(Ints sum, Bytes weights, int32_t x) {
    return (Ints)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)weights, _mm256_set1_epi32(x));
}
INLINE Ints dot_8(Ints sum, Bytes weights, int32_t x) { return dot_6(sum, weights, x); }
#elif LANES == 16
INLINE Ints begin_8(int32_t x_sum) { return all_int(0 * x_sum); }
INLINE Ints dot_6(Ints sum, Bytes weights, int32_t x) {
    __m512i pairs = _mm512_maddubs_epi16((__m512i)weights, _mm512_set1_epi32(x));
    return sum + (Ints)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
}
INLINE Ints dot_8(Ints sum, Bytes weights, int32_t x) {
    __m512i w = _mm512_xor_si512((__m512i)weights, _mm512_set1_epi8((char)0x80));
    __mmask64 is_negative = _mm512_movepi8_mask(w);
    __m512i y = _mm512_set1_epi32(x);
    y = _mm512_mask_sub_epi8(y, is_negative, _mm512_setzero_si512(), y);
    __m512i pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(w), y);
    return sum + (Ints)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
}
#elif LANES == 8
INLINE Ints begin_8(int32_t x_sum) { return all_int(0 * x_sum); }
INLINE Ints dot_6(Ints sum, Bytes weights, int32_t x) {
    __m256i pairs = _mm256_maddubs_epi16((__m256i)weights, _mm256_set1_epi32(x));
    return sum + (Ints)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
INLINE Ints dot_8(Ints sum, Bytes weights, int32_t x) {
    /* Signs go over to x: two products of 127 by 127 fit into 16 bits, of 255 by 127 they do not. */
    __m256i w = _mm256_xor_si256((__m256i)weights, _mm256_set1_epi8((char)0x80));
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(_mm256_set1_epi32(x), w));
    return sum + (Ints)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
#elif defined(__ARM_FEATURE_DOTPROD)
INLINE Ints begin_8(int32_t x_sum) { return all_int(0 * x_sum); }
INLINE Ints dot_6(Ints sum, Bytes weights, int32_t x) {
    return (Ints)vdotq_s32((int32x4_t)sum, (int8x16_t)weights, vreinterpretq_s8_s32(vdupq_n_s32(x)));
}
INLINE Ints dot_8(Ints sum, Bytes weights, int32_t x) { return dot_6(sum, weights ^ 0x80, x); }
#else
INLINE Ints begin_8(int32_t x_sum) { return all_int(-128 * x_sum); }
INLINE Ints dot_6(Ints sum, Bytes weights, int32_t x) {
    Ints w = (Ints)weights;
    int8_t by[4];
    memcpy(by, &x, 4);
    return sum + (w & 255) * by[0] + (w >> 8 & 255) * by[1] + (w >> 16 & 255) * by[2] + (w >> 24 & 255) * by[3];
}
INLINE Ints dot_8(Ints sum, Bytes weights, int32_t x) { return dot_6(sum, weights, x); }
#endif

#endif
