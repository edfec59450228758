/*
 * Blocked matrix product, shared by GEMM and CONV2D.
 *
 * Blocks of a and b are converted to f32, f64 or i64 and packed into panels that the register tile reads in order;
 * sums of 256 products are accumulated in registers, then added to the block's running result, which keeps long sums
 * accurate. A product with less than four rows reads b where it lies, because packing would cost more than it saves.
 */
#include "product.h"

#include "numeric.h"

enum {
    MR = ACAL_TILE_ROWS,
    NR = ACAL_TILE_COLUMNS,
    MC = ACAL_BLOCK_ROWS,
    NC = ACAL_BLOCK_COLUMNS,
    KC = ACAL_BLOCK_DEPTH
};

/* Columns that the row kernels handle at once. */
enum { DOTS = 4, STRIPE = 8 };

/* Sized for the widest class. */
ACAL_SCRATCH uint64_t packed_a[MC * KC];
ACAL_SCRATCH uint64_t packed_b[KC * NC];
ACAL_SCRATCH uint64_t block_sums[MC * NC];
ACAL_SCRATCH uint64_t row_buffer[NC > KC ? NC : KC];

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Elements between the rows of block_sums: n rounded up to whole tiles. */
static int64_t pitch_of(int64_t n) { return (n + NR - 1) / NR * NR; }

/* --- register tiles --------------------------------------------------------------------------- */

/*
 * Makes `next` available only after `done`, at no cost. It keeps the RISC-V scheduler from computing all products of a
 * tile before the first sum, for which there are not enough registers.
 */
#if defined(__riscv)
typedef float f32_lanes_t;
typedef double f64_lanes_t;
typedef uint64_t i64_lanes_t;
#define f32_AFTER(done, next) __asm__("" : "+f"(done), "+f"(next))
#define f64_AFTER(done, next) __asm__("" : "+f"(done), "+f"(next))
#define i64_AFTER(done, next) __asm__("" : "+r"(done), "+r"(next))
#else
typedef float f32_lanes_t __attribute__((vector_size(16), may_alias, aligned(4)));
typedef double f64_lanes_t __attribute__((vector_size(16), may_alias, aligned(8)));
typedef uint64_t i64_lanes_t __attribute__((vector_size(16), may_alias, aligned(8)));
#define f32_AFTER(done, next) ((void)0)
#define f64_AFTER(done, next) ((void)0)
#define i64_AFTER(done, next) ((void)0)
#endif

/* sums[rows][pitch] += a panel [depth][MR] times b panel [depth][NR]; rows is MR or 1 and known when inlined. */
#define TILE(NAME, TYPE)                                                                                           \
    static inline __attribute__((always_inline)) void NAME##_tile(TYPE *sums, int64_t pitch, const TYPE *a,        \
                                                                  const TYPE *b, int64_t depth, const int rows) {  \
        enum { LANES = sizeof(NAME##_lanes_t) / sizeof(TYPE), VECTORS = NR / LANES };                              \
        NAME##_lanes_t acc[MR][VECTORS] = {0};                                                                     \
        ACAL_UNROLL_2                                                                                              \
        for (int64_t k = 0; k < depth; k++) {                                                                      \
            for (int i = 0; i < rows; i++) {                                                                       \
                TYPE factor = a[k * MR + i];                                                                       \
                if (i > 0) NAME##_AFTER(acc[i - 1][VECTORS - 1], factor);                                          \
                for (int j = 0; j < VECTORS; j++) acc[i][j] += factor * ((const NAME##_lanes_t *)(b + k * NR))[j]; \
            }                                                                                                      \
        }                                                                                                          \
        for (int i = 0; i < rows; i++)                                                                             \
            for (int j = 0; j < VECTORS; j++) ((NAME##_lanes_t *)(sums + i * pitch))[j] += acc[i][j];              \
    }                                                                                                              \
                                                                                                                   \
    static void NAME##_block(void *sums_, const void *a_, const void *b_, int64_t m, int64_t n, int64_t depth) {   \
        const TYPE *a = a_, *b = b_;                                                                               \
        int64_t pitch = pitch_of(n);                                                                               \
        for (int64_t column = 0; column < n; column += NR) {                                                       \
            const TYPE *b_panel = b + column * depth;                                                              \
            for (int64_t row = 0; row < m; row += MR) {                                                            \
                const TYPE *a_panel = a + row * depth;                                                             \
                TYPE *sums = (TYPE *)sums_ + row * pitch + column;                                                 \
                if (m - row >= MR) {                                                                               \
                    NAME##_tile(sums, pitch, a_panel, b_panel, depth, MR);                                         \
                } else {                                                                                           \
                    for (int64_t i = 0; i < m - row; i++)                                                          \
                        NAME##_tile(sums + i * pitch, pitch, a_panel + i, b_panel, depth, 1);                      \
                }                                                                                                  \
            }                                                                                                      \
        }                                                                                                          \
    }

TILE(f32, float)
TILE(f64, double)
TILE(i64, uint64_t)

/* --- single rows ------------------------------------------------------------------------------ */

/* sums[n] += a [depth] times b [depth][n] where it lies: contiguous along k (dots) or along its columns (stripes). */
#define ROW(NAME, TYPE)                                                                                              \
    static void NAME##_dots(TYPE *sums, const TYPE *a, const TYPE *b, int64_t stride, int64_t n, int64_t depth) {    \
        for (; n >= DOTS; n -= DOTS, sums += DOTS, b += DOTS * stride) {                                             \
            TYPE acc[DOTS] = {0};                                                                                    \
            ACAL_UNROLL_4                                                                                            \
            for (int64_t k = 0; k < depth; k++)                                                                      \
                for (int j = 0; j < DOTS; j++) acc[j] += a[k] * b[j * stride + k];                                   \
            for (int j = 0; j < DOTS; j++) sums[j] += acc[j];                                                        \
        }                                                                                                            \
        for (; n > 0; n--, sums++, b += stride) {                                                                    \
            TYPE acc = 0;                                                                                            \
            ACAL_UNROLL_4                                                                                            \
            for (int64_t k = 0; k < depth; k++) acc += a[k] * b[k];                                                  \
            *sums += acc;                                                                                            \
        }                                                                                                            \
    }                                                                                                                \
                                                                                                                     \
    static void NAME##_stripes(TYPE *sums, const TYPE *a, const TYPE *b, int64_t stride, int64_t n, int64_t depth) { \
        for (; n >= STRIPE; n -= STRIPE, sums += STRIPE, b += STRIPE) {                                              \
            TYPE acc[STRIPE] = {0};                                                                                  \
            for (int64_t k = 0; k < depth; k++)                                                                      \
                for (int j = 0; j < STRIPE; j++) acc[j] += a[k] * b[k * stride + j];                                 \
            for (int j = 0; j < STRIPE; j++) sums[j] += acc[j];                                                      \
        }                                                                                                            \
        for (; n > 0; n--, sums++, b++) {                                                                            \
            TYPE acc = 0;                                                                                            \
            for (int64_t k = 0; k < depth; k++) acc += a[k] * b[k * stride];                                         \
            *sums += acc;                                                                                            \
        }                                                                                                            \
    }                                                                                                                \
                                                                                                                     \
    static void NAME##_row(void *sums, const void *a, const acal_matrix_t *b, int64_t n, int64_t depth) {            \
        if (b->row_stride == 1)                                                                                      \
            NAME##_dots(sums, a, b->data, b->column_stride, n, depth);                                               \
        else                                                                                                         \
            NAME##_stripes(sums, a, b->data, b->row_stride, n, depth);                                               \
    }

ROW(f32, float)
ROW(f64, double)
ROW(i64, uint64_t)

/* --- packing ---------------------------------------------------------------------------------- */

#define PANELS(NAME, TYPE)                                                                             \
    /* Element i of the row goes to panel i / width, at row k, column i % width. */                    \
    static void NAME##_panel_row(void *panels_, const void *row_, int64_t n, int64_t k, int64_t depth, \
                                 const int64_t width) {                                                \
        TYPE *to = (TYPE *)panels_ + k * width;                                                        \
        const TYPE *row = row_;                                                                        \
        for (; n >= width; n -= width, row += width, to += width * depth)                              \
            for (int64_t i = 0; i < width; i++) to[i] = row[i];                                        \
        for (int64_t i = 0; n > 0 && i < width; i++) to[i] = i < n ? row[i] : 0;                       \
    }                                                                                                  \
                                                                                                       \
    /* The depth elements of column i go to panel i / width, at column i % width. */                   \
    static void NAME##_panel_column(void *panels, const void *column_, int64_t i, int64_t depth,       \
                                    const int64_t width) {                                             \
        TYPE *to = (TYPE *)panels + i / width * width * depth + i % width;                             \
        const TYPE *column = column_;                                                                  \
        ACAL_ELEMENTWISE                                                                               \
        for (int64_t k = 0; k < depth; k++) to[k * width] = column[k];                                 \
    }

PANELS(f32, float)
PANELS(f64, double)
PANELS(i64, uint64_t)

static void panel_row(void *panels, const void *row, acal_class_t type, int64_t n, int64_t k, int64_t depth,
                      int64_t width) {
    if (type == ACAL_CLASS_F32)
        f32_panel_row(panels, row, n, k, depth, width);
    else if (type == ACAL_CLASS_F64)
        f64_panel_row(panels, row, n, k, depth, width);
    else
        i64_panel_row(panels, row, n, k, depth, width);
}

static void panel_column(void *panels, const void *column, acal_class_t type, int64_t i, int64_t depth, int64_t width) {
    if (type == ACAL_CLASS_F32)
        f32_panel_column(panels, column, i, depth, width);
    else if (type == ACAL_CLASS_F64)
        f64_panel_column(panels, column, i, depth, width);
    else
        i64_panel_column(panels, column, i, depth, width);
}

void acal_panel_row(void *panels, const void *row, acal_class_t type, int64_t columns, int64_t k, int64_t depth) {
    panel_row(panels, row, type, columns, k, depth, NR);
}

static const void *element(const acal_matrix_t *matrix, int64_t row, int64_t column) {
    int64_t offset = row * matrix->row_stride + column * matrix->column_stride;
    return (const char *)matrix->data + offset * acal_itemsize(matrix->dtype);
}

static int64_t magnitude(int64_t x) { return x < 0 ? -x : x; }

/* n elements as class values: where they lie if they can be used so, else in row_buffer. */
static const void *values(const void *memory, uint8_t dtype, int64_t stride, int64_t n) {
    if (acal_is_natural(dtype) && stride == 1) return memory;
    acal_load_row(row_buffer, memory, dtype, stride, n);
    return row_buffer;
}

/* Packs a depth x n matrix into panels of the given width, reading along its smaller stride. */
static void pack(void *panels, const acal_matrix_t *matrix, acal_class_t type, int64_t n, int64_t depth,
                 int64_t width) {
    if (magnitude(matrix->row_stride) < magnitude(matrix->column_stride)) {
        for (int64_t i = 0; i < n; i++) {
            const void *column = values(element(matrix, 0, i), matrix->dtype, matrix->row_stride, depth);
            panel_column(panels, column, type, i, depth, width);
        }
        if (n % width != 0) memset(row_buffer, 0, (size_t)(depth * acal_class_size(type)));
        for (int64_t i = n; i % width != 0; i++) panel_column(panels, row_buffer, type, i, depth, width);
    } else {
        for (int64_t k = 0; k < depth; k++) {
            const void *row = values(element(matrix, k, 0), matrix->dtype, matrix->column_stride, n);
            panel_row(panels, row, type, n, k, depth, width);
        }
    }
}

static acal_matrix_t transposed(const acal_matrix_t *matrix) {
    return (acal_matrix_t){matrix->data, matrix->column_stride, matrix->row_stride, matrix->dtype};
}

static acal_matrix_t from(const acal_matrix_t *matrix, int64_t row, int64_t column) {
    acal_matrix_t part = *matrix;
    part.data = element(matrix, row, column);
    return part;
}

static void pack_block_a(const acal_product_t *product, int64_t row, int64_t m, int64_t k, int64_t depth) {
    if (!product->load_a) {
        acal_matrix_t part = from(&product->a, row, k);
        part = transposed(&part);
        pack(packed_a, &part, product->type, m, depth, MR);
        return;
    }
    for (int64_t i = 0; i < m; i++) {
        product->load_a(product->context, row_buffer, row + i, k, depth);
        panel_column(packed_a, row_buffer, product->type, i, depth, MR);
    }
}

static void pack_block_b(const acal_product_t *product, int64_t column, int64_t columns, int64_t k, int64_t depth) {
    if (product->pack_b) {
        product->pack_b(product->context, packed_b, column, columns, k, depth);
    } else {
        acal_matrix_t part = from(&product->b, k, column);
        pack(packed_b, &part, product->type, columns, depth, NR);
    }
}

/* --- results ---------------------------------------------------------------------------------- */

#define SCALE(NAME, TYPE)                                                                          \
    static void NAME##_scale(void *sums_, const void *bias_, float alpha, float beta, int64_t n) { \
        TYPE *sums = sums_;                                                                        \
        const TYPE *bias = bias_;                                                                  \
        TYPE scale = (TYPE)alpha, bias_scale = (TYPE)beta;                                         \
        if (alpha != 1.0f)                                                                         \
            for (int64_t i = 0; i < n; i++) sums[i] *= scale;                                      \
        if (!bias) return;                                                                         \
        if (beta == 1.0f) {                                                                        \
            ACAL_ELEMENTWISE                                                                       \
            for (int64_t i = 0; i < n; i++) sums[i] += bias[i];                                    \
        } else {                                                                                   \
            ACAL_ELEMENTWISE                                                                       \
            for (int64_t i = 0; i < n; i++) sums[i] += bias_scale * bias[i];                       \
        }                                                                                          \
    }

SCALE(f32, float)
SCALE(f64, double)
SCALE(i64, int64_t)

void acal_finish_row(const acal_product_t *product, void *sums, int64_t row, int64_t column, int64_t n) {
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
    if (product->narrow_integers) acal_round_row(sums, ACAL_DTYPE_I32, n);
    if (product->activate) {
        acal_round_row(sums, product->out.dtype, n);
        product->activate(sums, n);
    }
    void *out = (void *)element(&product->out, row, column);
    acal_store_row(out, sums, product->out.dtype, product->out.column_stride, n);
}

static void finish_block(const acal_product_t *product, int64_t row, int64_t m, int64_t column, int64_t n) {
    int64_t pitch = pitch_of(n) * acal_class_size(product->type);
    for (int64_t i = 0; i < m; i++) acal_finish_row(product, (char *)block_sums + i * pitch, row + i, column, n);
}

/* --- the product ------------------------------------------------------------------------------ */

static void block_product(const acal_product_t *product, int64_t row, int64_t m, int64_t column, int64_t n) {
    memset(block_sums, 0, (size_t)(m * pitch_of(n) * acal_class_size(product->type)));
    for (int64_t k = 0; k < product->k; k += KC) {
        int64_t depth = smaller(product->k - k, KC);
        pack_block_a(product, row, m, k, depth);
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

static void row_product(const acal_product_t *product, int64_t row, int64_t column, int64_t n) {
    memset(block_sums, 0, (size_t)(n * acal_class_size(product->type)));
    for (int64_t k = 0; k < product->k; k += KC) {
        int64_t depth = smaller(product->k - k, KC);
        acal_matrix_t part = from(&product->b, k, column);
        const void *a = values(element(&product->a, row, k), product->a.dtype, product->a.column_stride, depth);
        if (product->type == ACAL_CLASS_F32)
            f32_row(block_sums, a, &part, n, depth);
        else if (product->type == ACAL_CLASS_F64)
            f64_row(block_sums, a, &part, n, depth);
        else
            i64_row(block_sums, a, &part, n, depth);
    }
    finish_block(product, row, 1, column, n);
}

/* out^T = b^T a^T, for a b with few columns. */
static acal_product_t transposed_product(const acal_product_t *product) {
    acal_product_t result = *product;
    result.m = product->n;
    result.n = product->m;
    result.a = transposed(&product->b);
    result.b = transposed(&product->a);
    result.out = transposed(&product->out);
    result.bias = transposed(&product->bias);
    return result;
}

static int reads_b_in_place(const acal_product_t *product) {
    const acal_matrix_t *b = &product->b;
    return product->m < MR && !product->pack_b && acal_is_natural(b->dtype) &&
           (b->row_stride == 1 || b->column_stride == 1);
}

void acal_product(const acal_product_t *product) {
    acal_product_t swapped;
    if (product->n < MR && product->n < product->m && !product->pack_b) {
        swapped = transposed_product(product);
        product = &swapped;
    }
    int by_rows = reads_b_in_place(product);
    for (int64_t column = 0; column < product->n; column += NC) {
        int64_t n = smaller(product->n - column, NC);
        if (by_rows) {
            for (int64_t row = 0; row < product->m; row++) row_product(product, row, column, n);
        } else {
            for (int64_t row = 0; row < product->m; row += MC)
                block_product(product, row, smaller(product->m - row, MC), column, n);
        }
    }
}
