// The scheduler of a DRAM channel.
#pragma once

#include <memory>

#include "memory/dram/source.h"

namespace acalsim {

/// Chooses whose burst is served next, and the order of the rows within a stream. One file for each scheduler.
class DramScheduler {
  public:
    virtual ~DramScheduler() = default;

    virtual void reset() = 0;

    /// The pieces of a new stream of a source in the order in which they are served.
    virtual std::vector<Piece> arrange(std::size_t source, const std::vector<Piece>& pieces,
                                       const DramBanks& banks) = 0;

    /// The source that is served at `now`, at which one has a visible burst; it may be asked again before any is
    /// served.
    virtual std::size_t choose(std::uint64_t now, const std::vector<DramSource>& sources,
                               const DramBanks& banks) const = 0;

    /// So many bursts of the source that was chosen have been served, all of one row.
    virtual void served(std::size_t source, bool write, std::uint64_t bursts) = 0;
};

std::unique_ptr<DramScheduler> make_fr_fcfs(const DramTiming& timing, std::size_t sources);

}  // namespace acalsim
