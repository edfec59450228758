/*
 * The error of the firmware's elementary functions against the host's double precision ones, in units in the last place
 * of the f32 result. Compiled together with libm.c by libm_error.py.
 */
#include <math.h>
#include <stdint.h>

#include "libm.h"

typedef struct {
    float (*tested)(float);
    double (*reference)(double);
} function_t;

static double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

static double reciprocal_sqrt(double x) { return 1.0 / sqrt(x); }

/* In the order of FUNCTIONS in libm_error.py. */
static const function_t functions[] = {
    {acal_expf, exp},         {acal_logf, log},     {acal_tanhf, tanh},
    {acal_erff, erf},         {acal_sinf, sin},     {acal_cosf, cos},
    {acal_sigmoidf, sigmoid}, {acal_sqrtf, sqrt},   {acal_rsqrtf, reciprocal_sqrt},
    {acal_exp2f, exp2},       {acal_expm1f, expm1}, {acal_log2f, log2},
    {acal_log10f, log10},     {acal_log1pf, log1p}, {acal_tanf, tan},
    {acal_asinf, asin},       {acal_acosf, acos},   {acal_atanf, atan},
    {acal_sinhf, sinh},       {acal_coshf, cosh},   {acal_asinhf, asinh},
    {acal_acoshf, acosh},     {acal_atanhf, atanh}, {acal_erfcf, erfc},
    {acal_lgammaf, lgamma},
};

/* Distance of neighbouring f32 at the size of x, also in the subnormal range. */
static double unit_in_last_place(double x) {
    int exponent = 0;
    (void)frexp(x, &exponent);
    return ldexp(1.0, (exponent < -125 ? -125 : exponent) - 24);
}

static double ulp_error(float got, double expected) {
    float rounded = (float)expected;
    if (isnan(got) || isnan(rounded)) {
        return isnan(got) && isnan(rounded) ? 0.0 : INFINITY;
    }
    if (isinf(got) || isinf(rounded)) {
        return got == rounded ? 0.0 : INFINITY;
    }
    if (got == 0.0f && rounded == 0.0f && signbit(got) != signbit(rounded)) {
        return INFINITY;
    }
    return fabs((double)got - expected) / unit_in_last_place(expected);
}

/* Largest error over the arguments whose bits are first, first + step, ... below end; *worst is where it occurs. */
double largest_error(int function, uint64_t first, uint64_t end, uint64_t step, uint32_t *worst) {
    double largest = -1.0;
    for (uint64_t bits = first; bits < end; bits += step) {
        float x = acal_f32_of_bits((uint32_t)bits);
        double error = ulp_error(functions[function].tested(x), functions[function].reference((double)x));
        if (error > largest) {
            largest = error;
            *worst = (uint32_t)bits;
        }
    }
    return largest;
}

/* The same for pow over pairs of arguments. */
double largest_pow_error(const float *x, const float *y, int64_t n, int64_t *worst) {
    double largest = -1.0;
    for (int64_t i = 0; i < n; i++) {
        double error = ulp_error(acal_powf(x[i], y[i]), pow((double)x[i], (double)y[i]));
        if (error > largest) {
            largest = error;
            *worst = i;
        }
    }
    return largest;
}
