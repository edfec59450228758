#include "memory/dram/channel.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace acalsim {

namespace {

constexpr std::uint64_t kMostPutOff = 4096;  // refreshes in a row that put a burst off, many times what ever ends

std::unique_ptr<DramRefresh> make_refresh(const std::string& name, const DramTiming& timing) {
    if (name == "none") return make_no_refresh();
    return name == "per_bank" ? make_per_bank_refresh(timing) : make_all_bank_refresh(timing);
}

}  // namespace

DramChannel::DramChannel(const DramTiming& timing, const MemoryConfig& memory, std::size_t sources,
                         std::uint64_t window, std::uint64_t latency, std::unique_ptr<DramScheduler> scheduler)
    : t_(timing),
      window_(window),
      latency_(latency),
      // A window that covers the round trip never holds a stream of row hits back, so its clocks follow from the first.
      fast_(memory.fast_path && window * timing.spacing() >= std::max(timing.nCL, timing.nCWL) + timing.nBL + latency &&
            timing.groups * timing.spacing() >= timing.nCCDL),
      banks_(timing),
      scheduler_(scheduler ? std::move(scheduler) : make_fr_fcfs(timing, sources)),
      rows_(memory.closed_page ? make_closed_rows() : make_open_rows()),
      refresh_(make_refresh(memory.refresh, timing)),
      sources_(sources) {
    reset();
}

void DramChannel::reset() {
    if (!used_) return;
    used_ = false;
    banks_.reset();
    scheduler_->reset();
    refresh_->reset();
    for (DramSource& source : sources_) {
        source.streams.clear();
        source.window.assign(window_, 0);
        source.next_place = 0;
    }
    next_ = kNever;
    last_ = nullptr;
    last_bank_ = put_off_ = 0;
    stats_ = {};
}

void DramChannel::start(std::uint64_t now, std::size_t source, std::uint32_t id, std::uint64_t age, bool write,
                        const std::vector<Piece>& pieces) {
    used_ = true;
    sources_[source].streams.push_back({id, write, age, now, scheduler_->arrange(source, pieces, banks_)});
    update_next();
}

DramChannel::Ended DramChannel::step() {
    const std::uint64_t now = next_;
    while (refresh_->due() <= now) {
        refresh_->issue(banks_, last_bank_);
        refresh_->skip(now);
    }
    if (last_) rows_->close(now, *last_, last_bank_, banks_);
    const std::size_t chosen = scheduler_->choose(now, sources_, banks_);
    DramSource& source = sources_[chosen];
    DramStream& stream = source.streams.front();
    const DramBanks::Place place = banks_.place(stream.burst());
    const std::uint64_t served = serve(source, place);
    if (served == 0) {  // decide again once the refresh is over
        put_off();
        return {};
    }
    scheduler_->served(chosen, stream.write, served);
    put_off_ = 0;
    last_ = &source;
    last_bank_ = place.bank;

    Ended ended;
    if (stream.left() == 0) {
        stream.done = 0;
        if (++stream.piece == stream.pieces.size()) {
            ended = {true, stream.id, stream.last_data, stream.bursts, stream.activations};
            source.streams.pop_front();
        }
    }
    update_next();
    return ended;
}

/// Serves the next bursts of a stream in one row, those before the next refresh; how many.
std::uint64_t DramChannel::serve(DramSource& source, const DramBanks::Place& place) {
    DramStream& stream = source.streams.front();
    const std::uint64_t run = std::min(stream.left(), banks_.left_in_page(place));
    const std::uint64_t individually = fast_ ? std::min(run, t_.groups) : 1;
    std::uint64_t served = 0;
    for (; served < individually; ++served) {
        const std::uint64_t group = banks_.group_of(place, served);
        const DramBanks::Timed timed = banks_.earliest(source.arrival(), stream.write, place, group);
        if (timed.cas >= refresh_->due()) return served;
        banks_.issue(stream.write, place, group, timed);
        if (timed.activate != kNever) {
            ++stats_.activations;
            ++stream.activations;
        }
        book(source, timed.cas, 1);
    }
    if (fast_ && served < run) served += serve_run(source, place, served, run - served);
    return served;
}

/// After the first bursts of a run, one in each group, the others follow at even spacing: serves those before the next
/// refresh at once; how many.
std::uint64_t DramChannel::serve_run(DramSource& source, const DramBanks::Place& place, std::uint64_t ahead,
                                     std::uint64_t left) {
    const std::uint64_t first = banks_.ready(), due = refresh_->due();
    if (first >= due) return 0;
    const std::uint64_t count = due == kNever ? left : std::min(left, ceil_div(due - first, t_.spacing()));
    banks_.issue_run(source.streams.front().write, place, ahead, count);
    book(source, first, count);
    return count;
}

/// Books `count` bursts whose CAS commands are `spacing` apart, the first at `cas`.
void DramChannel::book(DramSource& source, std::uint64_t cas, std::uint64_t count) {
    DramStream& stream = source.streams.front();
    const std::uint64_t until_data = (stream.write ? t_.nCWL : t_.nCL) + t_.nBL;
    const std::uint64_t spacing = t_.spacing();
    std::uint64_t i = count > window_ ? count - window_ : 0;
    source.next_place = (source.next_place + i) % window_;
    for (; i < count; ++i) {
        source.window[source.next_place] = cas + i * spacing + until_data + latency_;
        if (++source.next_place == window_) source.next_place = 0;
    }
    stream.last_data = std::max(stream.last_data, cas + (count - 1) * spacing + until_data);
    stream.done += count;
    stream.bursts += count;
    (stream.write ? stats_.writes : stats_.reads) += count;
}

/// Issues the refresh for which a burst has to wait.
void DramChannel::put_off() {
    if (++put_off_ == kMostPutOff) {
        throw std::invalid_argument("DRAM: at this bandwidth tREFI is " + std::to_string(t_.nREFI) +
                                    " of the memory's clocks, no time to refresh, open a row and transfer a burst; "
                                    "raise dram.bandwidth_gbytes_per_s, or set dram.refresh to none");
    }
    refresh_->issue(banks_, last_bank_);
    update_next();
}

void DramChannel::update_next() {
    std::uint64_t first = kNever;
    for (const DramSource& source : sources_) {
        if (!source.streams.empty()) first = std::min(first, source.arrival());
    }
    next_ = first == kNever ? kNever : std::max(first, banks_.ready());
}

}  // namespace acalsim
