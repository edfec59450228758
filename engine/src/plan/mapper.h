// Chooses tile sizes, loop order, what stays on chip, and the dataflow.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "acalsim/command.h"
#include "plan/contraction.h"
#include "plan/memory_profile.h"
#include "plan/tiling.h"

namespace acalsim {

class Simulation;

/// Finds a fast mapping for each command: every candidate is estimated in closed form, the most promising are
/// rehearsed, the best of those tried in a simulation of their own where that is quick. What was found is kept by
/// shape.
class Mapper {
  public:
    /// `poll` is called between parts of a search, if it is there then; what it throws ends the search.
    Mapper(const Config& config, const std::function<void()>& poll);
    ~Mapper();

    /// The mapping of a command for all the shares into which it is split. Throws std::invalid_argument when not even
    /// the smallest tile fits on chip.
    const Mapping& map(const Command& command, const Contraction& contraction, const std::vector<Share>& shares);

    /// The tilings of the passes of another command.
    const std::vector<Tiling>& tile(const std::vector<Sweep>& passes);

    /// Cycles that the share and the passes take about, with that mapping and those tilings.
    double estimate(const Contraction& contraction, const Share& share, const Mapping& mapping);
    double estimate(const std::vector<Sweep>& passes, const std::vector<Tiling>& tilings);

    /// Uses a mapping for all commands of this shape from now on.
    void pin(const Contraction& contraction, const Mapping& mapping);
    void pin(const std::vector<Sweep>& passes, std::vector<Tiling> tilings);

  private:
    Mapping search(const std::shared_ptr<const Contraction>& contraction, const std::vector<Share>& shares);
    MemoryProfile& memory();
    Cycle try_out(const std::shared_ptr<const Contraction>& contraction, const std::vector<Share>& shares,
                  const Mapping& mapping);

    const Config& config_;
    const std::function<void()>& poll_;
    std::unique_ptr<MemoryProfile> memory_;  // made when it is first needed, as is the one for trials
    std::unique_ptr<Simulation> trial_;
    std::map<std::vector<std::uint64_t>, Mapping> found_;
    std::map<std::vector<std::uint64_t>, std::vector<Tiling>> tilings_;
};

}  // namespace acalsim
