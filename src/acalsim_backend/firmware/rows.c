/* Rows of elements: conversions between memory and the three types that kernels compute in. */
#include "acal.h"
#include "libm.h"

int64_t acal_itemsize(uint8_t dtype) {
    static const uint8_t sizes[] = {1, 1, 1, 2, 4, 8, 2, 2, 4, 8};
    return sizes[dtype];
}

int acal_is_float(uint8_t dtype) { return dtype >= ACAL_DTYPE_F16; }

acal_class_t acal_class(uint8_t dtype) {
    if (dtype == ACAL_DTYPE_F64) return ACAL_CLASS_F64;
    return acal_is_float(dtype) ? ACAL_CLASS_F32 : ACAL_CLASS_I64;
}

int64_t acal_class_size(acal_class_t type) { return type == ACAL_CLASS_F32 ? 4 : 8; }

int acal_is_natural(uint8_t dtype) {
    return dtype == ACAL_DTYPE_F32 || dtype == ACAL_DTYPE_F64 || dtype == ACAL_DTYPE_I64;
}

/* --- memory to values and back ---------------------------------------------------------------- */

#define ROW(NAME, TO, FROM, TO_STEP, FROM_STEP, CONVERT)                                            \
    static void NAME(void *to_, const void *from_, int64_t stride, int64_t n) {                     \
        TO *to = to_;                                                                               \
        const FROM *from = from_;                                                                   \
        if (stride == 1) {                                                                          \
            ACAL_ELEMENTWISE                                                                        \
            for (int64_t i = 0; i < n; i++) to[i] = (TO)CONVERT(from[i]);                           \
        } else {                                                                                    \
            ACAL_ELEMENTWISE                                                                        \
            for (int64_t i = 0; i < n; i++) to[i * (TO_STEP)] = (TO)CONVERT(from[i * (FROM_STEP)]); \
        }                                                                                           \
    }

#define LOAD_AND_STORE(NAME, MEMORY, CLASS, LOAD, STORE) \
    ROW(load_##NAME, CLASS, MEMORY, 1, stride, LOAD)     \
    ROW(store_##NAME, MEMORY, CLASS, stride, 1, STORE)

#define AS_IS(x) (x)
#define NOT_ZERO(x) ((x) != 0)

LOAD_AND_STORE(bool, uint8_t, int64_t, NOT_ZERO, NOT_ZERO)
LOAD_AND_STORE(u8, uint8_t, int64_t, AS_IS, AS_IS)
LOAD_AND_STORE(i8, int8_t, int64_t, AS_IS, AS_IS)
LOAD_AND_STORE(i16, int16_t, int64_t, AS_IS, AS_IS)
LOAD_AND_STORE(i32, int32_t, int64_t, AS_IS, AS_IS)
LOAD_AND_STORE(i64, int64_t, int64_t, AS_IS, AS_IS)
LOAD_AND_STORE(f16, uint16_t, float, acal_f32_of_f16, acal_f16_of_f32)
LOAD_AND_STORE(bf16, uint16_t, float, acal_f32_of_bf16, acal_bf16_of_f32)
LOAD_AND_STORE(f32, float, float, AS_IS, AS_IS)
LOAD_AND_STORE(f64, double, double, AS_IS, AS_IS)

typedef void row_t(void *to, const void *from, int64_t stride, int64_t n);

#define REPLICATE(NAME, TYPE)                              \
    static void NAME(TYPE *values, int64_t n) {            \
        TYPE value = values[0];                            \
        ACAL_UNROLL_8                                      \
        for (int64_t i = 1; i < n; i++) values[i] = value; \
    }

REPLICATE(replicate_4, uint32_t)
REPLICATE(replicate_8, uint64_t)

void acal_load_row(void *values, const void *memory, uint8_t dtype, int64_t stride, int64_t n) {
    static row_t *const loads[] = {load_bool, load_u8,  load_i8,   load_i16, load_i32,
                                   load_i64,  load_f16, load_bf16, load_f32, load_f64};
    if (stride != 0) {
        loads[dtype](values, memory, stride, n);
        return;
    }
    loads[dtype](values, memory, 1, n < 1 ? 0 : 1);
    if (acal_class(dtype) == ACAL_CLASS_F32)
        replicate_4(values, n);
    else
        replicate_8(values, n);
}

void acal_store_row(void *memory, const void *values, uint8_t dtype, int64_t stride, int64_t n) {
    static row_t *const stores[] = {store_bool, store_u8,  store_i8,   store_i16, store_i32,
                                    store_i64,  store_f16, store_bf16, store_f32, store_f64};
    stores[dtype](memory, values, stride, n);
}

/* --- values to values ------------------------------------------------------------------------- */

#define IN_PLACE(NAME, CLASS, EXPRESSION)                  \
    static void NAME(void *values, int64_t n) {            \
        CLASS *v = values;                                 \
        ACAL_ELEMENTWISE                                   \
        for (int64_t i = 0; i < n; i++) v[i] = EXPRESSION; \
    }

IN_PLACE(round_bool, int64_t, v[i] != 0)
IN_PLACE(round_u8, int64_t, (uint8_t)v[i])
IN_PLACE(round_i8, int64_t, (int8_t)v[i])
IN_PLACE(round_i16, int64_t, (int16_t)v[i])
IN_PLACE(round_i32, int64_t, (int32_t)v[i])
IN_PLACE(round_f16, float, acal_f32_of_f16(acal_f16_of_f32(v[i])))
IN_PLACE(round_bf16, float, acal_f32_of_bf16(acal_bf16_of_f32(v[i])))

acal_round_t *acal_rounding(uint8_t dtype) {
    static acal_round_t *const roundings[] = {round_bool, round_u8,  round_i8,   round_i16, round_i32,
                                              0,          round_f16, round_bf16, 0,         0};
    return roundings[dtype];
}

void acal_round_row(void *values, uint8_t dtype, int64_t n) {
    acal_round_t *rounding = acal_rounding(dtype);
    if (rounding) rounding(values, n);
}

#define CONVERT(NAME, TO, FROM, EXPRESSION)                     \
    static void NAME(void *to_, const void *from_, int64_t n) { \
        TO *to = to_;                                           \
        const FROM *from = from_;                               \
        ACAL_ELEMENTWISE                                        \
        for (int64_t i = 0; i < n; i++) to[i] = EXPRESSION;     \
    }

CONVERT(f32_to_f32, float, float, from[i])
CONVERT(f64_to_f32, float, double, (float)from[i])
CONVERT(i64_to_f32, float, int64_t, (float)from[i])
CONVERT(f32_to_f64, double, float, (double)from[i])
CONVERT(f64_to_f64, double, double, from[i])
CONVERT(i64_to_f64, double, int64_t, (double)from[i])
CONVERT(f32_to_i64, int64_t, float, acal_i64_of_f64((double)from[i]))
CONVERT(f64_to_i64, int64_t, double, acal_i64_of_f64(from[i]))
CONVERT(i64_to_i64, int64_t, int64_t, from[i])
CONVERT(f32_to_i32, int64_t, float, acal_i32_of_f64((double)from[i]))
CONVERT(f64_to_i32, int64_t, double, acal_i32_of_f64(from[i]))
CONVERT(f32_to_bool, int64_t, float, from[i] != 0.0f)
CONVERT(f64_to_bool, int64_t, double, from[i] != 0.0)

acal_convert_t *acal_conversion(uint8_t to, uint8_t from) {
    static acal_convert_t *const by_class[ACAL_CLASSES][ACAL_CLASSES] = {
        [ACAL_CLASS_F32] = {f32_to_f32, f64_to_f32, i64_to_f32},
        [ACAL_CLASS_F64] = {f32_to_f64, f64_to_f64, i64_to_f64},
        [ACAL_CLASS_I64] = {f32_to_i32, f64_to_i32, i64_to_i64},
    };
    int wide = from == ACAL_DTYPE_F64;
    if (acal_is_float(from) && to == ACAL_DTYPE_BOOL) return wide ? f64_to_bool : f32_to_bool;
    /* PyTorch on x86 goes through 32 bits to the narrower signed types and through 64 to the unsigned one */
    int through_64 = to == ACAL_DTYPE_I64 || to == ACAL_DTYPE_U8;
    if (acal_is_float(from) && through_64) return wide ? f64_to_i64 : f32_to_i64;
    return by_class[acal_class(to)][acal_class(from)];
}

/* --- activations ------------------------------------------------------------------------------ */

IN_PLACE(relu_f32, float, acal_relu_f32(v[i]))
IN_PLACE(relu_f64, double, acal_relu_f64(v[i]))
IN_PLACE(relu_i64, int64_t, acal_max_i64(v[i], 0))
IN_PLACE(gelu_f32, float, acal_gelu_inline(v[i]))
IN_PLACE(gelu_tanh_f32, float, acal_gelu_tanh_inline(v[i]))
IN_PLACE(sigmoid_f32, float, acal_sigmoid_inline(v[i]))
IN_PLACE(tanh_f32, float, acal_tanh_inline(v[i]))

uint32_t acal_activation(uint32_t activation, acal_class_t type, acal_activate_t **function) {
    static acal_activate_t *const functions[][ACAL_CLASSES] = {
        [ACAL_ACTIVATION_RELU] = {relu_f32, relu_f64, relu_i64},
        [ACAL_ACTIVATION_GELU] = {gelu_f32},
        [ACAL_ACTIVATION_GELU_TANH] = {gelu_tanh_f32},
        [ACAL_ACTIVATION_SIGMOID] = {sigmoid_f32},
        [ACAL_ACTIVATION_TANH] = {tanh_f32},
    };
    *function = 0;
    if (activation == ACAL_ACTIVATION_NONE) return ACAL_STATUS_OK;
    if (activation >= sizeof functions / sizeof functions[0] || !functions[activation][type])
        return ACAL_STATUS_UNSUPPORTED;
    *function = functions[activation][type];
    return ACAL_STATUS_OK;
}
