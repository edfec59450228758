// The refresh of a DRAM channel.
#pragma once

#include <memory>

#include "memory/dram/banks.h"

namespace acalsim {

/// Says when the next refresh is due and which banks it takes. One file for each kind.
class DramRefresh {
  public:
    /// `parts` refreshes, evenly spread over `interval` clocks, reach every bank.
    DramRefresh(std::uint64_t interval, std::uint64_t parts) : interval_(interval), parts_(parts) { update_due(); }
    virtual ~DramRefresh() = default;

    void reset() {
        done_ = 0;
        begin_round();
        update_due();
    }

    /// No burst is issued at this clock or later before the refresh is.
    std::uint64_t due() const { return due_; }

    /// Issues the refresh that is due; the row used last is in `last_bank` of each group.
    void issue(DramBanks& banks, std::uint64_t last_bank) {
        refresh(banks, last_bank);
        if (++done_ % parts_ == 0) begin_round();
        update_due();
    }

    /// Refreshes of an idle channel leave it as the last of them does: passes over those before the last until `now`.
    void skip(std::uint64_t now) {
        if (now < due_ + 2 * interval_) return;
        done_ += ((now - due_) / interval_ - 1) * parts_;
        update_due();
    }

  private:
    virtual void refresh(DramBanks& banks, std::uint64_t last_bank) = 0;
    virtual void begin_round() {}
    void update_due() { due_ = interval_ * (done_ / parts_) + interval_ * (done_ % parts_ + 1) / parts_; }

    const std::uint64_t interval_, parts_;
    std::uint64_t done_ = 0, due_ = 0;
};

std::unique_ptr<DramRefresh> make_no_refresh();

/// All banks at once, every tREFI.
std::unique_ptr<DramRefresh> make_all_bank_refresh(const DramTiming& timing);

/// One bank after the other, each once in a tREFI.
std::unique_ptr<DramRefresh> make_per_bank_refresh(const DramTiming& timing);

}  // namespace acalsim
