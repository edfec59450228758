#include "uses.h"

#include <algorithm>
#include <utility>

namespace acalsim {

namespace {

std::uint64_t lane(const Interval& use) {
    return std::uint64_t{use.core} << 32 | std::uint64_t{use.index} << 8 | use.unit;
}

}  // namespace

void Uses::add(const Interval& use) {
    if (join(use)) return;
    if (uses_.size() >= limit_) {
        thin();
        if (join(use)) return;
    }
    latest_[lane(use)] = uses_.size();
    uses_.push_back(use);
}

bool Uses::join(const Interval& use) {
    const auto found = latest_.find(lane(use));
    if (found == latest_.end()) return false;
    Interval& before = uses_[found->second];
    if (before.command != use.command || use.begin < before.end || use.begin - before.end > gap_) return false;
    before.end = use.end;
    before.busy += use.busy;
    before.bytes += use.bytes;
    return true;
}

/// Doubles the gap until at most half of the uses are left, or one for each command on each unit.
void Uses::thin() {
    Cycle last = 0;
    for (const Interval& use : uses_) last = std::max(last, use.end);
    do {
        gap_ = std::max<Cycle>(1, 2 * gap_);
        std::vector<Interval> before = std::exchange(uses_, {});
        latest_.clear();
        for (const Interval& use : before) {
            if (join(use)) continue;
            latest_[lane(use)] = uses_.size();
            uses_.push_back(use);
        }
    } while (uses_.size() > Engine::kMostIntervals / 2 && gap_ < last);
    limit_ = std::max(Engine::kMostIntervals, 2 * uses_.size());
}

void Uses::clear() {
    uses_.clear();
    latest_.clear();
    gap_ = 0;
    limit_ = Engine::kMostIntervals;
}

}  // namespace acalsim
