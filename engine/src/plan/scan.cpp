// SCAN: one pass, in order along an axis.
#include <algorithm>
#include <stdexcept>

#include "plan/plans.h"
#include "plan/sweep.h"

namespace acalsim {

namespace {

constexpr VectorClass kSimple = VectorClass::kArithmetic, kExp = VectorClass::kExponential;

/// `times` combinations of two elements, each of which needs the one before.
VectorOps combinations(const acal_scan_t& command, std::uint64_t times) {
    // maximum, difference with its sign cleared, 1 + exp, logarithm, sum
    if (command.op == ACAL_SCANOP_LOGADDEXP) return {{kSimple, 4 * times}, {kExp, 2 * times}};
    return {{kSimple, times * (command.indices.flags & ACAL_OPERANDFLAG_PRESENT ? 2 : 1)}};
}

}  // namespace

CommandWork work_of(const Config& config, const acal_scan_t& command) {
    const Operand x(command.x), out(command.out), indices(command.indices);
    if (x.rank != out.rank || command.axis >= x.rank) throw std::invalid_argument("SCAN: ranks or axis do not fit");
    Sweep sweep{x};
    sweep.operands = {{x, false}, {out, true}};
    if (indices.present) sweep.operands.emplace_back(indices, true);
    sweep.ordered[command.axis] = true;
    std::uint64_t behind = 1;
    for (std::size_t d = command.axis + 1; d < x.rank; ++d) behind *= x.dims[d];
    // Lanes that hold neighbours along the axis combine them in log2 steps (W. D. Hillis, G. L. Steele, Data Parallel
    // Algorithms, 1986), and then with what came before.
    std::uint64_t levels = 0;
    const std::uint64_t neighbours = behind == 1 ? std::min(config.vector.lanes, x.dims[command.axis]) : 1;
    while (std::uint64_t{1} << levels < neighbours) ++levels;
    sweep.ops = combinations(command, levels + 1);
    sweep.carry = combinations(command, 1);
    return CommandWork::over({std::move(sweep)});
}

}  // namespace acalsim
