/* COPY and FILL. */
#include "acal.h"
#include "numeric.h"

#define MOVE(NAME, TYPE)                                                                                \
    static void NAME(void *to_, int64_t to_stride, const void *from_, int64_t from_stride, int64_t n) { \
        TYPE *to = to_;                                                                                 \
        const TYPE *from = from_;                                                                       \
        ACAL_ELEMENTWISE                                                                                \
        for (int64_t i = 0; i < n; i++) to[i * to_stride] = from[i * from_stride];                      \
    }

MOVE(move_1, uint8_t)
MOVE(move_2, uint16_t)
MOVE(move_4, uint32_t)
MOVE(move_8, uint64_t)

void acal_move_row(void *to, int64_t to_stride, const void *from, int64_t from_stride, int64_t itemsize, int64_t n) {
    if (to_stride == 1 && from_stride == 1)
        memcpy(to, from, (size_t)(n * itemsize));
    else if (itemsize == 1)
        move_1(to, to_stride, from, from_stride, n);
    else if (itemsize == 2)
        move_2(to, to_stride, from, from_stride, n);
    else if (itemsize == 4)
        move_4(to, to_stride, from, from_stride, n);
    else
        move_8(to, to_stride, from, from_stride, n);
}

static void convert_row(const acal_nest_t *nest, uint8_t to, uint8_t from) {
    uint64_t raw[ACAL_BLOCK], converted[ACAL_BLOCK];
    acal_convert_t *convert = acal_conversion(to, from);
    for (int64_t start = 0; start < nest->row; start += ACAL_BLOCK) {
        int64_t n = nest->row - start < ACAL_BLOCK ? nest->row - start : ACAL_BLOCK;
        char *out = nest->data[0] + start * nest->row_stride[0] * acal_itemsize(to);
        const char *x = nest->data[1] + start * nest->row_stride[1] * acal_itemsize(from);
        acal_load_row(raw, x, from, nest->row_stride[1], n);
        convert(converted, raw, n);
        acal_store_row(out, converted, to, nest->row_stride[0], n);
    }
}

uint32_t acal_copy(const acal_copy_t *command, acal_fault_t *fault) {
    const acal_operand_t *operands[] = {&command->out, &command->x};
    acal_nest_t nest;
    ACAL_TRY(acal_check_operand(&command->out, fault));
    ACAL_TRY(acal_check_operand(&command->x, fault));
    if (!acal_same_dims(&command->x, &command->out)) return ACAL_STATUS_BAD_SHAPE;
    if (!acal_nest_begin(&nest, operands, 2)) return ACAL_STATUS_OK;
    uint8_t to = command->out.dtype, from = command->x.dtype;
    do {
        if (to == from)
            acal_move_row(nest.data[0], nest.row_stride[0], nest.data[1], nest.row_stride[1], acal_itemsize(to),
                          nest.row);
        else
            convert_row(&nest, to, from);
    } while (acal_nest_next(&nest));
    return ACAL_STATUS_OK;
}

/* The value as one element of out's dtype. */
static void encode_value(void *element, uint8_t dtype, uint64_t value) {
    int64_t integer = (int64_t)value;
    double wide = acal_f64_of_bits(value);
    float narrow = (float)wide;
    if (acal_class(dtype) == ACAL_CLASS_F32)
        acal_store_row(element, &narrow, dtype, 1, 1);
    else if (acal_class(dtype) == ACAL_CLASS_F64)
        acal_store_row(element, &wide, dtype, 1, 1);
    else
        acal_store_row(element, &integer, dtype, 1, 1);
}

uint32_t acal_fill(const acal_fill_t *command, acal_fault_t *fault) {
    const acal_operand_t *operands[] = {&command->out};
    acal_nest_t nest;
    uint64_t element;
    ACAL_TRY(acal_check_operand(&command->out, fault));
    if (!acal_nest_begin(&nest, operands, 1)) return ACAL_STATUS_OK;
    encode_value(&element, command->out.dtype, command->value);
    do acal_move_row(nest.data[0], nest.row_stride[0], &element, 0, acal_itemsize(command->out.dtype), nest.row);
    while (acal_nest_next(&nest));
    return ACAL_STATUS_OK;
}
