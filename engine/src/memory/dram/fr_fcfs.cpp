// First ready, then first come, first served (S. Rixner et al., "Memory Access Scheduling", ISCA 2000).
#include <array>

#include "memory/dram/scheduler.h"

namespace acalsim {

namespace {

constexpr std::uint64_t kDirectionBatch = 128;  // bursts before the bus turns around for a waiting stream
constexpr std::size_t kNobody = ~std::size_t{0};
constexpr std::size_t kQueue = 16;  // row visits of one stream among which the next is chosen

/// Between sources: an opened row is finished before another source is looked at, and a direction is kept for a batch
/// of bursts; then the first ready, then the oldest. Within a stream rows are chosen by themselves, see arrange().
class FrFcfs final : public DramScheduler {
  public:
    FrFcfs(const DramTiming& timing, std::size_t sources) : banks_(timing.banks), queued_(sources) { reset(); }

    void reset() override {
        for (Queued& queued : queued_) {
            queued.row.assign(banks_, ~std::uint64_t{0});
            queued.visit.assign(banks_, 0);
            queued.visits = 0;
        }
        current_ = kNobody;
        write_ = false;
        in_direction_ = 0;
    }

    /// Among the next few row visits the first that finds its row open, else the one whose bank was left longest ago.
    /// It depends on rows alone, never on the clock, so that a faster memory serves in the same order.
    std::vector<Piece> arrange(std::size_t source, const std::vector<Piece>& pieces, const DramBanks& banks) override {
        struct Visit {
            Piece piece;
            std::uint64_t bank, row;
        };
        Queued& queued = queued_[source];
        std::array<Visit, kQueue> queue;
        std::size_t size = 0, next = 0;
        std::uint64_t taken = 0;  // bursts of pieces[next] that are in the queue
        std::vector<Piece> arranged;
        arranged.reserve(pieces.size());
        while (true) {
            for (; next < pieces.size() && size < kQueue; ++size) {
                const std::uint64_t first = pieces[next].first + taken;
                const DramBanks::Place p = banks.place(first);
                const std::uint64_t count = std::min(pieces[next].count - taken, banks.left_in_page(p));
                queue[size] = {{first, count}, p.bank, p.row};
                taken += count;
                if (taken < pieces[next].count) continue;
                ++next;
                taken = 0;
            }
            if (size == 0) return arranged;
            std::size_t best = 0;
            std::uint64_t oldest = kNever;
            for (std::size_t i = 0; i < size; ++i) {
                if (queued.row[queue[i].bank] == queue[i].row) {
                    best = i;
                    break;
                }
                if (queued.visit[queue[i].bank] < oldest) {
                    oldest = queued.visit[queue[i].bank];
                    best = i;
                }
            }
            const Visit visit = queue[best];
            const auto at = queue.begin() + static_cast<std::ptrdiff_t>(best);
            std::copy(at + 1, queue.begin() + static_cast<std::ptrdiff_t>(size), at);
            --size;
            queued.row[visit.bank] = visit.row;
            queued.visit[visit.bank] = ++queued.visits;
            if (!arranged.empty() && arranged.back().first + arranged.back().count == visit.piece.first) {
                arranged.back().count += visit.piece.count;
            } else {
                arranged.push_back(visit.piece);
            }
        }
    }

    std::size_t choose(std::uint64_t now, const std::vector<DramSource>& sources,
                       const DramBanks& banks) const override {
        if (sources.size() == 1) return 0;
        if (current_ != kNobody && sources[current_].is_hit(now, banks)) return current_;
        bool same = false, other = false;
        for (const DramSource& s : sources) {
            if (s.is_visible(now)) (s.streams.front().write == write_ ? same : other) = true;
        }
        const bool write = write_ != (other && (!same || in_direction_ >= kDirectionBatch));
        std::size_t best = kNobody;
        std::uint64_t best_cas = kNever, best_age = kNever;
        for (std::size_t i = 0; i < sources.size(); ++i) {
            const DramSource& s = sources[i];
            if (!s.is_visible(now) || s.streams.front().write != write) continue;
            // First ready: a row hit, or a row that was prepared while others had the bus.
            const DramStream& stream = s.streams.front();
            const DramBanks::Place p = banks.place(stream.burst());
            const std::uint64_t cas = banks.earliest(s.arrival(), write, p, banks.group_of(p, 0)).cas;
            if (best == kNobody || cas < best_cas || (cas == best_cas && stream.age < best_age)) {
                best = i;
                best_cas = cas;
                best_age = stream.age;
            }
        }
        return best;
    }

    void served(std::size_t source, bool write, std::uint64_t bursts) override {
        if (write != write_) in_direction_ = 0;
        current_ = source;
        write_ = write;
        in_direction_ += bursts;
    }

  private:
    struct Queued {  // what the streams of one source leave behind, per bank index: the row, and the visit that left it
        std::vector<std::uint64_t> row, visit;
        std::uint64_t visits = 0;
    };

    const std::uint64_t banks_;
    std::vector<Queued> queued_;
    std::size_t current_ = kNobody;  // served last
    bool write_ = false;             // its direction
    std::uint64_t in_direction_ = 0;
};

}  // namespace

std::unique_ptr<DramScheduler> make_fr_fcfs(const DramTiming& timing, std::size_t sources) {
    return std::make_unique<FrFcfs>(timing, sources);
}

}  // namespace acalsim
