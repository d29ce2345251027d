/* Whole frames: every thread runs the same program, and takes its pieces of each product. */

#include <string.h>

#include "native.h"
#include "threads.h"

#define SPINS_TO_PARK 2200

static uint32_t turn_of(Pool *pool) { return (uint32_t)(atomic_load_explicit(&pool->at, memory_order_acquire) >> 32); }

/* The next piece of work of this turn that is nobody's yet; `pieces` where there is none. */
int32_t take(Thread *thread, int32_t pieces) {
    Pool *pool = thread->pool;
    uint64_t at = atomic_load_explicit(&pool->at, memory_order_acquire);
    do {
        if ((uint32_t)(at >> 32) != thread->turn || (int32_t)(uint32_t)at >= pieces) return pieces;
    } while (!atomic_compare_exchange_weak(&pool->at, &at, at + 1));
    return (int32_t)(uint32_t)at;
}

/* A piece that was taken is done; with the last one the turn is over. */
void finish(Thread *thread, int32_t pieces) {
    Pool *pool = thread->pool;
    if (atomic_fetch_add(&pool->done, 1) + 1 < pieces) return;
    atomic_store(&pool->done, 0);
    atomic_store(&pool->at, (uint64_t)(thread->turn + 1) << 32);
}

/* Wait until this turn is over. */
void meet(Thread *thread) {
    for (int32_t spins = 0; turn_of(thread->pool) == thread->turn; spins++) wait_a_moment(spins);
    thread->turn++;
}

static const Scratch *scratch_of(Thread *thread) { return thread->pool->scratches + thread->id; }

/* x [rows, dim] through all layers, in place. */
static void run_stack(Thread *thread, const Stack *stack, float *x, int32_t rows, const Span *spans,
                      int32_t span_count) {
    const Buffers *buffers = thread->pool->buffers;
    const int32_t dim = stack->dim, width = stack->heads * stack->head_dim;
    for (int32_t index = 0; index < stack->layer_count; index++) {
        const Layer *layer = stack->layers + index;
        multiply(thread, &layer->qkv, NULL, (Rows){x, dim, rows, layer->attention_norm, stack->eps}, buffers->qkv,
                 layer->qkv.outputs, STORE);
        attend(thread, stack, index, spans, span_count, buffers->qkv, buffers->attended);
        multiply(thread, &layer->wo, NULL, (Rows){buffers->attended, width, rows, NULL, 0}, x, dim, ADD);
        multiply(thread, &layer->up, &layer->gate, (Rows){x, dim, rows, layer->ffn_norm, stack->eps}, buffers->hidden,
                 stack->hidden, STORE);
        multiply(thread, &layer->down, NULL, (Rows){buffers->hidden, stack->hidden, rows, NULL, 0}, x, dim, ADD);
    }
}

static void embed(const Model *model, int64_t token, const int64_t *codes, float *x) {
    const int64_t dim = model->slow.dim, size = model->embedding_kind == F32 ? 4 : 2;
    widen(model->embeddings + token * dim * size, model->embedding_kind, dim, x, 0);
    if (token < model->semantic_begin || token >= model->semantic_begin + model->codebook_size) return;
    for (int32_t book = 0; book < model->codebooks; book++) {
        int64_t row = (int64_t)book * model->codebook_size + codes[book];
        widen(model->codebook_embeddings + row * dim * size, model->embedding_kind, dim, x, 1);
    }
    for (int64_t i = 0; i < dim; i++) x[i] *= model->embedding_scale;
}

static int64_t spoken(const Model *model, int64_t code) {
    return code < 0 ? 0 : code < model->codebook_size ? code : model->codebook_size - 1;
}

/* What follows from having drawn `code` of `book` for a row. */
static void go_on(const Model *model, const Pool *pool, int32_t row, int32_t book, int64_t code) {
    const int64_t size = model->embedding_kind == F32 ? 4 : 2, dim = model->fast.dim;
    int64_t *made = pool->made + (int64_t)row * model->codebooks, slot = pool->row_slots[row];
    made[book] = code;
    if (book + 1 < model->codebooks) {
        /* The first two places of the fast transformer go in together. */
        float *x = pool->buffers->fast_x + (book ? row : 2 * row + 1) * dim;
        widen(model->fast_embeddings + spoken(model, code) * dim * size, model->embedding_kind, dim, x, 0);
        return;
    }
    const Slots *slots = &model->slots;
    int64_t *history = slots->history +
                       (slot * model->window + slots->frames[slot] % model->window) * model->codebooks;
    for (int32_t each = 0; each < model->codebooks; each++) {
        int64_t said = spoken(model, made[each]);
        history[each] = said;
        slots->codes[slot * model->codebooks + each] = said;
    }
    slots->tokens[slot] = history[0] + model->semantic_begin;
    slots->positions[slot] += 1;
    slots->frames[slot] += 1;
}

static void draw_rows(Thread *thread, int32_t book) {
    Pool *pool = thread->pool;
    const Model *model = pool->model;
    const Buffers *buffers = pool->buffers;
    const int32_t size = book ? model->residual_size : model->codebook_size + 1;
    for (int32_t row; (row = take(thread, pool->rows)) < pool->rows; finish(thread, pool->rows)) {
        const float *logits = buffers->logits + ((int64_t)book * buffers->most_rows + row) * buffers->logits_width;
        go_on(model, pool, row, book, draw(logits, size, model, pool->row_slots[row], book, scratch_of(thread)->x));
    }
}

static void make_frame(Thread *thread) {
    Pool *pool = thread->pool;
    const Model *model = pool->model;
    const Buffers *buffers = pool->buffers;
    const Stack *fast = &model->fast;
    const int32_t rows = pool->rows, dim = model->slow.dim;
    for (int32_t row; (row = take(thread, rows)) < rows; finish(thread, rows)) {
        int64_t slot = pool->row_slots[row];
        embed(model, model->slots.tokens[slot], model->slots.codes + slot * model->codebooks,
              buffers->x + (int64_t)row * dim);
    }
    meet(thread);
    run_stack(thread, &model->slow, buffers->x, rows, pool->spans, rows);
    if (model->project_in.weights)
        multiply(thread, &model->project_in, NULL, (Rows){buffers->x, dim, rows, NULL, 0}, buffers->fast_x,
                 2 * fast->dim, STORE);
    else {
        for (int32_t row; (row = take(thread, rows)) < rows; finish(thread, rows))
            memcpy(buffers->fast_x + 2 * (int64_t)row * dim, buffers->x + (int64_t)row * dim, 4 * (size_t)dim);
        meet(thread);
    }
    for (int32_t book = 0; book < model->codebooks; book++) {
        const Matrix *head = book ? &model->fast_head : &model->head;
        const float *x = buffers->x;
        int64_t stride = dim;
        if (book) {
            Span spans[MOST_ROWS];
            const int64_t past_bytes = 8LL * fast->layer_count * fast->key_heads * model->codebooks * fast->head_dim;
            const int32_t count = book == 1 ? 2 : 1;
            for (int32_t row = 0; row < rows; row++)
                spans[row] = (Span){buffers->fast_past + row * past_bytes, model->codebooks, book - count + 1, count};
            run_stack(thread, fast, buffers->fast_x, count * rows, spans, rows);
            x = buffers->fast_x + (count - 1) * fast->dim;
            stride = (int64_t)count * fast->dim;
        }
        const float *norm = book ? model->fast_norm : model->norm;
        float *logits = buffers->logits + (int64_t)book * buffers->most_rows * buffers->logits_width;
        multiply(thread, head, NULL, (Rows){x, stride, rows, norm, book ? fast->eps : model->slow.eps}, logits,
                 buffers->logits_width, STORE);
        draw_rows(thread, book);
        meet(thread);
    }
}

static void read_piece(Thread *thread) {
    Pool *pool = thread->pool;
    const Model *model = pool->model;
    const int32_t dim = model->slow.dim;
    for (int32_t row; (row = take(thread, pool->rows)) < pool->rows; finish(thread, pool->rows))
        embed(model, pool->tokens[row], pool->codes + (int64_t)row * model->codebooks,
              pool->buffers->x + (int64_t)row * dim);
    meet(thread);
    run_stack(thread, &model->slow, pool->buffers->x, pool->rows, pool->spans, 1);
}

static void work(Pool *pool, int32_t id) {
    Thread thread = {pool, id, pool->first_turn};
    if (pool->kind == FRAME) make_frame(&thread);
    else if (pool->kind == READ) read_piece(&thread);
    else
        multiply(&thread, pool->matrix, NULL, (Rows){pool->input, pool->matrix->inputs, pool->rows, NULL, 0}, pool->output,
                 pool->matrix->outputs, STORE);
}

enum { PARKED, AWAKE, INSIDE };

/* Open the job that `pool` describes; which of the threads that serve are to be woken, a bit each. */
EXPORT int32_t announce(Pool *pool) {
    int32_t parked = 0;
    pool->first_turn = turn_of(pool);
    atomic_fetch_add(&pool->job, 1);
    atomic_store(&pool->is_open, 1);
    for (int32_t id = 1; id < pool->threads; id++)
        if (atomic_load(&pool->states[id]) == PARKED) parked |= 1 << id;
    return parked;
}

/* Do it, with whoever of them comes; nobody is at it any more afterwards. */
EXPORT void lead(Pool *pool) {
    work(pool, 0);
    atomic_store(&pool->is_open, 0);
    for (int32_t id = 1; id < pool->threads; id++)
        for (int32_t spins = 0; atomic_load(&pool->states[id]) == INSIDE; spins++) wait_a_moment(spins);
}

/* Help with jobs as thread `id`, having `seen` as many; returns, with how many it has seen then, once
   there was none for a moment. */
EXPORT int32_t serve(Pool *pool, int32_t id, int32_t seen) {
    for (int32_t waits = 0; waits < SPINS_TO_PARK; waits++) {
        atomic_store(&pool->states[id], AWAKE);
        if (atomic_load(&pool->job) == seen) {
            wait_a_moment(waits);
            continue;
        }
        atomic_store(&pool->states[id], INSIDE);
        if (atomic_load(&pool->is_open)) {
            seen = atomic_load(&pool->job);
            if (id < pool->threads) work(pool, id);
            waits = 0;
        }
    }
    atomic_store(&pool->states[id], PARKED);
    return seen;
}
