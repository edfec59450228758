// The engine's view of main memory, served by the built-in models or by a host such as SST.
#pragma once

#include <memory>
#include <vector>

#include "acalsim/box.h"
#include "acalsim/config.h"

namespace acalsim {

/// One DMA transfer. `source` is the DMA channel that carries it; a source has at most one transfer in flight.
struct Transfer {
    std::uint32_t id = 0;
    std::uint32_t source = 0;
    bool write = false;
    Box box;
};

/// Moves transfers and says when each has ended; time never runs backwards between calls.
class MemoryPort {
  public:
    virtual ~MemoryPort() = default;

    /// Back to the canonical state at cycle 0: rows closed, refresh phase 0, nothing in flight.
    virtual void reset() = 0;

    /// Starts a transfer at `now`.
    virtual void issue(Cycle now, const Transfer& transfer) = 0;

    /// No transfer ends before this cycle; kNever when none is in flight.
    virtual Cycle next_event() const = 0;

    /// Serves until the first cycle at which transfers end, at most until `limit`; appends their ids, returns the
    /// cycle.
    virtual Cycle advance(Cycle limit, std::vector<std::uint32_t>& ended) = 0;
};

/// The built-in model that `config.memory.preset` names; throws std::invalid_argument if there is none.
std::unique_ptr<MemoryPort> make_memory(const Config& config);

}  // namespace acalsim
