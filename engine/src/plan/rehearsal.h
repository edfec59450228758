// What a share of a contraction would take under a mapping, played through without simulating memory by bursts.
#pragma once

#include "acalsim/config.h"
#include "plan/contraction.h"
#include "plan/memory_profile.h"

namespace acalsim {

/// Cycles until the last store has ended, alone on one core. It follows the order in which a Core works, step by step;
/// with memory of a fixed rate and latency it comes within 3 % of what the engine says. After some `limit` steps, at
/// the end of a round of the outer loop (or of a million steps of the innermost), the rest is taken to go on as the
/// rounds before.
double rehearse(const Config& config, MemoryProfile& memory, const Contraction& contraction, const Share& share,
                const Mapping& mapping, std::uint64_t limit);

}  // namespace acalsim
