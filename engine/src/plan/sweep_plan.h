// The steps of passes.
#pragma once

#include <memory>
#include <vector>

#include "acalsim/config.h"
#include "acalsim/plan.h"
#include "plan/memory_profile.h"
#include "plan/sweep.h"
#include "plan/tiling.h"

namespace acalsim {

/// Cycles of the first core's share of a pass, about: the first `limit` tiles played through, transfers beside compute,
/// the rest taken to go on like them.
double rehearse(const Config& config, MemoryProfile& memory, const Sweep& sweep, const Tiling& tiling,
                std::uint64_t limit);

/// The plan of passes that follow one another, each split over the cores; throws std::invalid_argument if a tile does
/// not fit on chip.
Plan make_sweep_plan(const Config& config, const std::shared_ptr<const std::vector<Sweep>>& passes,
                     const std::vector<Tiling>& tilings);

}  // namespace acalsim
