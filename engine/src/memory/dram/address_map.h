// Where a byte lives: channel, and place inside the channel.
#pragma once

#include <vector>

#include "acalsim/box.h"

namespace acalsim {

/// A contiguous range of bursts of one channel.
struct Piece {
    std::uint64_t first = 0;
    std::uint64_t count = 0;
};

/// Interleaves granules over the channels. The rotation differs from stripe to stripe, so that a power-of-two pitch
/// does not fall on one channel.
class AddressMap {
  public:
    AddressMap(std::uint64_t channels, Bytes granule, Bytes burst)
        : channels_(channels), granule_(granule), burst_(burst) {}

    /// Appends the whole bursts that a box touches to the list of each channel, in the order of its runs.
    void split(const Box& box, std::vector<std::vector<Piece>>& per_channel) const;

  private:
    std::uint64_t channel(std::uint64_t stripe, std::uint64_t slot) const;
    void add(std::vector<Piece>& pieces, std::uint64_t low, std::uint64_t high) const;

    std::uint64_t channels_;
    Bytes granule_, burst_;
};

}  // namespace acalsim
