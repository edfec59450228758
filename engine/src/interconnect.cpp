#include "acalsim/interconnect.h"

#include <algorithm>

namespace acalsim {

Interconnect::Interconnect(const Config& config) : rate_(config.interconnect.bytes_per_cycle), free_(config.cores, 0) {}

void Interconnect::reset() { free_.assign(free_.size(), 0); }

Cycle Interconnect::cross(std::size_t core, Cycle now, Bytes bytes) {
    if (rate_.num == 0) return now;
    free_[core] = std::max(free_[core], now * rate_.num) + bytes * rate_.den;
    return ceil_div(free_[core], rate_.num);
}

}  // namespace acalsim
