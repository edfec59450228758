/*
 * POOL2D. The maximum goes through the window one element at a time for a whole row of outputs, so that its loops are
 * long and free of branches; averages sum each window in f64.
 */
#include "acal.h"
#include "numeric.h"

typedef struct {
    const acal_pool2d_t *command;
    acal_class_t type;
    const char *plane;         /* x at (n, c) */
    char *out, *indices;       /* at (n, c) */
    uint64_t best[ACAL_BLOCK]; /* of the class */
    int64_t best_index[ACAL_BLOCK];
    uint64_t loaded[ACAL_BLOCK];
} state_t;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* Quotient rounded up; divisor > 0. */
static int64_t ceil_div(int64_t a, int64_t b) { return a > 0 ? (a + b - 1) / b : -(-a / b); }

static const char *element(const state_t *state, int64_t h, int64_t w) {
    const acal_operand_t *x = &state->command->x;
    return state->plane + (h * x->strides[2] + w * x->strides[3]) * acal_itemsize(x->dtype);
}

/* Stores n results of output row p from column q on. */
static void store(const state_t *state, const acal_operand_t *operand, char *memory, const void *values, int64_t p,
                  int64_t q, int64_t n) {
    int64_t offset = p * operand->strides[2] + q * operand->strides[3];
    acal_store_row(memory + offset * acal_itemsize(operand->dtype), values, operand->dtype, operand->strides[3], n);
    (void)state;
}

/* --- maximum ---------------------------------------------------------------------------------- */

/* Takes a value per output; `position` is h * W + w of the first and `step` the distance to the next. As in PyTorch the
 * first of equal values is taken, and the last NaN. */
#define TAKE(NAME, TYPE, SELECT)                                                                                   \
    static void NAME(void *best_, int64_t *index, const void *values, int64_t position, int64_t step, int64_t n) { \
        TYPE *best = best_;                                                                                        \
        const TYPE *value = values;                                                                                \
        ACAL_ELEMENTWISE                                                                                           \
        for (int64_t i = 0; i < n; i++) {                                                                          \
            int better = (value[i] > best[i]) | (value[i] != value[i]) | (index[i] < 0);                           \
            best[i] = SELECT(better, value[i], best[i]);                                                           \
            index[i] = acal_select_i64(better, position + i * step, index[i]);                                     \
        }                                                                                                          \
    }

#define TAKE_VALUE(NAME, TYPE, MAX)                                                                                \
    static void NAME(void *best_, int64_t *index, const void *values, int64_t position, int64_t step, int64_t n) { \
        TYPE *best = best_;                                                                                        \
        const TYPE *value = values;                                                                                \
        (void)index, (void)position, (void)step;                                                                   \
        ACAL_ELEMENTWISE                                                                                           \
        for (int64_t i = 0; i < n; i++) best[i] = MAX(best[i], value[i]);                                          \
    }

TAKE(take_f32, float, acal_select_f32)
TAKE(take_f64, double, acal_select_f64)
TAKE(take_i64, int64_t, acal_select_i64)
TAKE_VALUE(take_value_f32, float, acal_max_f32)
TAKE_VALUE(take_value_f64, double, acal_max_f64)
TAKE_VALUE(take_value_i64, int64_t, acal_max_i64)

typedef void take_t(void *best, int64_t *index, const void *values, int64_t position, int64_t step, int64_t n);

static void begin_maximum(state_t *state, int64_t n) {
    static const uint64_t lowest[ACAL_CLASSES] = {0xff800000ff800000u, 0xfff0000000000000u, (uint64_t)INT64_MIN};
    for (int64_t i = 0; i < n; i++) {
        state->best[i] = lowest[state->type];
        state->best_index[i] = -1;
    }
}

/* Takes window element (h, tap) into the outputs q0 .. q0 + n - 1. */
static void take_tap(state_t *state, take_t *take, int64_t h, int64_t tap, int64_t q0, int64_t n) {
    const acal_pool2d_t *command = state->command;
    const acal_operand_t *x = &command->x;
    int64_t shift = tap * command->dilation[1] - command->padding[1], step = command->stride[1];
    int64_t begin = larger(q0, ceil_div(-shift, step)), end = smaller(q0 + n, ceil_div(x->dims[3] - shift, step));
    if (begin >= end) return;
    int64_t w = begin * step + shift;
    acal_load_row(state->loaded, element(state, h, w), x->dtype, step * x->strides[3], end - begin);
    take((char *)state->best + (begin - q0) * acal_class_size(state->type), state->best_index + (begin - q0),
         state->loaded, h * x->dims[3] + w, step, end - begin);
}

static void maximum_row(state_t *state, int64_t p) {
    static take_t *const takes[] = {take_f32, take_f64, take_i64};
    static take_t *const value_takes[] = {take_value_f32, take_value_f64, take_value_i64};
    const acal_pool2d_t *command = state->command;
    take_t *take = acal_present(&command->indices) ? takes[state->type] : value_takes[state->type];
    for (int64_t q = 0; q < command->out.dims[3]; q += ACAL_BLOCK) {
        int64_t n = smaller(command->out.dims[3] - q, ACAL_BLOCK);
        begin_maximum(state, n);
        for (int64_t r = 0; r < command->kernel[0]; r++) {
            int64_t h = p * command->stride[0] - command->padding[0] + r * command->dilation[0];
            if (h >= 0 && h < command->x.dims[2])
                for (int64_t s = 0; s < command->kernel[1]; s++) take_tap(state, take, h, s, q, n);
        }
        store(state, &command->out, state->out, state->best, p, q, n);
        if (acal_present(&command->indices))
            store(state, &command->indices, state->indices, state->best_index, p, q, n);
    }
}

/* --- averages --- */

/* A window along one axis, clipped to the image, and its length before clipping. */
typedef struct {
    int64_t begin, end, padded;
} window_t;

static window_t window_at(const acal_pool2d_t *command, int axis, int64_t i) {
    int64_t in = command->x.dims[2 + axis], out = command->out.dims[2 + axis];
    window_t window;
    if (command->mode == ACAL_POOLMODE_ADAPTIVE_AVG) {
        window.begin = i * in / out;
        window.end = ((i + 1) * in + out - 1) / out;
        window.padded = window.end - window.begin;
        return window;
    }
    int64_t begin = i * command->stride[axis] - command->padding[axis];
    int64_t end = smaller(begin + command->kernel[axis], in + command->padding[axis]);
    window.padded = end - begin;
    window.begin = larger(begin, 0);
    window.end = smaller(end, in);
    return window;
}

static double sum_window(state_t *state, window_t rows, window_t columns) {
    const acal_operand_t *x = &state->command->x;
    double sum = 0.0;
    for (int64_t h = rows.begin; h < rows.end; h++) {
        for (int64_t w = columns.begin; w < columns.end; w += ACAL_BLOCK) {
            int64_t n = smaller(columns.end - w, ACAL_BLOCK);
            acal_load_row(state->loaded, element(state, h, w), x->dtype, x->strides[3], n);
            if (state->type == ACAL_CLASS_F32)
                for (int64_t i = 0; i < n; i++) sum += (double)((float *)state->loaded)[i];
            else
                for (int64_t i = 0; i < n; i++) sum += ((double *)state->loaded)[i];
        }
    }
    return sum;
}

static void average_row(state_t *state, int64_t p) {
    const acal_pool2d_t *command = state->command;
    window_t rows = window_at(command, 0, p);
    for (int64_t q = 0; q < command->out.dims[3]; q++) {
        window_t columns = window_at(command, 1, q);
        int64_t count = (rows.end - rows.begin) * (columns.end - columns.begin);
        if (command->mode == ACAL_POOLMODE_AVG && command->divisor != 0)
            count = command->divisor;
        else if (command->mode == ACAL_POOLMODE_AVG && command->count_include_pad)
            count = rows.padded * columns.padded;
        double mean = sum_window(state, rows, columns) / (double)count;
        float narrow = (float)mean;
        store(state, &command->out, state->out, state->type == ACAL_CLASS_F32 ? (void *)&narrow : (void *)&mean, p, q,
              1);
    }
}

/* --- checks
 * ------------------------------------------------------------------------------------------------------------------------
 */

static uint32_t check_dims(const acal_pool2d_t *command) {
    const acal_operand_t *x = &command->x, *out = &command->out;
    if (x->rank != 4 || out->rank != 4) return ACAL_STATUS_BAD_RANK;
    int fits = x->dims[0] == out->dims[0] && x->dims[1] == out->dims[1];
    if (acal_present(&command->indices)) fits = fits && acal_same_dims(&command->indices, out);
    for (int i = 0; i < 2 && command->mode != ACAL_POOLMODE_ADAPTIVE_AVG; i++)
        fits = fits && command->kernel[i] >= 1 && command->stride[i] >= 1 && command->dilation[i] >= 1 &&
               command->padding[i] >= 0;
    return fits ? ACAL_STATUS_OK : ACAL_STATUS_BAD_SHAPE;
}

static uint32_t check(const acal_pool2d_t *command, acal_fault_t *fault) {
    ACAL_TRY(acal_check_operand(&command->x, fault));
    ACAL_TRY(acal_check_operand(&command->out, fault));
    ACAL_TRY(acal_check_optional(&command->indices, fault));
    if (command->mode > ACAL_POOLMODE_ADAPTIVE_AVG) return ACAL_STATUS_UNSUPPORTED;
    int is_max = command->mode == ACAL_POOLMODE_MAX;
    if (acal_class(command->x.dtype) != acal_class(command->out.dtype) || (!is_max && !acal_is_float(command->x.dtype)))
        return ACAL_STATUS_BAD_DTYPE;
    if (acal_present(&command->indices)) {
        if (!is_max) return ACAL_STATUS_UNSUPPORTED;
        if (command->indices.dtype != ACAL_DTYPE_I64) return ACAL_STATUS_BAD_DTYPE;
    }
    return check_dims(command);
}

static char *plane_of(const acal_operand_t *operand, int64_t n, int64_t c) {
    int64_t offset = n * operand->strides[0] + c * operand->strides[1];
    return (char *)acal_ptr(operand->addr) + offset * acal_itemsize(operand->dtype);
}

uint32_t acal_pool2d(const acal_pool2d_t *command, acal_fault_t *fault) {
    ACAL_SCRATCH state_t state;
    ACAL_TRY(check(command, fault));
    if (acal_numel(&command->out) == 0) return ACAL_STATUS_OK;
    state.command = command;
    state.type = acal_class(command->x.dtype);
    for (int64_t n = 0; n < command->x.dims[0]; n++) {
        for (int64_t c = 0; c < command->x.dims[1]; c++) {
            state.plane = plane_of(&command->x, n, c);
            state.out = plane_of(&command->out, n, c);
            if (acal_present(&command->indices)) state.indices = plane_of(&command->indices, n, c);
            for (int64_t p = 0; p < command->out.dims[2]; p++) {
                if (command->mode == ACAL_POOLMODE_MAX)
                    maximum_row(&state, p);
                else
                    average_row(&state, p);
            }
        }
    }
    return ACAL_STATUS_OK;
}
