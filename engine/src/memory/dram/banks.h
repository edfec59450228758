// The banks and buses of one DRAM channel.
#pragma once

#include <vector>

#include "memory/dram/standard.h"

namespace acalsim {

/// A command on the bus, for tests.
struct DramCommand {
    enum class Kind { kActivate, kPrecharge, kRead, kWrite, kRefreshAll, kRefreshBank };
    Kind kind;
    std::uint64_t at;  // clocks
    std::uint64_t group, bank, row;
};

/// Knows where a burst lies, which rows are open, the first clock at which the standard allows each command, and what a
/// command leaves behind. The command bus is never the limit and is not modelled.
class DramBanks {
  public:
    /// Throws std::invalid_argument unless rows, banks and groups are powers of two.
    explicit DramBanks(const DramTiming& timing);

    void reset();
    void set_trace(std::vector<DramCommand>* trace) { trace_ = trace; }
    const DramTiming& timing() const { return t_; }

    /// A burst's place: the same row of a bank in every group is a page, whose bursts rotate over the groups.
    struct Place {
        std::uint64_t page, bank, row, offset;  // bank: in each group; offset: burst inside the page
    };
    Place place(std::uint64_t burst) const;
    /// The group of the burst that lies `ahead` of a place in its page.
    std::uint64_t group_of(const Place& place, std::uint64_t ahead) const {
        return (place.offset + ahead + place.page) & (t_.groups - 1);
    }
    /// Bursts from a place to the end of its page.
    std::uint64_t left_in_page(const Place& place) const { return page_bursts_ - place.offset; }
    /// Whether the page was used last of those in its bank.
    bool is_open(const Place& place) const { return open_page_[place.bank] == place.row; }

    /// First clocks of the commands that a burst needs; those before its CAS are kNever if its row is open.
    struct Timed {
        std::uint64_t precharge = kNever, activate = kNever, cas = 0;
    };
    /// `visible`: clock at which the controller knows of the burst.
    Timed earliest(std::uint64_t visible, bool write, const Place& place, std::uint64_t group) const;
    void issue(bool write, const Place& place, std::uint64_t group, const Timed& timed);

    /// First clock of the next CAS on the bus.
    std::uint64_t ready() const { return ready_; }
    /// Issues `count` bursts from `ahead` on at even spacing from ready(), once as many as there are groups were
    /// issued.
    void issue_run(bool write, const Place& place, std::uint64_t ahead, std::uint64_t count);

    /// Precharges a bank's open rows, in all groups, as soon as that is allowed.
    void close(std::uint64_t bank);

    /// Refresh as soon as that is allowed from `due` on; open rows are precharged first.
    void refresh_all(std::uint64_t due);
    void refresh(std::uint64_t due, std::uint64_t group, std::uint64_t bank);

  private:
    struct Bank {
        std::uint64_t row = kClosed;
        std::uint64_t activate = 0;   // first clock at which it may be activated, once precharged
        std::uint64_t activated = 0;  // its last activation
        std::uint64_t precharge = 0;  // first clock at which it may be precharged
    };
    struct Group {
        std::uint64_t cas = 0, activate = 0;  // first clocks that its last commands allow
        std::uint64_t read_after_write = 0;
    };
    static constexpr std::uint64_t kClosed = ~std::uint64_t{0};

    Bank& bank(std::uint64_t group, std::uint64_t index) { return banks_[group * t_.banks + index]; }
    const Bank& bank(std::uint64_t group, std::uint64_t index) const { return banks_[group * t_.banks + index]; }
    void leave(bool write, std::uint64_t cas, Bank& bank, Group& group);
    void trace(DramCommand::Kind kind, std::uint64_t at, std::uint64_t group, std::uint64_t bank, std::uint64_t row) {
        if (trace_) trace_->push_back({kind, at, group, bank, row});
    }

    const DramTiming t_;
    const std::uint64_t page_bursts_;
    const unsigned page_shift_, bank_shift_;  // of bursts to pages and pages to rows
    std::vector<Bank> banks_;
    std::vector<Group> groups_;
    std::vector<std::uint64_t> open_page_;  // per bank index: the row that was used last, unless it was closed since
    std::uint64_t ready_ = 0;
    std::uint64_t read_after_write_ = 0, write_after_read_ = 0, activate_ = 0;
    std::uint64_t recent_activations_[4] = {};
    std::uint64_t activations_ = 0;
    std::vector<DramCommand>* trace_ = nullptr;
};

}  // namespace acalsim
