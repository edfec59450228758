#include "acalsim/interconnect.h"

#include <algorithm>

namespace acalsim {

Interconnect::Interconnect(const Config& config) : rate_(config.interconnect.bytes_per_cycle), free_(config.cores, 0) {}

void Interconnect::reset() { free_.assign(free_.size(), 0); }

Cycle Interconnect::cross(std::size_t core, Cycle now, Bytes bytes) {
    if (rate_.num == 0) return now;
    free_[core] = std::max(free_[core], Wide{now} * rate_.num) + Wide{bytes} * rate_.den;
    return static_cast<Cycle>((free_[core] + rate_.num - 1) / rate_.num);
}

}  // namespace acalsim
