// How passes are cut into tiles.
#pragma once

#include <string>
#include <vector>

#include "acalsim/config.h"
#include "plan/memory_profile.h"
#include "plan/sweep.h"

namespace acalsim {

/// How one pass is cut: the tile, and by bit the operands that stay on chip from their first use to the last.
struct Tiling {
    std::vector<std::uint64_t> box;
    std::uint64_t keep = 0;
};

/// The tiling with which the first core's share of a pass is sooner done than with smaller or larger tiles. It may be
/// one that does not fit on chip, if none does.
Tiling choose_tiling(const Config& config, MemoryProfile& memory, const Sweep& sweep);

/// "8x512 keep 2; 8x512": a tiling for each pass, the kept operands as the sum of 2^i.
std::string describe(const std::vector<Tiling>& tilings);

/// The tilings that such a text describes, one for each pass; throws std::invalid_argument.
std::vector<Tiling> parse_tilings(const std::string& text, const std::vector<Sweep>& passes);

}  // namespace acalsim
