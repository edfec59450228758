// One DRAM channel: its banks and the parts of its controller.
#pragma once

#include <memory>
#include <vector>

#include "memory/dram/banks.h"
#include "memory/dram/refresh.h"
#include "memory/dram/row_policy.h"
#include "memory/dram/scheduler.h"
#include "memory/dram/source.h"

namespace acalsim {

struct DramStats {
    std::uint64_t reads = 0, writes = 0;  // bursts
    std::uint64_t activations = 0;
};

/// Serves the streams of its sources, one source per core; the streams of a source are served in order. Rows are
/// prepared ahead, from the moment that a burst is visible (within its source's window). Every command is issued at the
/// first clock that all constraints allow.
class DramChannel {
  public:
    /// `memory` names the refresh, the row policy and whether a row's run of bursts is scheduled at once, which gives
    /// the same result. `window`: bursts in flight per source; `latency`: clocks from the end of a burst's data until
    /// its place in the window is free again. With `scheduler` null it is FR-FCFS.
    DramChannel(const DramTiming& timing, const MemoryConfig& memory, std::size_t sources, std::uint64_t window,
                std::uint64_t latency, std::unique_ptr<DramScheduler> scheduler = nullptr);

    void reset();
    /// Queues a stream behind the others of its source; `pieces` are not empty, `id` comes back when it ends.
    void start(std::uint64_t now, std::size_t source, std::uint32_t id, std::uint64_t age, bool write,
               const std::vector<Piece>& pieces);

    /// Clock of the next decision; kNever when idle.
    std::uint64_t next() const { return next_; }

    struct Ended {
        bool ended = false;
        std::uint32_t id = 0;
        std::uint64_t at = 0;  // clock after the last data
        std::uint64_t bursts = 0, activations = 0;
    };
    /// Takes the next decision; says whether it ended a stream.
    Ended step();

    const DramStats& stats() const { return stats_; }
    void set_trace(std::vector<DramCommand>* trace) { banks_.set_trace(trace); }

  private:
    std::uint64_t serve(DramSource& source, const DramBanks::Place& place);
    std::uint64_t serve_run(DramSource& source, const DramBanks::Place& place, std::uint64_t ahead, std::uint64_t left);
    void book(DramSource& source, std::uint64_t cas, std::uint64_t count);
    void put_off();
    void update_next();

    const DramTiming t_;
    const std::uint64_t window_, latency_;
    const bool fast_;
    DramBanks banks_;
    std::unique_ptr<DramScheduler> scheduler_;
    std::unique_ptr<DramRowPolicy> rows_;
    std::unique_ptr<DramRefresh> refresh_;
    bool used_ = true;  // since the last reset
    std::vector<DramSource> sources_;
    std::uint64_t next_ = kNever;
    const DramSource* last_ = nullptr;  // served last, in this bank
    std::uint64_t last_bank_ = 0;
    std::uint64_t put_off_ = 0;  // refreshes since the last burst for which one had to wait
    DramStats stats_;
};

}  // namespace acalsim
