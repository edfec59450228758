/*
 * VECTOR: interprets a micro-program per block of 256 elements, one dispatch and one tight loop per instruction.
 *
 * Registers hold f32, f64 or i64. An input whose memory has that type and lies contiguously is used in place; the only
 * output of a program is written by its last instruction without going through a register. What does not change along
 * a row (constants, broadcast inputs) is set up once per row or once per command.
 */
#include "acal.h"
#include "libm.h"

typedef void kernel_t(void *to, const void *a, const void *b, const void *c, int64_t n);

#define KERNEL(NAME, TO, FROM, EXPRESSION)                                                   \
    static void NAME(void *to_, const void *a_, const void *b_, const void *c_, int64_t n) { \
        TO *to = to_;                                                                        \
        const FROM *pa = a_, *pb = b_, *pc = c_;                                             \
        (void)pb, (void)pc;                                                                  \
        ACAL_ELEMENTWISE                                                                     \
        for (int64_t i = 0; i < n; i++) to[i] = EXPRESSION;                                  \
    }

#define A pa[i]
#define B pb[i]

#define FOR_FLOATS(NAME, F32, F64)        \
    KERNEL(NAME##_f32, float, float, F32) \
    KERNEL(NAME##_f64, double, double, F64)

#define FOR_ALL(NAME, F32, F64, I64) \
    FOR_FLOATS(NAME, F32, F64)       \
    KERNEL(NAME##_i64, int64_t, int64_t, I64)

/* Integers wrap: they are added as unsigned. */
#define WRAPPING(X, OPERATOR, Y) ((int64_t)((uint64_t)(X)OPERATOR(uint64_t)(Y)))

FOR_ALL(add, A + B, A + B, WRAPPING(A, +, B))
FOR_ALL(sub, A - B, A - B, WRAPPING(A, -, B))
FOR_ALL(mul, A *B, A *B, WRAPPING(A, *, B))
FOR_FLOATS(div, A / B, A / B)
FOR_ALL(neg, -A, -A, WRAPPING(0, -, A))
FOR_ALL(abs, acal_abs_f32(A), acal_abs_f64(A), acal_max_i64(A, WRAPPING(0, -, A)))
FOR_ALL(min, acal_min_f32(A, B), acal_min_f64(A, B), acal_min_i64(A, B))
FOR_ALL(max, acal_max_f32(A, B), acal_max_f64(A, B), acal_max_i64(A, B))
FOR_ALL(relu, acal_relu_f32(A), acal_relu_f64(A), acal_max_i64(A, 0))
FOR_FLOATS(sqrt, __builtin_sqrtf(A), __builtin_sqrt(A))
FOR_FLOATS(rsqrt, (float)(1.0 / __builtin_sqrt((double)A)), 1.0 / __builtin_sqrt(A))
FOR_FLOATS(reciprocal, 1.0f / A, 1.0 / A)
FOR_ALL(floor, acal_floor_f32(A), acal_floor_f64(A), A)
FOR_ALL(ceil, acal_ceil_f32(A), acal_ceil_f64(A), A)

KERNEL(exp_f32, float, float, acal_exp_inline(A))
KERNEL(log_f32, float, float, acal_logf(A))
KERNEL(tanh_f32, float, float, acal_tanh_inline(A))
KERNEL(sigmoid_f32, float, float, acal_sigmoid_inline(A))
KERNEL(erf_f32, float, float, acal_erf_inline(A))
KERNEL(gelu_f32, float, float, acal_gelu_inline(A))
KERNEL(gelu_tanh_f32, float, float, acal_gelu_tanh_inline(A))
KERNEL(pow_f32, float, float, acal_powf(A, B))
KERNEL(sin_f32, float, float, acal_sinf(A))
KERNEL(cos_f32, float, float, acal_cosf(A))

/* base^exponent modulo 2^64; a negative exponent gives 0 unless the base is 1 or -1. */
static int64_t integer_power(int64_t base, int64_t exponent) {
    uint64_t result = 1, square = (uint64_t)base;
    for (uint64_t rest = (uint64_t)exponent; rest != 0; rest >>= 1, square *= square)
        if (rest & 1) result *= square;
    if (exponent >= 0 || base == 1) return (int64_t)result;
    return base == -1 ? 1 - 2 * (exponent & 1) : 0;
}

KERNEL(pow_i64, int64_t, int64_t, integer_power(A, B))

KERNEL(exp2_f32, float, float, acal_exp2f(A))
KERNEL(expm1_f32, float, float, acal_expm1f(A))
KERNEL(log2_f32, float, float, acal_log2f(A))
KERNEL(log10_f32, float, float, acal_log10f(A))
KERNEL(log1p_f32, float, float, acal_log1pf(A))
KERNEL(tan_f32, float, float, acal_tanf(A))
KERNEL(asin_f32, float, float, acal_asinf(A))
KERNEL(acos_f32, float, float, acal_acosf(A))
KERNEL(atan_f32, float, float, acal_atanf(A))
KERNEL(sinh_f32, float, float, acal_sinhf(A))
KERNEL(cosh_f32, float, float, acal_coshf(A))
KERNEL(asinh_f32, float, float, acal_asinhf(A))
KERNEL(acosh_f32, float, float, acal_acoshf(A))
KERNEL(atanh_f32, float, float, acal_atanhf(A))
KERNEL(erfc_f32, float, float, acal_erfcf(A))
KERNEL(erfcx_f32, float, float, acal_erfcxf(A))
KERNEL(erfinv_f32, float, float, acal_erfinvf(A))
KERNEL(lgamma_f32, float, float, acal_lgammaf(A))
KERNEL(digamma_f32, float, float, acal_digammaf(A))
KERNEL(i0_f32, float, float, acal_i0f(A))
KERNEL(i0e_f32, float, float, acal_i0ef(A))
KERNEL(i1_f32, float, float, acal_i1f(A))
KERNEL(i1e_f32, float, float, acal_i1ef(A))
KERNEL(atan2_f32, float, float, acal_atan2f(A, B))
KERNEL(hypot_f32, float, float, acal_hypotf(A, B))

FOR_ALL(trunc, acal_trunc_f32(A), acal_trunc_f64(A), A)
FOR_ALL(round, acal_round_f32(A), acal_round_f64(A), A)
FOR_ALL(fmod, acal_fmod_f32(A, B), acal_fmod_f64(A, B), acal_fmod_i64(A, B))
FOR_ALL(remainder, acal_remainder_f32(A, B), acal_remainder_f64(A, B), acal_remainder_i64(A, B))
FOR_ALL(floor_divide, acal_floor_divide_f32(A, B), acal_floor_divide_f64(A, B), acal_floor_divide_i64(A, B))
KERNEL(trunc_divide_i64, int64_t, int64_t, acal_trunc_divide_i64(A, B))
FOR_FLOATS(copysign, __builtin_copysignf(A, B), __builtin_copysign(A, B))
FOR_FLOATS(nextafter, acal_nextafter_f32(A, B), acal_nextafter_f64(A, B))

/* A shift that is negative, or larger than the register, moves all bits out. */
static int64_t shift_left(int64_t a, int64_t b) { return (uint64_t)b < 64 ? (int64_t)((uint64_t)a << b) : 0; }

static int64_t shift_right(int64_t a, int64_t b) { return a >> ((uint64_t)b < 64 ? b : 63); }

static int64_t gcd(int64_t a, int64_t b) {
    uint64_t x = (uint64_t)acal_max_i64(a, WRAPPING(0, -, a)), y = (uint64_t)acal_max_i64(b, WRAPPING(0, -, b));
    while (y != 0) {
        uint64_t rest = x % y;
        x = y;
        y = rest;
    }
    return (int64_t)x;
}

KERNEL(shift_left_i64, int64_t, int64_t, shift_left(A, B))
KERNEL(shift_right_i64, int64_t, int64_t, shift_right(A, B))
KERNEL(gcd_i64, int64_t, int64_t, gcd(A, B))

#define COMPARISON(NAME, OPERATOR)                    \
    KERNEL(NAME##_f32, int64_t, float, A OPERATOR B)  \
    KERNEL(NAME##_f64, int64_t, double, A OPERATOR B) \
    KERNEL(NAME##_i64, int64_t, int64_t, A OPERATOR B)

COMPARISON(eq, ==)
COMPARISON(ne, !=)
COMPARISON(lt, <)
COMPARISON(le, <=)
COMPARISON(gt, >)
COMPARISON(ge, >=)

KERNEL(and_i64, int64_t, int64_t, A &B)
KERNEL(or_i64, int64_t, int64_t, A | B)
KERNEL(xor_i64, int64_t, int64_t, A ^ B)
KERNEL(not_i64, int64_t, int64_t, ~A)
KERNEL(not_bool, int64_t, int64_t, A ^ 1)

/* The condition is an i64 register that holds 0 or 1, whatever the class of the values. */
#define WHERE(NAME, TYPE, SELECT)                                                            \
    static void NAME(void *to_, const void *a_, const void *b_, const void *c_, int64_t n) { \
        TYPE *to = to_;                                                                      \
        const int64_t *condition = a_;                                                       \
        const TYPE *yes = b_, *no = c_;                                                      \
        ACAL_ELEMENTWISE                                                                     \
        for (int64_t i = 0; i < n; i++) to[i] = SELECT((int)condition[i], yes[i], no[i]);    \
    }

WHERE(where_f32, float, acal_select_f32)
WHERE(where_f64, double, acal_select_f64)
WHERE(where_i64, int64_t, acal_select_i64)

/* --- decoding --------------------------------------------------------------------------------- */

#define ONE(NAME, arity, cost, compares) +1
enum { N_OPS = 0 ACAL_VECTOR_OPS(ONE), MAX_INPUTS = 8, MAX_OUTPUTS = 4, NO_DTYPE = 255 };
#undef ONE

/* How many registers each operation reads, and whether it compares. */
#define ARITY(NAME, arity, cost, compares) arity,
#define COMPARES(NAME, arity, cost, compares) compares,
static const uint8_t arity_of[] = {ACAL_VECTOR_OPS(ARITY)};
static const uint8_t compares[] = {ACAL_VECTOR_OPS(COMPARES)};
#undef ARITY
#undef COMPARES

/* Its kernel for each class of the operands; 0 where it is not defined. */
typedef kernel_t *rule_t[ACAL_CLASSES];

#define ALL(NAME) {NAME##_f32, NAME##_f64, NAME##_i64}
#define FLOATS(NAME) {NAME##_f32, NAME##_f64, 0}
#define F32_ONLY(NAME) {NAME##_f32, 0, 0}
#define I64_ONLY(NAME) {0, 0, NAME##_i64}

/* Of integers DIV has no kernel: the compiler casts to a float first, as PyTorch's true division does. */
static const rule_t rules[N_OPS] = {
    [ACAL_VECTOROP_ADD] = ALL(add),
    [ACAL_VECTOROP_SUB] = ALL(sub),
    [ACAL_VECTOROP_MUL] = ALL(mul),
    [ACAL_VECTOROP_DIV] = FLOATS(div),
    [ACAL_VECTOROP_NEG] = ALL(neg),
    [ACAL_VECTOROP_ABS] = ALL(abs),
    [ACAL_VECTOROP_MIN] = ALL(min),
    [ACAL_VECTOROP_MAX] = ALL(max),
    [ACAL_VECTOROP_RELU] = ALL(relu),
    [ACAL_VECTOROP_EXP] = F32_ONLY(exp),
    [ACAL_VECTOROP_LOG] = F32_ONLY(log),
    [ACAL_VECTOROP_SQRT] = FLOATS(sqrt),
    [ACAL_VECTOROP_RSQRT] = FLOATS(rsqrt),
    [ACAL_VECTOROP_RECIPROCAL] = FLOATS(reciprocal),
    [ACAL_VECTOROP_TANH] = F32_ONLY(tanh),
    [ACAL_VECTOROP_SIGMOID] = F32_ONLY(sigmoid),
    [ACAL_VECTOROP_ERF] = F32_ONLY(erf),
    [ACAL_VECTOROP_GELU] = F32_ONLY(gelu),
    [ACAL_VECTOROP_GELU_TANH] = F32_ONLY(gelu_tanh),
    [ACAL_VECTOROP_POW] = {pow_f32, 0, pow_i64},
    [ACAL_VECTOROP_SIN] = F32_ONLY(sin),
    [ACAL_VECTOROP_COS] = F32_ONLY(cos),
    [ACAL_VECTOROP_FLOOR] = ALL(floor),
    [ACAL_VECTOROP_CEIL] = ALL(ceil),
    [ACAL_VECTOROP_EQ] = ALL(eq),
    [ACAL_VECTOROP_NE] = ALL(ne),
    [ACAL_VECTOROP_LT] = ALL(lt),
    [ACAL_VECTOROP_LE] = ALL(le),
    [ACAL_VECTOROP_GT] = ALL(gt),
    [ACAL_VECTOROP_GE] = ALL(ge),
    [ACAL_VECTOROP_AND] = I64_ONLY(and),
    [ACAL_VECTOROP_OR] = I64_ONLY(or),
    [ACAL_VECTOROP_XOR] = I64_ONLY(xor),
    [ACAL_VECTOROP_NOT] = I64_ONLY(not),
    [ACAL_VECTOROP_TRUNC] = ALL(trunc),
    [ACAL_VECTOROP_ROUND] = ALL(round),
    [ACAL_VECTOROP_FMOD] = ALL(fmod),
    [ACAL_VECTOROP_REMAINDER] = ALL(remainder),
    [ACAL_VECTOROP_FLOOR_DIVIDE] = ALL(floor_divide),
    [ACAL_VECTOROP_TRUNC_DIVIDE] = I64_ONLY(trunc_divide),
    [ACAL_VECTOROP_SHIFT_LEFT] = I64_ONLY(shift_left),
    [ACAL_VECTOROP_SHIFT_RIGHT] = I64_ONLY(shift_right),
    [ACAL_VECTOROP_GCD] = I64_ONLY(gcd),
    [ACAL_VECTOROP_COPYSIGN] = FLOATS(copysign),
    [ACAL_VECTOROP_NEXTAFTER] = FLOATS(nextafter),
    [ACAL_VECTOROP_EXP2] = F32_ONLY(exp2),
    [ACAL_VECTOROP_EXPM1] = F32_ONLY(expm1),
    [ACAL_VECTOROP_LOG2] = F32_ONLY(log2),
    [ACAL_VECTOROP_LOG10] = F32_ONLY(log10),
    [ACAL_VECTOROP_LOG1P] = F32_ONLY(log1p),
    [ACAL_VECTOROP_TAN] = F32_ONLY(tan),
    [ACAL_VECTOROP_ASIN] = F32_ONLY(asin),
    [ACAL_VECTOROP_ACOS] = F32_ONLY(acos),
    [ACAL_VECTOROP_ATAN] = F32_ONLY(atan),
    [ACAL_VECTOROP_SINH] = F32_ONLY(sinh),
    [ACAL_VECTOROP_COSH] = F32_ONLY(cosh),
    [ACAL_VECTOROP_ASINH] = F32_ONLY(asinh),
    [ACAL_VECTOROP_ACOSH] = F32_ONLY(acosh),
    [ACAL_VECTOROP_ATANH] = F32_ONLY(atanh),
    [ACAL_VECTOROP_ERFC] = F32_ONLY(erfc),
    [ACAL_VECTOROP_ERFCX] = F32_ONLY(erfcx),
    [ACAL_VECTOROP_ERFINV] = F32_ONLY(erfinv),
    [ACAL_VECTOROP_LGAMMA] = F32_ONLY(lgamma),
    [ACAL_VECTOROP_DIGAMMA] = F32_ONLY(digamma),
    [ACAL_VECTOROP_I0] = F32_ONLY(i0),
    [ACAL_VECTOROP_I0E] = F32_ONLY(i0e),
    [ACAL_VECTOROP_I1] = F32_ONLY(i1),
    [ACAL_VECTOROP_I1E] = F32_ONLY(i1e),
    [ACAL_VECTOROP_ATAN2] = F32_ONLY(atan2),
    [ACAL_VECTOROP_HYPOT] = F32_ONLY(hypot),
};

typedef enum { STEP_LOAD, STEP_CONSTANT, STEP_CONVERT, STEP_COMPUTE, STEP_STORE } step_kind_t;

typedef struct {
    step_kind_t kind;
    uint8_t to, a, b, c; /* registers */
    uint8_t operand;     /* LOAD, STORE, COMPUTE in place: place of the operand in the nest */
    uint8_t dtype;
    uint8_t in_place; /* LOAD: the register is the operand's memory. COMPUTE: it is the output's */
    uint8_t divides;  /* COMPUTE: integers, by register b, which must not be 0 */
    int64_t stride;   /* of the operand along a row, in elements and in bytes */
    int64_t pitch;
    kernel_t *kernel;
    acal_convert_t *convert;
    acal_round_t *round;
    uint64_t imm;
} step_t;

typedef struct {
    uint32_t status; /* OK, or DIVISION once an integer was divided by 0 */
    int32_t n_inputs, n_outputs;
    acal_nest_t nest; /* outputs first: their order of strides decides the loop order */
    int32_t n_steps, n_row_steps;
    step_t steps[ACAL_MAX_VECTOR_INSTRUCTIONS];     /* what is done per block */
    step_t row_steps[ACAL_MAX_VECTOR_INSTRUCTIONS]; /* LOADs of one value for a whole row */
    uint8_t dtypes[ACAL_MAX_VECTOR_REGISTERS];      /* what each register holds while decoding; NO_DTYPE: nothing yet */
    uint8_t writes[ACAL_MAX_VECTOR_REGISTERS];
    void *registers[ACAL_MAX_VECTOR_REGISTERS];
    uint64_t storage[ACAL_MAX_VECTOR_REGISTERS][ACAL_BLOCK];
} program_t;

/* Whether a register exists and holds the dtype. */
static uint32_t expect(const program_t *program, uint8_t reg, uint8_t dtype) {
    if (reg >= ACAL_MAX_VECTOR_REGISTERS) return ACAL_STATUS_INDEX;
    return program->dtypes[reg] == dtype ? ACAL_STATUS_OK : ACAL_STATUS_BAD_DTYPE;
}

static int divides(uint8_t op) {
    return op == ACAL_VECTOROP_FMOD || op == ACAL_VECTOROP_REMAINDER || op == ACAL_VECTOROP_FLOOR_DIVIDE ||
           op == ACAL_VECTOROP_TRUNC_DIVIDE;
}

static uint32_t decode_compute(const program_t *program, const acal_vector_instruction_t *code, step_t *step) {
    step->kind = STEP_COMPUTE;
    if (code->op == ACAL_VECTOROP_WHERE) {
        static kernel_t *const kernels[ACAL_CLASSES] = {where_f32, where_f64, where_i64};
        ACAL_TRY(expect(program, code->a, ACAL_DTYPE_BOOL));
        ACAL_TRY(expect(program, code->b, code->dtype));
        ACAL_TRY(expect(program, code->c, code->dtype));
        step->kernel = kernels[acal_class(code->dtype)];
        return ACAL_STATUS_OK;
    }
    uint8_t from = compares[code->op] ? code->src_dtype : code->dtype;
    ACAL_TRY(expect(program, code->a, from));
    if (arity_of[code->op] > 1)
        ACAL_TRY(expect(program, code->b, from));
    else
        step->b = step->a;
    step->c = step->a;
    if (compares[code->op] && acal_is_float(code->dtype)) return ACAL_STATUS_BAD_DTYPE;
    if (compares[code->op]) step->round = 0; /* 0 and 1 are values of every integer dtype */
    step->kernel = rules[code->op][acal_class(from)];
    step->divides = divides(code->op) && acal_class(from) == ACAL_CLASS_I64;
    if (code->op == ACAL_VECTOROP_NOT && code->dtype == ACAL_DTYPE_BOOL) step->kernel = not_bool;
    return step->kernel ? ACAL_STATUS_OK : ACAL_STATUS_UNSUPPORTED;
}

/* Decodes what a LOAD, CONST, CAST or arithmetic instruction does; STORE is decoded by the caller. */
static uint32_t decode_writer(program_t *program, const acal_vector_t *command, const acal_vector_instruction_t *code,
                              step_t *step) {
    if (code->dst >= ACAL_MAX_VECTOR_REGISTERS) return ACAL_STATUS_INDEX;
    step->round = code->op == ACAL_VECTOROP_LOAD ? 0 : acal_rounding(code->dtype); /* memory holds rounded values */
    switch (code->op) {
        case ACAL_VECTOROP_LOAD:
            if (code->a >= command->n_inputs) return ACAL_STATUS_INDEX;
            if (command->inputs[code->a].dtype != code->dtype) return ACAL_STATUS_BAD_DTYPE;
            step->kind = STEP_LOAD;
            step->operand = (uint8_t)(code->a + command->n_outputs);
            break;
        case ACAL_VECTOROP_CONST: step->kind = STEP_CONSTANT; break;
        case ACAL_VECTOROP_CAST:
            if (code->src_dtype > ACAL_DTYPE_F64) return ACAL_STATUS_BAD_DTYPE;
            ACAL_TRY(expect(program, code->a, code->src_dtype));
            step->kind = STEP_CONVERT;
            step->convert = acal_conversion(code->dtype, code->src_dtype);
            break;
        default: ACAL_TRY(decode_compute(program, code, step));
    }
    program->dtypes[code->dst] = code->dtype;
    program->writes[code->dst]++;
    return ACAL_STATUS_OK;
}

static uint32_t decode_store(const program_t *program, const acal_vector_t *command,
                             const acal_vector_instruction_t *code, step_t *step) {
    if (code->dst >= command->n_outputs) return ACAL_STATUS_INDEX;
    if (command->outputs[code->dst].dtype != code->dtype) return ACAL_STATUS_BAD_DTYPE;
    step->kind = STEP_STORE;
    step->operand = code->dst;
    return expect(program, code->a, code->dtype);
}

static uint32_t decode(program_t *program, const acal_vector_t *command) {
    for (int i = 0; i < ACAL_MAX_VECTOR_REGISTERS; i++) {
        program->dtypes[i] = NO_DTYPE;
        program->writes[i] = 0;
        program->registers[i] = program->storage[i];
    }
    program->n_steps = (int32_t)command->n_instructions;
    for (int32_t i = 0; i < program->n_steps; i++) {
        const acal_vector_instruction_t *code = &command->instructions[i];
        step_t *step = &program->steps[i];
        if (code->op >= N_OPS) return ACAL_STATUS_UNSUPPORTED;
        if (code->dtype > ACAL_DTYPE_F64) return ACAL_STATUS_BAD_DTYPE;
        *step = (step_t){.to = code->dst, .a = code->a, .b = code->b, .c = code->c, .dtype = code->dtype};
        step->imm = code->imm;
        if (code->op == ACAL_VECTOROP_STORE)
            ACAL_TRY(decode_store(program, command, code, step));
        else
            ACAL_TRY(decode_writer(program, command, code, step));
    }
    return ACAL_STATUS_OK;
}

/* --- running ---------------------------------------------------------------------------------- */

static void fill_constant(void *values, uint8_t dtype, uint64_t imm) {
    int64_t integer = (int64_t)imm;
    double wide = acal_f64_of_bits(imm);
    float narrow = (float)wide;
    const void *value = &integer;
    if (acal_class(dtype) == ACAL_CLASS_F32)
        value = &narrow;
    else if (acal_class(dtype) == ACAL_CLASS_F64)
        value = &wide;
    static const uint8_t natural[ACAL_CLASSES] = {ACAL_DTYPE_F32, ACAL_DTYPE_F64, ACAL_DTYPE_I64};
    acal_load_row(values, value, natural[acal_class(dtype)], 0, ACAL_BLOCK);
    acal_round_row(values, dtype, ACAL_BLOCK);
}

/* Whether a register is stored as it is; another output may have overwritten the input's memory by then. */
static int is_stored(const program_t *program, uint8_t reg) {
    int stored = 0;
    for (int32_t i = 0; i < program->n_steps; i++)
        stored |= program->steps[i].kind == STEP_STORE && program->steps[i].a == reg;
    return stored;
}

/*
 * Decides, now that the strides are known, which steps are done per block, which per row, and does those of the whole
 * command. A register that several instructions write is set up per block.
 */
static void schedule(program_t *program) {
    int32_t n = 0;
    program->n_row_steps = 0;
    for (int32_t i = 0; i < program->n_steps; i++) {
        step_t step = program->steps[i];
        int only_writer = step.kind != STEP_STORE && program->writes[step.to] == 1;
        step.stride = program->nest.row_stride[step.operand];
        step.pitch = step.stride * acal_itemsize(step.dtype);
        if (step.kind == STEP_LOAD)
            step.in_place = acal_is_natural(step.dtype) && step.stride == 1 &&
                            !(program->n_outputs > 1 && is_stored(program, step.to));
        if (step.kind == STEP_CONSTANT && only_writer)
            fill_constant(program->storage[step.to], step.dtype, step.imm);
        else if (step.kind == STEP_LOAD && step.stride == 0 && only_writer)
            program->row_steps[program->n_row_steps++] = step;
        else
            program->steps[n++] = step;
    }
    program->n_steps = n;
}

/* The usual end, one output computed by the instruction before its STORE: computes into the output. */
static void fuse_store(program_t *program) {
    if (program->n_steps < 2 || program->n_outputs != 1) return;
    step_t *last = &program->steps[program->n_steps - 1], *before = last - 1;
    if (last->kind != STEP_STORE || before->kind != STEP_COMPUTE || before->to != last->a) return;
    if (acal_is_natural(last->dtype) && last->stride == 1) {
        before->in_place = 1;
        before->operand = last->operand;
        before->pitch = last->pitch;
        program->n_steps--;
    }
}

static int has_zero(const int64_t *values, int64_t n) {
    int found = 0;
    for (int64_t i = 0; i < n; i++) found |= values[i] == 0;
    return found;
}

static void run_step(program_t *program, const step_t *step, int64_t start, int64_t n) {
    void **registers = program->registers;
    char *memory = program->nest.data[step->operand] + start * step->pitch;
    void *to = step->in_place ? memory : (void *)program->storage[step->to];
    switch (step->kind) {
        case STEP_STORE: acal_store_row(memory, registers[step->a], step->dtype, step->stride, n); return;
        case STEP_LOAD:
            if (!step->in_place) acal_load_row(to, memory, step->dtype, step->stride, n);
            break;
        case STEP_CONSTANT: fill_constant(to, step->dtype, step->imm); break;
        case STEP_CONVERT: step->convert(to, registers[step->a], n); break;
        case STEP_COMPUTE:
            if (step->divides && has_zero(registers[step->b], n)) program->status = ACAL_STATUS_DIVISION;
            step->kernel(to, registers[step->a], registers[step->b], registers[step->c], n);
            break;
    }
    if (step->round) step->round(to, n);
    registers[step->to] = to;
}

static void run_row(program_t *program) {
    const acal_nest_t *nest = &program->nest;
    int64_t filled = nest->row < ACAL_BLOCK ? nest->row : ACAL_BLOCK;
    for (int32_t i = 0; i < program->n_row_steps; i++) {
        const step_t *step = &program->row_steps[i];
        acal_load_row(program->storage[step->to], nest->data[step->operand], step->dtype, 0, filled);
    }
    for (int64_t start = 0; start < nest->row; start += ACAL_BLOCK) {
        int64_t n = nest->row - start < ACAL_BLOCK ? nest->row - start : ACAL_BLOCK;
        for (int32_t i = 0; i < program->n_steps; i++) run_step(program, &program->steps[i], start, n);
    }
}

static uint32_t check_operands(const acal_vector_t *command, const acal_operand_t **operands, acal_fault_t *fault) {
    if (command->n_inputs > MAX_INPUTS || command->n_outputs > MAX_OUTPUTS || command->n_outputs == 0 ||
        command->n_instructions > ACAL_MAX_VECTOR_INSTRUCTIONS)
        return ACAL_STATUS_INDEX;
    uint32_t n = 0;
    for (uint32_t i = 0; i < command->n_outputs; i++) operands[n++] = &command->outputs[i];
    for (uint32_t i = 0; i < command->n_inputs; i++) operands[n++] = &command->inputs[i];
    for (uint32_t i = 0; i < n; i++) {
        ACAL_TRY(acal_check_operand(operands[i], fault));
        if (!acal_same_dims(operands[i], operands[0])) {
            fault->address = operands[i]->addr;
            return ACAL_STATUS_BAD_SHAPE;
        }
    }
    return ACAL_STATUS_OK;
}

uint32_t acal_vector(const acal_vector_t *command, acal_fault_t *fault) {
    const acal_operand_t *operands[MAX_OUTPUTS + MAX_INPUTS];
    program_t program;
    ACAL_TRY(check_operands(command, operands, fault));
    ACAL_TRY(decode(&program, command));
    program.n_inputs = (int32_t)command->n_inputs;
    program.n_outputs = (int32_t)command->n_outputs;
    if (!acal_nest_begin(&program.nest, operands, program.n_inputs + program.n_outputs)) return ACAL_STATUS_OK;
    program.status = ACAL_STATUS_OK;
    schedule(&program);
    fuse_store(&program);
    do run_row(&program);
    while (acal_nest_next(&program.nest));
    return program.status;
}
