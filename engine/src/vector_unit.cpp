#include "acalsim/vector_unit.h"

#include <algorithm>
#include <numeric>

namespace acalsim {

namespace {

constexpr auto kAdd = static_cast<std::size_t>(VectorClass::kArithmetic);

/// Additions one after the other that so many values need, however they are arranged.
Cycle levels(std::uint64_t values) {
    Cycle n = 0;
    while (std::uint64_t{1} << n < values) ++n;
    return n;
}

}  // namespace

std::uint64_t VectorOps::total() const { return std::accumulate(count.begin(), count.end(), std::uint64_t{0}); }

Cycle latency(const VectorConfig& config, const VectorOps& ops) {
    Cycle cycles = 0;
    for (std::size_t kind = 0; kind < kVectorClasses; ++kind) cycles += ops.chain[kind] * config.ops[kind].latency;
    return cycles;
}

Work vector_work(const VectorConfig& config, std::uint64_t elements, const VectorOps& ops,
                 VectorReductions reductions) {
    if (elements == 0) return {};
    Cycle interval = 0, drain = latency(config, ops);
    for (std::size_t kind = 0; kind < kVectorClasses; ++kind) interval += ops.count[kind] * config.ops[kind].interval;
    Cycle busy = ceil_div(elements, config.lanes) * std::max<Cycle>(1, interval);
    if (reductions.rows > 0) {
        busy += reductions.rows - 1;
        drain += levels(std::min(elements, reductions.elements)) * config.ops[kAdd].latency;
    }
    return {0, busy, drain};
}

}  // namespace acalsim
