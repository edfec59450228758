/* SOFTMAX: softmax and its logarithm along the last axis, shifted by the maximum. Sums are accumulated in f64. */
#include "acal.h"
#include "libm.h"

typedef struct {
    const char *x;
    char *out;
    uint8_t x_dtype, out_dtype;
    int64_t x_stride, out_stride, columns;
    float loaded[ACAL_BLOCK], result[ACAL_BLOCK];
} row_t;

/* Columns start .. start + n - 1 of x as f32, where they lie if possible. */
static const float *values(row_t *row, int64_t start, int64_t n) {
    const char *memory = row->x + start * row->x_stride * acal_itemsize(row->x_dtype);
    if (row->x_dtype == ACAL_DTYPE_F32 && row->x_stride == 1) return (const float *)memory;
    acal_load_row(row->loaded, memory, row->x_dtype, row->x_stride, n);
    return row->loaded;
}

static int64_t block_at(const row_t *row, int64_t start) {
    return row->columns - start < ACAL_BLOCK ? row->columns - start : ACAL_BLOCK;
}

static float maximum(row_t *row) {
    float max = -__builtin_inff();
    for (int64_t start = 0; start < row->columns; start += ACAL_BLOCK) {
        int64_t n = block_at(row, start);
        const float *x = values(row, start, n);
        for (int64_t i = 0; i < n; i++) max = acal_max_f32(max, x[i]);
    }
    return max;
}

static void exponentials(float *to, const float *x, float max, int64_t n) {
    ACAL_ELEMENTWISE
    for (int64_t i = 0; i < n; i++) to[i] = acal_exp_inline(x[i] - max);
}

static void divide(float *to, const float *x, float divisor, int64_t n) {
    ACAL_ELEMENTWISE
    for (int64_t i = 0; i < n; i++) to[i] = x[i] / divisor;
}

static void subtract(float *to, const float *x, float max, float log_sum, int64_t n) {
    ACAL_ELEMENTWISE
    for (int64_t i = 0; i < n; i++) to[i] = x[i] - max - log_sum;
}

/* Sum of exp(x - max). The exponentials are kept in `keep` unless that is NULL; it may be x itself. */
static float sum_exponentials(row_t *row, float max, float *keep) {
    double sum = 0.0;
    for (int64_t start = 0; start < row->columns; start += ACAL_BLOCK) {
        int64_t n = block_at(row, start);
        float *e = keep ? keep + start : row->result;
        exponentials(e, values(row, start, n), max, n);
        for (int64_t i = 0; i < n; i++) sum += (double)e[i];
    }
    return (float)sum;
}

static void softmax_row(row_t *row, int log) {
    float max = maximum(row);
    float *keep = !log && row->out_dtype == ACAL_DTYPE_F32 && row->out_stride == 1 ? (float *)row->out : 0;
    float sum = sum_exponentials(row, max, keep);
    float log_sum = acal_logf(sum);
    if (keep) {
        divide(keep, keep, sum, row->columns);
        return;
    }
    for (int64_t start = 0; start < row->columns; start += ACAL_BLOCK) {
        int64_t n = block_at(row, start);
        const float *x = values(row, start, n);
        if (log) {
            subtract(row->result, x, max, log_sum, n);
        } else {
            exponentials(row->result, x, max, n);
            divide(row->result, row->result, sum, n);
        }
        char *memory = row->out + start * row->out_stride * acal_itemsize(row->out_dtype);
        acal_store_row(memory, row->result, row->out_dtype, row->out_stride, n);
    }
}

static uint32_t check(const acal_softmax_t *command, acal_fault_t *fault) {
    const acal_operand_t *x = &command->x, *out = &command->out;
    ACAL_TRY(acal_check_operand(x, fault));
    ACAL_TRY(acal_check_operand(out, fault));
    if (!acal_is_float(x->dtype) || !acal_is_float(out->dtype)) return ACAL_STATUS_BAD_DTYPE;
    if (x->dtype == ACAL_DTYPE_F64 || out->dtype == ACAL_DTYPE_F64) return ACAL_STATUS_UNSUPPORTED;
    if (x->rank < 1) return ACAL_STATUS_BAD_RANK;
    return acal_same_dims(x, out) ? ACAL_STATUS_OK : ACAL_STATUS_BAD_SHAPE;
}

uint32_t acal_softmax(const acal_softmax_t *command, acal_fault_t *fault) {
    ACAL_TRY(check(command, fault));
    acal_operand_t out = command->out, x = command->x;
    const acal_operand_t *operands[] = {&out, &x};
    acal_nest_t nest;
    row_t row = {.x_dtype = x.dtype, .out_dtype = out.dtype};
    int32_t last = --out.rank;
    x.rank--;
    row.columns = x.dims[last];
    row.x_stride = x.strides[last];
    row.out_stride = out.strides[last];
    if (row.columns == 0 || !acal_nest_begin(&nest, operands, 2)) return ACAL_STATUS_OK;
    do {
        for (int64_t i = 0; i < nest.row; i++) {
            row.out = nest.data[0] + i * nest.row_stride[0] * acal_itemsize(out.dtype);
            row.x = nest.data[1] + i * nest.row_stride[1] * acal_itemsize(x.dtype);
            softmax_row(&row, command->log != 0);
        }
    } while (acal_nest_next(&nest));
    return ACAL_STATUS_OK;
}
