// VECTOR, COPY and FILL: every element once.
#include <stdexcept>

#include "plan/plans.h"
#include "plan/sweep.h"

namespace acalsim {

namespace {

bool is_transcendental(std::uint8_t op) {
    switch (op) {
        case ACAL_VECTOROP_DIV:
        case ACAL_VECTOROP_EXP:
        case ACAL_VECTOROP_LOG:
        case ACAL_VECTOROP_SQRT:
        case ACAL_VECTOROP_RSQRT:
        case ACAL_VECTOROP_RECIPROCAL:
        case ACAL_VECTOROP_TANH:
        case ACAL_VECTOROP_SIGMOID:
        case ACAL_VECTOROP_ERF:
        case ACAL_VECTOROP_GELU:
        case ACAL_VECTOROP_GELU_TANH:
        case ACAL_VECTOROP_POW:
        case ACAL_VECTOROP_SIN:
        case ACAL_VECTOROP_COS: return true;
        default: return false;
    }
}

}  // namespace

Plan plan_vector(const Config& config, const acal_vector_t& command) {
    if (command.n_inputs > 8 || command.n_outputs == 0 || command.n_outputs > 4 ||
        command.n_instructions > ACAL_MAX_VECTOR_INSTRUCTIONS) {
        throw std::invalid_argument("VECTOR: counts of inputs, outputs or instructions exceed the ABI");
    }
    Sweep sweep{Operand(command.outputs[0])};
    for (std::uint32_t i = 0; i < command.n_inputs; ++i) sweep.operands.emplace_back(Operand(command.inputs[i]), false);
    for (std::uint32_t i = 0; i < command.n_outputs; ++i)
        sweep.operands.emplace_back(Operand(command.outputs[i]), true);
    for (const SweepOperand& operand : sweep.operands) {
        if (operand.axes.size() != sweep.dims.size()) throw std::invalid_argument("VECTOR: operands differ in rank");
    }
    for (std::uint32_t i = 0; i < command.n_instructions; ++i) {
        const std::uint8_t op = command.instructions[i].op;
        // Operands stream from and to the scratchpad beside the arithmetic; constants stay in registers.
        if (op == ACAL_VECTOROP_LOAD || op == ACAL_VECTOROP_STORE || op == ACAL_VECTOROP_CONST) continue;
        ++(is_transcendental(op) ? sweep.ops.transcendental : sweep.ops.simple);
    }
    return make_sweep_plan(config, {std::move(sweep)});
}

Plan plan_copy(const Config& config, const acal_copy_t& command) {
    const Operand x(command.x), out(command.out);
    if (x.rank != out.rank) throw std::invalid_argument("COPY: operands differ in rank");
    Sweep sweep{out};
    sweep.operands = {{x, false}, {out, true}};
    sweep.vector = x.dtype != out.dtype;  // without a conversion the DMA alone does it
    sweep.ops.simple = 1;
    return make_sweep_plan(config, {std::move(sweep)});
}

Plan plan_fill(const Config& config, const acal_fill_t& command) {
    const Operand out(command.out);
    Sweep sweep{out};
    sweep.operands = {{out, true}};
    sweep.ops.simple = 1;
    return make_sweep_plan(config, {std::move(sweep)});
}

}  // namespace acalsim
