// VECTOR, COPY and FILL: every element once.
#include <array>
#include <stdexcept>
#include <string>

#include "plan/plans.h"
#include "plan/sweep.h"

namespace acalsim {

namespace {

struct OpKind {
    VectorClass kind;
    int operands;
};

/// Every operation of the ABI but LOAD, STORE and CONST, for which operands stream from and to the scratchpad beside
/// the arithmetic and constants stay in registers.
OpKind kind_of(std::uint8_t op) {
    switch (op) {
        case ACAL_VECTOROP_DIV: return {VectorClass::kDivide, 2};
        case ACAL_VECTOROP_RECIPROCAL: return {VectorClass::kDivide, 1};
        case ACAL_VECTOROP_SQRT:
        case ACAL_VECTOROP_RSQRT: return {VectorClass::kRoot, 1};
        case ACAL_VECTOROP_EXP:
        case ACAL_VECTOROP_LOG: return {VectorClass::kExponential, 1};
        case ACAL_VECTOROP_POW: return {VectorClass::kTranscendental, 2};
        case ACAL_VECTOROP_TANH:
        case ACAL_VECTOROP_SIGMOID:
        case ACAL_VECTOROP_ERF:
        case ACAL_VECTOROP_GELU:
        case ACAL_VECTOROP_GELU_TANH:
        case ACAL_VECTOROP_SIN:
        case ACAL_VECTOROP_COS: return {VectorClass::kTranscendental, 1};
        case ACAL_VECTOROP_CAST:
        case ACAL_VECTOROP_NEG:
        case ACAL_VECTOROP_ABS:
        case ACAL_VECTOROP_RELU:
        case ACAL_VECTOROP_FLOOR:
        case ACAL_VECTOROP_CEIL:
        case ACAL_VECTOROP_NOT: return {VectorClass::kArithmetic, 1};
        case ACAL_VECTOROP_ADD:
        case ACAL_VECTOROP_SUB:
        case ACAL_VECTOROP_MUL:
        case ACAL_VECTOROP_MIN:
        case ACAL_VECTOROP_MAX:
        case ACAL_VECTOROP_EQ:
        case ACAL_VECTOROP_NE:
        case ACAL_VECTOROP_LT:
        case ACAL_VECTOROP_LE:
        case ACAL_VECTOROP_GT:
        case ACAL_VECTOROP_GE:
        case ACAL_VECTOROP_AND:
        case ACAL_VECTOROP_OR:
        case ACAL_VECTOROP_XOR: return {VectorClass::kArithmetic, 2};
        case ACAL_VECTOROP_WHERE: return {VectorClass::kArithmetic, 3};
        default: throw std::invalid_argument("VECTOR: operation " + std::to_string(op) + " is not one of the ABI");
    }
}

/// What the program needs for one element; its longest path is that with the largest sum of latencies.
VectorOps program_ops(const VectorConfig& config, const acal_vector_t& command) {
    struct Path {
        Cycle latency = 0;
        std::array<std::uint64_t, kVectorClasses> chain{};
    };
    std::array<Path, 256> registers;
    Path longest;
    VectorOps ops;
    for (std::uint32_t i = 0; i < command.n_instructions; ++i) {
        const acal_vector_instruction_t& instruction = command.instructions[i];
        if (instruction.op == ACAL_VECTOROP_STORE) continue;
        Path& result = registers[instruction.dst];
        if (instruction.op == ACAL_VECTOROP_LOAD || instruction.op == ACAL_VECTOROP_CONST) {
            result = {};
            continue;
        }
        const OpKind op = kind_of(instruction.op);
        const auto kind = static_cast<std::size_t>(op.kind);
        const std::uint8_t sources[] = {instruction.a, instruction.b, instruction.c};
        Path path = registers[sources[0]];
        for (int s = 1; s < op.operands; ++s) {
            if (registers[sources[s]].latency > path.latency) path = registers[sources[s]];
        }
        path.latency += config.ops[kind].latency;
        ++path.chain[kind];
        ++ops.count[kind];
        result = path;
        if (path.latency > longest.latency) longest = path;
    }
    ops.chain = longest.chain;
    return ops;
}

}  // namespace

std::vector<Sweep> vector_passes(const Config& config, const acal_vector_t& command) {
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
    sweep.ops = program_ops(config.vector, command);
    return {std::move(sweep)};
}

std::vector<Sweep> copy_passes(const acal_copy_t& command) {
    const Operand x(command.x), out(command.out);
    if (x.rank != out.rank) throw std::invalid_argument("COPY: operands differ in rank");
    Sweep sweep{out};
    sweep.operands = {{x, false}, {out, true}};
    sweep.vector = x.dtype != out.dtype;  // without a conversion the DMA alone does it
    sweep.ops.add(VectorClass::kArithmetic);
    return {std::move(sweep)};
}

std::vector<Sweep> fill_passes(const acal_fill_t& command) {
    const Operand out(command.out);
    Sweep sweep{out};
    sweep.operands = {{out, true}};
    sweep.ops.add(VectorClass::kArithmetic);
    return {std::move(sweep)};
}

}  // namespace acalsim
