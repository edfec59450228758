/* GEMM: checks the operands and multiplies matrix by matrix over the batch dimensions. */
#include "acal.h"

static uint32_t check_dtypes(const acal_gemm_t *command) {
    acal_class_t type = acal_class(command->out.dtype);
    int same = acal_class(command->a.dtype) == type && acal_class(command->b.dtype) == type;
    if (acal_present(&command->bias)) same = same && acal_class(command->bias.dtype) == type;
    return same ? ACAL_STATUS_OK : ACAL_STATUS_BAD_DTYPE;
}

static uint32_t check_dims(const acal_gemm_t *command) {
    const acal_operand_t *a = &command->a, *b = &command->b, *out = &command->out;
    int32_t rank = out->rank, fits = 1;
    if (rank < 2 || a->rank != rank || b->rank != rank) return ACAL_STATUS_BAD_RANK;
    for (int32_t i = 0; i < rank - 2; i++) fits = fits && a->dims[i] == out->dims[i] && b->dims[i] == out->dims[i];
    fits = fits && a->dims[rank - 2] == out->dims[rank - 2] && b->dims[rank - 1] == out->dims[rank - 1];
    fits = fits && a->dims[rank - 1] == b->dims[rank - 2];
    if (acal_present(&command->bias)) fits = fits && acal_same_dims(&command->bias, out);
    return fits ? ACAL_STATUS_OK : ACAL_STATUS_BAD_SHAPE;
}

/* Whether integers can be multiplied by the factor. */
static int is_whole(float factor) {
    return factor >= -0x1p31f && factor <= 0x1p31f && factor == (float)(int64_t)factor;
}

static uint32_t check(const acal_gemm_t *command, acal_fault_t *fault) {
    ACAL_TRY(acal_check_operand(&command->a, fault));
    ACAL_TRY(acal_check_operand(&command->b, fault));
    ACAL_TRY(acal_check_operand(&command->out, fault));
    ACAL_TRY(acal_check_optional(&command->bias, fault));
    ACAL_TRY(check_dtypes(command));
    if (!acal_is_float(command->out.dtype) && !(is_whole(command->alpha) && is_whole(command->beta)))
        return ACAL_STATUS_UNSUPPORTED;
    return check_dims(command);
}

/* The matrix in the last two dimensions of an operand, at one index of the batch. */
static acal_matrix_t matrix_at(const acal_operand_t *operand, const int64_t *index) {
    int32_t rank = operand->rank;
    int64_t offset = 0;
    for (int32_t i = 0; i < rank - 2; i++) offset += index[i] * operand->strides[i];
    return (acal_matrix_t){
        .data = (char *)acal_ptr(operand->addr) + offset * acal_itemsize(operand->dtype),
        .row_stride = operand->strides[rank - 2],
        .column_stride = operand->strides[rank - 1],
        .dtype = operand->dtype,
    };
}

/* Counts the batch index on; returns 0 after the last. */
static int next_index(const acal_operand_t *operand, int64_t *index) {
    for (int32_t i = operand->rank - 3; i >= 0; i--) {
        if (++index[i] < operand->dims[i]) return 1;
        index[i] = 0;
    }
    return 0;
}

uint32_t acal_gemm(const acal_gemm_t *command, acal_fault_t *fault) {
    const acal_operand_t *out = &command->out;
    acal_product_t product = {.alpha = command->alpha, .beta = command->beta};
    int64_t index[ACAL_MAX_RANK] = {0};
    ACAL_TRY(check(command, fault));
    product.type = acal_class(out->dtype);
    ACAL_TRY(acal_activation(command->activation, product.type, &product.activate));
    if (acal_numel(out) == 0) return ACAL_STATUS_OK;
    product.m = out->dims[out->rank - 2];
    product.n = out->dims[out->rank - 1];
    product.k = command->alpha != 0.0f ? command->a.dims[out->rank - 1] : 0; /* 0 * inf is not in the result */
    product.narrow_integers = command->a.dtype <= ACAL_DTYPE_I8 && command->b.dtype <= ACAL_DTYPE_I8;
    do {
        product.a = matrix_at(&command->a, index);
        product.b = matrix_at(&command->b, index);
        product.out = matrix_at(out, index);
        if (acal_present(&command->bias)) product.bias = matrix_at(&command->bias, index);
        acal_product(&product);
    } while (next_index(out, index));
    return ACAL_STATUS_OK;
}
