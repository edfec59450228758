#include "plan/candidates.h"

#include <algorithm>
#include <utility>

#include "acalsim/scratchpad.h"

namespace acalsim {

namespace {

using Keep = Mapping::Keep;

constexpr double kInterference = 0.02;       // share of the hidden units' time that shows
constexpr std::uint64_t kLongExtent = 1024;  // granules of the smallest tile that the cuts make

/// Tile sizes that cut `extent` into even tiles of whole granules, largest first.
std::vector<std::uint64_t> tile_sizes(std::uint64_t extent, std::uint64_t granule, std::uint64_t largest) {
    constexpr std::uint64_t kCuts[] = {1,  2,  3,  4,  5,   6,   8,   10,   12,   16,    24,
                                       32, 48, 64, 96, 128, 256, 512, 1024, 4096, 16384, 65536};
    std::vector<std::uint64_t> sizes;
    const auto add = [&](std::uint64_t size) {
        size = std::min({size, extent, largest});
        if (size > 0 && (sizes.empty() || size < sizes.back())) sizes.push_back(size);
    };
    for (std::uint64_t cuts : kCuts) {
        if (cuts > 1 && ceil_div(extent, cuts) < granule) break;
        add(round_up(ceil_div(extent, cuts), granule));
    }
    // Between the last cut of a very long extent and one granule.
    if (sizes.back() > kLongExtent * granule) {
        while (sizes.back() / 4 > granule) add(round_up(sizes.back() / 4, granule));
    }
    add(granule);
    return sizes;
}

/// Whole folds along the dims that lie on the array, in tiling units.
struct Granules {
    std::uint64_t rows = 1, cols = 1, depth = 1;
};

Granules granules(const ArrayConfig& array, Dataflow dataflow, const MatrixShape& unit) {
    Granules g;
    switch (dataflow) {
        case Dataflow::kWeightStationary: g = {1, array.cols * array.count, array.rows}; break;
        case Dataflow::kInputStationary: g = {array.cols * array.count, 1, array.rows}; break;
        case Dataflow::kOutputStationary: g = {array.rows, array.cols * array.count, 1}; break;
    }
    g.rows = std::max<std::uint64_t>(1, g.rows / unit.m);
    g.depth = std::max<std::uint64_t>(1, g.depth / unit.k);
    return g;
}

/// All candidates of one share under one dataflow. What they are made of is measured once per tile size or pair of tile
/// sizes, so that a candidate costs a few operations.
class Candidates {
  public:
    Candidates(const Config& config, MemoryProfile& memory, const Contraction& c, const Share& share, Dataflow dataflow)
        : config_(config),
          memory_(memory),
          c_(c),
          share_(share),
          dataflow_(dataflow),
          bank_(config.scratchpad.size / config.scratchpad.banks),
          all_helps_(share.batches.size() > 1 || c.matrix(1, 1, 1).k > 1) {
        const Granules g = granules(config.array, dataflow, c.matrix(1, 1, 1));
        for (std::uint64_t size : tile_sizes(share.rows.size(), g.rows, c.max_tile_rows)) rows_.push_back({size});
        for (std::uint64_t size : tile_sizes(share.cols.size(), g.cols, ~std::uint64_t{0})) cols_.push_back({size});
        for (std::uint64_t size : tile_sizes(c.depth, g.depth, ~std::uint64_t{0})) depths_.push_back({size});
        for (Side& row : rows_) {
            row.range = middle(share.rows, row.size);
            row.tiles = ceil_div(share.rows.size(), row.size);
            row.panel = c.a(batch(), row.range, all_depth(), false).bytes();
            row.array = over(share.rows.size(), row.size, [&](std::uint64_t r) { return array_part(r, 1, 1, 0); });
        }
        for (Side& col : cols_) {
            col.range = {share.cols.begin, share.cols.begin + std::min(share.cols.size(), col.size)};
            col.tiles = ceil_div(share.cols.size(), col.size);
            col.panel = c.b(batch(), all_depth(), col.range).bytes();
            col.array = over(share.cols.size(), col.size, [&](std::uint64_t n) { return array_part(1, n, 1, 1); });
        }
        for (Side& depth : depths_) {
            depth.range = {0, std::min(c.depth, depth.size)};
            depth.tiles = ceil_div(c.depth, depth.size);
            depth.array = over(c.depth, depth.size, [&](std::uint64_t k) { return array_part(1, 1, k, 2); });
        }
        if (c.has_bias) bias_ = c.bias(batch(), {share.rows.begin, share.rows.begin + 1}, share.cols).bytes();
        for (const Side& row : rows_) {
            for (const Side& depth : depths_) a_.push_back(piece(c.a(batch(), row.range, depth.range, false)));
        }
        for (const Side& depth : depths_) {
            for (const Side& col : cols_) b_.push_back(piece(c.b(batch(), depth.range, col.range)));
        }
        whole_a_ = piece(c.a(batch(), share.rows, all_depth(), false));
        whole_b_ = piece(c.b(batch(), all_depth(), share.cols));
        const Work fold = array_work(config.array, dataflow, c.matrix(1, 1, 1));
        edges_ = {static_cast<double>(fold.preload), static_cast<double>(fold.drain)};
        const bool several = share.batches.size() > 1;
        same_a_ = several && c.same_a(batch() + 1);
        same_b_ = several && c.same_b(batch() + 1);
    }

    /// Leaves out what the array alone makes much slower than `best`, the shortest estimate so far.
    void append_to(std::vector<Candidate>& found, double& best) {
        for (std::size_t r = 0; r < rows_.size(); ++r) {
            for (std::size_t n = 0; n < cols_.size(); ++n) {
                const MatrixShape shape = c_.matrix(rows_[r].size, cols_[n].size, 1);
                accumulator_ = shape.m * shape.n * c_.accumulator_element;
                if (accumulator_ > config_.scratchpad.accumulator) continue;
                out_ = piece(c_.out(batch(), rows_[r].range, cols_[n].range));
                post_ = c_.post.total() > 0 ? vector_work(config_.vector, shape.m * shape.n, c_.post) : Work{};
                const double folds = static_cast<double>(share_.batches.size()) * rows_[r].array * cols_[n].array;
                for (std::size_t k = 0; k < depths_.size(); ++k) {
                    if (folds * depths_[k].array > kPromising * best) continue;
                    append(found, best, rows_[r], cols_[n], depths_[k], a_[r * depths_.size() + k],
                           b_[k * cols_.size() + n]);
                }
            }
        }
    }

  private:
    struct Piece {
        Bytes bytes = 0;
        double cycles = 0;
        double visits = 0;  // to rows of the DRAM: of each run one per channel's share
    };
    struct Side {  // one tile size along one dim
        std::uint64_t size;
        Range range{};
        std::uint64_t tiles = 0;
        Bytes panel = 0;   // of the operand along the whole depth
        double array = 0;  // factor of the array's cycles
    };

    std::uint64_t batch() const { return share_.batches.begin; }
    Range all_depth() const { return {0, c_.depth}; }
    Piece piece(const Box& box) {
        const std::uint64_t granules = box.runs() + box.bytes() / config_.memory.interleave;
        return {box.bytes(), memory_.cycles(box), static_cast<double>(granules)};
    }

    /// Windows overlap the edges of the input least in the middle; a tile there is the largest.
    static Range middle(Range all, std::uint64_t size) {
        size = std::min(size, all.size());
        const std::uint64_t begin = all.begin + (all.size() - size) / 2;
        return {begin, begin + size};
    }

    /// Sum over the tiles of a range of f(size).
    template <typename Fn>
    static double over(std::uint64_t extent, std::uint64_t tile, Fn&& f) {
        const std::uint64_t full = extent / tile, rest = extent % tile;
        return static_cast<double>(full) * (full ? f(tile) : 0.0) + (rest ? f(rest) : 0.0);
    }

    /// The factor that one dim (0 rows, 1 columns, 2 depth) has in the cycles of the array: folds, or the stream.
    double array_part(std::uint64_t r, std::uint64_t n, std::uint64_t k, int dim) const {
        const ArrayConfig& array = config_.array;
        const MatrixShape s = c_.matrix(r, n, k);
        const std::uint64_t size = dim == 0 ? s.m : dim == 1 ? s.n : s.k;
        const int down = dataflow_ == Dataflow::kOutputStationary ? 0 : 2;
        const int across = dataflow_ == Dataflow::kInputStationary ? 0 : 1;
        if (dim == down) return static_cast<double>(ceil_div(size, array.rows));
        if (dim == across) {
            return static_cast<double>(ceil_div(size, array.cols)) / static_cast<double>(array.count);
        }
        const Cycle overhead = array_fold_cycles(array, dataflow_, {0, 0, 0});
        return static_cast<double>(array.double_buffered ? std::max(size, array.rows) : size + overhead);
    }

    void append(std::vector<Candidate>& found, double& best, const Side& row, const Side& col, const Side& depth,
                const Piece& a, const Piece& b) {
        const std::uint64_t steps = share_.batches.size() * row.tiles * col.tiles * depth.tiles;
        for (bool rows_outer : {true, false}) {
            if (!rows_outer && (row.tiles == 1 || col.tiles == 1)) continue;  // the same steps
            // Keeping more saves traffic: less is considered only while double buffering has no room.
            bool comfortable = false;
            for (Keep outer : {Keep::kAll, Keep::kPanel, Keep::kNone}) {
                // A whole operand beyond its panels helps where batches share it or windows overlap.
                if (outer == Keep::kAll && !all_helps_) continue;
                if (comfortable && outer == Keep::kNone) continue;
                for (Keep inner : {Keep::kAll, Keep::kNone}) {
                    const Mapping m{row.size,
                                    col.size,
                                    depth.size,
                                    rows_outer,
                                    rows_outer ? outer : inner,
                                    rows_outer ? inner : outer,
                                    dataflow_};
                    // As footprint() does it, of operands measured before; a bias that differs from row to row counts
                    // as if it were kept.
                    Footprint need{bias_, 0, accumulator_};
                    need.hold(m.keep_a, a.bytes, row.panel, whole_a_.bytes);
                    need.hold(m.keep_b, b.bytes, col.panel, whole_b_.bytes);
                    if (!need.fits(config_.scratchpad)) continue;
                    comfortable = need.kept + 2 * need.step <= config_.scratchpad.size;
                    Candidate candidate = estimate(m, row, col, depth, a, b, need.kept + need.step, comfortable);
                    if (candidate.time <= kPromising * best) {
                        candidate.steps = steps;
                        found.push_back(candidate);
                        best = std::min(best, candidate.time);
                    }
                    if (comfortable) break;
                }
            }
        }
    }

    Candidate estimate(const Mapping& m, const Side& row, const Side& col, const Side& depth, const Piece& a,
                       const Piece& b, Bytes resident, bool overlapped) const {
        const auto batches = static_cast<double>(share_.batches.size());
        const auto row_tiles = static_cast<double>(row.tiles), col_tiles = static_cast<double>(col.tiles);
        const auto depth_tiles = static_cast<double>(depth.tiles);
        const double tiles = batches * row_tiles * col_tiles;
        const double array = batches * row.array * col.array * depth.array;

        const auto repeats = [&](Keep keep, bool is_outer, double other_tiles, bool same) {
            if (keep == Keep::kAll) return same ? 1.0 : batches;
            if (keep == Keep::kPanel && is_outer) return batches;
            return batches * other_tiles;  // without a panel it is fetched for every index of the other loop
        };
        const double a_fetches = repeats(m.keep_a, m.rows_outer, col_tiles, same_a_);
        const double b_fetches = repeats(m.keep_b, !m.rows_outer, row_tiles, same_b_) * col_tiles * depth_tiles;
        const auto size = [](const Piece& p) { return static_cast<double>(p.bytes); };
        const double b_cycles = b_fetches * b.cycles;
        double a_cycles = a_fetches * a.cycles * row_tiles * depth_tiles;
        double a_bytes = a_fetches * size(a) * row_tiles * depth_tiles;
        if (m.keep_a == Keep::kAll &&
            a_bytes > a_fetches * size(whole_a_)) {  // windows overlap, but rows are read once
            a_cycles *= a_fetches * size(whole_a_) / a_bytes;
            a_bytes = a_fetches * size(whole_a_);
        }
        const double busy = a_cycles + b_cycles + tiles * (out_.cycles + 2 * memory_.turn());
        // Each transfer holds its DMA channel until its end.
        const double transfers = a_fetches * row_tiles * depth_tiles + b_fetches + tiles;
        const double held = (busy + transfers * memory_.latency()) / static_cast<double>(config_.dma.channels);
        const double memory = std::max(busy, held);
        const double vector = tiles * static_cast<double>(post_.busy);
        // One step's share of what is loaded, beside what is on chip.
        BankWrites writes;
        writes.bytes = static_cast<Bytes>((a_bytes + b_fetches * size(b)) / (tiles * depth_tiles));
        writes.words = ceil_div(writes.bytes, config_.scratchpad.bank_bytes);
        double conflicts = 0;
        if (resident + writes.bytes + 2 * bank_ > config_.scratchpad.size) {  // otherwise there are banks enough
            const auto step = static_cast<Cycle>(array / (tiles * depth_tiles));
            conflicts = static_cast<double>(bank_delay(config_.scratchpad, step, 0, resident, writes));
            conflicts *= tiles * depth_tiles;
        }

        const double latency = memory_.latency();
        const double fill = a.cycles + b.cycles + latency + edges_.first;
        const double finish = edges_.second + static_cast<double>(post_.busy + post_.drain) + out_.cycles + latency;
        const double busiest = std::max({array + conflicts, memory, vector});
        double total = busiest + kInterference * (array + conflicts + memory + vector - busiest) + fill + finish;
        // What cannot be double-buffered adds up instead of overlapping.
        if (!overlapped) {
            total += std::min(array, a_cycles + b_cycles) + (tiles * depth_tiles - 1) * latency;
        }
        if (2 * accumulator_ > config_.scratchpad.accumulator) total += (tiles - 1) * finish;
        const double visits =
            a_fetches * a.visits * row_tiles * depth_tiles + b_fetches * b.visits + tiles * out_.visits;
        return {total, m, 0, visits * static_cast<double>(config_.cores), memory};
    }

    const Config& config_;
    MemoryProfile& memory_;
    const Contraction& c_;
    const Share& share_;
    const Dataflow dataflow_;
    std::vector<Side> rows_, cols_, depths_;
    std::vector<Piece> a_, b_;  // of each pair of tile sizes
    Piece whole_a_, whole_b_, out_;
    std::pair<double, double> edges_;  // cycles of the array before its first operand and after its last
    Work post_;
    Bytes accumulator_ = 0, bias_ = 0;
    const Bytes bank_;
    const bool all_helps_;
    bool same_a_ = false, same_b_ = false;
};

}  // namespace

void append_candidates(const Config& config, MemoryProfile& memory, const Contraction& contraction, const Share& share,
                       Dataflow dataflow, std::vector<Candidate>& found, double& best) {
    Candidates(config, memory, contraction, share, dataflow).append_to(found, best);
}

}  // namespace acalsim
