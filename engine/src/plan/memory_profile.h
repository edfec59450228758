// How long transfers take on a memory, as far as that can be said without simulating each burst.
#pragma once

#include <array>
#include <map>
#include <memory>

#include "acalsim/box.h"
#include "acalsim/config.h"
#include "acalsim/memory_port.h"

namespace acalsim {

/// Measured by short streams of runs through the memory model itself, once for each length and pitch, so that it holds
/// for every standard and clock without constants of its own. A core sees its share of the bandwidth.
class MemoryProfile {
  public:
    explicit MemoryProfile(const Config& given);

    /// Cycles for which a box keeps the memory (and the core's link) busy.
    double cycles(const Box& box);

    /// Cycles from the last byte on the bus to the transfer's end.
    double latency() const { return latency_; }

    /// Cycles lost when a write follows a read or the other way round.
    double turn() const { return turn_; }

  private:
    static constexpr std::size_t kShortest = 5, kLongest = 13;  // runs of 32 bytes to 8 KiB are measured
    using Line = std::array<double, kLongest - kShortest + 1>;  // cycles of a run of 2^i bytes; 0: not yet measured

    double run_cycles(Bytes run, Bytes pitch);
    double measured(Line& line, std::size_t length, Bytes pitch);
    double more_runs(Bytes run, std::uint64_t runs, Bytes pitch);

    Config config_;  // with two transfers in flight at least, so that the latency does not count as work
    std::unique_ptr<MemoryPort> memory_;  // null when it is ideal
    double link_cycles_per_byte_ = 0;
    double cycles_per_byte_ = 0;   // of long runs
    std::map<Bytes, Line> lines_;  // by the distance between the beginnings of runs
    double latency_ = 0, turn_ = 0;
};

}  // namespace acalsim
