/* What the parts of the native way share. Every array is float32 unless it says otherwise; rows lie
   one after another. The structs are filled by `native.py`, which says the same in ctypes. */

#ifndef SHOAL_NATIVE_H
#define SHOAL_NATIVE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define TILE 16       /* outputs of a matrix that lie together */
#define MOST_ROWS 64  /* rows that are multiplied together */
#define MOST_GROUPS 8 /* query heads that share a key head */
#define QUERIES 4     /* that look at a key or a value together */

enum { F32, BF16, I8, I6, I16 };

/* y = W x + bias, W in tiles of TILE outputs. For each input of a tile F32 and BF16 hold
   TILE weights; of the integers `integers.h` tells. */
typedef struct {
    const uint8_t *weights;
    const float *bias; /* or NULL */
    int32_t outputs;   /* a multiple of TILE */
    int32_t inputs;    /* a multiple of 16 where weights are integers */
    int32_t kind;
} Matrix;

typedef struct {
    Matrix qkv, wo, gate, up, down;
    const float *attention_norm, *ffn_norm;
    const float *q_norm, *k_norm; /* or NULL */
} Layer;

/* A transformer. */
typedef struct {
    const Layer *layers;
    const float *rope; /* [positions, head_dim / 2, 2]: cosine and sine */
    int32_t layer_count, dim, heads, key_heads, head_dim, hidden;
    int32_t cache_kind; /* F32, BF16, or I8 or I16: then as `attention.c` tells */
    float eps;
} Stack;

/* Rows that follow each other in one row of keys and values. */
typedef struct {
    uint8_t *past;    /* [layers, 2, key_heads, capacity, head_dim], or as `attention.c` tells */
    int64_t capacity; /* positions; of integers a multiple of TILE */
    int32_t begin;    /* position of the first of them */
    int32_t count;
} Span;

/* Tensors of `engine/slots.py`. */
typedef struct {
    int64_t *tokens, *codes, *positions, *frames, *history, *keys;
    const float *temperature, *top_p, *penalty;
} Slots;

typedef struct {
    Stack slow, fast;
    Matrix head, fast_head, project_in; /* project_in.weights is NULL where both are as wide */
    const float *norm, *fast_norm;
    const uint8_t *embeddings, *codebook_embeddings, *fast_embeddings; /* of embedding_kind */
    int32_t embedding_kind;
    int64_t semantic_begin;
    int32_t codebooks, codebook_size, residual_size, window;
    float embedding_scale;
    Slots slots;
} Model;

/* What all threads work on. */
typedef struct {
    float *x;        /* [MOST_ROWS, dim]: the stream of the slow transformer */
    float *fast_x;   /* [2 * most rows, fast dim] */
    float *qkv;      /* [MOST_ROWS, widest qkv] */
    float *attended; /* [MOST_ROWS, widest heads * head_dim] */
    float *hidden;   /* [MOST_ROWS, widest hidden] */
    float *logits;   /* [codebooks, most rows, widest head] */
    uint8_t *fast_past; /* [most rows, fast layers, 2, key_heads, codebooks, head_dim] float32 */
    int32_t most_rows, logits_width;
} Buffers;

/* What one thread works in. */
typedef struct {
    float *x;       /* [MOST_ROWS, widest input] */
    int8_t *q;      /* the same in integers: [2, MOST_ROWS, widest input] */
    float *scales;  /* [MOST_ROWS] */
    int32_t *sums;  /* [2, MOST_ROWS] of the integers */
    float *scores;  /* [QUERIES, most positions and TILE] */
} Scratch;

enum { FRAME, READ, PRODUCT };

/* A job and those who do it. Its work comes in turns, each of some pieces: whoever is there takes the
   next piece, and the turn is over when all are done. So nobody waits for a thread that is not there. */
typedef struct {
    _Atomic uint64_t at;    /* the turn, and in the lower half its next piece */
    atomic_int done;        /* pieces of this turn */
    atomic_int job, is_open;
    uint32_t first_turn;    /* of the job */
    int32_t threads, kind, rows;
    const int64_t *row_slots;      /* [rows], of a frame */
    const int64_t *tokens, *codes; /* [rows], [rows, codebooks] of what is read */
    const Span *spans;             /* of a frame one a row; of what is read one */
    int64_t *made;                 /* [rows, codebooks], of a frame */
    const Matrix *matrix;          /* of a product, [rows, inputs] to [rows, outputs] */
    const float *input;
    float *output;
    const Model *model;
    const Buffers *buffers;
    const Scratch *scratches; /* one a thread */
    atomic_int *states;       /* one a thread: what `serve` is at */
} Pool;

/* One of the threads, all of which run the same program. */
typedef struct {
    Pool *pool;
    int32_t id;
    uint32_t turn;
} Thread;

/* for (int32_t piece; (piece = take(thread, pieces)) < pieces; finish(thread, pieces)) ... meet(thread); */
int32_t take(Thread *thread, int32_t pieces);
void finish(Thread *thread, int32_t pieces);
void meet(Thread *thread);

/* Rows of an input of a product, each `stride` after the other, and how they are normalised first. */
typedef struct {
    const float *x;
    int64_t stride;
    int32_t rows;
    const float *norm; /* or NULL */
    float eps;
} Rows;

/* What becomes of a product. */
enum { STORE, ADD };

void multiply(Thread *thread, const Matrix *matrix, const Matrix *gate, Rows rows, float *y, int64_t stride,
              int32_t what);
void attend(Thread *thread, const Stack *stack, int32_t layer, const Span *spans, int32_t span_count,
            float *qkv, float *attended);
void normalise(const float *x, const float *weight, float eps, int32_t size, float *y);
void widen(const uint8_t *from, int32_t kind, int64_t size, float *to, int adds);
int64_t draw(const float *logits, int32_t size, const Model *model, int64_t slot, int32_t book, float *room);

#endif
