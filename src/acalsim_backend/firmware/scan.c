/* SCAN: running sums, products, extremes and logarithms of sums of exponentials. */
#include "acal.h"
#include "libm.h"

/* Takes n values that start at `position` of their row, replacing each by the result up to it. */
typedef void scan_t(void *carry, int64_t *best, void *values, int64_t *positions, int64_t position, int64_t n);

#define RUNNING(NAME, SUM, TYPE, COMBINE)                                                                         \
    static void NAME(void *carry, int64_t *best, void *values, int64_t *positions, int64_t position, int64_t n) { \
        SUM sum = *(SUM *)carry;                                                                                  \
        TYPE *value = values;                                                                                     \
        (void)best, (void)positions, (void)position;                                                              \
        for (int64_t i = 0; i < n; i++) {                                                                         \
            sum = COMBINE(sum, (SUM)value[i]);                                                                    \
            value[i] = (TYPE)sum;                                                                                 \
        }                                                                                                         \
        *(SUM *)carry = sum;                                                                                      \
    }

/* The last of equal extremes; a NaN stays, and the last NaN is where it stands. */
#define EXTREME(NAME, TYPE, SELECT, BEATS)                                                                        \
    static void NAME(void *carry, int64_t *best, void *values, int64_t *positions, int64_t position, int64_t n) { \
        TYPE extreme = *(TYPE *)carry, *value = values;                                                           \
        int64_t index = *best;                                                                                    \
        for (int64_t i = 0; i < n; i++) {                                                                         \
            int better = (value[i] BEATS extreme) | (value[i] != value[i]);                                       \
            extreme = SELECT(better, value[i], extreme);                                                          \
            index = acal_select_i64(better, position + i, index);                                                 \
            value[i] = extreme;                                                                                   \
            positions[i] = index;                                                                                 \
        }                                                                                                         \
        *(TYPE *)carry = extreme;                                                                                 \
        *best = index;                                                                                            \
    }

#define PLUS(a, b) ((a) + (b))
#define TIMES(a, b) ((a) * (b))

/* log(exp(a) + exp(b)). Where the difference has no value, both are the same infinity: the clamp drops it. */
static inline double log_add_exp(double a, double b) {
    double below = acal_clamp_f64(-__builtin_fabs(a - b), -110.0, 0.0);
    return acal_max_f64(a, b) + acal_log_core(1.0 + acal_exp_core(below));
}

RUNNING(sum_half, float, float, PLUS)
RUNNING(sum_f32, double, float, PLUS)
RUNNING(sum_f64, double, double, PLUS)
RUNNING(sum_i64, uint64_t, int64_t, PLUS)
RUNNING(product_half, float, float, TIMES)
RUNNING(product_f32, double, float, TIMES)
RUNNING(product_f64, double, double, TIMES)
RUNNING(product_i64, uint64_t, int64_t, TIMES)
RUNNING(log_sum_f32, double, float, log_add_exp)
EXTREME(max_f32, float, acal_select_f32, >=)
EXTREME(max_f64, double, acal_select_f64, >=)
EXTREME(max_i64, int64_t, acal_select_i64, >=)
EXTREME(min_f32, float, acal_select_f32, <=)
EXTREME(min_f64, double, acal_select_f64, <=)
EXTREME(min_i64, int64_t, acal_select_i64, <=)

static scan_t *choose(uint32_t op, uint8_t dtype) {
    static scan_t *const scans[][ACAL_CLASSES] = {
        [ACAL_SCANOP_SUM] = {sum_f32, sum_f64, sum_i64}, [ACAL_SCANOP_PROD] = {product_f32, product_f64, product_i64},
        [ACAL_SCANOP_MAX] = {max_f32, max_f64, max_i64}, [ACAL_SCANOP_MIN] = {min_f32, min_f64, min_i64},
        [ACAL_SCANOP_LOGADDEXP] = {log_sum_f32, 0, 0},
    };
    int half = dtype == ACAL_DTYPE_F16 || dtype == ACAL_DTYPE_BF16;
    if (op >= sizeof scans / sizeof scans[0]) return 0;
    if (half && op == ACAL_SCANOP_SUM) return sum_half;
    if (half && op == ACAL_SCANOP_PROD) return product_half;
    return scans[op][acal_class(dtype)];
}

/* What a row starts from, in the type that its kernel accumulates in. */
static uint64_t start_of(uint32_t op, uint8_t dtype) {
    int half = dtype == ACAL_DTYPE_F16 || dtype == ACAL_DTYPE_BF16;
    int negative = op != ACAL_SCANOP_MIN;
    acal_class_t type = acal_class(dtype);
    switch (op) {
        case ACAL_SCANOP_SUM: return 0;
        case ACAL_SCANOP_PROD:
            if (type == ACAL_CLASS_I64) return 1;
            return half ? acal_bits_of_f32(1.0f) : acal_bits_of_f64(1.0);
        case ACAL_SCANOP_LOGADDEXP: return acal_bits_of_f64(-__builtin_inf());
        default:
            if (type == ACAL_CLASS_F32) return negative ? 0xff800000u : 0x7f800000u;
            if (type == ACAL_CLASS_F64) return negative ? 0xfff0000000000000u : 0x7ff0000000000000u;
            return (uint64_t)(negative ? INT64_MIN : INT64_MAX);
    }
}

/* A row along the scanned axis; strides in elements. */
typedef struct {
    const acal_scan_t *command;
    scan_t *scan;
    uint64_t start;
    const char *x;
    char *out, *indices; /* indices 0: nobody asks for them */
    int64_t values[ACAL_BLOCK], positions[ACAL_BLOCK];
} row_t;

static void scan_row(row_t *row) {
    const acal_operand_t *x = &row->command->x, *out = &row->command->out, *indices = &row->command->indices;
    uint32_t axis = row->command->axis;
    uint64_t carry = row->start;
    int64_t best = 0;
    for (int64_t at = 0; at < x->dims[axis]; at += ACAL_BLOCK) {
        int64_t n = x->dims[axis] - at < ACAL_BLOCK ? x->dims[axis] - at : ACAL_BLOCK;
        const char *from = row->x + at * x->strides[axis] * acal_itemsize(x->dtype);
        acal_load_row(row->values, from, x->dtype, x->strides[axis], n);
        row->scan(&carry, &best, row->values, row->positions, at, n);
        char *to = row->out + at * out->strides[axis] * acal_itemsize(out->dtype);
        acal_store_row(to, row->values, out->dtype, out->strides[axis], n);
        if (!row->indices) continue;
        to = row->indices + at * indices->strides[axis] * (int64_t)sizeof(int64_t);
        acal_store_row(to, row->positions, ACAL_DTYPE_I64, indices->strides[axis], n);
    }
}

static uint32_t check(const acal_scan_t *command, acal_fault_t *fault) {
    const acal_operand_t *x = &command->x, *out = &command->out, *indices = &command->indices;
    int extreme = command->op == ACAL_SCANOP_MAX || command->op == ACAL_SCANOP_MIN;
    ACAL_TRY(acal_check_operand(x, fault));
    ACAL_TRY(acal_check_operand(out, fault));
    ACAL_TRY(acal_check_optional(indices, fault));
    if (command->axis >= x->rank) return ACAL_STATUS_BAD_RANK;
    if (!acal_same_dims(x, out)) return ACAL_STATUS_BAD_SHAPE;
    if (acal_class(x->dtype) != acal_class(out->dtype) || (extreme && x->dtype != out->dtype))
        return ACAL_STATUS_BAD_DTYPE;
    if (!choose(command->op, out->dtype)) return ACAL_STATUS_UNSUPPORTED;
    if (!acal_present(indices)) return ACAL_STATUS_OK;
    if (!extreme) return ACAL_STATUS_UNSUPPORTED;
    if (indices->dtype != ACAL_DTYPE_I64) return ACAL_STATUS_BAD_DTYPE;
    return acal_same_dims(out, indices) ? ACAL_STATUS_OK : ACAL_STATUS_BAD_SHAPE;
}

uint32_t acal_scan(const acal_scan_t *command, acal_fault_t *fault) {
    ACAL_SCRATCH row_t row;
    ACAL_TRY(check(command, fault));
    acal_operand_t out = command->out, x = command->x, indices = command->indices;
    const acal_operand_t *operands[] = {&out, &x, &indices};
    int indexed = acal_present(&indices);
    acal_nest_t nest;
    row.command = command;
    row.scan = choose(command->op, out.dtype);
    row.start = start_of(command->op, out.dtype);
    if (out.dims[command->axis] == 0) return ACAL_STATUS_OK;
    out.dims[command->axis] = 1; /* the nest is over where rows begin */
    if (!acal_nest_begin(&nest, operands, indexed ? 3 : 2)) return ACAL_STATUS_OK;
    do {
        for (int64_t i = 0; i < nest.row; i++) {
            row.out = nest.data[0] + i * nest.row_stride[0] * acal_itemsize(out.dtype);
            row.x = nest.data[1] + i * nest.row_stride[1] * acal_itemsize(x.dtype);
            row.indices = indexed ? nest.data[2] + i * nest.row_stride[2] * (int64_t)sizeof(int64_t) : 0;
            scan_row(&row);
        }
    } while (acal_nest_next(&nest));
    return ACAL_STATUS_OK;
}
