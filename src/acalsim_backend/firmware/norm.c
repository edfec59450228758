/* NORM: layer normalisation along the last axis. Mean and variance are two passes in f64. */
#include "acal.h"

enum { OUT, X, MEAN, RSTD, MAX_OPERANDS };

typedef struct {
    const acal_norm_t *command;
    acal_class_t type;
    int64_t columns;
    double mean, rstd;
    uint64_t x[ACAL_BLOCK], weight[ACAL_BLOCK], bias[ACAL_BLOCK]; /* of the class */
    double wide[ACAL_BLOCK];
} state_t;

static void widen(double *to, const void *from, acal_class_t type, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        to[i] = type == ACAL_CLASS_F32 ? (double)((const float *)from)[i] : ((const double *)from)[i];
}

/* Columns start .. start + n - 1 of the row at `memory`, as f64 in state->wide. */
static void load(state_t *state, const char *memory, int64_t start, int64_t n) {
    const acal_operand_t *x = &state->command->x;
    int64_t stride = x->strides[x->rank - 1];
    acal_load_row(state->x, memory + start * stride * acal_itemsize(x->dtype), x->dtype, stride, n);
    widen(state->wide, state->x, state->type, n);
}

static int64_t block_at(const state_t *state, int64_t start) {
    return state->columns - start < ACAL_BLOCK ? state->columns - start : ACAL_BLOCK;
}

static double sum(state_t *state, const char *memory) {
    double total = 0.0;
    for (int64_t start = 0; start < state->columns; start += ACAL_BLOCK) {
        int64_t n = block_at(state, start);
        load(state, memory, start, n);
        for (int64_t i = 0; i < n; i++) total += state->wide[i];
    }
    return total;
}

static double sum_of_squares(state_t *state, const char *memory) {
    double total = 0.0;
    for (int64_t start = 0; start < state->columns; start += ACAL_BLOCK) {
        int64_t n = block_at(state, start);
        load(state, memory, start, n);
        for (int64_t i = 0; i < n; i++) {
            double difference = state->wide[i] - state->mean;
            total += difference * difference;
        }
    }
    return total;
}

/* Multiplies (or adds, if `add`) columns of weight or bias into state->wide. */
static void apply(state_t *state, const acal_operand_t *parameter, int64_t start, int64_t n, int add) {
    double values[ACAL_BLOCK];
    if (!acal_present(parameter)) return;
    const char *memory = acal_ptr(parameter->addr);
    memory += start * parameter->strides[0] * acal_itemsize(parameter->dtype);
    acal_load_row(state->weight, memory, parameter->dtype, parameter->strides[0], n);
    widen(values, state->weight, state->type, n);
    for (int64_t i = 0; i < n; i++) state->wide[i] = add ? state->wide[i] + values[i] : state->wide[i] * values[i];
}

static void store(state_t *state, char *memory, uint8_t dtype, int64_t stride, int64_t n) {
    float *narrow = (float *)state->wide;
    if (state->type == ACAL_CLASS_F32)
        for (int64_t i = 0; i < n; i++) narrow[i] = (float)state->wide[i];
    acal_store_row(memory, state->wide, dtype, stride, n);
}

static void normalise(state_t *state, const char *from, char *to) {
    const acal_operand_t *out = &state->command->out;
    int64_t stride = out->strides[out->rank - 1];
    for (int64_t start = 0; start < state->columns; start += ACAL_BLOCK) {
        int64_t n = block_at(state, start);
        load(state, from, start, n);
        for (int64_t i = 0; i < n; i++) state->wide[i] = (state->wide[i] - state->mean) * state->rstd;
        apply(state, &state->command->weight, start, n, 0);
        apply(state, &state->command->bias, start, n, 1);
        store(state, to + start * stride * acal_itemsize(out->dtype), out->dtype, stride, n);
    }
}

static void normalise_row(state_t *state, const char *from, char *to) {
    state->mean = sum(state, from) / (double)state->columns;
    double variance = sum_of_squares(state, from) / (double)state->columns;
    state->rstd = 1.0 / __builtin_sqrt(variance + state->command->eps);
    normalise(state, from, to);
}

static uint32_t check_statistic(const acal_norm_t *command, const acal_operand_t *statistic, acal_fault_t *fault) {
    const acal_operand_t *x = &command->x;
    if (!acal_present(statistic)) return ACAL_STATUS_OK;
    ACAL_TRY(acal_check_operand(statistic, fault));
    if (acal_class(statistic->dtype) != acal_class(x->dtype)) return ACAL_STATUS_BAD_DTYPE;
    int fits = statistic->rank == x->rank;
    for (int i = 0; fits && i < x->rank; i++) fits = statistic->dims[i] == (i == x->rank - 1 ? 1 : x->dims[i]);
    return fits ? ACAL_STATUS_OK : ACAL_STATUS_BAD_SHAPE;
}

static uint32_t check_parameter(const acal_norm_t *command, const acal_operand_t *parameter, acal_fault_t *fault) {
    const acal_operand_t *x = &command->x;
    if (!acal_present(parameter)) return ACAL_STATUS_OK;
    ACAL_TRY(acal_check_operand(parameter, fault));
    if (acal_class(parameter->dtype) != acal_class(x->dtype)) return ACAL_STATUS_BAD_DTYPE;
    if (parameter->rank != 1) return ACAL_STATUS_BAD_RANK;
    return parameter->dims[0] == x->dims[x->rank - 1] ? ACAL_STATUS_OK : ACAL_STATUS_BAD_SHAPE;
}

static uint32_t check(const acal_norm_t *command, acal_fault_t *fault) {
    ACAL_TRY(acal_check_operand(&command->x, fault));
    ACAL_TRY(acal_check_operand(&command->out, fault));
    if (!acal_is_float(command->x.dtype) || acal_class(command->x.dtype) != acal_class(command->out.dtype))
        return ACAL_STATUS_BAD_DTYPE;
    if (command->x.rank < 1) return ACAL_STATUS_BAD_RANK;
    if (!acal_same_dims(&command->x, &command->out)) return ACAL_STATUS_BAD_SHAPE;
    ACAL_TRY(check_parameter(command, &command->weight, fault));
    ACAL_TRY(check_parameter(command, &command->bias, fault));
    ACAL_TRY(check_statistic(command, &command->mean, fault));
    return check_statistic(command, &command->rstd, fault);
}

static void store_statistic(state_t *state, const acal_operand_t *operand, char *memory, double value) {
    if (acal_present(operand)) {
        state->wide[0] = value;
        store(state, memory, operand->dtype, 1, 1);
    }
}

uint32_t acal_norm(const acal_norm_t *command, acal_fault_t *fault) {
    ACAL_SCRATCH state_t state;
    ACAL_TRY(check(command, fault));
    /* One row per element of the leading axes; an absent statistic is iterated like out and never written. */
    acal_operand_t leading[MAX_OPERANDS] = {
        [OUT] = command->out,
        [X] = command->x,
        [MEAN] = acal_present(&command->mean) ? command->mean : command->out,
        [RSTD] = acal_present(&command->rstd) ? command->rstd : command->out,
    };
    const acal_operand_t *operands[MAX_OPERANDS];
    char *memory[MAX_OPERANDS];
    for (int k = 0; k < MAX_OPERANDS; k++) {
        leading[k].rank--;
        operands[k] = &leading[k];
    }
    acal_nest_t nest;
    state.command = command;
    state.type = acal_class(command->x.dtype);
    state.columns = command->x.dims[command->x.rank - 1];
    if (state.columns == 0 || !acal_nest_begin(&nest, operands, MAX_OPERANDS)) return ACAL_STATUS_OK;
    do {
        for (int64_t i = 0; i < nest.row; i++) {
            for (int k = 0; k < MAX_OPERANDS; k++)
                memory[k] = nest.data[k] + i * nest.row_stride[k] * acal_itemsize(leading[k].dtype);
            normalise_row(&state, memory[X], memory[OUT]);
            store_statistic(&state, &command->mean, memory[MEAN], state.mean);
            store_statistic(&state, &command->rstd, memory[RSTD], state.rstd);
        }
    } while (acal_nest_next(&nest));
    return ACAL_STATUS_OK;
}
