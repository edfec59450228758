#include "acalsim/vector_unit.h"

#include <algorithm>

namespace acalsim {

Work vector_work(const VectorConfig& config, std::uint64_t elements, VectorOps ops, std::uint64_t reductions) {
    if (elements == 0) return {};
    const Cycle interval = std::max<Cycle>(1, ops.simple + ops.transcendental * config.transcendental);
    Cycle busy = ceil_div(elements, config.lanes) * interval;
    if (reductions > 0) {
        // A tree over the lanes: one level a cycle, pipelined over the rows that are reduced.
        Cycle levels = 0;
        while ((std::uint64_t{1} << levels) < config.lanes) ++levels;
        busy += reductions - 1 + levels;
    }
    return {0, busy, config.latency};
}

}  // namespace acalsim
