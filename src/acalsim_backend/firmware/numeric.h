/*
 * Scalars: bit casts, selects, NaN-propagating extremes and conversions between element types.
 *
 * Kernels must retire the same instructions whatever the float values are. RV64GC has no conditional move, and
 * compilers turn both `?:` and recognisable mask arithmetic into branches there. acal_mask32/64 hide the mask from the
 * optimiser on RISC-V; on the host the plain conditional expression vectorises better.
 */
#ifndef ACAL_NUMERIC_H
#define ACAL_NUMERIC_H

#include <stdint.h>

#if defined(__riscv)
#define ACAL_OPAQUE(x) __asm__("" : "+r"(x))
#else
#define ACAL_OPAQUE(x) ((void)0)
#endif

/* Marks a loop whose iterations are independent even where output and input are the same memory. */
#if defined(__clang__) && defined(__riscv)
#define ACAL_ELEMENTWISE _Pragma("clang loop unroll_count(4)")
#elif defined(__riscv)
#define ACAL_ELEMENTWISE _Pragma("GCC unroll 4")
#elif defined(__clang__)
#define ACAL_ELEMENTWISE _Pragma("clang loop vectorize(assume_safety)")
#else
#define ACAL_ELEMENTWISE _Pragma("GCC ivdep")
#endif

#if defined(__clang__)
#define ACAL_UNROLL_2 _Pragma("clang loop unroll_count(2)")
#define ACAL_UNROLL_4 _Pragma("clang loop unroll_count(4)")
#define ACAL_UNROLL_8 _Pragma("clang loop unroll_count(8)")
#else
#define ACAL_UNROLL_2 _Pragma("GCC unroll 2")
#define ACAL_UNROLL_4 _Pragma("GCC unroll 4")
#define ACAL_UNROLL_8 _Pragma("GCC unroll 8")
#endif

static inline uint32_t acal_bits_of_f32(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float acal_f32_of_bits(uint32_t bits) {
    float x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint64_t acal_bits_of_f64(double x) {
    uint64_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline double acal_f64_of_bits(uint64_t bits) {
    double x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}

/* All ones where the condition (0 or 1) holds, else 0. */
static inline uint32_t acal_mask32(int condition) {
    uint32_t mask = -(uint32_t)condition;
    ACAL_OPAQUE(mask);
    return mask;
}

static inline uint64_t acal_mask64(int condition) {
    uint64_t mask = -(uint64_t)condition;
    ACAL_OPAQUE(mask);
    return mask;
}

static inline uint32_t acal_select_u32(int condition, uint32_t yes, uint32_t no) {
#if defined(__riscv)
    return no ^ ((yes ^ no) & acal_mask32(condition));
#else
    return condition ? yes : no;
#endif
}

static inline int64_t acal_select_i64(int condition, int64_t yes, int64_t no) {
#if defined(__riscv)
    return no ^ ((yes ^ no) & (int64_t)acal_mask64(condition));
#else
    return condition ? yes : no;
#endif
}

static inline float acal_select_f32(int condition, float yes, float no) {
#if defined(__riscv)
    return acal_f32_of_bits(acal_select_u32(condition, acal_bits_of_f32(yes), acal_bits_of_f32(no)));
#else
    return condition ? yes : no;
#endif
}

static inline double acal_select_f64(int condition, double yes, double no) {
#if defined(__riscv)
    return acal_f64_of_bits(
        (uint64_t)acal_select_i64(condition, (int64_t)acal_bits_of_f64(yes), (int64_t)acal_bits_of_f64(no)));
#else
    return condition ? yes : no;
#endif
}

static inline float acal_nan_unless_f32(int ordered, float x) {
#if defined(__riscv)
    return acal_f32_of_bits(acal_bits_of_f32(x) | (acal_mask32(!ordered) & 0x7fc00000u));
#else
    return ordered ? x : __builtin_nanf("");
#endif
}

/*
 * Extremes that propagate NaN and give b where a and b are equal, as PyTorch's vector loops do (which matters for zeros
 * of both signs).
 */
static inline float acal_max_f32(float a, float b) { return acal_select_f32((a > b) | (a != a), a, b); }

static inline float acal_min_f32(float a, float b) { return acal_select_f32((a < b) | (a != a), a, b); }

static inline double acal_max_f64(double a, double b) { return acal_select_f64((a > b) | (a != a), a, b); }

static inline double acal_min_f64(double a, double b) { return acal_select_f64((a < b) | (a != a), a, b); }

/* Bounds x; NaN becomes one of the bounds. The instructions are written out because gcc calls a C library otherwise. */
#if defined(__riscv)
static inline double acal_clamp_f64(double x, double low, double high) {
    __asm__("fmax.d %0, %0, %1\n\tfmin.d %0, %0, %2" : "+f"(x) : "f"(low), "f"(high));
    return x;
}
#else
static inline double acal_clamp_f64(double x, double low, double high) {
    x = x > low ? x : low;
    return x < high ? x : high;
}
#endif

static inline int64_t acal_max_i64(int64_t a, int64_t b) { return acal_select_i64(a > b, a, b); }

static inline int64_t acal_min_i64(int64_t a, int64_t b) { return acal_select_i64(a < b, a, b); }

/* x where it is not negative, else 0; NaN stays. */
static inline float acal_relu_f32(float x) { return acal_f32_of_bits(acal_bits_of_f32(x) & ~acal_mask32(x < 0.0f)); }

static inline double acal_relu_f64(double x) { return acal_f64_of_bits(acal_bits_of_f64(x) & ~acal_mask64(x < 0.0)); }

static inline float acal_abs_f32(float x) { return __builtin_fabsf(x); }

static inline double acal_abs_f64(double x) { return __builtin_fabs(x); }

/* Rounding to integers goes through i64; magnitudes from 2^52 up are integers already. */
static inline double acal_floor_f64(double x) {
    double truncated = (double)(int64_t)acal_clamp_f64(x, -0x1p53, 0x1p53);
    int64_t above = truncated > x;
    ACAL_OPAQUE(above);
    double floor = __builtin_copysign(truncated - (double)above, x);
    return acal_select_f64(__builtin_fabs(x) < 0x1p52, floor, x);
}

static inline double acal_ceil_f64(double x) { return -acal_floor_f64(-x); }

static inline float acal_floor_f32(float x) { return (float)acal_floor_f64((double)x); }

static inline float acal_ceil_f32(float x) { return (float)acal_ceil_f64((double)x); }

static inline double acal_trunc_f64(double x) {
    double truncated = __builtin_copysign((double)(int64_t)acal_clamp_f64(x, -0x1p53, 0x1p53), x);
    return acal_select_f64(__builtin_fabs(x) < 0x1p52, truncated, x);
}

/* To the nearest integer, of two equally near to the even one: 2^52 has no room for a fraction. */
static inline double acal_round_f64(double x) {
    double size = __builtin_fabs(x);
    return acal_select_f64(size < 0x1p52, __builtin_copysign((size + 0x1p52) - 0x1p52, x), x);
}

static inline float acal_trunc_f32(float x) { return (float)acal_trunc_f64((double)x); }

static inline float acal_round_f32(float x) { return (float)acal_round_f64((double)x); }

/* --- f16 and bf16: round to nearest even, NaN stays NaN, subnormals kept ---------------------- */

static inline float acal_f32_of_bf16(uint16_t x) { return acal_f32_of_bits((uint32_t)x << 16); }

static inline uint16_t acal_bf16_of_f32(float x) {
    uint32_t bits = acal_bits_of_f32(x);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    uint32_t quiet = (bits >> 16) | 0x40u;
    return (uint16_t)acal_select_u32((bits & 0x7fffffffu) > 0x7f800000u, quiet, rounded);
}

static inline float acal_f32_of_f16(uint16_t x) {
    uint32_t sign = (uint32_t)(x & 0x8000u) << 16;
    uint32_t magnitude = (uint32_t)(x & 0x7fffu) << 13;
    uint32_t rebias = 112u << 23;
    uint32_t normal = magnitude + rebias;
    /* A subnormal f16 is its mantissa over 2^24: give it the exponent of 2^-14 and take 2^-14 away. */
    float subnormal = acal_f32_of_bits(magnitude + (113u << 23)) - 0x1p-14f;
    uint32_t bits = acal_select_u32(magnitude >= (31u << 23), normal + rebias, normal);
    bits = acal_select_u32(magnitude < (1u << 23), acal_bits_of_f32(subnormal), bits);
    return acal_f32_of_bits(bits | sign);
}

static inline uint16_t acal_f16_of_f32(float x) {
    uint32_t bits = acal_bits_of_f32(x);
    uint32_t sign = (bits >> 16) & 0x8000u;
    uint32_t magnitude = bits & 0x7fffffffu;
    uint32_t normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    /* Below 2^-14 the ulp of f16 is 2^-24, which is the ulp of an f32 near 0.5: the addition rounds. */
    uint32_t subnormal = acal_bits_of_f32(acal_f32_of_bits(magnitude) + 0.5f) - acal_bits_of_f32(0.5f);
    uint32_t nan = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
    uint32_t half = acal_select_u32(magnitude < (113u << 23), subnormal, normal);
    half = acal_select_u32(magnitude >= (143u << 23), 0x7c00u, half);
    half = acal_select_u32(magnitude > (255u << 23), nan, half);
    return (uint16_t)(half | sign);
}

/* --- float to integer, truncating; what does not fit gives the most negative value, as x86 and PyTorch on it  */

static inline int64_t acal_i64_of_f64(double x) {
    int fits = (x >= -0x1p63) & (x < 0x1p63);
    return acal_select_i64(fits, (int64_t)acal_select_f64(fits, x, 0.0), INT64_MIN);
}

static inline int64_t acal_i32_of_f64(double x) {
    int fits = (x > -0x1p31 - 1.0) & (x < 0x1p31);
    return acal_select_i64(fits, (int64_t)acal_select_f64(fits, x, 0.0), INT32_MIN);
}

#endif
