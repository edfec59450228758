#include "acalsim/vector_unit.h"

#include <algorithm>
#include <numeric>

namespace acalsim {

namespace {

/// Levels of a tree of adders over `lanes` lanes.
Cycle levels(std::uint64_t lanes) {
    Cycle n = 0;
    while (std::uint64_t{1} << n < lanes) ++n;
    return n;
}

}  // namespace

std::uint64_t VectorOps::total() const { return std::accumulate(count.begin(), count.end(), std::uint64_t{0}); }

Work vector_work(const VectorConfig& config, std::uint64_t elements, const VectorOps& ops,
                 VectorReductions reductions) {
    if (elements == 0) return {};
    Cycle interval = 0, drain = 0;
    for (std::size_t kind = 0; kind < kVectorClasses; ++kind) {
        interval += ops.count[kind] * config.ops[kind].interval;
        drain += ops.chain[kind] * config.ops[kind].latency;
    }
    interval = std::max<Cycle>(1, interval);
    if (reductions.rows == 0) return {0, ceil_div(elements, config.lanes) * interval, drain};
    const Cycle add = config.ops[static_cast<std::size_t>(VectorClass::kArithmetic)].latency;
    const auto with = [&](std::uint64_t lanes) {
        const Cycle tree = levels(std::min(lanes, reductions.elements)) * add;
        return Work{0, ceil_div(elements, lanes) * interval + reductions.rows - 1, drain + tree};
    };
    Work best = with(config.lanes);
    for (std::uint64_t lanes = 1; lanes < config.lanes; lanes *= 2) {
        const Work fewer = with(lanes);
        if (fewer.busy + fewer.drain < best.busy + best.drain) best = fewer;
    }
    return best;
}

}  // namespace acalsim
