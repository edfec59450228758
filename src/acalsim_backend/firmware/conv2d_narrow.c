/*
 * Convolutions with few filters per group, such as depthwise ones: too narrow for a matrix product to pay for its
 * packing. A channel's rows are copied with their padding, then the filter's elements are applied to eight outputs at
 * a time.
 */
#include "acal.h"
#include "numeric.h"

enum { WIDTH = 8, MAX_TAPS = 256, MAX_ELEMENTS = 1 << 15 };

ACAL_SCRATCH uint64_t plane[MAX_ELEMENTS]; /* padded rows of one channel */
ACAL_SCRATCH uint64_t sums[MAX_ELEMENTS];  /* [filter][row][column] */
ACAL_SCRATCH uint64_t taps[MAX_TAPS];
ACAL_SCRATCH int64_t offsets[MAX_TAPS]; /* of what a tap sees, from what the first one sees */

/* Sizes of a band of output rows; columns are rounded up to WIDTH. */
typedef struct {
    int64_t rows, columns, pitch, n_taps;
} band_t;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* sums[n] += for each tap: tap times the plane at its offset; n is a multiple of WIDTH. */
#define TAPS(NAME, TYPE)                                                                                      \
    static inline __attribute__((always_inline)) void NAME##_step(TYPE *to, const TYPE *from, int64_t n_taps, \
                                                                  int64_t n, const int64_t step) {            \
        for (; n > 0; n -= WIDTH, to += WIDTH, from += WIDTH * step) {                                        \
            TYPE acc[WIDTH] = {0};                                                                            \
            for (int64_t t = 0; t < n_taps; t++) {                                                            \
                const TYPE *seen = from + offsets[t];                                                         \
                for (int j = 0; j < WIDTH; j++) acc[j] += ((const TYPE *)taps)[t] * seen[j * step];           \
            }                                                                                                 \
            for (int j = 0; j < WIDTH; j++) to[j] += acc[j];                                                  \
        }                                                                                                     \
    }                                                                                                         \
                                                                                                              \
    static void NAME##_row(void *to, const void *from, int64_t n_taps, int64_t n, int64_t step) {             \
        if (step == 1)                                                                                        \
            NAME##_step(to, from, n_taps, n, 1);                                                              \
        else if (step == 2)                                                                                   \
            NAME##_step(to, from, n_taps, n, 2);                                                              \
        else                                                                                                  \
            NAME##_step(to, from, n_taps, n, step);                                                           \
    }

TAPS(f32, float)
TAPS(f64, double)
TAPS(i64, uint64_t)

/* Finds the largest band that fits; returns 0 if not even one row does. */
static int plan_band(const acal_conv2d_t *command, int64_t filters, band_t *band) {
    const acal_operand_t *out = &command->out, *weight = &command->weight;
    int64_t reach[2];
    for (int i = 0; i < 2; i++) {
        if (command->stride[i] > MAX_ELEMENTS || command->dilation[i] > MAX_ELEMENTS) return 0;
        if (weight->dims[2 + i] > MAX_TAPS || out->dims[2 + i] > MAX_ELEMENTS) return 0;
        reach[i] = (weight->dims[2 + i] - 1) * command->dilation[i] + 1;
    }
    band->n_taps = weight->dims[2] * weight->dims[3];
    band->columns = (out->dims[3] + WIDTH - 1) / WIDTH * WIDTH;
    band->pitch = (band->columns - 1) * command->stride[1] + reach[1];
    int64_t plane_rows = MAX_ELEMENTS / band->pitch;
    if (band->n_taps == 0 || band->n_taps > MAX_TAPS || plane_rows < reach[0]) return 0;
    band->rows = smaller(out->dims[2], (plane_rows - reach[0]) / command->stride[0] + 1);
    band->rows = smaller(band->rows, MAX_ELEMENTS / (filters * band->columns));
    return band->rows > 0;
}

/* Copies row h of a channel into a row of the plane, with zeros around it. */
static void fill_row(const acal_conv2d_t *command, acal_class_t type, const char *channel, int64_t h, char *to,
                     int64_t pitch) {
    const acal_operand_t *x = &command->x;
    int64_t size = acal_class_size(type), before = smaller(command->padding[1], pitch);
    int64_t n = smaller(x->dims[3], pitch - before);
    if (h < 0 || h >= x->dims[2]) {
        memset(to, 0, (size_t)(pitch * size));
        return;
    }
    memset(to, 0, (size_t)(before * size));
    acal_load_row(to + before * size, channel + h * x->strides[2] * acal_itemsize(x->dtype), x->dtype, x->strides[3],
                  n);
    memset(to + (before + n) * size, 0, (size_t)((pitch - before - n) * size));
}

static void load_taps(const acal_product_t *product, int64_t filter, int64_t channel, int64_t n) {
    const acal_matrix_t *a = &product->a;
    if (product->load_a) {
        product->load_a(product->context, taps, filter, channel * n, n);
        return;
    }
    int64_t offset = filter * a->row_stride + channel * n * a->column_stride;
    acal_load_row(taps, (const char *)a->data + offset * acal_itemsize(a->dtype), a->dtype, a->column_stride, n);
}

/* Adds one channel's part to the sums of `rows` output rows. */
static void add_channel(const acal_conv2d_t *command, const acal_product_t *product, const band_t *band, int64_t rows,
                        int64_t channel) {
    int64_t size = acal_class_size(product->type), step = command->stride[1];
    for (int64_t filter = 0; filter < product->m; filter++) {
        load_taps(product, filter, channel, band->n_taps);
        for (int64_t i = 0; i < rows; i++) {
            char *to = (char *)sums + (filter * rows + i) * band->columns * size;
            const char *from = (const char *)plane + i * command->stride[0] * band->pitch * size;
            if (product->type == ACAL_CLASS_F32)
                f32_row(to, from, band->n_taps, band->columns, step);
            else if (product->type == ACAL_CLASS_F64)
                f64_row(to, from, band->n_taps, band->columns, step);
            else
                i64_row(to, from, band->n_taps, band->columns, step);
        }
    }
}

static void finish_band(const acal_conv2d_t *command, const acal_product_t *product, const band_t *band, int64_t first,
                        int64_t rows) {
    const acal_operand_t *out = &command->out;
    acal_product_t row = *product;
    int64_t size = acal_class_size(product->type);
    for (int64_t filter = 0; filter < product->m; filter++) {
        for (int64_t i = 0; i < rows; i++) {
            int64_t offset = (first + i) * out->strides[2] * acal_itemsize(out->dtype);
            row.out.data = (const char *)product->out.data + offset;
            acal_finish_row(&row, (char *)sums + (filter * rows + i) * band->columns * size, filter, 0, out->dims[3]);
        }
    }
}

int acal_conv2d_narrow(const acal_conv2d_t *command, const acal_product_t *product, const char *image) {
    const acal_operand_t *x = &command->x, *weight = &command->weight, *out = &command->out;
    int64_t size = acal_class_size(product->type);
    band_t band;
    if (!plan_band(command, product->m, &band)) return 0;
    for (int64_t t = 0; t < band.n_taps; t++)
        offsets[t] =
            t / weight->dims[3] * command->dilation[0] * band.pitch + t % weight->dims[3] * command->dilation[1];
    for (int64_t first = 0; first < out->dims[2]; first += band.rows) {
        int64_t rows = smaller(band.rows, out->dims[2] - first);
        int64_t seen = (rows - 1) * command->stride[0] + (weight->dims[2] - 1) * command->dilation[0] + 1;
        memset(sums, 0, (size_t)(product->m * rows * band.columns * size));
        for (int64_t c = 0; c < weight->dims[1]; c++) {
            const char *channel = image + c * x->strides[1] * acal_itemsize(x->dtype);
            for (int64_t i = 0; i < seen; i++)
                fill_row(command, product->type, channel, first * command->stride[0] - command->padding[0] + i,
                         (char *)plane + i * band.pitch * size, band.pitch);
            add_channel(command, product, &band, rows, c);
        }
        finish_band(command, product, &band, first, rows);
    }
    return 1;
}
