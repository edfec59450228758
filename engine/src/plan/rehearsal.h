// What a share of a contraction would take under a mapping, played through without simulating memory by bursts.
#pragma once

#include "acalsim/config.h"
#include "plan/contraction.h"
#include "plan/memory_profile.h"

namespace acalsim {

/// Cycles until the last store has ended, alone on one core. It follows the order in which a Core works, step by step:
/// exact where memory costs nothing, within 6 % of the simulation where it has a fixed rate and runs are whole bursts
/// of 32 bytes or more, on DRAM within a factor of 2.4 and mostly within 35 % (tests/test_agreement.cpp has the sources
/// of what is left). After some `limit` steps, at the end of a round of the outer loop (or of a million steps of the
/// innermost), the rest is taken to go on as the rounds before.
double rehearse(const Config& config, MemoryProfile& memory, const Contraction& contraction, const Share& share,
                const Mapping& mapping, std::uint64_t limit);

}  // namespace acalsim
