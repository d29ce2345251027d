/* A convolution of seven taps in 12 products for every six rows instead of 42: Winograd's F(6, 7).

   A tile is six rows that are `dilation` apart. The 12 rows which they see are the coefficients of a
   polynomial, and so are the taps: both are evaluated at 12 points, multiplied there, and the outcome
   is interpolated. It is exact but for rounding, which in float32 stays 105 dB below the outcome. The
   weights are evaluated beforehand (`native_filter.py`): float32 [outputs / BLOCK, POINTS, inputs, BLOCK]. */

#define POINTS 12
#define PAIRS 5         /* of the points: p and -p; the others are 0 and infinity */
#define TILE_OUTPUTS 6
#define TILES (2 * MOST) /* in a piece of work, at most */
#define FILTER_WORK (32 << 20)
#define FILTER_ROOM(inputs) ((int64_t)TILES * POINTS * (inputs))

static const float points[PAIRS] = {1.0f, 1.5f, 2.0f / 3, 1.0f / 3, 3.0f};
/* Coefficients of (X - q^2) times each other, over all q, and over all but the one of a pair. */
static const float of_all[PAIRS + 1] = {-1.0f, 461.0f / 36, -12427.0f / 324, 12427.0f / 324, -461.0f / 36, 1.0f};
static const float of_others[PAIRS][PAIRS] = {
    {1.0f, -425.0f / 36, 4301.0f / 162, -425.0f / 36, 1.0f},
    {4.0f / 9, -445.0f / 81, 1183.0f / 81, -95.0f / 9, 1.0f},
    {9.0f / 4, -95.0f / 4, 1183.0f / 36, -445.0f / 36, 1.0f},
    {9.0f, -137.0f / 4, 665.0f / 18, -457.0f / 36, 1.0f},
    {1.0f / 9, -457.0f / 324, 665.0f / 162, -137.0f / 36, 1.0f},
};

#if HAS_PAIRS
INLINE Floats load_rounded(const Rounded *from) { return load_bfloat16((const uint8_t *)from); }
#else
INLINE Floats load_rounded(const Rounded *from) { return load(from); }
#endif

/* The rows that a tile sees, of which `seen` are there, at each point: [POINTS] rows `apart`. */
INLINE void evaluate(const Rounded *rows, int64_t stride, const int64_t seen, int64_t inputs, float *to,
                     int64_t apart) {
    for (int64_t n = 0; n < inputs; n += LANES) {
        Floats x[POINTS];
#pragma GCC unroll 12
        for (int k = 0; k < POINTS; k++) x[k] = k < seen ? load_rounded(rows + k * stride + n) : (Floats){};
        Floats zero = x[0] * of_all[0], infinity = x[1] * of_all[0];
#pragma GCC unroll 5
        for (int k = 1; k <= PAIRS; k++) {
            zero += x[2 * k] * of_all[k];
            infinity += x[2 * k + 1] * of_all[k];
        }
        store(to + n, zero);
        store(to + (POINTS - 1) * apart + n, infinity);
#pragma GCC unroll 5
        for (int p = 0; p < PAIRS; p++) {
            Floats even = x[2] * of_others[p][0], odd = x[1] * of_others[p][0];
#pragma GCC unroll 5
            for (int k = 1; k < PAIRS; k++) {
                even += x[2 * k + 2] * of_others[p][k];
                odd += x[2 * k + 1] * of_others[p][k];
            }
            odd *= points[p];
            store(to + (2 * p + 1) * apart + n, even + odd);
            store(to + (2 * p + 2) * apart + n, even - odd);
        }
    }
}

/* The six rows of a tile from what their products came to at each point, LANES outputs `apart`. */
INLINE void interpolate(const Floats *at, int64_t apart, Floats bias, Floats (*rows)[VECTORS]) {
    Floats sums[PAIRS], differences[PAIRS];
#pragma GCC unroll 5
    for (int p = 0; p < PAIRS; p++) {
        Floats plus = at[(2 * p + 1) * apart], minus = at[(2 * p + 2) * apart];
        sums[p] = plus + minus;
        differences[p] = (plus - minus) * points[p];
    }
#pragma GCC unroll 3
    for (int i = 0; i < TILE_OUTPUTS; i += 2) {
        Floats even = i == 0 ? bias + at[0] : bias, odd = bias;
        if (i + 2 == TILE_OUTPUTS) odd += at[(POINTS - 1) * apart];
#pragma GCC unroll 5
        for (int p = 0; p < PAIRS; p++) {
            even += sums[p], odd += differences[p];
            sums[p] *= points[p] * points[p], differences[p] *= points[p] * points[p];
        }
        rows[i][0] = even, rows[i + 1][0] = odd;
    }
}

static int64_t tiles_of(const Operation *op) {
    const int64_t group = (int64_t)op->dilation * TILE_OUTPUTS;
    return op->rows / group * op->dilation + smaller(op->rows % group, op->dilation);
}

static int64_t first_row(const Operation *op, int64_t tile) {
    return tile / op->dilation * op->dilation * TILE_OUTPUTS + tile % op->dilation;
}

/* `count` tiles by a block of weights, and what becomes of them. */
INLINE void filter_block(const Operation *op, int64_t tile, int64_t block, const float *evaluated, const int count,
                         const int vectors) {
    const int64_t by_point = (int64_t)op->inputs * BLOCK, inputs = op->inputs;
    const float *weights = (const float *)op->weights + block * POINTS * by_point;
    Floats at[POINTS][MOST][VECTORS];
    for (int point = 0; point < POINTS; point++) {
        Floats sums[MOST][VECTORS] = {};
        add_products(sums, (const uint8_t *)(evaluated + point * count * inputs), 4 * inputs,
                     (const uint8_t *)(weights + point * by_point), op->inputs, count, vectors);
        for (int r = 0; r < count; r++)
            for (int v = 0; v < vectors; v++) at[point][r][v] = sums[r][v];
    }
    for (int r = 0; r < count; r++) {
        Floats rows[TILE_OUTPUTS][VECTORS];
        for (int v = 0; v < vectors; v++) {
            Floats bias = op->bias ? load(op->bias + block * BLOCK + v * LANES) : (Floats){};
            interpolate(&at[0][r][v], MOST * VECTORS, bias, (Floats(*)[VECTORS]) & rows[0][v]);
        }
        const int64_t row = first_row(op, tile + r), left = (op->rows - row + op->dilation - 1) / op->dilation;
        finish_block(op, row, op->dilation, block, (int)smaller(left, TILE_OUTPUTS), vectors,
                     (const Floats(*)[VECTORS])rows);
    }
}

#define FILTER_CASE(count)                                                                        \
    case count:                                                                                   \
        if (is_half) filter_block(op, tile, block, evaluated, count, (VECTORS + 1) / 2);          \
        else filter_block(op, tile, block, evaluated, count, VECTORS);                            \
        break;

static void filter_tiles(const Operation *op, int64_t tile, int64_t block, const float *evaluated, int64_t count) {
    const int is_half = op->outputs - block * BLOCK <= BLOCK / 2;
    switch (count) {
        FILTER_CASE(1) FILTER_CASE(2) FILTER_CASE(3) FILTER_CASE(4) FILTER_CASE(5) FILTER_CASE(6)
#if MOST > 6
        FILTER_CASE(7) FILTER_CASE(8) FILTER_CASE(9) FILTER_CASE(10) FILTER_CASE(11) FILTER_CASE(12)
        FILTER_CASE(13) FILTER_CASE(14)
#endif
    }
}

/* A piece of work: some tiles, some blocks of outputs. `room` is the thread's. */
static void filter(const Operation *op, int64_t piece, float *room) {
    const int64_t dilation = op->dilation, inputs = op->inputs, all = op->rows + (POINTS - TILE_OUTPUTS) * dilation;
    const int64_t tiles = tiles_of(op), begin = piece % op->row_tiles * op->tile_rows;
    const int64_t end = smaller(begin + op->tile_rows, tiles), parts = (end - begin + MOST - 1) / MOST;
    const int64_t blocks = (op->outputs + BLOCK - 1) / BLOCK;
    const int64_t first = piece / op->row_tiles * op->tile_blocks, last = smaller(first + op->tile_blocks, blocks);
    for (int64_t part = 0; part < parts; part++) {
        const int64_t tile = begin + (end - begin) * part / parts, next = begin + (end - begin) * (part + 1) / parts;
        for (int64_t t = tile; t < next; t++) {
            const int64_t row = first_row(op, t), seen = (all - row + dilation - 1) / dilation;
            const Rounded *rows = (const Rounded *)op->input + row * op->input_stride;
            float *to = room + (tile - begin) * POINTS * inputs + (t - tile) * inputs;
            const int64_t stride = dilation * op->input_stride, apart = (next - tile) * inputs;
            if (seen >= POINTS) evaluate(rows, stride, POINTS, inputs, to, apart);
            else evaluate(rows, stride, seen, inputs, to, apart);
        }
    }
    for (int64_t block = first; block < last; block++)
        for (int64_t part = 0; part < parts; part++) {
            const int64_t tile = begin + (end - begin) * part / parts, next = begin + (end - begin) * (part + 1) / parts;
            filter_tiles(op, tile, block, room + (tile - begin) * POINTS * inputs, next - tile);
        }
}

static void plan_filter(Operation *op) {
    const int64_t tiles = tiles_of(op), blocks = (op->outputs + BLOCK - 1) / BLOCK;
    op->tile_rows = (int32_t)smaller(tiles, TILES);
    const int64_t work = (int64_t)POINTS * op->inputs * BLOCK * op->tile_rows;
    const int64_t cuts = (blocks * work + FILTER_WORK - 1) / FILTER_WORK;
    op->tile_blocks = (int32_t)((blocks + cuts - 1) / cuts);
    op->row_tiles = (int32_t)((tiles + op->tile_rows - 1) / op->tile_rows);
    op->tiles = op->row_tiles * (int32_t)((blocks + op->tile_blocks - 1) / op->tile_blocks);
}
