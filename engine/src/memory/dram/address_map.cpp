#include "memory/dram/address_map.h"

#include <algorithm>

namespace acalsim {

std::uint64_t AddressMap::channel(std::uint64_t stripe, std::uint64_t slot) const {
    std::uint64_t rotation = 0;
    for (; stripe > 0; stripe /= channels_) {
        rotation += stripe % channels_;
        if (channels_ == 1) break;
    }
    return (slot + rotation) % channels_;
}

void AddressMap::add(std::vector<Piece>& pieces, std::uint64_t low, std::uint64_t high) const {
    const std::uint64_t first = low / burst_, end = ceil_div(high, burst_);
    if (!pieces.empty() && pieces.back().first + pieces.back().count == first) {
        pieces.back().count += end - first;
    } else {
        pieces.push_back({first, end - first});
    }
}

void AddressMap::split(const Box& box, std::vector<std::vector<Piece>>& per_channel) const {
    box.for_each_run([&](std::uint64_t address, Bytes bytes) {
        std::uint64_t at = address;
        const std::uint64_t end = address + bytes;
        const Bytes stripe_bytes = granule_ * channels_;
        while (at < end) {
            const std::uint64_t stripe = at / stripe_bytes;
            if (at % stripe_bytes == 0 && end - at >= 2 * stripe_bytes) {
                const std::uint64_t stripes = (end - at) / stripe_bytes;
                for (auto& pieces : per_channel) add(pieces, stripe * granule_, (stripe + stripes) * granule_);
                at += stripes * stripe_bytes;
                continue;
            }
            const std::uint64_t slot = at / granule_ % channels_;
            const std::uint64_t stop = std::min(end, (at / granule_ + 1) * granule_);
            const std::uint64_t base = stripe * granule_ - at / granule_ * granule_;  // modulo 2^64
            add(per_channel[channel(stripe, slot)], at + base, stop + base);
            at = stop;
        }
    });
}

}  // namespace acalsim
