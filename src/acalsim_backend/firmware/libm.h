/*
 * Elementary functions of f32, computed in double so that the result is within 1 ULP (tests/firmware measures it).
 *
 * No branch depends on the argument: special cases are selects, arguments are clamped to where the result has
 * saturated, and sine and cosine reduce every argument the same way. The cores are inline so that loops over them
 * vectorise on the host. Coefficients are minimax (Remez) polynomials; each states its error.
 */
#ifndef ACAL_LIBM_H
#define ACAL_LIBM_H

#include "numeric.h"

/* exp(x) = scale + scale * expm1 with scale = 2^k; keeping the two apart lets tanh and erf avoid cancellation. */
typedef struct {
    double scale, expm1;
} acal_exp_parts_t;

/* |x| <= 700, not NaN. Relative error of expm1 is 2^-37. */
static inline acal_exp_parts_t acal_exp_parts(double x) {
    const double round = 0x1.8p52; /* adding it rounds to an integer, which then stands in the low mantissa bits */
    double shifted = x * 0x1.71547652b82fep+0 + round;
    double k = shifted - round;
    double r = (x - k * 0x1.62e42fefa3800p-1) - k * 0x1.ef35793c76730p-45;
    double q = 0x1.a174e03b954dbp-16;
    q = q * r + 0x1.a16f3843348b0p-13;
    q = q * r + 0x1.6c16397db598ap-10;
    q = q * r + 0x1.1110b25f1a081p-7;
    q = q * r + 0x1.5555557c69fe9p-5;
    q = q * r + 0x1.5555557311edap-3;
    q = q * r + 0x1.fffffffff4d94p-2;
    acal_exp_parts_t parts;
    parts.scale = acal_f64_of_bits((acal_bits_of_f64(shifted) + 1023u) << 52);
    parts.expm1 = r + r * r * q;
    return parts;
}

static inline double acal_exp_core(double x) {
    acal_exp_parts_t parts = acal_exp_parts(x);
    return parts.scale + parts.scale * parts.expm1;
}

static inline double acal_expm1_core(double x) {
    acal_exp_parts_t parts = acal_exp_parts(x);
    return parts.scale * parts.expm1 + (parts.scale - 1.0);
}

/* Natural logarithm of a positive finite normal double; relative error 2^-44, also near 1. */
static inline double acal_log_core(double x) {
    /* x = 2^k * m with m in [sqrt(1/2), sqrt(2)) */
    uint64_t bits = acal_bits_of_f64(x) - 0x3fe6a09e667f3bcdu;
    double k = (double)((int64_t)bits >> 52);
    double m = acal_f64_of_bits((bits & 0xfffffffffffffu) + 0x3fe6a09e667f3bcdu);
    double s = (m - 1.0) / (m + 1.0), z = s * s;
    double q = 0x1.9123ebdd47c40p-3;
    q = q * z + 0x1.c62a27cfa5a09p-3;
    q = q * z + 0x1.24941485b43d4p-2;
    q = q * z + 0x1.999996a3ad8a0p-2;
    q = q * z + 0x1.5555555620189p-1;
    return k * 0x1.62e42fefa39efp-1 + (2.0 * s + s * z * q);
}

/*
 * x Q(x) for 0 <= x, with a smooth Q so that erfc(x) = exp(-x Q(x)); relative error 2^-37. From x = 4 on, where erf(x)
 * rounds to 1 in f32, Q stays what it is: erf goes on to exactly 1, which GELU needs.
 */
static inline double acal_erf_exponent(double size) {
    double a = acal_clamp_f64(size, 0.0, 4.0);
    double q = -0x1.1bd0b87097332p-27;
    q = q * a + 0x1.8550ad3575823p-23;
    q = q * a + -0x1.dbe99b2a65705p-20;
    q = q * a + 0x1.516fe1e002047p-17;
    q = q * a + -0x1.2653ab9dbde69p-15;
    q = q * a + 0x1.11170969f4a3bp-14;
    q = q * a + 0x1.f2b19cf16c2e8p-16;
    q = q * a + -0x1.37dd33455c13cp-11;
    q = q * a + 0x1.bd65365828d11p-10;
    q = q * a + -0x1.b8c63019d3bbap-13;
    q = q * a + -0x1.3965b96b5a631p-6;
    q = q * a + 0x1.a4f4ddb630aadp-4;
    q = q * a + 0x1.45f306e261a2cp-1;
    q = q * a + 0x1.20dd7504255adp+0;
    return size * q;
}

static inline double acal_erf_core(double x) {
    double size = acal_clamp_f64(__builtin_fabs(x), 0.0, 30.0);
    return __builtin_copysign(-acal_expm1_core(-acal_erf_exponent(size)), x);
}

static inline double acal_tanh_core(double x) {
    double e = acal_expm1_core(-2.0 * acal_clamp_f64(__builtin_fabs(x), 0.0, 20.0));
    return __builtin_copysign(-e / (2.0 + e), x);
}

static inline float acal_exp_inline(float x) {
    return acal_nan_unless_f32(x == x, (float)acal_exp_core(acal_clamp_f64((double)x, -110.0, 110.0)));
}

static inline float acal_tanh_inline(float x) { return acal_nan_unless_f32(x == x, (float)acal_tanh_core((double)x)); }

static inline float acal_erf_inline(float x) { return acal_nan_unless_f32(x == x, (float)acal_erf_core((double)x)); }

static inline float acal_sigmoid_inline(float x) {
    double e = acal_exp_core(-acal_clamp_f64((double)x, -110.0, 110.0));
    return acal_nan_unless_f32(x == x, (float)(1.0 / (1.0 + e)));
}

/* x * Phi(x); -inf gives NaN as in PyTorch. */
static inline float acal_gelu_inline(float x) {
    double wide = (double)x;
    double y = 0.5 * wide * (1.0 + acal_erf_core(wide * 0x1.6a09e667f3bcdp-1));
    return acal_nan_unless_f32(x == x, (float)y);
}

/* The tanh approximation: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). */
static inline float acal_gelu_tanh_inline(float x) {
    double wide = (double)x;
    double y = 0.5 * wide * (1.0 + acal_tanh_core(0x1.9884533d43651p-1 * (wide + 0.044715 * wide * wide * wide)));
    return acal_nan_unless_f32(x == x, (float)y);
}

/*
 * Division with a remainder. Floating point is exact, as in C; the quotient rounded down and the remainder that has the
 * sign of b are PyTorch's. Integers divided by 0 give anything but a trap.
 */
float acal_fmod_f32(float a, float b);
double acal_fmod_f64(double a, double b);
int64_t acal_fmod_i64(int64_t a, int64_t b);
float acal_remainder_f32(float a, float b);
double acal_remainder_f64(double a, double b);
int64_t acal_remainder_i64(int64_t a, int64_t b);
float acal_floor_divide_f32(float a, float b);
double acal_floor_divide_f64(double a, double b);
int64_t acal_floor_divide_i64(int64_t a, int64_t b);
int64_t acal_trunc_divide_i64(int64_t a, int64_t b);

/* The neighbour of a in the direction of b. */
float acal_nextafter_f32(float a, float b);
double acal_nextafter_f64(double a, double b);

float acal_expf(float x);
float acal_logf(float x);
float acal_tanhf(float x);
float acal_erff(float x);
float acal_sinf(float x);
float acal_cosf(float x);
float acal_powf(float x, float y);
float acal_exp2f(float x);
float acal_expm1f(float x);
float acal_log2f(float x);
float acal_log10f(float x);
float acal_log1pf(float x);
float acal_tanf(float x);
float acal_asinf(float x);
float acal_acosf(float x);
float acal_atanf(float x);
float acal_sinhf(float x);
float acal_coshf(float x);
float acal_asinhf(float x);
float acal_acoshf(float x);
float acal_atanhf(float x);
float acal_erfcf(float x);
float acal_erfcxf(float x);
float acal_erfinvf(float x);
float acal_lgammaf(float x);
float acal_digammaf(float x);
float acal_i0f(float x);
float acal_i0ef(float x);
float acal_i1f(float x);
float acal_i1ef(float x);
float acal_atan2f(float y, float x);
float acal_hypotf(float x, float y);
float acal_sqrtf(float x);
float acal_rsqrtf(float x);
float acal_sigmoidf(float x);
float acal_geluf(float x);
float acal_gelu_tanhf(float x);

#endif
