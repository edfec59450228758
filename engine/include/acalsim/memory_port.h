// The engine's view of main memory, served by the built-in models or by a host such as SST.
#pragma once

#include <memory>
#include <vector>

#include "acalsim/box.h"
#include "acalsim/config.h"

namespace acalsim {

/// One DMA transfer. `source` is the core that it belongs to: a core's transfers are served in the order of their
/// issue, several may be in flight. `id` is unique among those in flight and below cores * dma.channels.
struct Transfer {
    std::uint32_t id = 0;
    std::uint32_t source = 0;
    bool write = false;
    Box box;
};

/// A transfer that has ended, with the DRAM bursts that it took; both counts are 0 for memory without rows.
struct TransferEnd {
    std::uint32_t id = 0;
    std::uint64_t bursts = 0;
    std::uint64_t row_hits = 0;  // bursts that found their row open
};

/// What one channel has moved since the last reset. Bytes are those on the bus, whole bursts.
struct ChannelStats {
    Bytes bytes_read = 0;
    Bytes bytes_written = 0;
    std::uint64_t bursts = 0;
    std::uint64_t row_hits = 0;
};

/// Moves transfers and says when each has ended; time never runs backwards between calls.
class MemoryPort {
  public:
    virtual ~MemoryPort() = default;

    /// Back to the canonical state at cycle 0: rows closed, refresh phase 0, nothing in flight, nothing counted.
    virtual void reset() = 0;

    /// Starts a transfer at `now`.
    virtual void issue(Cycle now, const Transfer& transfer) = 0;

    /// No transfer ends before this cycle; kNever when none is in flight.
    virtual Cycle next_event() const = 0;

    /// Serves until the first cycle at which transfers end, at most until `limit`; appends them, returns the cycle.
    virtual Cycle advance(Cycle limit, std::vector<TransferEnd>& ended) = 0;

    /// One entry per channel.
    virtual std::vector<ChannelStats> channels() const = 0;
};

/// The built-in model that `config.memory.preset` names; throws std::invalid_argument if there is none.
std::unique_ptr<MemoryPort> make_memory(const Config& config);

}  // namespace acalsim
