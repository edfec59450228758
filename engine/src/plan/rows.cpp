// REDUCE, SOFTMAX and NORM: commands whose rows are reduced.
#include <stdexcept>

#include "plan/plans.h"
#include "plan/sweep.h"

namespace acalsim {

namespace {

/// One pass over rows of `shape`; the last dim is a row.
Sweep row_pass(const Operand& shape, std::vector<SweepOperand> operands, const VectorOps& ops, bool reduces,
               bool whole_rows) {
    Sweep sweep{shape};
    if (shape.rank == 0) throw std::invalid_argument("row command: rank 0, expected at least 1");
    sweep.operands = std::move(operands);
    sweep.ops = ops;
    const std::uint64_t columns = sweep.dims.back();
    if (reduces) sweep.row_elements = columns;
    sweep.whole.back() = whole_rows;
    return sweep;
}

constexpr VectorClass kSimple = VectorClass::kArithmetic, kDivide = VectorClass::kDivide;
constexpr VectorClass kExp = VectorClass::kExponential, kRoot = VectorClass::kRoot;

Bytes row_bytes(const Operand& operand) { return operand.rank ? operand.dims[operand.rank - 1] * operand.element : 0; }

/// weight and bias [columns] as operands over [*rows, columns].
SweepOperand per_column(const Operand& operand, std::size_t rank) {
    SweepOperand result(operand, false);
    result.axes.insert(result.axes.begin(), rank - operand.rank, SweepOperand::Axis{});
    return result;
}

}  // namespace

CommandWork work_of(const Config&, const acal_reduce_t& command) {
    const Operand x(command.x), out(command.out), indices(command.indices);
    if (x.rank != out.rank) throw std::invalid_argument("REDUCE: operands differ in rank");
    Sweep sweep{x};
    sweep.operands = {{x, false}, {out, true}};
    if (indices.present) sweep.operands.emplace_back(indices, true);
    sweep.ops.add(VectorClass::kArithmetic, indices.present ? 2 : 1);
    std::uint64_t reduced = 1;
    for (std::size_t d = 0; d < x.rank; ++d) {
        sweep.reduced[d] = command.axes >> d & 1;
        if (!sweep.reduced[d]) continue;
        reduced *= x.dims[d];
        for (std::size_t i = 1; i < sweep.operands.size(); ++i) sweep.operands[i].axes[d].stride = 0;
    }
    // Lanes that hold neighbouring elements of one result meet in a tree.
    if (x.rank > 0 && sweep.reduced[x.rank - 1]) sweep.row_elements = std::max<std::uint64_t>(1, reduced);
    return CommandWork::over({std::move(sweep)});
}

CommandWork work_of(const Config& config, const acal_softmax_t& command) {
    const Operand x(command.x), out(command.out);
    if (x.rank != out.rank) throw std::invalid_argument("SOFTMAX: operands differ in rank");
    const SweepOperand in(x, false), result(out, true);
    // max, subtract, exp, sum, divide (or logarithm and subtract).
    if (config.vector.fused_rows && 2 * (row_bytes(x) + row_bytes(out)) <= config.scratchpad.size) {
        return CommandWork::over({row_pass(x, {in, result}, {{kSimple, 3}, {kExp, 1}, {kDivide, 1}}, true, true)});
    }
    // The three passes of safe softmax: read for the maximum, read for the sum, read and write the result.
    return CommandWork::over({row_pass(x, {in}, {{kSimple, 1}}, true, false),
                              row_pass(x, {in}, {{kSimple, 2}, {kExp, 1}}, true, false),
                              row_pass(x, {in, result}, {{kSimple, 1}, {kExp, 1}, {kDivide, 1}}, false, false)});
}

CommandWork work_of(const Config& config, const acal_norm_t& command) {
    const Operand x(command.x), out(command.out), weight(command.weight), bias(command.bias);
    const Operand mean(command.mean), rstd(command.rstd);
    if (x.rank != out.rank || weight.rank > x.rank || bias.rank > x.rank) {
        throw std::invalid_argument("NORM: operands differ in rank");
    }
    std::vector<SweepOperand> last;
    if (weight.present) last.push_back(per_column(weight, x.rank));
    if (bias.present) last.push_back(per_column(bias, x.rank));
    for (const Operand* row : {&mean, &rstd}) {
        if (!row->present) continue;
        if (row->rank != x.rank) throw std::invalid_argument("NORM: mean or rstd differs in rank");
        last.emplace_back(*row, true);
        last.back().axes.back().stride = 0;
    }
    last.emplace_back(out, true);
    const std::uint64_t affine = (weight.present ? 1 : 0) + (bias.present ? 1 : 0);
    const auto with = [&last](SweepOperand first) {
        std::vector<SweepOperand> operands{std::move(first)};
        operands.insert(operands.end(), last.begin(), last.end());
        return operands;
    };
    const SweepOperand in(x, false);
    // sum; subtract the mean, square, sum; scale by 1/sqrt, weight, bias. The root is one for a row: latency, no slot.
    VectorOps fused{{kSimple, 5 + affine}};
    VectorOps scale{{kSimple, 1 + affine}};
    for (VectorOps* ops : {&fused, &scale}) ++ops->chain[static_cast<std::size_t>(kRoot)];
    if (config.vector.fused_rows &&
        2 * (row_bytes(x) + row_bytes(out)) + row_bytes(weight) + row_bytes(bias) <= config.scratchpad.size) {
        return CommandWork::over({row_pass(x, with(in), fused, true, true)});
    }
    // Four textbook passes: mean; centre the rows into the output; variance of the centred rows; scale them.
    const SweepOperand centred(out, false), result(out, true);
    return CommandWork::over(
        {row_pass(x, {in}, {{kSimple, 1}}, true, false), row_pass(x, {in, result}, {{kSimple, 1}}, false, false),
         row_pass(x, {centred}, {{kSimple, 2}}, true, false), row_pass(x, with(centred), scale, false, false)});
}

}  // namespace acalsim
