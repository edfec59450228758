// One DRAM channel: banks, buses and a controller.
#pragma once

#include <deque>
#include <vector>

#include "memory/address_map.h"
#include "memory/dram_standard.h"

namespace acalsim {

/// A command on the bus, for tests.
struct DramCommand {
    enum class Kind { kActivate, kPrecharge, kRead, kWrite, kRefreshAll, kRefreshBank };
    Kind kind;
    std::uint64_t at;  // clocks
    std::uint64_t group, bank, row;
};

struct DramStats {
    std::uint64_t reads = 0, writes = 0;  // bursts
    std::uint64_t activations = 0;
    std::uint64_t refreshes = 0;
    std::uint64_t last_data = 0;  // clock after the last data of any burst
};

/// Serves the streams of its sources, one source per core; the streams of a source are served in order. Between
/// sources: the first ready, then the oldest (FR-FCFS); an opened row is finished before another source is looked at; a
/// direction is kept for a batch of bursts. Rows are prepared ahead, from the moment that a burst is visible (within
/// its source's window). Every command is issued at the first clock that all constraints allow. The command bus is
/// never the limit and is not modelled.
class DramChannel {
  public:
    /// `window`: bursts in flight per source; `latency`: clocks from the end of a burst's data until its place in the
    /// window is free again. `fast` schedules a row's run of bursts at once; the result is the same.
    DramChannel(const DramTiming& timing, std::uint64_t sources, std::uint64_t window, std::uint64_t latency,
                bool fast);

    void reset();
    /// Queues a stream behind the others of its source; `pieces` are not empty, `id` comes back when it ends.
    void start(std::uint64_t now, std::uint64_t source, std::uint32_t id, std::uint64_t age, bool write,
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
    void set_trace(std::vector<DramCommand>* trace) { trace_ = trace; }

  private:
    struct Bank {
        std::uint64_t row = kClosed;
        std::uint64_t activate = 0;   // first clock at which it may be activated, once precharged
        std::uint64_t activated = 0;  // its last activation
        std::uint64_t precharge = 0;  // first clock at which it may be precharged
    };
    struct Group {
        std::uint64_t cas = 0, write = 0, activate = 0;  // first clocks that its last commands allow
        std::uint64_t read_after_write = 0;
    };
    struct Stream {
        std::uint32_t id;
        bool write;
        std::uint64_t age, start;
        std::vector<Piece> pieces;
        std::size_t piece = 0;
        std::uint64_t done = 0;  // bursts of the current piece
        std::uint64_t last_data = 0;
        std::uint64_t bursts = 0, activations = 0;

        std::uint64_t burst() const { return pieces[piece].first + done; }
        std::uint64_t left() const { return pieces[piece].count - done; }
    };
    struct Source {
        std::deque<Stream> streams;         // in the order in which they are served
        std::vector<std::uint64_t> window;  // a ring: clock at which each place is free again
        std::size_t next_place = 0;
        // What its own streams queued so far leave behind, per bank index: the row, and the visit that left it.
        std::vector<std::uint64_t> queued_row, queued_visit;
        std::uint64_t visits = 0;
    };
    struct Place {
        std::uint64_t page, bank, row, offset;  // offset: burst inside the page
    };
    struct Timed {
        std::uint64_t precharge = kNever, activate = kNever, cas = 0;
    };
    static constexpr std::uint64_t kClosed = ~std::uint64_t{0};

    Place place(std::uint64_t burst) const;
    std::vector<Piece> arrange(Source& source, const std::vector<Piece>& pieces) const;
    std::uint64_t group_of(const Place& place, std::uint64_t ahead) const {
        return (place.offset + ahead + place.page) & (t_.groups - 1);
    }
    Bank& bank(std::uint64_t group, std::uint64_t index) { return banks_[group * t_.banks + index]; }
    const Bank& bank(std::uint64_t group, std::uint64_t index) const { return banks_[group * t_.banks + index]; }
    std::uint64_t arrival(const Source& source) const;
    bool hit(const Source& source) const;
    bool continues(std::uint64_t now) const;
    std::size_t choose(std::uint64_t now) const;
    Timed earliest(const Source& source, const Place& place, std::uint64_t group) const;
    void issue(Source& source, const Place& place, std::uint64_t group, const Timed& timed);
    std::uint64_t extend(Source& source, const Place& place, std::uint64_t served, std::uint64_t run);
    void record(Source& source, std::uint64_t cas, std::uint64_t count);
    void refresh();
    void skip_refreshes(std::uint64_t now);
    void refresh_all();
    void refresh_bank();
    void close_page(std::uint64_t bank_index);
    void update_next();
    void trace(DramCommand::Kind kind, std::uint64_t at, std::uint64_t group, std::uint64_t bank, std::uint64_t row) {
        if (trace_) trace_->push_back({kind, at, group, bank, row});
    }

    const DramTiming t_;
    const std::uint64_t window_, latency_, page_bursts_;
    const unsigned page_shift_, bank_shift_;  // of bursts to pages and pages to rows
    const bool fast_;
    bool used_ = true;  // since the last reset
    std::vector<Source> sources_;
    std::vector<Bank> banks_;
    std::vector<Group> groups_;
    std::vector<std::uint64_t> open_page_;  // per bank index: the row that a stream has open across the groups
    std::uint64_t ready_ = 0;               // first clock of the next CAS on the bus
    std::uint64_t read_after_write_ = 0, write_after_read_ = 0, activate_ = 0;
    std::uint64_t recent_activations_[4] = {};
    std::uint64_t activations_ = 0;
    std::uint64_t next_ = kNever, next_refresh_ = kNever;
    std::uint64_t refresh_round_ = 0, current_bank_ = 0;
    std::uint64_t put_off_ = 0;  // refreshes since the last burst for which one had to wait
    std::vector<bool> refreshed_;
    std::size_t current_ = ~std::size_t{0};
    bool direction_write_ = false;
    std::uint64_t in_direction_ = 0;
    DramStats stats_;
    std::vector<DramCommand>* trace_ = nullptr;
};

}  // namespace acalsim
