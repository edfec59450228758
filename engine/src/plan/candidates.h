// Mappings that may be fast, with a first estimate of each.
#pragma once

#include <vector>

#include "acalsim/config.h"
#include "plan/contraction.h"
#include "plan/memory_profile.h"

namespace acalsim {

struct Candidate {
    double time;  // cycles, about: no bound, but never less than the arrays' work
    Mapping mapping;
    std::uint64_t steps;
    double visits;  // to rows of the DRAM, about: what a trial costs
    double memory;  // cycles for which memory is busy
};

constexpr double kPromising = 1.3;  // how far the estimate may be off among the candidates rehearsed

/// Appends the mappings of a share under one dataflow, each estimated in closed form. Those estimated at more than
/// kPromising times `best`, the shortest estimate so far, are left out.
void append_candidates(const Config& config, MemoryProfile& memory, const Contraction& contraction, const Share& share,
                       Dataflow dataflow, std::vector<Candidate>& found, double& best);

}  // namespace acalsim
