#include "memory/dram/banks.h"

#include <algorithm>
#include <stdexcept>

namespace acalsim {

namespace {

/// The exponent of a power of two.
unsigned exponent(std::uint64_t value, const char* what) {
    unsigned n = 0;
    while (std::uint64_t{1} << n < value) ++n;
    if (std::uint64_t{1} << n != value) {
        throw std::invalid_argument(std::string("DRAM: ") + what + " is " + std::to_string(value) +
                                    ", expected a power of two");
    }
    return n;
}

}  // namespace

DramBanks::DramBanks(const DramTiming& timing)
    : t_(timing),
      page_bursts_(timing.row / timing.burst * timing.groups),
      page_shift_(exponent(page_bursts_, "number of bursts in a row of all bank groups")),
      bank_shift_(exponent(timing.banks, "number of banks in a group")) {
    exponent(timing.groups, "number of bank groups");
    reset();
}

void DramBanks::reset() {
    banks_.assign(t_.groups * t_.banks, Bank{});
    groups_.assign(t_.groups, Group{});
    open_page_.assign(t_.banks, kClosed);
    ready_ = read_after_write_ = write_after_read_ = activate_ = 0;
    activations_ = 0;
}

DramBanks::Place DramBanks::place(std::uint64_t burst) const {
    const std::uint64_t page = burst >> page_shift_, row = page >> bank_shift_;
    // Rows shift the banks, so that streams at a power-of-two distance do not meet in one bank.
    return {page, (page + row) & (t_.banks - 1), row, burst & (page_bursts_ - 1)};
}

DramBanks::Timed DramBanks::earliest(std::uint64_t visible, bool write, const Place& p, std::uint64_t group) const {
    const Bank& b = bank(group, p.bank);
    const Group& g = groups_[group];
    Timed timed;
    std::uint64_t activated = b.activated;
    if (b.row != p.row) {
        std::uint64_t at = std::max({visible, b.activate, activate_, g.activate});
        if (b.row != kClosed) {
            timed.precharge = std::max(visible, b.precharge);
            at = std::max(at, timed.precharge + t_.nRP);
        }
        if (activations_ >= 4) at = std::max(at, recent_activations_[activations_ % 4] + t_.nFAW);
        timed.activate = activated = at;
    }
    timed.cas = std::max({visible, ready_, g.cas, activated + (write ? t_.nRCDWR : t_.nRCDRD),
                          write ? write_after_read_ : std::max(read_after_write_, g.read_after_write)});
    return timed;
}

void DramBanks::issue(bool write, const Place& p, std::uint64_t group, const Timed& timed) {
    Bank& b = bank(group, p.bank);
    Group& g = groups_[group];
    if (timed.activate != kNever) {
        if (timed.precharge != kNever) trace(DramCommand::Kind::kPrecharge, timed.precharge, group, p.bank, b.row);
        trace(DramCommand::Kind::kActivate, timed.activate, group, p.bank, p.row);
        b.row = p.row;
        b.activated = timed.activate;
        b.precharge = timed.activate + t_.nRAS;
        activate_ = timed.activate + t_.nRRDS;
        g.activate = timed.activate + t_.nRRDL;
        recent_activations_[activations_++ % 4] = timed.activate;
    }
    open_page_[p.bank] = p.row;
    trace(write ? DramCommand::Kind::kWrite : DramCommand::Kind::kRead, timed.cas, group, p.bank, p.row);
    leave(write, timed.cas, b, g);
}

/// What a CAS leaves behind.
void DramBanks::leave(bool write, std::uint64_t cas, Bank& b, Group& g) {
    ready_ = cas + t_.spacing();
    g.cas = cas + t_.nCCDL;
    if (write) {
        b.precharge = std::max(b.precharge, cas + t_.nCWL + t_.nBL + t_.nWR);
        read_after_write_ = cas + t_.nCWL + t_.nBL + t_.nWTRS;
        g.read_after_write = cas + t_.nCWL + t_.nBL + t_.nWTRL;
    } else {
        b.precharge = std::max(b.precharge, cas + t_.nRTP);
        // Two clocks for the data bus to turn around.
        write_after_read_ = cas + t_.nCL + t_.nBL + 2 - std::min(t_.nCWL, t_.nCL + t_.nBL + 2);
    }
}

void DramBanks::issue_run(bool write, const Place& p, std::uint64_t ahead, std::uint64_t count) {
    const std::uint64_t spacing = t_.spacing(), first = ready_;
    if (trace_) {
        for (std::uint64_t i = 0; i < count; ++i) {
            trace(write ? DramCommand::Kind::kWrite : DramCommand::Kind::kRead, first + i * spacing,
                  group_of(p, ahead + i), p.bank, p.row);
        }
    }
    // The last burst in each group hides what those before it left behind.
    for (std::uint64_t i = count > t_.groups ? count - t_.groups : 0; i < count; ++i) {
        const std::uint64_t group = group_of(p, ahead + i);
        leave(write, first + i * spacing, bank(group, p.bank), groups_[group]);
    }
}

void DramBanks::close(std::uint64_t index) {
    open_page_[index] = kClosed;
    for (std::uint64_t group = 0; group < t_.groups; ++group) {
        Bank& b = bank(group, index);
        if (b.row == kClosed) continue;
        trace(DramCommand::Kind::kPrecharge, b.precharge, group, index, b.row);
        b.activate = b.precharge + t_.nRP;
        b.row = kClosed;
    }
}

void DramBanks::refresh_all(std::uint64_t due) {
    // Every bank is precharged first; then all are blocked.
    std::uint64_t begin = due;
    for (const Bank& b : banks_) {
        begin = std::max(begin, b.row == kClosed ? b.activate : std::max(due, b.precharge) + t_.nRP);
    }
    for (Bank& b : banks_) {
        b.row = kClosed;
        b.activate = begin + t_.nRFC;
    }
    open_page_.assign(t_.banks, kClosed);
    trace(DramCommand::Kind::kRefreshAll, begin, 0, 0, 0);
}

void DramBanks::refresh(std::uint64_t due, std::uint64_t group, std::uint64_t index) {
    Bank& b = bank(group, index);
    const std::uint64_t begin = b.row == kClosed ? std::max(due, b.activate) : std::max(due, b.precharge) + t_.nRP;
    trace(DramCommand::Kind::kRefreshBank, begin, group, index, 0);
    b.row = kClosed;
    b.activate = begin + t_.nRFCpb;
}

}  // namespace acalsim
