// VECTOR, COPY and FILL: every element once.
#include <array>
#include <iterator>
#include <stdexcept>
#include <string>

#include "plan/plans.h"
#include "plan/sweep.h"

namespace acalsim {

namespace {

struct OpKind {
    std::size_t cost;  // a VectorClass
    int operands;
};

/// LOAD, STORE and CONST cost nothing: operands stream from and to the scratchpad beside the arithmetic, and constants
/// stay in registers.
OpKind kind_of(std::uint8_t op) {
#define ACAL_KIND(NAME, arity, cost, compares) {ACAL_VECTORCLASS_##cost, arity},
    constexpr OpKind kKinds[] = {ACAL_VECTOR_OPS(ACAL_KIND)};
#undef ACAL_KIND
    if (op >= std::size(kKinds)) {
        throw std::invalid_argument("VECTOR: operation " + std::to_string(op) + " is not one of the ABI");
    }
    return kKinds[op];
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
        const std::size_t kind = op.cost;
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

CommandWork work_of(const Config& config, const acal_vector_t& command) {
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
    return CommandWork::over({std::move(sweep)});
}

CommandWork work_of(const Config&, const acal_copy_t& command) {
    const Operand x(command.x), out(command.out);
    if (x.rank != out.rank) throw std::invalid_argument("COPY: operands differ in rank");
    Sweep sweep{out};
    sweep.operands = {{x, false}, {out, true}};
    sweep.vector = x.dtype != out.dtype;  // without a conversion the DMA alone does it
    sweep.ops.add(VectorClass::kArithmetic);
    return CommandWork::over({std::move(sweep)});
}

CommandWork work_of(const Config&, const acal_fill_t& command) {
    const Operand out(command.out);
    Sweep sweep{out};
    sweep.operands = {{out, true}};
    sweep.ops.add(VectorClass::kArithmetic);
    return CommandWork::over({std::move(sweep)});
}

}  // namespace acalsim
