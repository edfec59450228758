// Timing of one DRAM channel: is each constraint kept, and is it tight (blocked at t-1, ready at t)?
#include <algorithm>
#include <map>

#include "check.h"
#include "memory/dram/channel.h"

using namespace acalsim;
using Kind = DramCommand::Kind;

namespace {

DramTiming base() { return kDdr4_2400.timing; }

MemoryConfig policies(const char* refresh = "none", bool closed_page = false, bool fast_path = true) {
    MemoryConfig memory;
    memory.refresh = refresh;
    memory.closed_page = closed_page;
    memory.fast_path = fast_path;
    return memory;
}

const DramStandard* const kStandards[] = {&kDdr4_2400, &kLpddr5_6400, &kHbm2};

std::uint64_t page_bursts(const DramTiming& t) { return t.row / t.burst * t.groups; }

/// Serves the given streams, all visible from clock 0, and returns the commands in issue order.
std::vector<DramCommand> serve(const DramTiming& t, const std::vector<std::pair<bool, std::vector<Piece>>>& streams,
                               const MemoryConfig& memory = policies()) {
    DramChannel channel(t, memory, streams.size(), 64, 0);
    std::vector<DramCommand> commands;
    channel.set_trace(&commands);
    for (std::size_t i = 0; i < streams.size(); ++i) channel.start(0, i, 0, i, streams[i].first, streams[i].second);
    while (channel.next() != kNever) channel.step();
    return commands;
}

std::vector<std::uint64_t> times(const std::vector<DramCommand>& commands, Kind kind) {
    std::vector<std::uint64_t> at;
    for (const DramCommand& c : commands) {
        if (c.kind == kind) at.push_back(c.at);
    }
    return at;
}

/// First clock of a burst in the given page and bank group.
Piece in_group(const DramTiming& t, std::uint64_t page, std::uint64_t group) {
    return {page * page_bursts(t) + (group + t.groups - page % t.groups) % t.groups, 1};
}

}  // namespace

TEST(rcd, "is a read ready exactly tRCD after its activation?") {
    const DramTiming t = base();
    const auto c = serve(t, {{false, {{0, 1}}}});
    CHECK_EQUAL(times(c, Kind::kActivate).at(0), 0);
    CHECK_EQUAL(times(c, Kind::kRead).at(0), t.nRCDRD);
}

TEST(rcd_write, "is a write ready exactly tRCDWR after its activation?") {
    DramTiming t = base();
    t.nRCDWR = 13;
    CHECK_EQUAL(times(serve(t, {{true, {{0, 1}}}}), Kind::kWrite).at(0), 13);
}

TEST(ccd_long, "are reads of one bank group tCCD_L apart?") {
    const DramTiming t = base();
    const auto reads = times(serve(t, {{false, {in_group(t, 0, 0), {t.groups, 1}}}}), Kind::kRead);
    CHECK_EQUAL(reads.at(1) - reads.at(0), t.nCCDL);
}

TEST(ccd_short, "are reads of different bank groups tCCD_S apart?") {
    DramTiming t = base();
    t.nRRDS = 1;
    const auto reads = times(serve(t, {{false, {{0, 64}}}}), Kind::kRead);
    CHECK_EQUAL(reads.at(63) - reads.at(62), t.nCCDS);
}

TEST(rrd_short, "are activations of different bank groups tRRD_S apart?") {
    DramTiming t = base();
    t.nFAW = 0;
    const auto acts = times(serve(t, {{false, {{0, 4}}}}), Kind::kActivate);
    CHECK_EQUAL(acts.at(1) - acts.at(0), t.nRRDS);
}

TEST(rrd_long, "are activations in one bank group tRRD_L apart?") {
    const DramTiming t = base();
    const auto acts = times(serve(t, {{false, {in_group(t, 0, 0), in_group(t, 1, 0)}}}), Kind::kActivate);
    CHECK_EQUAL(acts.at(1) - acts.at(0), t.nRRDL);
}

TEST(faw, "does the fifth activation wait for tFAW after the first?") {
    DramTiming t = base();
    t.nFAW = 40;
    const auto acts = times(serve(t, {{false, {{0, 4}, in_group(t, 1, 0)}}}), Kind::kActivate);
    CHECK_EQUAL(acts.at(3), 3 * t.nRRDS);
    CHECK_EQUAL(acts.at(4), t.nFAW);
}

TEST(ras_rp, "does a row conflict wait for tRAS, then tRP?") {
    const DramTiming t = base();
    // Pages of one bank: rows shift the banks by one.
    const std::uint64_t other = 2 * t.banks - 1;
    const auto c = serve(t, {{false, {in_group(t, 0, 0), in_group(t, other, 0)}}});
    CHECK_EQUAL(times(c, Kind::kPrecharge).at(0), t.nRAS);
    CHECK_EQUAL(times(c, Kind::kActivate).at(1), t.nRAS + t.nRP);
}

TEST(rtp, "does a precharge wait for tRTP after the last read?") {
    const DramTiming t = base();
    const auto c = serve(t, {{false, {{0, 64}, in_group(t, 2 * t.banks - 1, 3)}}});
    const auto reads = times(c, Kind::kRead);
    // Burst 63 is the last of group 3.
    CHECK_EQUAL(times(c, Kind::kPrecharge).at(0), reads.at(63) + t.nRTP);
}

TEST(wr, "does a precharge wait for tWR after the last data written?") {
    const DramTiming t = base();
    const auto c = serve(t, {{true, {in_group(t, 0, 0), in_group(t, 2 * t.banks - 1, 0)}}});
    CHECK_EQUAL(times(c, Kind::kPrecharge).at(0), times(c, Kind::kWrite).at(0) + t.nCWL + t.nBL + t.nWR);
}

TEST(turn, "does a write after a read wait until the data bus has turned?") {
    const DramTiming t = base();
    const auto c = serve(t, {{true, {{0, 1}}}, {false, {{t.groups, 1}}}});
    // The bus starts in the read direction, so the read goes first.
    CHECK_EQUAL(times(c, Kind::kWrite).at(0), times(c, Kind::kRead).at(0) + t.nCL + t.nBL + 2 - t.nCWL);
}

TEST(wtr, "do reads after writes wait for tWTR, the longer one in the same group?") {
    for (std::uint64_t group : {std::uint64_t{0}, std::uint64_t{1}}) {
        DramTiming t = base();
        t.nWTRS = 7;
        DramChannel channel(t, policies(), 2, 64, 0);
        std::vector<DramCommand> c;
        channel.set_trace(&c);
        channel.start(0, 0, 0, 0, true, {{0, 1}});
        channel.step();
        channel.start(0, 1, 0, 1, false, {{t.groups + group, 1}});
        while (channel.next() != kNever) channel.step();
        const std::uint64_t write = times(c, Kind::kWrite).at(0), read = times(c, Kind::kRead).at(0);
        CHECK_EQUAL(read, write + t.nCWL + t.nBL + (group == 0 ? t.nWTRL : t.nWTRS));
    }
}

TEST(refresh_all, "does an all-bank refresh come every tREFI and block for tRFC?") {
    const DramTiming t = base();
    const auto c = serve(t, {{false, {{0, 8192}}}}, policies("all_bank"));
    const auto refreshes = times(c, Kind::kRefreshAll);
    CHECK(refreshes.size() >= 3);
    CHECK(refreshes.at(0) >= t.nREFI && refreshes.at(0) <= t.nREFI + t.nRAS + t.nRP);
    const auto acts = times(c, Kind::kActivate);
    CHECK_EQUAL(*std::upper_bound(acts.begin(), acts.end(), refreshes.at(0)), refreshes.at(0) + t.nRFC);
}

TEST(refresh_bank, "does per-bank refresh reach every bank once in each tREFI?") {
    const auto c = serve(kHbm2.timing, {{false, {{0, 40000}}}}, policies("per_bank"));
    std::map<std::pair<std::uint64_t, std::uint64_t>, int> seen;
    int count = 0;
    for (const DramCommand& command : c) {
        if (command.kind != Kind::kRefreshBank) continue;
        if (++count > 16) break;
        ++seen[{command.group, command.bank}];
    }
    CHECK_EQUAL(seen.size(), 16);
}

TEST(first_ready, "is a row hit served before an older row miss?") {
    const DramTiming t = base();
    DramChannel channel(t, policies(), 2, 64, 0);
    std::vector<DramCommand> c;
    channel.set_trace(&c);
    channel.start(0, 0, 0, 5, false, {{0, 4}});
    channel.step();                                                       // opens page 0
    channel.start(0, 0, 0, 6, false, {in_group(t, 2 * t.banks - 1, 0)});  // older, conflicts with the open row
    channel.start(0, 1, 0, 7, false, {{8, 1}});                           // younger, hits it
    while (channel.next() != kNever) channel.step();
    std::vector<std::uint64_t> rows;
    for (const DramCommand& command : c) {
        if (command.kind == Kind::kRead) rows.push_back(command.row);
    }
    CHECK_EQUAL(rows.size(), 6);
    CHECK_EQUAL(rows.at(4), 0);
    CHECK(rows.at(5) != 0);
}

namespace {

/// First come, first served, rows in the order in which they were asked for.
class Fcfs final : public DramScheduler {
  public:
    void reset() override {}
    std::vector<Piece> arrange(std::size_t, const std::vector<Piece>& pieces, const DramBanks&) override {
        return pieces;
    }
    std::size_t choose(std::uint64_t now, const std::vector<DramSource>& sources, const DramBanks&) const override {
        std::size_t oldest = sources.size();
        for (std::size_t i = 0; i < sources.size(); ++i) {
            if (!sources[i].is_visible(now)) continue;
            const bool older =
                oldest == sources.size() || sources[i].streams.front().age < sources[oldest].streams.front().age;
            if (older) oldest = i;
        }
        return oldest;
    }
    void served(std::size_t, bool, std::uint64_t) override {}
};

}  // namespace

TEST(another_scheduler, "does a channel work with another scheduler, which serves the older row miss before the hit?") {
    const DramTiming t = base();
    DramChannel channel(t, policies(), 2, 64, 0, std::make_unique<Fcfs>());
    std::vector<DramCommand> c;
    channel.set_trace(&c);
    channel.start(0, 0, 0, 5, false, {{0, 4}});
    channel.step();
    channel.start(0, 0, 0, 6, false, {in_group(t, 2 * t.banks - 1, 0)});
    channel.start(0, 1, 0, 7, false, {{8, 1}});
    while (channel.next() != kNever) channel.step();
    std::vector<std::uint64_t> rows;
    for (const DramCommand& command : c) {
        if (command.kind == Kind::kRead) rows.push_back(command.row);
    }
    CHECK_EQUAL(rows.size(), 6);
    CHECK(rows.at(4) != 0);
    CHECK_EQUAL(rows.at(5), 0);
}

TEST(closed_page, "does a closed page spare the next row its precharge?") {
    const DramTiming t = base();
    const Piece conflict = in_group(t, 2 * t.banks - 1, 0);
    DramChannel channel(t, policies("none", true), 1, 1, 0);
    std::vector<DramCommand> c;
    channel.set_trace(&c);
    channel.start(0, 0, 0, 0, false, {{0, 1}});
    while (channel.next() != kNever) channel.step();
    channel.start(1000, 0, 0, 1, false, {conflict});
    while (channel.next() != kNever) channel.step();
    CHECK_EQUAL(times(c, Kind::kActivate).at(1), 1000);
}

TEST(random_access, "does random access to one bank reach one access in tRC, to all banks the limit of tFAW?") {
    const DramTiming t = base();
    std::vector<Piece> one_bank, all_banks;
    for (std::uint64_t i = 0; i < 400; ++i) {
        one_bank.push_back(in_group(t, i * t.banks + (t.banks - i % t.banks) % t.banks, 0));
        all_banks.push_back(in_group(t, i, i % t.groups));
    }
    const auto span = [&](const std::vector<Piece>& pieces) {
        const auto reads = times(serve(t, {{false, pieces}}), Kind::kRead);
        return static_cast<double>(reads.back() - reads.front()) / static_cast<double>(reads.size() - 1);
    };
    const double conflict = span(one_bank), spread = span(all_banks);
    const double theory_conflict = static_cast<double>(t.nRAS + t.nRP), theory_spread = static_cast<double>(t.nFAW) / 4;
    CHECK(std::abs(conflict / theory_conflict - 1) < 0.05);
    CHECK(std::abs(spread / theory_spread - 1) < 0.05);
}

namespace {

/// Checks a channel's commands against every constraint, pair by pair and apart from how the channel finds its clocks.
class Protocol {
  public:
    explicit Protocol(const DramTiming& t) : t_(t) {}

    void check(std::vector<DramCommand> commands) {
        std::stable_sort(commands.begin(), commands.end(),
                         [](const DramCommand& x, const DramCommand& y) { return x.at < y.at; });
        for (std::size_t i = 0; i < commands.size(); ++i) {
            const DramCommand& now = commands[i];
            state(now);
            for (std::size_t j = i; j-- > 0 && commands[j].at + longest() > now.at;) pair(commands[j], now);
        }
    }

  private:
    static bool cas(const DramCommand& c) { return c.kind == Kind::kRead || c.kind == Kind::kWrite; }
    std::uint64_t data(const DramCommand& c) const { return c.at + (c.kind == Kind::kRead ? t_.nCL : t_.nCWL); }
    std::uint64_t longest() const { return 2 * (t_.nRAS + t_.nRP + t_.nFAW + t_.nRFC + t_.nWR + t_.nWTRL); }
    void apart(const DramCommand& x, const DramCommand& y, std::uint64_t clocks) { CHECK(x.at + clocks <= y.at); }

    /// Rows are opened when closed and used when open.
    void state(const DramCommand& c) {
        std::uint64_t& row = rows_.emplace(std::pair{c.group, c.bank}, kClosed).first->second;
        if (cas(c)) CHECK_EQUAL(row, c.row);
        if (c.kind == Kind::kActivate) {
            CHECK_EQUAL(row, kClosed);
            row = c.row;
            activations_.push_back(c.at);
            if (activations_.size() > 4) CHECK(activations_[activations_.size() - 5] + t_.nFAW <= c.at);
        }
        if (c.kind == Kind::kPrecharge || c.kind == Kind::kRefreshBank) row = kClosed;
        if (c.kind == Kind::kRefreshAll) {
            for (auto& [bank, open] : rows_) open = kClosed;
        }
    }

    void pair(const DramCommand& x, const DramCommand& y) {
        const bool group = x.group == y.group, bank = group && x.bank == y.bank;
        if (cas(x) && cas(y)) {
            apart(x, y, group ? t_.nCCDL : t_.nCCDS);
            CHECK(std::max(data(x), data(y)) >= std::min(data(x), data(y)) + t_.nBL);  // one burst at a time on the bus
            if (x.kind == Kind::kWrite && y.kind == Kind::kRead) {
                apart(x, y, t_.nCWL + t_.nBL + (group ? t_.nWTRL : t_.nWTRS));
            }
        }
        if (x.kind == Kind::kActivate && y.kind == Kind::kActivate) apart(x, y, group ? t_.nRRDL : t_.nRRDS);
        if (x.kind == Kind::kRefreshAll && y.kind == Kind::kActivate) apart(x, y, t_.nRFC);
        if (!bank) return;
        if (x.kind == Kind::kActivate && y.kind == Kind::kActivate) apart(x, y, t_.nRAS + t_.nRP);
        if (x.kind == Kind::kActivate && cas(y)) apart(x, y, y.kind == Kind::kRead ? t_.nRCDRD : t_.nRCDWR);
        if (x.kind == Kind::kActivate && y.kind == Kind::kPrecharge) apart(x, y, t_.nRAS);
        if (x.kind == Kind::kPrecharge && y.kind == Kind::kActivate) apart(x, y, t_.nRP);
        if (x.kind == Kind::kRead && y.kind == Kind::kPrecharge) apart(x, y, t_.nRTP);
        if (x.kind == Kind::kWrite && y.kind == Kind::kPrecharge) apart(x, y, t_.nCWL + t_.nBL + t_.nWR);
        if (x.kind == Kind::kRefreshBank && y.kind == Kind::kActivate) apart(x, y, t_.nRFCpb);
    }

    static constexpr std::uint64_t kClosed = ~std::uint64_t{0};
    const DramTiming t_;
    std::map<std::pair<std::uint64_t, std::uint64_t>, std::uint64_t> rows_;
    std::vector<std::uint64_t> activations_;
};

}  // namespace

TEST(protocol, "does random traffic keep every constraint of every standard?") {
    std::uint64_t seed = 7;
    const auto random = [&seed](std::uint64_t n) {
        seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
        return (seed >> 33) % n;
    };
    for (int round = 0; round < 24; ++round) {
        const DramTiming& t = kStandards[round % 3]->timing;
        const char* refresh = round % 2 ? "none" : round % 3 && round % 4 ? "per_bank" : "all_bank";
        std::vector<std::pair<bool, std::vector<Piece>>> streams(1 + random(4));
        for (auto& [write, pieces] : streams) {
            write = random(2);
            for (std::uint64_t i = 0, n = 1 + random(60); i < n; ++i)
                pieces.push_back({random(1 << 14), 1 + random(40)});
        }
        Protocol(t).check(serve(t, streams, policies(refresh, round % 5 == 0)));
    }
}

TEST(reordering, "are the row visits of one stream taken in an order that finds more rows open?") {
    const DramTiming t = base();
    // Two rows of one bank by turns: in the given order every visit would open a row.
    std::vector<Piece> pieces;
    for (std::uint64_t i = 0; i < 6; ++i) {
        pieces.push_back({(i % 2 ? (2 * t.banks - 1) * page_bursts(t) : 0) + i / 2 * t.groups, t.groups});
    }
    const auto commands = serve(t, {{false, pieces}});
    CHECK_EQUAL(times(commands, Kind::kRead).size(), 6 * t.groups);
    CHECK_EQUAL(times(commands, Kind::kActivate).size(), 2 * t.groups);
}

TEST(run_equals_bursts, "is the row-run path identical to burst by burst?") {
    std::uint64_t seed = 1;
    const auto random = [&seed](std::uint64_t n) {
        seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
        return (seed >> 33) % n;
    };
    for (int round = 0; round < 60; ++round) {
        const DramTiming& t = kStandards[round % 3]->timing;
        const char* refresh = round % 2 && round % 3 ? "per_bank" : "all_bank";
        const bool closed_page = round % 5 == 0;
        std::vector<std::pair<bool, std::vector<Piece>>> streams(1 + random(4));
        for (auto& [write, pieces] : streams) {
            write = random(2);
            for (std::uint64_t i = 0, n = 1 + random(30); i < n; ++i)
                pieces.push_back({random(1 << 20), 1 + random(900)});
        }
        const auto fast = serve(t, streams, policies(refresh, closed_page, true));
        const auto slow = serve(t, streams, policies(refresh, closed_page, false));
        CHECK_EQUAL(fast.size(), slow.size());
        for (std::size_t i = 0; i < std::min(fast.size(), slow.size()); ++i) {
            CHECK(fast[i].at == slow[i].at && fast[i].kind == slow[i].kind && fast[i].bank == slow[i].bank &&
                  fast[i].group == slow[i].group && fast[i].row == slow[i].row);
        }
    }
}
