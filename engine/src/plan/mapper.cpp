#include "plan/mapper.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace acalsim {

namespace {

using Keep = Mapping::Keep;

// Set by hand from runs of the edge and cloud4 presets; not fitted to an
// exhaustive search.
constexpr Bytes kRunBytes = 64;        // what opening a row costs, as bytes of bandwidth
constexpr double kAccessCycles = 50;   // latency of the DRAM itself
constexpr double kInterference = 0.1;  // share of the hidden units' time that shows

/// Tile sizes that cut `extent` into few even tiles of whole granules, largest
/// first.
std::vector<std::uint64_t> tile_sizes(std::uint64_t extent, std::uint64_t granule, std::uint64_t largest) {
    constexpr std::uint64_t kCuts[] = {1,  2,  3,  4,   6,   8,   12,   16,   24,    32,
                                       48, 64, 96, 128, 256, 512, 1024, 4096, 16384, 65536};
    std::vector<std::uint64_t> sizes;
    const auto add = [&](std::uint64_t size) {
        size = std::min({size, extent, largest});
        if (size > 0 && (sizes.empty() || size < sizes.back())) sizes.push_back(size);
    };
    for (std::uint64_t cuts : kCuts) {
        if (cuts > 1 && ceil_div(extent, cuts) < granule) break;
        add(round_up(ceil_div(extent, cuts), granule));
    }
    add(granule);
    return sizes;
}

/// Sum over the tiles of a range of f(size) for full tiles and the remainder.
template <typename Fn>
double over_tiles(std::uint64_t extent, std::uint64_t tile, Fn&& f) {
    const std::uint64_t full = extent / tile, rest = extent % tile;
    return static_cast<double>(full) * (full ? f(tile) : 0.0) + (rest ? f(rest) : 0.0);
}

// Chosen on the shapes drawn from seeds 0 to 44 in tests/engine/test_mapper.py,
// by comparison with exhaustive searches.
constexpr std::uint64_t kRehearsedSteps = 700;  // all rehearsals of one shape: bounds the time that they take
constexpr double kPromising = 1.4;              // how far the estimate may be off among the candidates rehearsed
constexpr double kRehearsedRate = 0.6;          // of peak: short runs and turning the bus around
constexpr double kRehearsedAccess = 80;         // cycles of the DRAM itself

RehearsalMemory rehearsal_memory(const Config& config) {
    if (config.memory.preset == "ideal") return {std::numeric_limits<double>::infinity(), 0};
    const double peak = static_cast<double>(config.memory.bytes_per_cycle.num) /
                        static_cast<double>(config.memory.bytes_per_cycle.den) / static_cast<double>(config.cores);
    return {kRehearsedRate * peak, static_cast<double>(config.memory.latency) + kRehearsedAccess};
}

}  // namespace

Mapper::Mapper(const Config& config) : config_(config), memory_(rehearsal_memory(config)) {}

std::vector<Mapping> Mapper::candidates(const Contraction& c, const Share& share) const {
    const ArrayConfig& array = config_.array;
    const Dataflow dataflow = array.dataflow;
    // Tiles are cut at whole folds along the dims that lie on the array.
    const MatrixShape unit = c.matrix(1, 1, 1);
    std::uint64_t row_granule = 1, col_granule = 1, depth_granule = 1;
    switch (dataflow) {
        case Dataflow::kWeightStationary:
            col_granule = array.cols * array.count;
            depth_granule = array.rows;
            break;
        case Dataflow::kInputStationary:
            row_granule = array.cols * array.count;
            depth_granule = array.rows;
            break;
        case Dataflow::kOutputStationary:
            row_granule = array.rows;
            col_granule = array.cols * array.count;
            break;
    }
    row_granule = std::max<std::uint64_t>(1, row_granule / unit.m);
    depth_granule = std::max<std::uint64_t>(1, depth_granule / unit.k);
    const auto rows = tile_sizes(share.rows.size(), row_granule, c.max_tile_rows);
    const auto cols = tile_sizes(share.cols.size(), col_granule, ~std::uint64_t{0});
    const auto depths = tile_sizes(c.depth, depth_granule, ~std::uint64_t{0});
    std::vector<Mapping> found;
    for (std::uint64_t tile_rows : rows) {
        for (std::uint64_t tile_cols : cols) {
            const MatrixShape shape = c.matrix(tile_rows, tile_cols, 1);
            if (shape.m * shape.n * c.accumulator_element > config_.scratchpad.accumulator) continue;
            for (std::uint64_t tile_depth : depths) {
                for (bool rows_outer : {true, false}) {
                    Mapping m{tile_rows, tile_cols, tile_depth, rows_outer, Keep::kNone, Keep::kNone, dataflow};
                    Keep& outer = rows_outer ? m.keep_a : m.keep_b;
                    Keep& inner = rows_outer ? m.keep_b : m.keep_a;
                    // Keeping more saves traffic: less is considered only while double
                    // buffering has no room.
                    bool comfortable = false;
                    for (Keep keep_outer : {Keep::kAll, Keep::kPanel, Keep::kNone}) {
                        // A whole operand beyond its panels helps where batches share it or
                        // windows overlap.
                        if (keep_outer == Keep::kAll && share.batches.size() == 1 && unit.k == 1) continue;
                        if (comfortable && keep_outer == Keep::kNone) continue;
                        for (Keep keep_inner : {Keep::kAll, Keep::kNone}) {
                            outer = keep_outer;
                            inner = keep_inner;
                            const Footprint need = footprint(c, share, m);
                            if (need.kept + need.step > config_.scratchpad.size) continue;
                            found.push_back(m);
                            comfortable = need.kept + 2 * need.step <= config_.scratchpad.size;
                            if (comfortable) break;
                        }
                    }
                }
            }
        }
    }
    return found;
}

double Mapper::estimate(const Contraction& c, const Share& share, const Mapping& m) const {
    const Footprint need = footprint(c, share, m);
    if (need.kept + need.step > config_.scratchpad.size || need.accumulator > config_.scratchpad.accumulator) {
        return std::numeric_limits<double>::infinity();
    }
    const auto batches = static_cast<double>(share.batches.size());
    const double row_tiles = static_cast<double>(ceil_div(share.rows.size(), m.tile_rows));
    const double col_tiles = static_cast<double>(ceil_div(share.cols.size(), m.tile_cols));
    const double depth_tiles = static_cast<double>(ceil_div(c.depth, m.tile_depth));

    const double array =
        batches * over_tiles(share.rows.size(), m.tile_rows, [&](std::uint64_t r) {
            return over_tiles(share.cols.size(), m.tile_cols, [&](std::uint64_t n) {
                return over_tiles(c.depth, m.tile_depth, [&](std::uint64_t k) {
                    return static_cast<double>(array_work(config_.array, m.dataflow, c.matrix(r, n, k)).busy);
                });
            });
        });

    // Bytes of whole bursts: short runs waste the rest of theirs, and each may
    // open a row of its own.
    const Bytes burst = config_.dma.burst;
    const auto moved = [burst](const Box& box) {
        return static_cast<double>(box.runs() * (round_up(box.run(), burst) + kRunBytes));
    };
    const std::uint64_t batch = share.batches.begin;
    const std::uint64_t middle = share.rows.begin + (share.rows.size() - std::min(share.rows.size(), m.tile_rows)) / 2;
    const Range row{middle, std::min(share.rows.end, middle + m.tile_rows)};
    const Range col{share.cols.begin, std::min(share.cols.end, share.cols.begin + m.tile_cols)};
    const Range k{0, std::min(c.depth, m.tile_depth)};
    const double a_tile = moved(c.a(batch, row, k, false)), b_tile = moved(c.b(batch, k, col));
    const double out_tile = moved(c.out(batch, row, col));
    const auto repeats = [&](Keep keep, bool is_outer, double other_tiles, bool same) {
        if (keep == Keep::kAll) return same ? 1.0 : batches;
        if (keep == Keep::kPanel && is_outer) return batches;
        // Without a panel the tile is fetched for every index of the other loop.
        return batches * other_tiles;
    };
    const bool several = share.batches.size() > 1;
    const double a_whole =
        m.keep_a == Keep::kAll ? moved(c.a(batch, share.rows, {0, c.depth}, false)) : a_tile * row_tiles * depth_tiles;
    const double a_bytes = a_whole * repeats(m.keep_a, m.rows_outer, col_tiles, several && c.same_a(batch + 1));
    const double b_bytes =
        b_tile * col_tiles * depth_tiles * repeats(m.keep_b, !m.rows_outer, row_tiles, several && c.same_b(batch + 1));
    const double out_bytes = batches * out_tile * row_tiles * col_tiles;
    const double rate = 0.9 * static_cast<double>(config_.memory.bytes_per_cycle.num) /
                        static_cast<double>(config_.memory.bytes_per_cycle.den) / static_cast<double>(config_.cores);
    const bool ideal = config_.memory.preset == "ideal";
    const auto transfer = [&](double bytes) { return ideal ? 0.0 : bytes / rate; };
    const double latency = ideal ? 0.0 : static_cast<double>(config_.memory.latency) + kAccessCycles;
    const double steps = batches * row_tiles * col_tiles * depth_tiles;
    // A DMA channel waits out the latency of each of its transfers.
    const double turns = 2 * steps * latency / static_cast<double>(config_.dma.channels);
    const double memory = std::max(transfer(a_bytes + b_bytes + out_bytes), turns);

    const MatrixShape tile = c.matrix(row.size(), col.size(), k.size());
    const Work post = c.post.count() ? vector_work(config_.vector, tile.m * tile.n, c.post) : Work{};
    const double tiles = batches * row_tiles * col_tiles;
    const double vector = tiles * static_cast<double>(post.busy);
    const double finish = static_cast<double>(post.busy + post.drain) + transfer(out_tile) + latency;
    const double fill = transfer(a_tile + b_tile) + latency;
    const Work work = array_work(config_.array, m.dataflow, tile);

    // The busier unit decides; the others still get in its way now and then.
    const double busiest = std::max({array, memory, vector});
    double total = busiest + kInterference * (array + memory + vector - busiest) + fill + finish +
                   static_cast<double>(work.preload + work.drain);
    // What cannot be double-buffered adds up instead of overlapping.
    if (need.kept + 2 * need.step > config_.scratchpad.size && steps > 1) {
        total += std::min(array, transfer(a_bytes + b_bytes)) + (steps - 1) * latency;
    }
    if (2 * need.accumulator > config_.scratchpad.accumulator && tiles > 1) {
        total += (tiles - 1) * (finish + static_cast<double>(work.drain));
    }
    return total;
}

std::vector<std::uint64_t> Mapper::key(const Contraction& c, const Share& share) {
    std::vector<std::uint64_t> key = c.key();
    key.insert(key.end(), {share.batches.size(), share.rows.size(), share.cols.size()});
    return key;
}

void Mapper::pin(const Contraction& c, const Share& share, const Mapping& mapping) { found_[key(c, share)] = mapping; }

const Mapping& Mapper::map(std::shared_ptr<const Contraction> contraction, const Share& share) {
    const Contraction& c = *contraction;
    std::vector<std::uint64_t> shape = key(c, share);
    const auto known = found_.find(shape);
    if (known != found_.end()) return known->second;
    struct Ranked {
        double time;
        std::size_t index;
        bool operator<(const Ranked& other) const {
            return time != other.time ? time < other.time : index < other.index;
        }
    };
    const std::vector<Mapping> considered = candidates(c, share);
    std::vector<Ranked> ranked;
    for (std::size_t i = 0; i < considered.size(); ++i) ranked.push_back({estimate(c, share, considered[i]), i});
    std::sort(ranked.begin(), ranked.end());
    Mapping best;
    double best_time = ranked.empty() ? std::numeric_limits<double>::infinity() : ranked.front().time;
    if (best_time != std::numeric_limits<double>::infinity()) {
        best = considered[ranked.front().index];
        // The most promising ones are played through, while that is quick: many
        // steps are estimated well enough.
        std::uint64_t steps_left = kRehearsedSteps;
        double shortest = std::numeric_limits<double>::infinity();
        for (const Ranked& next : ranked) {
            const Mapping& m = considered[next.index];
            const std::uint64_t steps = share.batches.size() * ceil_div(share.rows.size(), m.tile_rows) *
                                        ceil_div(share.cols.size(), m.tile_cols) * ceil_div(c.depth, m.tile_depth);
            if (next.time > kPromising * best_time) break;
            if (steps > steps_left) continue;
            steps_left -= steps;
            const double time = rehearse(config_, memory_, *make_contraction_stream(config_, contraction, share, m));
            if (time < shortest) {
                shortest = time;
                best = m;
            }
        }
    }
    if (best_time == std::numeric_limits<double>::infinity()) {
        const Mapping smallest{1, 1, 1, true, Keep::kNone, Keep::kNone, config_.array.dataflow};
        const Footprint need = footprint(c, share, smallest);
        if (need.kept + need.step > config_.scratchpad.size || need.accumulator > config_.scratchpad.accumulator) {
            throw std::invalid_argument("command: its smallest tile needs " + std::to_string(need.kept + need.step) +
                                        " + " + std::to_string(need.accumulator) + " bytes on chip; scratchpad has " +
                                        std::to_string(config_.scratchpad.size) + " and accumulator " +
                                        std::to_string(config_.scratchpad.accumulator));
        }
        best = smallest;
    }
    return found_.emplace(std::move(shape), best).first->second;
}

}  // namespace acalsim
