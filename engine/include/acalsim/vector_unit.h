// Cycles of the vector unit.
#pragma once

#include "acalsim/config.h"
#include "acalsim/step.h"

namespace acalsim {

/// Operations of one element, by issue interval.
struct VectorOps {
    std::uint64_t simple = 0;          // one cycle each
    std::uint64_t transcendental = 0;  // VectorConfig::transcendental cycles each
    std::uint64_t count() const { return simple + transcendental; }
};

/// `elements` spread over the lanes, then `reductions` trees across lanes; at least one cycle per group of lanes.
Work vector_work(const VectorConfig& config, std::uint64_t elements, VectorOps ops, std::uint64_t reductions = 0);

}  // namespace acalsim
