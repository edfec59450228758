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
