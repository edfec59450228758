/*
 * Blocked matrix product, shared by GEMM and CONV2D.
 *
 * Blocks of a and b are converted to f32, f64 or i64 and packed into panels that the register tile reads in order;
 * sums of 256 products are accumulated in registers, then added to the block's running result, which keeps long sums
 * accurate. A product with less than four rows reads b where it lies, because packing would cost more than it saves.
 */
#include "product.h"

#include "numeric.h"

enum { MR = ACAL_TILE_ROWS, NR = ACAL_TILE_COLUMNS, MC = ACAL_BLOCK_ROWS, NC = ACAL_BLOCK_COLUMNS, KC = ACAL_BLOCK_DEPTH };

/* Sized for the widest class. */
static ACAL_THREAD uint64_t packed_a[MC * KC] __attribute__((aligned(64)));
static ACAL_THREAD uint64_t packed_b[KC * NC] __attribute__((aligned(64)));
static ACAL_THREAD uint64_t block_sums[MC * NC] __attribute__((aligned(64)));
static ACAL_THREAD uint64_t row_buffer[NC > KC ? NC : KC] __attribute__((aligned(64)));

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* --- register tiles ---------------------------------------------------------------------------------------------------- */

#if defined(__riscv)
typedef float f32_lanes_t;
typedef double f64_lanes_t;
typedef uint64_t i64_lanes_t;
#else
typedef float f32_lanes_t __attribute__((vector_size(16), may_alias, aligned(4)));
typedef double f64_lanes_t __attribute__((vector_size(16), may_alias, aligned(8)));
typedef uint64_t i64_lanes_t __attribute__((vector_size(16), may_alias, aligned(8)));
#endif

/* sums[rows][NC] += a panel [depth][MR] times b panel [depth][NR]; rows is MR or 1 and known when inlined. */
#define TILE(NAME, TYPE)                                                                                               \
    static inline __attribute__((always_inline)) void NAME##_tile(TYPE *sums, const TYPE *a, const TYPE *b,            \
                                                                  int64_t depth, const int rows)                       \
    {                                                                                                                  \
        enum { LANES = sizeof(NAME##_lanes_t) / sizeof(TYPE), VECTORS = NR / LANES };                                  \
        NAME##_lanes_t acc[MR][VECTORS] = {0};                                                                         \
        for (int64_t k = 0; k < depth; k++, a += MR, b += NR)                                                          \
            for (int i = 0; i < rows; i++)                                                                             \
                for (int j = 0; j < VECTORS; j++)                                                                      \
                    acc[i][j] += a[i] * ((const NAME##_lanes_t *)b)[j];                                                \
        for (int i = 0; i < rows; i++)                                                                                 \
            for (int j = 0; j < VECTORS; j++)                                                                          \
                ((NAME##_lanes_t *)(sums + i * NC))[j] += acc[i][j];                                                   \
    }                                                                                                                  \
                                                                                                                       \
    static void NAME##_block(void *sums_, const void *a_, const void *b_, int64_t m, int64_t n, int64_t depth)         \
    {                                                                                                                  \
        TYPE *sums = sums_;                                                                                            \
        const TYPE *a = a_, *b = b_;                                                                                   \
        for (int64_t column = 0; column < n; column += NR) {                                                           \
            const TYPE *b_panel = b + column * depth;                                                                  \
            for (int64_t row = 0; row < m; row += MR) {                                                                \
                const TYPE *a_panel = a + row * depth;                                                                 \
                TYPE *tile = sums + row * NC + column;                                                                 \
                if (m - row >= MR) {                                                                                   \
                    NAME##_tile(tile, a_panel, b_panel, depth, MR);                                                    \
                } else {                                                                                               \
                    for (int64_t i = 0; i < m - row; i++)                                                              \
                        NAME##_tile(tile + i * NC, a_panel + i, b_panel, depth, 1);                                    \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }

TILE(f32, float)
TILE(f64, double)
TILE(i64, uint64_t)

/* --- packing ------------------------------------------------------------------------------------------------------------- */

#define PANELS(NAME, TYPE)                                                                                             \
    /* Element i of the row goes to panel i / width, at row k, column i % width. */                                    \
    static void NAME##_panel_row(void *panels_, const void *row_, int64_t n, int64_t k, int64_t depth,                 \
                                 const int64_t width)                                                                  \
    {                                                                                                                  \
        TYPE *to = (TYPE *)panels_ + k * width;                                                                        \
        const TYPE *row = row_;                                                                                        \
        for (; n >= width; n -= width, row += width, to += width * depth)                                              \
            for (int64_t i = 0; i < width; i++)                                                                        \
                to[i] = row[i];                                                                                        \
        for (int64_t i = 0; n > 0 && i < width; i++)                                                                   \
            to[i] = i < n ? row[i] : 0;                                                                                \
    }                                                                                                                  \
                                                                                                                       \
    /* The depth elements of column i go to panel i / width, at column i % width. */                                   \
    static void NAME##_panel_column(void *panels, const void *column_, int64_t i, int64_t depth, const int64_t width)  \
    {                                                                                                                  \
        TYPE *to = (TYPE *)panels + i / width * width * depth + i % width;                                             \
        const TYPE *column = column_;                                                                                  \
        ACAL_ELEMENTWISE                                                                                               \
        for (int64_t k = 0; k < depth; k++)                                                                            \
            to[k * width] = column[k];                                                                                 \
    }

PANELS(f32, float)
PANELS(f64, double)
PANELS(i64, uint64_t)

static void panel_row(void *panels, const void *row, acal_class_t type, int64_t n, int64_t k, int64_t depth, int64_t width)
{
    if (type == ACAL_CLASS_F32)
        f32_panel_row(panels, row, n, k, depth, width);
    else if (type == ACAL_CLASS_F64)
        f64_panel_row(panels, row, n, k, depth, width);
    else
        i64_panel_row(panels, row, n, k, depth, width);
}

static void panel_column(void *panels, const void *column, acal_class_t type, int64_t i, int64_t depth, int64_t width)
{
    if (type == ACAL_CLASS_F32)
        f32_panel_column(panels, column, i, depth, width);
    else if (type == ACAL_CLASS_F64)
        f64_panel_column(panels, column, i, depth, width);
    else
        i64_panel_column(panels, column, i, depth, width);
}

void acal_panel_row(void *panels, const void *row, acal_class_t type, int64_t columns, int64_t k, int64_t depth)
{
    panel_row(panels, row, type, columns, k, depth, NR);
}

static const void *element(const acal_matrix_t *matrix, int64_t row, int64_t column)
{
    int64_t offset = row * matrix->row_stride + column * matrix->column_stride;
    return (const char *)matrix->data + offset * acal_itemsize(matrix->dtype);
}

static int64_t magnitude(int64_t x)
{
    return x < 0 ? -x : x;
}

/* Packs a depth x n matrix into panels of the given width, reading along its smaller stride. */
static void pack(void *panels, const acal_matrix_t *matrix, acal_class_t type, int64_t n, int64_t depth, int64_t width)
{
    if (magnitude(matrix->row_stride) < magnitude(matrix->column_stride)) {
        for (int64_t i = 0; i < n; i++) {
            acal_load_row(row_buffer, element(matrix, 0, i), matrix->dtype, matrix->row_stride, depth);
            panel_column(panels, row_buffer, type, i, depth, width);
        }
        memset(row_buffer, 0, sizeof row_buffer);
        for (int64_t i = n; i % width != 0; i++)
            panel_column(panels, row_buffer, type, i, depth, width);
    } else {
        for (int64_t k = 0; k < depth; k++) {
            acal_load_row(row_buffer, element(matrix, k, 0), matrix->dtype, matrix->column_stride, n);
            panel_row(panels, row_buffer, type, n, k, depth, width);
        }
    }
}

static acal_matrix_t transposed(const acal_matrix_t *matrix)
{
    return (acal_matrix_t){matrix->data, matrix->column_stride, matrix->row_stride, matrix->dtype};
}

static acal_matrix_t from(const acal_matrix_t *matrix, int64_t row, int64_t column)
{
    acal_matrix_t part = *matrix;
    part.data = element(matrix, row, column);
    return part;
}

static void pack_block_b(const acal_product_t *product, int64_t column, int64_t columns, int64_t k, int64_t depth)
{
    if (product->pack_b) {
        product->pack_b(product->context, packed_b, column, columns, k, depth);
    } else {
        acal_matrix_t part = from(&product->b, k, column);
        pack(packed_b, &part, product->type, columns, depth, NR);
    }
}

/* --- results ------------------------------------------------------------------------------------------------------------- */

#define SCALE(NAME, TYPE)                                                                                              \
    static void NAME##_scale(void *sums_, const void *bias_, float alpha, float beta, int64_t n)                       \
    {                                                                                                                  \
        TYPE *sums = sums_;                                                                                            \
        const TYPE *bias = bias_;                                                                                      \
        TYPE scale = (TYPE)alpha, bias_scale = (TYPE)beta;                                                             \
        if (alpha != 1.0f)                                                                                             \
            for (int64_t i = 0; i < n; i++)                                                                            \
                sums[i] *= scale;                                                                                      \
        if (!bias)                                                                                                     \
            return;                                                                                                    \
        if (beta == 1.0f) {                                                                                            \
            ACAL_ELEMENTWISE                                                                                           \
            for (int64_t i = 0; i < n; i++)                                                                            \
                sums[i] += bias[i];                                                                                    \
        } else {                                                                                                       \
            ACAL_ELEMENTWISE                                                                                           \
            for (int64_t i = 0; i < n; i++)                                                                            \
                sums[i] += bias_scale * bias[i];                                                                       \
        }                                                                                                              \
    }

SCALE(f32, float)
SCALE(f64, double)
SCALE(i64, int64_t)

/* Turns a row of sums into results and stores it at (row, column) of out. */
static void finish_row(const acal_product_t *product, void *sums, int64_t row, int64_t column, int64_t n)
{
    const void *bias = 0;
    if (product->bias.data && product->beta != 0.0f) {
        const void *memory = element(&product->bias, row, column);
        acal_load_row(row_buffer, memory, product->bias.dtype, product->bias.column_stride, n);
        bias = row_buffer;
    }
    if (product->type == ACAL_CLASS_F32)
        f32_scale(sums, bias, product->alpha, product->beta, n);
    else if (product->type == ACAL_CLASS_F64)
        f64_scale(sums, bias, product->alpha, product->beta, n);
    else
        i64_scale(sums, bias, product->alpha, product->beta, n);
    if (product->narrow_integers)
        acal_round_row(sums, ACAL_DTYPE_I32, n);
    if (product->activate) {
        acal_round_row(sums, product->out.dtype, n);
        product->activate(sums, n);
    }
    void *out = (void *)element(&product->out, row, column);
    acal_store_row(out, sums, product->out.dtype, product->out.column_stride, n);
}

static void finish_block(const acal_product_t *product, int64_t row, int64_t m, int64_t column, int64_t n)
{
    int64_t pitch = NC * acal_class_size(product->type);
    for (int64_t i = 0; i < m; i++)
        finish_row(product, (char *)block_sums + i * pitch, row + i, column, n);
}

/* --- the product ----------------------------------------------------------------------------------------------------------- */

static void blocked_product(const acal_product_t *product, int64_t row, int64_t m, int64_t column, int64_t n)
{
    memset(block_sums, 0, (size_t)(m * NC * acal_class_size(product->type)));
    for (int64_t k = 0; k < product->k; k += KC) {
        int64_t depth = smaller(product->k - k, KC);
        acal_matrix_t part = from(&product->a, row, k);
        part = transposed(&part);
        pack(packed_a, &part, product->type, m, depth, MR);
        pack_block_b(product, column, n, k, depth);
        if (product->type == ACAL_CLASS_F32)
            f32_block(block_sums, packed_a, packed_b, m, n, depth);
        else if (product->type == ACAL_CLASS_F64)
            f64_block(block_sums, packed_a, packed_b, m, n, depth);
        else
            i64_block(block_sums, packed_a, packed_b, m, n, depth);
    }
    finish_block(product, row, m, column, n);
}

void acal_product(const acal_product_t *product)
{
    for (int64_t column = 0; column < product->n; column += NC)
        for (int64_t row = 0; row < product->m; row += MC)
            blocked_product(product, row, smaller(product->m - row, MC), column, smaller(product->n - column, NC));
}
