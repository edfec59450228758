// What a share would take, played through step by step with a memory of one
// pipe.
#pragma once

#include "acalsim/config.h"
#include "acalsim/step.h"

namespace acalsim {

/// Memory as a rehearsal sees it.
struct RehearsalMemory {
    double bytes_per_cycle = 1;  // what streams reach
    double latency = 0;          // cycles from a transfer's last byte to its end
};

/// Cycles until the last step of the stream has ended, alone on one core.
double rehearse(const Config& config, const RehearsalMemory& memory, StepStream& stream);

}  // namespace acalsim
