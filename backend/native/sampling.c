/* Logits to codes, as `engine/sampler.py` draws them, without sorting. */

#include <math.h>

#include "lanes.h"
#include "native.h"

#define STEPS 26 /* what is kept is found to 5e-7 of a logit */

static uint32_t mix(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
    x = (x ^ (x >> 13)) * 0xC2B2AE35u;
    return x ^ (x >> 16);
}

/* The noise of a row's frame and code book, in [0, 1). */
static float noise_of(uint32_t key, uint32_t frame, uint32_t book) {
    uint32_t state = mix(key ^ mix(frame + 0x9E3779B9u));
    return (float)(mix(state ^ mix((book + 1) * 0x632BE5ABu)) >> 8) * (1.0f / 16777216.0f);
}

static float chance_down_to(const float *depth, const float *chance, int32_t size, float most) {
    Floats sum = {};
    int32_t i = 0;
    for (; i + LANES <= size; i += LANES) sum += choose(load(depth + i) <= most, load(chance + i), all(0.0f));
    float whole = sum_of(sum);
    for (; i < size; i++) whole += depth[i] <= most ? chance[i] : 0.0f;
    return whole;
}

/* The code that is drawn from `logits` [size] for `slot`; -1 where one of them is no number. `room` is
   for 2 * size numbers. */
int64_t draw(const float *logits, int32_t size, const Model *model, int64_t slot, int32_t book, float *room) {
    const Slots *slots = &model->slots;
    const float heat = slots->temperature[slot], keep = slots->top_p[slot], penalty = slots->penalty[slot];
    float *depth = room, *chance = room + size;
    memcpy(depth, logits, 4 * (size_t)size);
    if (penalty != 1.0f)
        for (int32_t past = 0; past < model->window; past++) {
            int64_t code = slots->history[(slot * model->window + past) * model->codebooks + book];
            if (code < 0 || code >= size) continue;
            float logit = logits[code]; /* not penalised twice */
            depth[code] = logit < 0 ? logit * penalty : logit / penalty;
        }
    float best = depth[0];
    int32_t code = 0, is_sound = 1;
    for (int32_t i = 0; i < size; i++) {
        is_sound &= depth[i] == depth[i];
        if (depth[i] > best) best = depth[i], code = i;
    }
    if (!is_sound) return -1;
    if (heat == 0.0f) return code;
    float whole = 0;
    int32_t i = 0;
    for (; i + LANES <= size; i += LANES) {
        Floats below = best - load(depth + i);
        store(depth + i, below);
        store(chance + i, exponential(-below));
    }
    for (; i < size; i++) depth[i] = best - depth[i], chance[i] = expf(-depth[i]);
    whole = chance_down_to(depth, chance, size, INFINITY);
    float low = INFINITY, beyond = INFINITY, alike = 0;
    if (keep < 2.0f) {
        /* What is kept lies as deep below the best as all down to there have at most `keep`. */
        const float most = keep * whole;
        float width = 33.0f;
        low = -1.0f;
        for (int step = 0; step < STEPS; step++) {
            width *= 0.5f;
            if (chance_down_to(depth, chance, size, low + width) <= most) low += width;
        }
        /* Of those that are alike and cross it, the first ones are kept. */
        for (i = 0; i < size; i++) beyond = depth[i] > low && depth[i] < beyond ? depth[i] : beyond;
        alike = (most - chance_down_to(depth, chance, size, low)) / expf(-beyond);
    }
    float line = 0;
    for (i = 0; i < size; i++) {
        int is_kept = i == code || depth[i] <= low || (depth[i] == beyond && (alike -= 1.0f) >= 0.0f);
        chance[i] = is_kept ? expf(-depth[i] / heat) : 0.0f;
        line += chance[i];
    }
    const float place = noise_of((uint32_t)slots->keys[slot], (uint32_t)slots->frames[slot], (uint32_t)book) * line;
    line = 0;
    int64_t drawn = code;
    for (i = 0; i < size; i++) {
        if (chance[i] == 0.0f) continue;
        line += chance[i];
        drawn = i;
        if (line > place) break;
    }
    return drawn;
}
