/* The elementary functions that are called rather than inlined, and entry points for tests. See libm.h. */
#include "libm.h"

float acal_expf(float x) { return acal_exp_inline(x); }

float acal_tanhf(float x) { return acal_tanh_inline(x); }

float acal_erff(float x) { return acal_erf_inline(x); }

float acal_sigmoidf(float x) { return acal_sigmoid_inline(x); }

float acal_geluf(float x) { return acal_gelu_inline(x); }

float acal_gelu_tanhf(float x) { return acal_gelu_tanh_inline(x); }

float acal_sqrtf(float x) { return __builtin_sqrtf(x); }

float acal_rsqrtf(float x) { return (float)(1.0 / __builtin_sqrt((double)x)); }

float acal_logf(float x) {
    double y = acal_log_core(acal_clamp_f64((double)x, 0x1p-149, 0x1p128));
    y = acal_select_f64(x == 0.0f, -__builtin_inf(), y);
    y = acal_select_f64(x == __builtin_inff(), __builtin_inf(), y);
    return acal_nan_unless_f32(x >= 0.0f, (float)y);
}

/* 2/pi as a binary fraction, behind 64 zero bits for arguments below 1. 256 bits reach the largest f32. */
static const uint64_t two_over_pi[] = {
    0, 0xa2f9836e4e441529u, 0xfc2757d1f534ddc0u, 0xdb6295993c439041u, 0xfe5163abdebbc561u,
};

typedef struct {
    double r;          /* argument less the nearest multiple of pi/2, in [-pi/4, pi/4] */
    uint32_t quadrant; /* that multiple modulo 4 */
} acal_reduced_t;

/*
 * Payne-Hanek: x = m * 2^e with a 24-bit m. Bits of 2/pi whose product with x is a multiple of 4 do not matter, so 128
 * bits from there on give x * 2/pi modulo 4 with 62 bits after the binary point. The f32 nearest to a multiple of pi/2
 * is still 2^-30 away, which leaves 30 good bits. Arguments below 1/2 need no reduction.
 */
static acal_reduced_t reduce(float x) {
    uint32_t bits = acal_bits_of_f32(x) & 0x7fffffffu;
    int32_t exponent = (int32_t)(bits >> 23) - 150;
    exponent = (int32_t)acal_min_i64(acal_max_i64(exponent, -24), 104);
    uint64_t mantissa = (bits & 0x7fffffu) | 0x800000u;
    uint32_t first = (uint32_t)(62 + exponent); /* index of the bit with weight 2^(1 - exponent) */
    const uint64_t *word = &two_over_pi[first >> 6];
    uint32_t shift = first & 63u;
    uint64_t high = (word[0] << shift) | (word[1] >> 1 >> (63u - shift));
    uint64_t low = (word[1] << shift) | (word[2] >> 1 >> (63u - shift));
    uint64_t turns = mantissa * high + ((mantissa * (low >> 32)) >> 32); /* quarter turns, 2.62 fixed point */
    uint64_t nearest = (turns + ((uint64_t)1 << 61)) >> 62;
    double r = (double)(int64_t)(turns - (nearest << 62)) * 0x1.921fb54442d18p-62;
    acal_reduced_t reduced;
    int small = bits < 0x3f000000u;
    reduced.quadrant = (uint32_t)nearest & 3u & ~acal_mask32(small);
    reduced.r = acal_select_f64(small, (double)acal_f32_of_bits(bits), r);
    return reduced;
}

static double sine(acal_reduced_t reduced, uint32_t quadrant) {
    double r = reduced.r, z = r * r;
    double s = 0x1.6cd85aa534e66p-19;
    s = s * z + -0x1.a00f9dd0b859dp-13;
    s = s * z + 0x1.11110896bfcccp-7;
    s = s * z + -0x1.5555554cbb2a1p-3;
    s = r + r * z * s;
    double c = -0x1.242b2e3b13004p-22;
    c = c * z + 0x1.a0112228cd459p-16;
    c = c * z + -0x1.6c16b89c8bf7cp-10;
    c = c * z + 0x1.5555554f52be0p-5;
    c = 1.0 - 0.5 * z + z * z * c;
    double y = acal_select_f64((int)(quadrant & 1u), c, s);
    return acal_f64_of_bits(acal_bits_of_f64(y) ^ ((uint64_t)(quadrant & 2u) << 62));
}

float acal_sinf(float x) {
    acal_reduced_t reduced = reduce(x);
    double y = sine(reduced, reduced.quadrant);
    y = acal_f64_of_bits(acal_bits_of_f64(y) ^ ((uint64_t)(acal_bits_of_f32(x) >> 31) << 63));
    return acal_nan_unless_f32(__builtin_fabsf(x) < __builtin_inff(), (float)y);
}

float acal_cosf(float x) {
    acal_reduced_t reduced = reduce(x);
    return acal_nan_unless_f32(__builtin_fabsf(x) < __builtin_inff(), (float)sine(reduced, reduced.quadrant + 1u));
}

/* Special cases as in C and IEEE 754: pow(x, 0) and pow(1, y) are 1 even for NaN. */
float acal_powf(float x, float y) {
    const double inf = __builtin_inf();
    double a = __builtin_fabs((double)x), b = (double)y;
    double b_abs = __builtin_fabs(b);
    /* From 2^24 on every f32 is an even integer. */
    int64_t whole = (int64_t)acal_clamp_f64(b, -0x1p24, 0x1p24);
    int integer = ((double)whole == b) | ((b_abs >= 0x1p24) & (b_abs < inf));
    int odd = ((double)whole == b) & (int)(whole & 1);

    double log_a = acal_log_core(acal_clamp_f64(a, 0x1p-149, 0x1p128));
    double magnitude = acal_exp_core(acal_clamp_f64(b * log_a, -110.0, 110.0));
    /* 0 and inf to a positive or negative power; every other base to an infinite one */
    magnitude = acal_select_f64(a == 0.0, acal_select_f64(b > 0.0, 0.0, inf), magnitude);
    magnitude = acal_select_f64(a == inf, acal_select_f64(b > 0.0, inf, 0.0), magnitude);
    double negative = acal_select_f64((x < 0.0f) & odd, -magnitude, magnitude);
    double signed_zero = acal_select_f64((a == 0.0) & odd, __builtin_copysign(magnitude, (double)x), negative);

    int defined = (x == x) & (y == y) & ((x >= 0.0f) | integer | (a == inf) | (b_abs == inf));
    float result = acal_nan_unless_f32(defined, (float)signed_zero);
    int one = (y == 0.0f) | (x == 1.0f) | ((x == -1.0f) & (b_abs == inf));
    return acal_select_f32(one, 1.0f, result);
}

/* --- exponentials and logarithms -------------------------------------------------------------- */

/* Where x is NaN, so is the result; else y, rounded. */
static float unless_nan(float x, double y) { return acal_nan_unless_f32(x == x, (float)y); }

/* y with the sign of x, so that the result of an odd function at -0 is -0. */
static double signed_as(double y, float x) { return __builtin_copysign(y, (double)x); }

/* The value at x of a polynomial with n coefficients, that of the highest power first. */
static double polynomial(const double *coefficients, int n, double x) {
    double y = coefficients[0];
    for (int i = 1; i < n; i++) y = y * x + coefficients[i];
    return y;
}

#define POLYNOMIAL(COEFFICIENTS, X) polynomial(COEFFICIENTS, (int)(sizeof(COEFFICIENTS) / sizeof(COEFFICIENTS)[0]), X)

static const double pi = 0x1.921fb54442d18p+1, ln2 = 0x1.62e42fefa39efp-1;

/* log(1 + x) for 0 <= x <= 1e80 or -1 < x < 0; what 1 + x lacks of x is put back. */
static double log1p_core(double x) {
    double u = 1.0 + x;
    return acal_log_core(u) + (x - (u - 1.0)) / u;
}

float acal_exp2f(float x) { return unless_nan(x, acal_exp_core(acal_clamp_f64((double)x, -160.0, 160.0) * ln2)); }

float acal_expm1f(float x) {
    return unless_nan(x, signed_as(acal_expm1_core(acal_clamp_f64((double)x, -110.0, 110.0)), x));
}

/* log(x) * scale, with log's special cases. */
static float scaled_log(float x, double scale) {
    double y = acal_log_core(acal_clamp_f64((double)x, 0x1p-149, 0x1p128)) * scale;
    y = acal_select_f64(x == 0.0f, -__builtin_inf(), y);
    y = acal_select_f64(x == __builtin_inff(), __builtin_inf(), y);
    return acal_nan_unless_f32(x >= 0.0f, (float)y);
}

float acal_log2f(float x) { return scaled_log(x, 0x1.71547652b82fep+0); }

float acal_log10f(float x) { return scaled_log(x, 0x1.bcb7b1526e50ep-2); }

float acal_log1pf(float x) {
    double y = signed_as(log1p_core(acal_clamp_f64((double)x, -0x1.fffffffffffffp-1, 0x1p128)), x);
    y = acal_select_f64(x == -1.0f, -__builtin_inf(), y);
    y = acal_select_f64(x == __builtin_inff(), __builtin_inf(), y);
    return acal_nan_unless_f32(x >= -1.0f, (float)y);
}

/* --- trigonometric and hyperbolic functions and their inverses -------------------------------- */

float acal_tanf(float x) {
    acal_reduced_t reduced = reduce(x);
    double y = sine(reduced, reduced.quadrant) / sine(reduced, reduced.quadrant + 1u);
    y = acal_f64_of_bits(acal_bits_of_f64(y) ^ ((uint64_t)(acal_bits_of_f32(x) >> 31) << 63));
    return acal_nan_unless_f32(__builtin_fabsf(x) < __builtin_inff(), (float)y);
}

/* atan(t) / t in t^2 for |t| <= tan(pi/8): 2^-49. */
static const double atan_coefficients[] = {
    -0x1.9ec902f46e221p-6, 0x1.9ba0e636ba92ep-5,  -0x1.0a7c2d0b92b5ep-4, 0x1.3a4ed9d1662d7p-4,  -0x1.744ea12fe95dbp-4,
    0x1.c71bcaa82de12p-4,  -0x1.249246f68f241p-3, 0x1.999999922cffap-3,  -0x1.5555555550697p-2, 0x1.ffffffffffff7p-1,
};

/* For 0 <= a <= inf: that of t = a, (a - 1) / (a + 1) or -1 / a, which are an angle of 0, pi/4 or pi/2 away. */
static double atan_core(double a) {
    int middle = a > 0x1.a827999fcef32p-2, high = a > 0x1.3504f333f9de6p+1;
    double t = acal_select_f64(middle, (a - 1.0) / (a + 1.0), a);
    t = acal_select_f64(high, -1.0 / a, t);
    double angle = acal_select_f64(high, pi / 2, acal_select_f64(middle, pi / 4, 0.0));
    return angle + t * POLYNOMIAL(atan_coefficients, t * t);
}

float acal_atanf(float x) { return unless_nan(x, signed_as(atan_core(__builtin_fabs((double)x)), x)); }

float acal_asinf(float x) {
    double a = __builtin_fabs((double)x);
    double y = atan_core(a / __builtin_sqrt((1.0 - a) * (1.0 + a)));
    return acal_nan_unless_f32(a <= 1.0, (float)signed_as(y, x));
}

float acal_acosf(float x) {
    double wide = (double)x;
    double y = 2.0 * atan_core(__builtin_sqrt((1.0 - wide) / (1.0 + wide)));
    return acal_nan_unless_f32(__builtin_fabs(wide) <= 1.0, (float)y);
}

/* The angle of (x, y). Signs of zeros count, and infinite coordinates are equally large. */
float acal_atan2f(float y, float x) {
    double up = __builtin_fabs((double)y), across = __builtin_fabs((double)x), inf = __builtin_inf();
    double ratio = acal_select_f64((up == inf) & (across == inf), 1.0, up / across);
    double angle = atan_core(acal_select_f64(up == 0.0, 0.0, ratio));
    angle = acal_select_f64((int)(acal_bits_of_f32(x) >> 31), pi - angle, angle);
    return acal_nan_unless_f32((x == x) & (y == y), (float)signed_as(angle, y));
}

float acal_sinhf(float x) {
    double e = acal_expm1_core(acal_clamp_f64(__builtin_fabs((double)x), 0.0, 110.0));
    return unless_nan(x, signed_as(0.5 * (e + e / (e + 1.0)), x));
}

float acal_coshf(float x) {
    double e = acal_exp_core(acal_clamp_f64(__builtin_fabs((double)x), 0.0, 110.0));
    return unless_nan(x, 0.5 * (e + 1.0 / e));
}

float acal_asinhf(float x) {
    double a = acal_clamp_f64(__builtin_fabs((double)x), 0.0, 0x1p128);
    double y = log1p_core(a + a * a / (1.0 + __builtin_sqrt(a * a + 1.0)));
    y = acal_select_f64(__builtin_fabsf(x) == __builtin_inff(), __builtin_inf(), y);
    return unless_nan(x, signed_as(y, x));
}

float acal_acoshf(float x) {
    double t = acal_clamp_f64((double)x, 1.0, 0x1p128) - 1.0;
    double y = log1p_core(t + __builtin_sqrt(t * (t + 2.0)));
    y = acal_select_f64(x == __builtin_inff(), __builtin_inf(), y);
    return acal_nan_unless_f32(x >= 1.0f, (float)y);
}

float acal_atanhf(float x) {
    double a = acal_clamp_f64(__builtin_fabs((double)x), 0.0, 1.0 - 0x1p-53);
    double y = 0.5 * log1p_core(2.0 * a / (1.0 - a));
    y = acal_select_f64(__builtin_fabsf(x) == 1.0f, __builtin_inf(), y);
    return acal_nan_unless_f32(__builtin_fabsf(x) <= 1.0f, (float)signed_as(y, x));
}

/* Infinite beside an infinite argument, even where the other is NaN. */
float acal_hypotf(float x, float y) {
    double a = (double)x, b = (double)y;
    int infinite = (__builtin_fabsf(x) == __builtin_inff()) | (__builtin_fabsf(y) == __builtin_inff());
    return acal_select_f32(infinite, __builtin_inff(), (float)__builtin_sqrt(a * a + b * b));
}

/* --- the error function's relatives ----------------------------------------------------------- */

/* (1 + 2 a) exp(a^2) erfc(a) in (a - 4) / (a + 4) for 0 <= a: 2^-41. */
static const double erfcx_coefficients[] = {
    0x1.de0ea2e068e5fp-27,  -0x1.e530056d97c23p-22, 0x1.ac6c7a8511bd5p-22, 0x1.52dd82f17d32ap-18,
    -0x1.7c1dd026718acp-17, -0x1.8df4b5b859a82p-16, 0x1.3c03bd1dd23adp-13, -0x1.a2c3e8e3d9102p-13,
    -0x1.8d4df8c612359p-11, 0x1.49c931d2a66a4p-8,   -0x1.0962326f128f8p-6, 0x1.3079d9f695d6cp-5,
    -0x1.0fb06e2e47cb3p-4,  0x1.7fee018b2598cp-4,   -0x1.9ddb23c134d4fp-4, 0x1.16ecefbdb9ffap-4,
    0x1.f7f5df66a182dp-7,   -0x1.1df1ad152404bp-3,  0x1.3ba5916e9fd7fp+0,
};

/* exp(a^2) erfc(a) for 0 <= a < inf */
static double erfcx_core(double a) { return POLYNOMIAL(erfcx_coefficients, (a - 4.0) / (a + 4.0)) / (1.0 + 2.0 * a); }

/* For 0 <= a. */
static double erfc_core(double a) {
    double bounded = acal_clamp_f64(a, 0.0, 12.0);
    return acal_exp_core(-bounded * bounded) * erfcx_core(bounded);
}

float acal_erfcf(float x) {
    double y = erfc_core(__builtin_fabs((double)x));
    return unless_nan(x, acal_select_f64(x < 0.0f, 2.0 - y, y));
}

/* exp(x^2) erfc(x), which is 2 exp(x^2) - exp(x^2) erfc(-x). */
float acal_erfcxf(float x) {
    double a = acal_clamp_f64(__builtin_fabs((double)x), 0.0, 0x1p160), y = erfcx_core(a);
    y = acal_select_f64(x < 0.0f, 2.0 * acal_exp_core(acal_clamp_f64(a * a, 0.0, 110.0)) - y, y);
    return unless_nan(x, y);
}

/* M. Giles, "Approximating the erfinv function" (single precision), with w = -log(1 - x^2) - 2.5, or sqrt(w) - 3. */
static const double erfinv_centre[] = {
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
    -0.00125372503, -0.00417768164, 0.246640727,    1.50140941,
};
static const double erfinv_tail[] = {
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
    -0.0076224613,   0.00943887047,  1.00167406,    2.83297682,
};

/* That approximation and one step of Newton's method. */
float acal_erfinvf(float x) {
    double a = acal_clamp_f64(__builtin_fabs((double)x), 0.0, 1.0 - 0x1p-24);
    double w = -acal_log_core((1.0 - a) * (1.0 + a));
    double y = acal_select_f64(w < 5.0, POLYNOMIAL(erfinv_centre, w - 2.5),
                               POLYNOMIAL(erfinv_tail, __builtin_sqrt(acal_clamp_f64(w, 5.0, 40.0)) - 3.0));
    y *= a;
    double exponent = acal_erf_exponent(y);
    double error = acal_select_f64(a > 0.5, (1.0 - a) - erfc_core(y), -acal_expm1_core(-exponent) - a);
    y -= error * 0x1.c5bf891b4ef6ap-1 * acal_exp_core(y * y);
    y = acal_select_f64(__builtin_fabsf(x) == 1.0f, __builtin_inf(), y);
    return acal_nan_unless_f32(__builtin_fabsf(x) <= 1.0f, (float)signed_as(y, x));
}

/* --- gamma function --------------------------------------------------------------------------- */

/* What x is past the nearest integer in half turns: sin and cos of pi x. */
typedef struct {
    double sine, cosine;
} turn_t;

static turn_t turn(double x) {
    double fraction = x - acal_round_f64(x); /* in [-1/2, 1/2]; which integer matters to the callers' signs alone */
    double quarters = acal_round_f64(2.0 * fraction);
    acal_reduced_t reduced = {(fraction - 0.5 * quarters) * pi, (uint32_t)(int64_t)quarters};
    turn_t result = {sine(reduced, reduced.quadrant & 3u), sine(reduced, (reduced.quadrant + 1u) & 3u)};
    return result;
}

/* log gamma(x) / ((x - 1) (x - 2)) in x - 2 for 1 <= x <= 3: 2^-35. */
static const double lgamma_coefficients[] = {
    0x1.3901f465fef30p-20, -0x1.48c1cff2cf9cbp-19, 0x1.b4e86670fd2e3p-23, -0x1.06a524accaadbp-21,
    0x1.4a8e2cbb3aa3fp-17, -0x1.617e6480bd49ep-16, 0x1.3892cdcd5c1abp-15, -0x1.549130fb3a8ccp-14,
    0x1.7f6e18f7873a1p-13, -0x1.aa080a49c7539p-12, 0x1.dfe5afdd084d9p-11, -0x1.144dee60a7ddfp-9,
    0x1.4797567d1115fp-8,  -0x1.95ce31093371ep-7,  0x1.0e0c9de916c0bp-5,  -0x1.9ae65094b5dbbp-4,
    0x1.b0ee6072093cep-2,
};

/* (log gamma(x) - (x - 1/2) log(x) + x - log(2 pi) / 2) x in 1 / x^2 for 3 <= x: 2^-45. */
static const double stirling_coefficients[] = {
    0x1.057f45ce202b4p-6,   -0x1.89e475d35b8e4p-7, 0x1.47a6056a6c974p-8,  -0x1.e284653fc1768p-10, 0x1.b7edfbcd484c4p-11,
    -0x1.380c500a91454p-11, 0x1.a019ee7c17949p-11, -0x1.6c16c167170c1p-9, 0x1.55555555554e5p-4,
};

/* log gamma(x) for 0 < x < 2^129; below 1 from that of x + 1. */
static double lgamma_core(double x) {
    int shifted = x < 1.0;
    double t = acal_select_f64(shifted, x + 1.0, x);
    double small = acal_clamp_f64(t, 1.0, 3.0), large = acal_clamp_f64(t, 3.0, 0x1p129);
    double near = (small - 1.0) * (small - 2.0) * POLYNOMIAL(lgamma_coefficients, small - 2.0) + 0.0; /* never -0 */
    double far = (large - 0.5) * acal_log_core(large) - large + 0x1.d67f1c864beb5p-1;
    far += POLYNOMIAL(stirling_coefficients, 1.0 / (large * large)) / large;
    double y = acal_select_f64(t > 3.0, far, near);
    return acal_select_f64(shifted, y - acal_log_core(acal_clamp_f64(x, 0x1p-150, 1.0)), y);
}

/* The logarithm of |gamma(x)|; left of 0 by the reflection gamma(x) gamma(1 - x) = pi / sin(pi x). */
float acal_lgammaf(float x) {
    double wide = acal_clamp_f64((double)x, -0x1p128, 0x1p128);
    int left = wide < 0.0;
    double y = lgamma_core(acal_select_f64(left, 1.0 - wide, wide));
    double sine = acal_clamp_f64(__builtin_fabs(turn(wide).sine), 0x1p-200, 1.0);
    y = acal_select_f64(left, acal_log_core(pi / sine) - y, y);
    int pole = ((x <= 0.0f) & (acal_round_f64(wide) == wide)) | (__builtin_fabsf(x) == __builtin_inff());
    return unless_nan(x, acal_select_f64(pole, __builtin_inf(), y));
}

/* (digamma(x) - log(x) + 1 / 2x) x^2 in 1 / x^2 for 8 <= x: 2^-47. */
static const double digamma_coefficients[] = {
    0x1.222dfdb0a8462p-6,  -0x1.ecc55e0bfae80p-8, 0x1.1109888ec96aep-8,
    -0x1.04103a08e759dp-8, 0x1.1111110fe066dp-7,  -0x1.5555555555534p-4,
};

/* The derivative of log gamma(x): digamma(x) = digamma(x + 1) - 1 / x up to where the series is exact. */
float acal_digammaf(float x) {
    double wide = acal_clamp_f64((double)x, -0x1p128, 0x1p128);
    int left = wide < 0.0;
    double t = acal_select_f64(left, 1.0 - wide, wide), sum = 0.0;
    for (int i = 0; i < 8; i++) sum += 1.0 / (t + (double)i);
    t += 8.0;
    double z = 1.0 / (t * t);
    double y = acal_log_core(t) - 0.5 / t + z * POLYNOMIAL(digamma_coefficients, z) - sum;
    turn_t turned = turn(wide);
    y = acal_select_f64(left, y - pi * turned.cosine / turned.sine, y);
    y = acal_select_f64(x == 0.0f, -signed_as(__builtin_inf(), x), y);
    y = acal_select_f64(x == __builtin_inff(), __builtin_inf(), y);
    return acal_nan_unless_f32((x >= 0.0f) | (acal_round_f64(wide) != wide), (float)y);
}

/* --- modified Bessel functions ---------------------------------------------------------------- */

/* exp(-x) I0(x) in x / 4 - 1 for 0 <= x <= 8: 2^-38. */
static const double i0_near[] = {
    0x1.95155af42a1f3p-18, -0x1.2f94b763c17bcp-16, 0x1.26169fa3bb185p-16, -0x1.5859007bf28c7p-15,
    0x1.6c8f2da180618p-13, -0x1.b7e1fac2e22cbp-12, 0x1.bb738b0695f1bp-11, -0x1.d223e5a3e4913p-10,
    0x1.daebaa0501240p-9,  -0x1.be75937e0e228p-8,  0x1.87d430342e181p-7,  -0x1.425a8247854a6p-6,
    0x1.ee71d6ec38755p-6,  -0x1.6028194e604b0p-5,  0x1.d11de0a34503fp-5,  -0x1.1cd6ecb81fa8fp-4,
    0x1.44b61b6feb33bp-4,  -0x1.5c029669bfa3dp-4,  0x1.65c235abf7cdep-4,  -0x1.6cb8d088c9ef1p-4,
    0x1.8322d1d8ddd2dp-4,  -0x1.cedda005415ddp-4,  0x1.a7f09f8eedf5ap-3,
};
/* exp(-x) I0(x) sqrt(x) in 16 / x - 1 for 8 <= x: 2^-39. */
static const double i0_far[] = {
    0x1.8b89001c7498bp-30, -0x1.ed55634a5f574p-30, -0x1.7ca711b9ae678p-27, -0x1.ae142eaac8d12p-29,
    0x1.8ffb8358beb53p-26, 0x1.81165b2133aa4p-25,  0x1.7b5cabeb89cecp-24,  0x1.3db37f0a2d8f2p-22,
    0x1.8e542bee625b8p-20, 0x1.75e772ea81adcp-17,  0x1.1daa728337599p-13,  0x1.b87969adf33c0p-9,
    0x1.9bd428ad249a5p-2,
};
/* exp(-x) I1(x) / x in x / 4 - 1 for 0 <= x <= 8: 2^-38. */
static const double i1_near[] = {
    0x1.6268c4f49300dp-21, -0x1.171060a6741c4p-19, 0x1.52897af6df570p-19, -0x1.b7b5cfee006a0p-18,
    0x1.a9ca646adb5c1p-16, -0x1.11c3b3bcbd1ffp-14, 0x1.350f6c76f62f6p-13, -0x1.620ba0748a5c4p-12,
    0x1.86aa4024d1d66p-11, -0x1.93f4bad0f3b73p-10, 0x1.89f0955938925p-9,  -0x1.6aa90b74cef70p-8,
    0x1.3a0c99bb69326p-7,  -0x1.fe3f4ab84747cp-7,  0x1.8412516bcdd45p-6,  -0x1.13d5e31a5588ap-5,
    0x1.6df95ef2f6b8ap-5,  -0x1.c4daa66f1b3b4p-5,  0x1.0530f81603087p-4,  -0x1.1881379946ec0p-4,
    0x1.16c390ddb657bp-4,  -0x1.f4bb071a9e5eep-5,  0x1.6e14eb8e5d319p-5,
};
/* exp(-x) I1(x) sqrt(x) in 16 / x - 1 for 8 <= x: 2^-39. */
static const double i1_far[] = {
    -0x1.89696c60317dfp-30, 0x1.1879f05addbc1p-29,  0x1.8bd9960b139ccp-27,  0x1.753b82c5edf34p-29,
    -0x1.b31bb248d3124p-26, -0x1.a40b4234d744fp-25, -0x1.ab9cb20f1c323p-24, -0x1.74688352b5857p-22,
    -0x1.ec91767d3af59p-20, -0x1.f89dbc05da0d4p-17, -0x1.cbc54db721f02p-13, -0x1.3f79619557a07p-7,
    0x1.8ebe783a84030p-2,
};

enum { N_BESSEL_NEAR = sizeof i0_near / sizeof *i0_near, N_BESSEL_FAR = sizeof i0_far / sizeof *i0_far };

/* exp(-x) I(x) for 0 <= x, I1 over x up to 8. */
static double bessel(const double *near, const double *far, double x) {
    double small = acal_clamp_f64(x, 0.0, 8.0), large = acal_clamp_f64(x, 8.0, __builtin_inf());
    double tail = polynomial(far, N_BESSEL_FAR, 16.0 / large - 1.0) / __builtin_sqrt(large);
    return acal_select_f64(x > 8.0, tail, polynomial(near, N_BESSEL_NEAR, 0.25 * small - 1.0));
}

static double i0_core(double a) { return bessel(i0_near, i0_far, a); }

static double i1_core(double a) {
    double y = bessel(i1_near, i1_far, a);
    return acal_select_f64(a > 8.0, y, y * a);
}

/* Up to where I(x) is infinite in f32. */
static double growth(double a) { return acal_exp_core(acal_clamp_f64(a, 0.0, 110.0)); }

/* y negated where x is below 0, which leaves the result at -0 a positive zero, as PyTorch's is. */
static double odd(double y, float x) { return acal_select_f64(x < 0.0f, -y, y); }

float acal_i0ef(float x) { return unless_nan(x, i0_core(__builtin_fabs((double)x))); }

float acal_i1ef(float x) { return unless_nan(x, odd(i1_core(__builtin_fabs((double)x)), x)); }

/* PyTorch has NaN, infinity times zero, at infinity. */
float acal_i0f(float x) {
    double a = acal_clamp_f64(__builtin_fabs((double)x), 0.0, 110.0);
    return acal_nan_unless_f32(__builtin_fabsf(x) < __builtin_inff(), (float)(i0_core(a) * growth(a)));
}

float acal_i1f(float x) {
    double a = acal_clamp_f64(__builtin_fabs((double)x), 0.0, 110.0);
    return acal_nan_unless_f32(__builtin_fabsf(x) < __builtin_inff(), (float)odd(i1_core(a) * growth(a), x));
}

/* --- division with a remainder ---------------------------------------------------------------- */

typedef struct {
    uint64_t mantissa;
    int64_t exponent; /* of the mantissa's last bit, plus 1075 */
} parts_t;

static parts_t parts_of(double x) {
    uint64_t bits = acal_bits_of_f64(x), fraction = bits & 0xfffffffffffffu;
    int64_t exponent = (int64_t)(bits >> 52 & 0x7ffu);
    int normal = exponent != 0;
    parts_t parts = {fraction | (uint64_t)normal << 52, exponent + !normal};
    return parts;
}

/* 2^n for -1022 <= n <= 1023 */
static double power_of_two(int64_t n) { return acal_f64_of_bits((uint64_t)(n + 1023) << 52); }

/* The steps of long division that the exponents of two f32, or of two f64, may be apart, 11 bits at a time. */
enum { STEPS_F32 = 26, STEPS_F64 = 191 };

/* a modulo b for finite a and b other than 0 or infinite b, with the sign of a; the same work for all. */
static double fmod_core(double a, double b, int steps) {
    parts_t x = parts_of(a), y = parts_of(b);
    uint64_t divisor = y.mantissa | (y.mantissa == 0), rest = x.mantissa;
    int64_t left = acal_max_i64(x.exponent - y.exponent, 0);
    for (int i = 0; i < steps; i++) {
        int64_t shift = acal_min_i64(left, 11);
        rest = (rest << shift) % divisor;
        left -= shift;
    }
    /* in two factors, neither of which is subnormal */
    int64_t exponent = y.exponent - 1075, half = exponent / 2;
    double r = (double)(int64_t)rest * power_of_two(half) * power_of_two(exponent - half);
    r = acal_select_f64(__builtin_fabs(a) < __builtin_fabs(b), __builtin_fabs(a), r);
    int defined = (b != 0.0) & (b == b) & (__builtin_fabs(a) < __builtin_inf());
    return acal_select_f64(defined, __builtin_copysign(r, a), __builtin_nan(""));
}

/* The remainder that has b's sign, from the one that has a's. */
static double with_sign_of(double rest, double b) {
    int other = (rest != 0.0) & ((b < 0.0) != (rest < 0.0));
    return acal_select_f64(other, rest + b, rest);
}

float acal_fmod_f32(float a, float b) { return (float)fmod_core((double)a, (double)b, STEPS_F32); }

double acal_fmod_f64(double a, double b) { return fmod_core(a, b, STEPS_F64); }

float acal_remainder_f32(float a, float b) { return (float)with_sign_of((double)acal_fmod_f32(a, b), (double)b); }

double acal_remainder_f64(double a, double b) { return with_sign_of(acal_fmod_f64(a, b), b); }

/* As PyTorch computes it, which is not the quotient rounded down where that is not a number of its type. */
#define FLOOR_DIVIDE(NAME, TYPE, FMOD, FLOOR, SELECT, COPYSIGN)       \
    TYPE NAME(TYPE a, TYPE b) {                                       \
        TYPE rest = FMOD(a, b), quotient = (a - rest) / b;            \
        int other = (rest != 0) & ((b < 0) != (rest < 0));            \
        quotient = SELECT(other, quotient - 1, quotient);             \
        TYPE down = FLOOR(quotient);                                  \
        down = SELECT(quotient - down > (TYPE)0.5, down + 1, down);   \
        down = SELECT(quotient != 0, down, COPYSIGN((TYPE)0, a / b)); \
        return SELECT(b == 0, a / b, down);                           \
    }

FLOOR_DIVIDE(acal_floor_divide_f32, float, acal_fmod_f32, acal_floor_f32, acal_select_f32, __builtin_copysignf)
FLOOR_DIVIDE(acal_floor_divide_f64, double, acal_fmod_f64, acal_floor_f64, acal_select_f64, __builtin_copysign)

/* A divisor without a trap: by 0 and by -1, which the smallest integer has no quotient for, 1 divides instead. */
static int64_t tame(int64_t b) { return acal_select_i64((b == 0) | (b == -1), 1, b); }

int64_t acal_fmod_i64(int64_t a, int64_t b) { return a % tame(b); }

int64_t acal_trunc_divide_i64(int64_t a, int64_t b) {
    return acal_select_i64(b == -1, (int64_t)(0 - (uint64_t)a), a / tame(b));
}

int64_t acal_remainder_i64(int64_t a, int64_t b) {
    int64_t rest = acal_fmod_i64(a, b);
    return rest + acal_select_i64((rest != 0) & ((b < 0) != (rest < 0)), b, 0);
}

int64_t acal_floor_divide_i64(int64_t a, int64_t b) {
    int64_t rest = acal_fmod_i64(a, b);
    return acal_trunc_divide_i64(a, b) - ((rest != 0) & ((b < 0) != (rest < 0)));
}

/* --- neighbours ------------------------------------------------------------------------------- */

/* Bits count up away from 0, so that a step is one of them; from 0 it is the smallest number with b's sign. */
#define NEXTAFTER(NAME, TYPE, BITS, BITS_OF, OF_BITS, SELECT, COPYSIGN)      \
    TYPE NAME(TYPE a, TYPE b) {                                              \
        int outwards = (a < b) == (a > 0);                                   \
        TYPE moved = OF_BITS(BITS_OF(a) + (BITS)outwards - (BITS)!outwards); \
        moved = SELECT(a == 0, COPYSIGN(OF_BITS(1), b), moved);              \
        moved = SELECT(a == b, b, moved);                                    \
        return SELECT((a != a) | (b != b), a + b, moved);                    \
    }

NEXTAFTER(acal_nextafter_f32, float, uint32_t, acal_bits_of_f32, acal_f32_of_bits, acal_select_f32, __builtin_copysignf)
NEXTAFTER(acal_nextafter_f64, double, uint64_t, acal_bits_of_f64, acal_f64_of_bits, acal_select_f64, __builtin_copysign)
