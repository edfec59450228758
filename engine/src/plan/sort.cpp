// SORT: merge sort. Rows that fit on chip are read and written once; longer ones are sorted in runs and merged.
#include <algorithm>
#include <stdexcept>

#include "plan/plans.h"
#include "plan/sweep.h"

namespace acalsim {

namespace {

constexpr Bytes kPair = 16;               // a key and a position
constexpr std::uint64_t kMergeSteps = 3;  // compare; select the key; select the position

/// How often n has to be halved to be 1.
std::uint64_t levels(std::uint64_t n) {
    std::uint64_t levels = 0;
    while (std::uint64_t{1} << levels < n) ++levels;
    return levels;
}

/// Merge steps of every element: of runs that double up to k, of which each merge then keeps half.
std::uint64_t merges(std::uint64_t n, std::uint64_t k) { return k < n ? levels(k) + 1 : levels(n); }

struct SortWork {
    Operand x, work, values, indices;
    std::size_t axis;
    std::uint64_t n, k;

    explicit SortWork(const acal_sort_t& command)
        : x(command.x), work(command.work), values(command.values), indices(command.indices), axis(command.axis) {
        for (const Operand* out : {&values, &indices}) {
            if (out->present && out->rank != x.rank) throw std::invalid_argument("SORT: operands differ in rank");
        }
        if (axis >= x.rank || !(values.present || indices.present)) {
            throw std::invalid_argument("SORT: axis or results are missing");
        }
        n = x.dims[axis];
        k = values.present ? values.dims[axis] : indices.dims[axis];
    }

    /// Bytes of one place of x and of the results.
    Bytes element() const {
        return x.element + (values.present ? values.element : 0) + (indices.present ? indices.element : 0);
    }

    void add_results(Sweep& sweep) const {
        for (const Operand* out : {&values, &indices}) {
            if (out->present) sweep.operands.emplace_back(*out, true);
        }
    }

    /// A row at a time, whole.
    Sweep whole_rows() const {
        Sweep sweep{x};
        sweep.operands = {{x, false}};
        add_results(sweep);
        sweep.whole[axis] = true;
        sweep.ops.add(VectorClass::kArithmetic, kMergeSteps * merges(n, k));
        return sweep;
    }

    /// Rows pass by, and the first k so far stay on chip.
    Sweep passing_rows() const {
        Sweep sweep{x};
        sweep.operands = {{x, false}};
        add_results(sweep);
        for (std::size_t i = 1; i < sweep.operands.size(); ++i) {
            SweepOperand::Axis& along = sweep.operands[i].axes[axis];
            along.scale_num = 0;
            along.window = along.limit;
        }
        sweep.reduced[axis] = true;
        sweep.ops.add(VectorClass::kArithmetic, kMergeSteps * merges(n, k));
        return sweep;
    }

    /// The pairs in memory. Every row has the same; here rows go on behind each other, so that each moves its own
    /// bytes.
    SweepOperand pairs(bool write) const {
        SweepOperand operand(x, write);
        operand.address = work.address;
        operand.element = kPair;
        operand.axes[axis].stride = 1;
        std::int64_t stride = static_cast<std::int64_t>(n);
        for (std::size_t d = x.rank; d-- > 0;) {
            if (d == axis) continue;
            operand.axes[d].stride = stride;
            stride *= static_cast<std::int64_t>(x.dims[d]);
        }
        return operand;
    }

    /// Runs that fit on chip, then merges of two; one core, because rows share their memory.
    std::vector<Sweep> runs(std::uint64_t run) const {
        const std::uint64_t passes = levels(ceil_div(n, run));
        std::vector<Sweep> sweeps;
        for (std::uint64_t i = 0; i <= passes; ++i) {
            Sweep sweep{x};
            sweep.operands = {i == 0 ? SweepOperand(x, false) : pairs(false)};
            if (i < passes) {
                sweep.operands.push_back(pairs(true));
            } else {
                add_results(sweep);
            }
            sweep.ordered.assign(x.rank, true);
            sweep.ops.add(VectorClass::kArithmetic, kMergeSteps * (i == 0 ? levels(run) : 1));
            sweeps.push_back(std::move(sweep));
        }
        return sweeps;
    }
};

}  // namespace

CommandWork work_of(const Config& config, const acal_sort_t& command) {
    const SortWork work(command);
    // On chip a row needs its elements twice (the next one comes while this one is sorted) and its pairs twice.
    const std::uint64_t room = config.scratchpad.size / (2 * work.element() + 2 * kPair);
    if (work.n <= room) return CommandWork::over({work.whole_rows()});
    if (2 * work.k <= room) return CommandWork::over({work.passing_rows()});
    std::uint64_t run = 1;
    while (2 * run <= room) run *= 2;
    return CommandWork::over(work.runs(run));
}

}  // namespace acalsim
