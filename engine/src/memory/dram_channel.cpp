#include "memory/dram_channel.h"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>

namespace acalsim {

namespace {

constexpr std::uint64_t kDirectionBatch = 128;  // bursts before the bus turns around for a waiting stream
constexpr std::uint64_t kMostPutOff = 4096;     // refreshes in a row that put a burst off, many times what ever ends
constexpr std::size_t kNobody = ~std::size_t{0};
constexpr std::size_t kQueue = 16;  // row visits of one stream among which the next is chosen

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

DramChannel::DramChannel(const DramTiming& timing, std::uint64_t sources, std::uint64_t window, std::uint64_t latency,
                         bool fast)
    : t_(timing),
      window_(window),
      latency_(latency),
      page_bursts_(timing.row / timing.burst * timing.groups),
      page_shift_(exponent(page_bursts_, "number of bursts in a row of all bank groups")),
      bank_shift_(exponent(timing.banks, "number of banks in a group")),
      // A window that covers the round trip never holds a stream of row hits back, so its clocks follow from the first.
      fast_(fast && window * timing.spacing() >= std::max(timing.nCL, timing.nCWL) + timing.nBL + latency &&
            timing.groups * timing.spacing() >= timing.nCCDL),
      sources_(sources) {
    exponent(timing.groups, "number of bank groups");
    reset();
}

void DramChannel::reset() {
    if (!used_) return;
    used_ = false;
    for (Source& source : sources_) {
        source.streams.clear();
        source.window.assign(window_, 0);
        source.next_place = 0;
        source.queued_row.assign(t_.banks, kClosed);
        source.queued_visit.assign(t_.banks, 0);
        source.visits = 0;
    }
    banks_.assign(t_.groups * t_.banks, Bank{});
    groups_.assign(t_.groups, Group{});
    open_page_.assign(t_.banks, kClosed);
    ready_ = read_after_write_ = write_after_read_ = activate_ = 0;
    activations_ = 0;
    stats_ = {};
    next_ = kNever;
    const std::uint64_t parts = t_.refresh == Refresh::kPerBank ? t_.groups * t_.banks : 1;
    next_refresh_ = t_.refresh == Refresh::kNone ? kNever : t_.nREFI / parts;
    refreshed_.assign(t_.groups * t_.banks, false);
    refresh_round_ = current_bank_ = put_off_ = 0;
    current_ = kNobody;
    direction_write_ = false;
    in_direction_ = 0;
}

void DramChannel::start(std::uint64_t now, std::uint64_t source, std::uint32_t id, std::uint64_t age, bool write,
                        const std::vector<Piece>& pieces) {
    used_ = true;
    Source& s = sources_[source];
    s.streams.push_back({id, write, age, now, arrange(s, pieces)});
    update_next();
}

DramChannel::Place DramChannel::place(std::uint64_t burst) const {
    const std::uint64_t page = burst >> page_shift_, row = page >> bank_shift_;
    // Rows shift the banks, so that streams at a power-of-two distance do not meet in one bank.
    return {page, (page + row) & (t_.banks - 1), row, burst & (page_bursts_ - 1)};
}

/// Puts the row visits of a stream into the order in which they are served: among the next few the first that finds its
/// row open, else the one whose bank was left longest ago. It depends on rows alone, never on the clock, so that a
/// faster memory serves in the same order.
std::vector<Piece> DramChannel::arrange(Source& source, const std::vector<Piece>& pieces) const {
    struct Visit {
        Piece piece;
        std::uint64_t bank, row;
    };
    std::array<Visit, kQueue> queue;
    std::size_t queued = 0, next = 0;
    std::uint64_t taken = 0;  // bursts of pieces[next] that are in the queue
    std::vector<Piece> arranged;
    arranged.reserve(pieces.size());
    while (true) {
        for (; next < pieces.size() && queued < kQueue; ++queued) {
            const std::uint64_t first = pieces[next].first + taken;
            const Place p = place(first);
            const std::uint64_t count = std::min(pieces[next].count - taken, page_bursts_ - p.offset);
            queue[queued] = {{first, count}, p.bank, p.row};
            taken += count;
            if (taken < pieces[next].count) continue;
            ++next;
            taken = 0;
        }
        if (queued == 0) return arranged;
        std::size_t best = 0;
        std::uint64_t oldest = kNever;
        for (std::size_t i = 0; i < queued; ++i) {
            if (source.queued_row[queue[i].bank] == queue[i].row) {
                best = i;
                break;
            }
            if (source.queued_visit[queue[i].bank] < oldest) {
                oldest = source.queued_visit[queue[i].bank];
                best = i;
            }
        }
        const Visit visit = queue[best];
        std::copy(queue.begin() + static_cast<std::ptrdiff_t>(best) + 1,
                  queue.begin() + static_cast<std::ptrdiff_t>(queued),
                  queue.begin() + static_cast<std::ptrdiff_t>(best));
        --queued;
        source.queued_row[visit.bank] = visit.row;
        source.queued_visit[visit.bank] = ++source.visits;
        if (!arranged.empty() && arranged.back().first + arranged.back().count == visit.piece.first) {
            arranged.back().count += visit.piece.count;
        } else {
            arranged.push_back(visit.piece);
        }
    }
}

/// When the next burst of a source is visible to the controller.
std::uint64_t DramChannel::arrival(const Source& s) const {
    return std::max(s.streams.front().start, s.window[s.next_place]);
}

bool DramChannel::hit(const Source& s) const {
    const Place p = place(s.streams.front().burst());
    return open_page_[p.bank] == p.row;
}

/// Whether the source that was served last goes on in its open row.
bool DramChannel::continues(std::uint64_t now) const {
    const Source& s = sources_[current_];
    return !s.streams.empty() && arrival(s) <= now && hit(s);
}

/// The source that is served at `now`, at which one has a visible burst.
std::size_t DramChannel::choose(std::uint64_t now) const {
    if (sources_.size() == 1) return 0;
    if (current_ != kNobody && continues(now)) return current_;
    const auto visible = [&](const Source& s) { return !s.streams.empty() && arrival(s) <= now; };
    bool same = false, other = false;
    for (const Source& s : sources_) {
        if (visible(s)) (s.streams.front().write == direction_write_ ? same : other) = true;
    }
    const bool write = direction_write_ != (other && (!same || in_direction_ >= kDirectionBatch));
    std::size_t best = kNobody;
    std::uint64_t best_cas = kNever, best_age = kNever;
    for (std::size_t i = 0; i < sources_.size(); ++i) {
        const Source& s = sources_[i];
        if (!visible(s) || s.streams.front().write != write) continue;
        // First ready: a row hit, or a row that was prepared while others had the bus.
        const Stream& stream = s.streams.front();
        const Place p = place(stream.burst());
        const std::uint64_t cas = earliest(s, p, group_of(p, 0)).cas;
        if (best == kNobody || cas < best_cas || (cas == best_cas && stream.age < best_age)) {
            best = i;
            best_cas = cas;
            best_age = stream.age;
        }
    }
    return best;
}

DramChannel::Timed DramChannel::earliest(const Source& s, const Place& p, std::uint64_t group) const {
    const bool write = s.streams.front().write;
    const Bank& b = bank(group, p.bank);
    const Group& g = groups_[group];
    Timed timed;
    std::uint64_t activated = b.activated;
    if (b.row != p.row) {
        const std::uint64_t visible = arrival(s);
        std::uint64_t at = std::max({visible, b.activate, activate_, g.activate});
        if (b.row != kClosed) {
            timed.precharge = std::max(visible, b.precharge);
            at = std::max(at, timed.precharge + t_.nRP);
        }
        if (activations_ >= 4) at = std::max(at, recent_activations_[activations_ % 4] + t_.nFAW);
        timed.activate = activated = at;
    }
    timed.cas = std::max({arrival(s), ready_, g.cas, activated + (write ? t_.nRCDWR : t_.nRCDRD),
                          write ? write_after_read_ : std::max(read_after_write_, g.read_after_write)});
    return timed;
}

void DramChannel::issue(Source& s, const Place& p, std::uint64_t group, const Timed& timed) {
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
        ++stats_.activations;
        ++s.streams.front().activations;
    }
    const std::uint64_t cas = timed.cas;
    const bool write = s.streams.front().write;
    trace(write ? DramCommand::Kind::kWrite : DramCommand::Kind::kRead, cas, group, p.bank, p.row);
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
    record(s, cas, 1);
}

/// Books `count` bursts whose CAS commands are `spacing` apart, the first at `cas`.
void DramChannel::record(Source& s, std::uint64_t cas, std::uint64_t count) {
    Stream& stream = s.streams.front();
    const std::uint64_t until_data = (stream.write ? t_.nCWL : t_.nCL) + t_.nBL;
    const std::uint64_t spacing = t_.spacing();
    std::uint64_t i = count > window_ ? count - window_ : 0;
    s.next_place = (s.next_place + i) % window_;
    for (; i < count; ++i) {
        s.window[s.next_place] = cas + i * spacing + until_data + latency_;
        if (++s.next_place == window_) s.next_place = 0;
    }
    stream.last_data = std::max(stream.last_data, cas + (count - 1) * spacing + until_data);
    stream.done += count;
    stream.bursts += count;
    in_direction_ += count;
    (stream.write ? stats_.writes : stats_.reads) += count;
}

/// After the first bursts of a run the others follow at even spacing: books those before the next refresh at once.
std::uint64_t DramChannel::extend(Source& s, const Place& p, std::uint64_t served, std::uint64_t run) {
    const std::uint64_t spacing = t_.spacing(), first = ready_;
    const bool write = s.streams.front().write;
    if (first >= next_refresh_) return 0;
    const std::uint64_t before_refresh = next_refresh_ == kNever ? run : ceil_div(next_refresh_ - first, spacing);
    const std::uint64_t count = std::min(run - served, before_refresh);
    if (trace_) {
        for (std::uint64_t i = 0; i < count; ++i) {
            trace(write ? DramCommand::Kind::kWrite : DramCommand::Kind::kRead, first + i * spacing,
                  group_of(p, served + i), p.bank, p.row);
        }
    }
    const std::uint64_t last = first + (count - 1) * spacing;
    for (std::uint64_t i = count > t_.groups ? count - t_.groups : 0; i < count; ++i) {
        const std::uint64_t cas = first + i * spacing, group = group_of(p, served + i);
        Bank& b = bank(group, p.bank);
        groups_[group].cas = cas + t_.nCCDL;
        if (write) {
            b.precharge = std::max(b.precharge, cas + t_.nCWL + t_.nBL + t_.nWR);
            groups_[group].read_after_write = cas + t_.nCWL + t_.nBL + t_.nWTRL;
        } else {
            b.precharge = std::max(b.precharge, cas + t_.nRTP);
        }
    }
    ready_ = last + spacing;
    if (write) {
        read_after_write_ = last + t_.nCWL + t_.nBL + t_.nWTRS;
    } else {
        write_after_read_ = last + t_.nCL + t_.nBL + 2 - std::min(t_.nCWL, t_.nCL + t_.nBL + 2);
    }
    record(s, first, count);
    return count;
}

DramChannel::Ended DramChannel::step() {
    const std::uint64_t now = next_;
    while (next_refresh_ <= now) {
        refresh();
        skip_refreshes(now);
    }
    if (t_.closed_page && current_ != kNobody && !continues(now)) {
        close_page(current_bank_);
        current_ = kNobody;
    }
    const std::size_t chosen = choose(now);
    Source& s = sources_[chosen];
    Stream& stream = s.streams.front();
    const Place p = place(stream.burst());
    const std::uint64_t run = std::min(stream.left(), page_bursts_ - p.offset);
    const std::uint64_t individually = fast_ ? std::min(run, t_.groups) : 1;
    std::uint64_t served = 0;
    for (; served < individually; ++served) {
        const std::uint64_t group = group_of(p, served);
        const Timed timed = earliest(s, p, group);
        if (timed.cas >= next_refresh_) {
            if (served == 0) {  // decide again once the refresh is over
                if (++put_off_ == kMostPutOff) {
                    throw std::invalid_argument(
                        "DRAM: at this bandwidth tREFI is " + std::to_string(t_.nREFI) +
                        " of the memory's clocks, no time to refresh, open a row and transfer a burst; raise "
                        "dram.bandwidth_gbytes_per_s, or set dram.refresh to none");
                }
                refresh();
                update_next();
                return {};
            }
            break;
        }
        if (served == 0) {
            put_off_ = 0;
            if (stream.write != direction_write_) in_direction_ = 0;
            direction_write_ = stream.write;
            open_page_[p.bank] = p.row;
            current_ = chosen;
            current_bank_ = p.bank;
        }
        issue(s, p, group, timed);
    }
    if (served == t_.groups && served < run && fast_) extend(s, p, served, run);

    Ended ended;
    if (stream.left() == 0) {
        stream.done = 0;
        if (++stream.piece == stream.pieces.size()) {
            ended = {true, stream.id, stream.last_data, stream.bursts, stream.activations};
            stats_.last_data = std::max(stats_.last_data, stream.last_data);
            s.streams.pop_front();
        }
    }
    update_next();
    return ended;
}

void DramChannel::update_next() {
    std::uint64_t first = kNever;
    for (const Source& s : sources_) {
        if (!s.streams.empty()) first = std::min(first, arrival(s));
    }
    next_ = first == kNever ? kNever : std::max(first, ready_);
}

void DramChannel::refresh() {
    ++stats_.refreshes;
    t_.refresh == Refresh::kAllBank ? refresh_all() : refresh_bank();
}

/// Refreshes of an idle channel leave it as the last of them does.
void DramChannel::skip_refreshes(std::uint64_t now) {
    if (now < next_refresh_ + 2 * t_.nREFI) return;
    const std::uint64_t skipped = (now - next_refresh_) / t_.nREFI - 1;
    const std::uint64_t parts = t_.refresh == Refresh::kPerBank ? t_.groups * t_.banks : 1;
    next_refresh_ += skipped * t_.nREFI;
    refresh_round_ += skipped * parts;
    stats_.refreshes += skipped * parts;
}

void DramChannel::refresh_all() {
    // Every bank is precharged first; then all are blocked.
    std::uint64_t begin = next_refresh_;
    for (const Bank& b : banks_) {
        begin = std::max(begin, b.row == kClosed ? b.activate : std::max(next_refresh_, b.precharge) + t_.nRP);
    }
    for (Bank& b : banks_) {
        b.row = kClosed;
        b.activate = begin + t_.nRFC;
    }
    open_page_.assign(t_.banks, kClosed);
    trace(DramCommand::Kind::kRefreshAll, begin, 0, 0, 0);
    next_refresh_ += t_.nREFI;
}

void DramChannel::refresh_bank() {
    // Each bank once in a round; the one that a stream left last will be needed last, the current one goes at the end.
    std::uint64_t victim = 0;
    bool found = false;
    for (std::uint64_t back = 1; back <= t_.banks && !found; ++back) {
        const std::uint64_t index = (current_bank_ + t_.banks - back % t_.banks) % t_.banks;
        for (std::uint64_t group = 0; group < t_.groups && !found; ++group) {
            victim = group * t_.banks + index;
            found = !refreshed_[victim];
        }
    }
    Bank& b = banks_[victim];
    const std::uint64_t begin =
        b.row == kClosed ? std::max(next_refresh_, b.activate) : std::max(next_refresh_, b.precharge) + t_.nRP;
    trace(DramCommand::Kind::kRefreshBank, begin, victim / t_.banks, victim % t_.banks, 0);
    b.row = kClosed;
    b.activate = begin + t_.nRFCpb;
    refreshed_[victim] = true;
    const std::uint64_t parts = t_.groups * t_.banks;
    ++refresh_round_;
    if (refresh_round_ % parts == 0) refreshed_.assign(parts, false);
    next_refresh_ = t_.nREFI * (refresh_round_ / parts) + t_.nREFI * (refresh_round_ % parts + 1) / parts;
}

/// Closed page: the row of the run that ended is precharged as soon as that is allowed.
void DramChannel::close_page(std::uint64_t bank_index) {
    open_page_[bank_index] = kClosed;
    for (std::uint64_t group = 0; group < t_.groups; ++group) {
        Bank& b = bank(group, bank_index);
        if (b.row == kClosed) continue;
        trace(DramCommand::Kind::kPrecharge, b.precharge, group, bank_index, b.row);
        b.activate = b.precharge + t_.nRP;
        b.row = kClosed;
    }
}

}  // namespace acalsim
