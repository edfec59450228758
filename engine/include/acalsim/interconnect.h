// The links between the cores and main memory.
#pragma once

#include <vector>

#include "acalsim/config.h"

namespace acalsim {

/// One link per core; its bytes cross one after the other at a fixed rate.
class Interconnect {
  public:
    explicit Interconnect(const Config& config);

    void reset();

    /// Books the bytes of a transfer that starts at `now`; the cycle at which the last has crossed.
    Cycle cross(std::size_t core, Cycle now, Bytes bytes);

  private:
    Ratio rate_;
    std::vector<Wide> free_;  // in 1/num cycles, so that the rate is exact
};

}  // namespace acalsim
