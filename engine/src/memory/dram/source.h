// What a DRAM channel has been asked for.
#pragma once

#include <algorithm>
#include <deque>
#include <vector>

#include "memory/dram/address_map.h"
#include "memory/dram/banks.h"

namespace acalsim {

/// A channel's part of one transfer.
struct DramStream {
    std::uint32_t id;
    bool write;
    std::uint64_t age;    // order among the streams of all sources
    std::uint64_t start;  // clock
    std::vector<Piece> pieces;
    std::size_t piece = 0;
    std::uint64_t done = 0;  // bursts of the current piece
    std::uint64_t last_data = 0;
    std::uint64_t bursts = 0, activations = 0;

    std::uint64_t burst() const { return pieces[piece].first + done; }
    std::uint64_t left() const { return pieces[piece].count - done; }
};

/// The streams of one core, in the order in which they are served.
struct DramSource {
    std::deque<DramStream> streams;
    std::vector<std::uint64_t> window;  // a ring: clock at which each place is free again
    std::size_t next_place = 0;

    /// Clock at which the controller sees the next burst.
    std::uint64_t arrival() const { return std::max(streams.front().start, window[next_place]); }
    bool is_visible(std::uint64_t now) const { return !streams.empty() && arrival() <= now; }
    /// Whether the next burst is visible and finds its row open.
    bool is_hit(std::uint64_t now, const DramBanks& banks) const {
        return is_visible(now) && banks.is_open(banks.place(streams.front().burst()));
    }
};

}  // namespace acalsim
