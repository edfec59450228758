/*
 * REDUCE. Floating point sums are accumulated in f64, integers in i64. Where the reduced elements lie closer together
 * than the kept ones, each result is accumulated along them; else a block of results is accumulated across.
 */
#include "acal.h"
#include "numeric.h"

/* Takes n values into one accumulator (along) or n values into n accumulators (across). */
typedef void accumulate_t(void *sums, int64_t *indices, const void *values, int64_t position, int64_t n);

#define PLAIN(NAME, SUM, TYPE, COMBINE)                                                                        \
    static void NAME##_along(void *sums, int64_t *indices, const void *values, int64_t position, int64_t n) {  \
        SUM sum = *(SUM *)sums;                                                                                \
        const TYPE *value = values;                                                                            \
        (void)indices, (void)position;                                                                         \
        for (int64_t i = 0; i < n; i++) sum = COMBINE(sum, (SUM)value[i]);                                     \
        *(SUM *)sums = sum;                                                                                    \
    }                                                                                                          \
                                                                                                               \
    static void NAME##_across(void *sums, int64_t *indices, const void *values, int64_t position, int64_t n) { \
        SUM *sum = sums;                                                                                       \
        const TYPE *value = values;                                                                            \
        (void)indices, (void)position;                                                                         \
        ACAL_ELEMENTWISE                                                                                       \
        for (int64_t i = 0; i < n; i++) sum[i] = COMBINE(sum[i], (SUM)value[i]);                               \
    }

/* Extremes with the position of the first one; the first NaN is the extreme. */
#define INDEXED(NAME, TYPE, SELECT, BEATS)                                                                     \
    static inline void NAME##_take(TYPE *best, int64_t *index, TYPE value, int64_t position) {                 \
        int better = (value BEATS * best) | ((value != value) & (*best == *best));                             \
        *best = SELECT(better, value, *best);                                                                  \
        *index = acal_select_i64(better, position, *index);                                                    \
    }                                                                                                          \
                                                                                                               \
    static void NAME##_along(void *sums, int64_t *indices, const void *values, int64_t position, int64_t n) {  \
        TYPE best = *(TYPE *)sums;                                                                             \
        int64_t index = *indices;                                                                              \
        for (int64_t i = 0; i < n; i++) NAME##_take(&best, &index, ((const TYPE *)values)[i], position + i);   \
        *(TYPE *)sums = best;                                                                                  \
        *indices = index;                                                                                      \
    }                                                                                                          \
                                                                                                               \
    static void NAME##_across(void *sums, int64_t *indices, const void *values, int64_t position, int64_t n) { \
        for (int64_t i = 0; i < n; i++)                                                                        \
            NAME##_take((TYPE *)sums + i, indices + i, ((const TYPE *)values)[i], position);                   \
    }

#define PLUS(a, b) ((a) + (b))
#define TIMES(a, b) ((a) * (b))

PLAIN(sum_f32, double, float, PLUS)
PLAIN(sum_f64, double, double, PLUS)
PLAIN(sum_i64, uint64_t, int64_t, PLUS)
PLAIN(max_f32, float, float, acal_max_f32)
PLAIN(max_f64, double, double, acal_max_f64)
PLAIN(max_i64, int64_t, int64_t, acal_max_i64)
PLAIN(min_f32, float, float, acal_min_f32)
PLAIN(min_f64, double, double, acal_min_f64)
PLAIN(min_i64, int64_t, int64_t, acal_min_i64)
PLAIN(prod_f32, float, float, TIMES)
PLAIN(prod_f64, double, double, TIMES)
PLAIN(prod_i64, uint64_t, int64_t, TIMES)
INDEXED(argmax_f32, float, acal_select_f32, >)
INDEXED(argmax_f64, double, acal_select_f64, >)
INDEXED(argmax_i64, int64_t, acal_select_i64, >)
INDEXED(argmin_f32, float, acal_select_f32, <)
INDEXED(argmin_f64, double, acal_select_f64, <)
INDEXED(argmin_i64, int64_t, acal_select_i64, <)

typedef struct {
    accumulate_t *along, *across;
} reduction_t;

#define REDUCTIONS(NAME)                                                                \
    {                                                                                   \
        {NAME##_f32_along, NAME##_f32_across}, {NAME##_f64_along, NAME##_f64_across}, { \
            NAME##_i64_along, NAME##_i64_across                                         \
        }                                                                               \
    }

typedef struct {
    const acal_reduce_t *command;
    acal_class_t type;
    reduction_t reduction;
    int is_sum;
    int64_t count;               /* elements per result */
    acal_nest_t kept;            /* over out, x and, if present, indices */
    acal_nest_t reduced;         /* over x */
    uint64_t sums[ACAL_BLOCK];   /* f64 for floating point sums and means, else of the class */
    uint64_t loaded[ACAL_BLOCK]; /* a row of x where it needs conversion */
    int64_t indices[ACAL_BLOCK];
} state_t;

/* --- checks ----------------------------------------------------------------------------------- */

static uint32_t check_dims(const acal_reduce_t *command) {
    const acal_operand_t *x = &command->x, *out = &command->out;
    if (x->rank != out->rank || command->axes >> x->rank != 0) return ACAL_STATUS_BAD_RANK;
    int fits = 1;
    for (int i = 0; i < x->rank; i++) fits = fits && out->dims[i] == (command->axes >> i & 1 ? 1 : x->dims[i]);
    if (acal_present(&command->indices)) fits = fits && acal_same_dims(out, &command->indices);
    return fits ? ACAL_STATUS_OK : ACAL_STATUS_BAD_SHAPE;
}

static int is_extreme(uint32_t op) { return op == ACAL_REDUCEOP_MAX || op == ACAL_REDUCEOP_MIN; }

static uint32_t check(const acal_reduce_t *command, acal_fault_t *fault) {
    ACAL_TRY(acal_check_operand(&command->x, fault));
    ACAL_TRY(acal_check_operand(&command->out, fault));
    ACAL_TRY(acal_check_optional(&command->indices, fault));
    if (acal_class(command->x.dtype) != acal_class(command->out.dtype)) return ACAL_STATUS_BAD_DTYPE;
    if (command->op > ACAL_REDUCEOP_PROD) return ACAL_STATUS_UNSUPPORTED;
    if (command->op == ACAL_REDUCEOP_MEAN && !acal_is_float(command->x.dtype)) return ACAL_STATUS_BAD_DTYPE;
    if (acal_present(&command->indices)) {
        int one_axis = command->axes != 0 && (command->axes & (command->axes - 1)) == 0;
        if (!one_axis || !is_extreme(command->op)) return ACAL_STATUS_UNSUPPORTED;
        if (command->indices.dtype != ACAL_DTYPE_I64) return ACAL_STATUS_BAD_DTYPE;
    }
    return check_dims(command);
}

/* --- accumulators ----------------------------------------------------------------------------- */

/* What a reduction starts from: 0, 1, or the value that every other one beats; an f32 twice, for two accumulators. */
static void begin(state_t *state, int64_t n) {
    static const uint64_t starts[][ACAL_CLASSES] = {
        [ACAL_REDUCEOP_SUM] = {0, 0, 0},
        [ACAL_REDUCEOP_MEAN] = {0, 0, 0},
        [ACAL_REDUCEOP_MAX] = {0xff800000ff800000u, 0xfff0000000000000u, (uint64_t)INT64_MIN},
        [ACAL_REDUCEOP_MIN] = {0x7f8000007f800000u, 0x7ff0000000000000u, (uint64_t)INT64_MAX},
        [ACAL_REDUCEOP_PROD] = {0x3f8000003f800000u, 0x3ff0000000000000u, 1},
    };
    uint64_t start = starts[state->command->op][state->type];
    for (int64_t i = 0; i < n; i++) {
        state->sums[i] = start;
        state->indices[i] = 0;
    }
}

/* Stores n results from the accumulators at element `at` of the current row of results. */
static void finish(state_t *state, int64_t at, int64_t n) {
    const acal_operand_t *out = &state->command->out;
    const acal_nest_t *kept = &state->kept;
    if (state->is_sum && state->type != ACAL_CLASS_I64) {
        double *sums = (double *)state->sums;
        float *narrow = (float *)state->sums;
        if (state->type == ACAL_CLASS_F32) /* as in PyTorch, a sum that f32 cannot hold has no mean either */
            for (int64_t i = 0; i < n; i++) sums[i] = (double)(float)sums[i];
        if (state->command->op == ACAL_REDUCEOP_MEAN)
            for (int64_t i = 0; i < n; i++) sums[i] /= (double)state->count;
        if (state->type == ACAL_CLASS_F32)
            for (int64_t i = 0; i < n; i++) narrow[i] = (float)sums[i];
    }
    char *memory = kept->data[0] + at * kept->row_stride[0] * acal_itemsize(out->dtype);
    acal_store_row(memory, state->sums, out->dtype, kept->row_stride[0], n);
    if (acal_present(&state->command->indices)) {
        memory = kept->data[2] + at * kept->row_stride[2] * (int64_t)sizeof(int64_t);
        acal_store_row(memory, state->indices, ACAL_DTYPE_I64, kept->row_stride[2], n);
    }
}

/* A row of x in the type of its class, where it lies if possible; n <= ACAL_BLOCK. */
static const void *values(state_t *state, const char *memory, int64_t stride, int64_t n) {
    uint8_t dtype = state->command->x.dtype;
    if (acal_is_natural(dtype) && stride == 1) return memory;
    acal_load_row(state->loaded, memory, dtype, stride, n);
    return state->loaded;
}

/* --- the two orders --------------------------------------------------------------------------- */

static void reduce_along(state_t *state, int64_t row) {
    int64_t size = acal_itemsize(state->command->x.dtype), stride = state->reduced.row_stride[0];
    char *first = state->kept.data[1];
    for (int64_t at = 0; at < row; at++) {
        begin(state, 1);
        state->reduced.data[0] = first + at * state->kept.row_stride[1] * size;
        do {
            for (int64_t start = 0; start < state->reduced.row; start += ACAL_BLOCK) {
                int64_t n = state->reduced.row - start < ACAL_BLOCK ? state->reduced.row - start : ACAL_BLOCK;
                const void *v = values(state, state->reduced.data[0] + start * stride * size, stride, n);
                state->reduction.along(state->sums, state->indices, v, start, n);
            }
        } while (acal_nest_next(&state->reduced));
        finish(state, at, 1);
    }
}

static void reduce_across(state_t *state, int64_t row) {
    int64_t size = acal_itemsize(state->command->x.dtype), stride = state->kept.row_stride[1];
    for (int64_t at = 0; at < row; at += ACAL_BLOCK) {
        int64_t n = row - at < ACAL_BLOCK ? row - at : ACAL_BLOCK;
        begin(state, n);
        state->reduced.data[0] = state->kept.data[1] + at * stride * size;
        do {
            for (int64_t i = 0; i < state->reduced.row; i++) {
                const char *memory = state->reduced.data[0] + i * state->reduced.row_stride[0] * size;
                state->reduction.across(state->sums, state->indices, values(state, memory, stride, n), i, n);
            }
        } while (acal_nest_next(&state->reduced));
        finish(state, at, n);
    }
}

/* The axes of an operand that are reduced, or those that are not. */
static acal_operand_t part(const acal_operand_t *operand, uint32_t axes) {
    acal_operand_t result = *operand;
    result.rank = 0;
    for (int i = 0; i < operand->rank; i++) {
        if (axes >> i & 1) {
            result.dims[result.rank] = operand->dims[i];
            result.strides[result.rank++] = operand->strides[i];
        }
    }
    return result;
}

static int64_t magnitude(int64_t x) { return x < 0 ? -x : x; }

static void choose(state_t *state) {
    static const reduction_t reductions[][ACAL_CLASSES] = {
        [ACAL_REDUCEOP_SUM] = REDUCTIONS(sum),   [ACAL_REDUCEOP_MEAN] = REDUCTIONS(sum),
        [ACAL_REDUCEOP_MAX] = REDUCTIONS(max),   [ACAL_REDUCEOP_MIN] = REDUCTIONS(min),
        [ACAL_REDUCEOP_PROD] = REDUCTIONS(prod),
    };
    static const reduction_t indexed[][ACAL_CLASSES] = {REDUCTIONS(argmax), REDUCTIONS(argmin)};
    uint32_t op = state->command->op;
    state->is_sum = op == ACAL_REDUCEOP_SUM || op == ACAL_REDUCEOP_MEAN;
    /* NOLINTNEXTLINE(clang-analyzer-security.ArrayBound): check() refuses indices of anything but MAX and MIN. */
    state->reduction = acal_present(&state->command->indices) ? indexed[op - ACAL_REDUCEOP_MAX][state->type]
                                                              : reductions[op][state->type];
}

uint32_t acal_reduce(const acal_reduce_t *command, acal_fault_t *fault) {
    ACAL_SCRATCH state_t state;
    ACAL_TRY(check(command, fault));
    state.command = command;
    state.type = acal_class(command->x.dtype);
    choose(&state);

    uint32_t axes = command->axes;
    acal_operand_t out = part(&command->out, ~axes), x = part(&command->x, ~axes);
    acal_operand_t indices = part(&command->indices, ~axes), reduced = part(&command->x, axes);
    const acal_operand_t *kept_operands[] = {&out, &x, &indices}, *reduced_operands[] = {&reduced};
    if (!acal_nest_begin(&state.kept, kept_operands, acal_present(&command->indices) ? 3 : 2)) return ACAL_STATUS_OK;
    state.count = acal_numel(&reduced);
    if (state.count == 0 && is_extreme(command->op)) {
        fault->address = command->x.addr;
        return ACAL_STATUS_BAD_SHAPE;
    }
    int any = acal_nest_begin(&state.reduced, reduced_operands, 1);
    int along = magnitude(state.reduced.row_stride[0]) <= magnitude(state.kept.row_stride[1]) || state.kept.row == 1;
    do {
        if (!any) {
            for (int64_t at = 0; at < state.kept.row; at++) {
                begin(&state, 1);
                finish(&state, at, 1);
            }
        } else if (along) {
            reduce_along(&state, state.kept.row);
        } else {
            reduce_across(&state, state.kept.row);
        }
    } while (acal_nest_next(&state.kept));
    return ACAL_STATUS_OK;
}
