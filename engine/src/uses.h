// What the units were used for, bounded.
#pragma once

#include <unordered_map>
#include <vector>

#include "acalsim/engine.h"

namespace acalsim {

/// Joins uses as they come; when there are too many, longer gaps between those of one command are closed.
class Uses {
  public:
    void add(const Interval& use);
    void clear();
    const std::vector<Interval>& all() const { return uses_; }

  private:
    /// Joins `use` to the latest of its unit, if that is of the same command and near enough.
    bool join(const Interval& use);
    void thin();

    std::vector<Interval> uses_;
    std::unordered_map<std::uint64_t, std::size_t> latest_;  // by unit
    Cycle gap_ = 0;
    std::size_t limit_ = Engine::kMostIntervals;
};

}  // namespace acalsim
