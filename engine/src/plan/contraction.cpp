#include "plan/contraction.h"

#include <algorithm>
#include <iterator>
#include <sstream>
#include <stdexcept>

namespace acalsim {

namespace {

using Keep = Mapping::Keep;

class ContractionStream final : public StepStream {
  public:
    ContractionStream(const Config& config, std::shared_ptr<const Contraction> contraction, const Share& share,
                      const Mapping& mapping)
        : config_(config), c_(std::move(contraction)), share_(share), map_(mapping), batch_(share.batches.begin) {
        const std::uint64_t row_tiles = ceil_div(share.rows.size(), map_.tile_rows);
        const std::uint64_t col_tiles = ceil_div(share.cols.size(), map_.tile_cols);
        outer_tiles_ = map_.rows_outer ? row_tiles : col_tiles;
        inner_tiles_ = map_.rows_outer ? col_tiles : row_tiles;
        depth_tiles_ = ceil_div(c_->depth, map_.tile_depth);
        const Footprint need = footprint(*c_, share, mapping);
        scratch_ = need.kept + need.step;
        accumulator_ = need.accumulator;
        if (!need.fits(config.scratchpad)) {
            throw std::invalid_argument("command: its smallest tile needs " + std::to_string(scratch_) + " + " +
                                        std::to_string(accumulator_) + " bytes, scratchpad.size_kib holds " +
                                        std::to_string(config.scratchpad.size) + ", accumulator_kib " +
                                        std::to_string(config.scratchpad.accumulator));
        }
    }

    bool next(Step& step) override {
        if (batch_ == share_.batches.end) return false;
        step.clear();
        const std::uint64_t row_tile = map_.rows_outer ? outer_ : inner_;
        const std::uint64_t col_tile = map_.rows_outer ? inner_ : outer_;
        const Range row = tile(share_.rows, row_tile, map_.tile_rows);
        const Range col = tile(share_.cols, col_tile, map_.tile_cols);
        const Range k = tile({0, c_->depth}, depth_, map_.tile_depth);
        const bool keeps_all_a = map_.keep_a == Keep::kAll;
        fetch(step, c_->a(batch_, row, k, keeps_all_a && row_tile > 0), map_.keep_a, map_.rows_outer,
              same_as(batch_, true), same_as(batch_ + 1, true));
        fetch(step, c_->b(batch_, k, col), map_.keep_b, !map_.rows_outer, same_as(batch_, false),
              same_as(batch_ + 1, false));

        const MatrixShape shape = c_->matrix(row.size(), col.size(), k.size());
        step.array = array_work(config_.array, map_.dataflow, shape);
        step.macs = shape.m * shape.n * shape.k;
        const ArrayTraffic traffic = array_traffic(config_.array, map_.dataflow, shape);
        step.scratchpad_traffic = traffic.a * c_->a_element + traffic.b * c_->b_element;
        step.accumulator_traffic = traffic.accumulator * c_->accumulator_element;
        if (depth_ == 0) step.accumulator = shape.m * shape.n * c_->accumulator_element;
        if (depth_ + 1 == depth_tiles_) finish_tile(step, row, col, row_tile, shape);
        advance();
        return true;
    }

    std::uint64_t steps() const override { return share_.batches.size() * outer_tiles_ * inner_tiles_ * depth_tiles_; }
    Bytes scratch_footprint() const override { return scratch_; }
    Bytes accumulator_footprint() const override { return accumulator_; }

  private:
    static Range tile(Range whole, std::uint64_t index, std::uint64_t size) {
        const std::uint64_t begin = whole.begin + index * size;
        return {begin, std::min(whole.end, begin + size)};
    }

    bool same_as(std::uint64_t batch, bool a) const {
        if (batch == share_.batches.begin || batch == share_.batches.end) return false;
        return a ? c_->same_a(batch) : c_->same_b(batch);
    }

    /// Loads an operand's tile at its first use in its scope and gives it back at its last.
    void fetch(Step& step, const Box& box, Keep keep, bool is_outer, bool same_before, bool same_after) const {
        bool load = true, release = true;
        const std::uint64_t other = is_outer ? inner_ : outer_;
        const std::uint64_t others = is_outer ? inner_tiles_ : outer_tiles_;
        if (keep != Keep::kNone) {
            load = other == 0;
            release = other + 1 == others;
        }
        if (keep == Keep::kAll) {
            load = load && !same_before;
            release = release && !same_after;
        }
        if (load && box.bytes() > 0) {
            step.loads.push_back(box);
            step.scratch += box.bytes();
        }
        if (release) step.scratch_release += box.bytes();
    }

    void finish_tile(Step& step, Range row, Range col, std::uint64_t row_tile, const MatrixShape& shape) const {
        const std::uint64_t elements = shape.m * shape.n;
        step.accumulator_store = elements * c_->accumulator_element;
        step.stores.push_back(c_->out(batch_, row, col));
        if (c_->post.total() > 0) {
            step.vector = vector_work(config_.vector, elements, c_->post);
            step.vector_ops = elements * c_->post.total();
            step.accumulator_traffic += 2 * elements * c_->accumulator_element;
        }
        if (!c_->has_bias) return;
        const Box bias = c_->bias(batch_, row, col);
        const bool kept = !c_->bias_per_row;  // stays from the first row tile to the last
        const std::uint64_t row_tiles = map_.rows_outer ? outer_tiles_ : inner_tiles_;
        if (!kept || row_tile == 0) {
            step.loads.push_back(bias);
            step.scratch += bias.bytes();
        }
        if (!kept || row_tile + 1 == row_tiles) step.scratch_release += bias.bytes();
    }

    void advance() {
        if (++depth_ < depth_tiles_) return;
        depth_ = 0;
        if (++inner_ < inner_tiles_) return;
        inner_ = 0;
        if (++outer_ < outer_tiles_) return;
        outer_ = 0;
        ++batch_;
    }

    const Config& config_;
    std::shared_ptr<const Contraction> c_;
    Share share_;
    Mapping map_;
    std::uint64_t batch_, outer_ = 0, inner_ = 0, depth_ = 0;
    std::uint64_t outer_tiles_ = 0, inner_tiles_ = 0, depth_tiles_ = 0;
    Bytes scratch_ = 0, accumulator_ = 0;
};

/// Throws std::invalid_argument if what is counted of the contraction could leave 64 bits.
void check_size(const Config& config, const Contraction& c) {
    const MatrixShape shape = c.matrix(c.rows, c.cols, c.depth);
    const auto m = static_cast<double>(shape.m), n = static_cast<double>(shape.n), k = static_cast<double>(shape.k);
    const auto batches = static_cast<double>(c.batches);
    const auto rows = static_cast<double>(config.array.rows), cols = static_cast<double>(config.array.cols);
    // Of any dataflow: a fold for each pair of rows and columns that an array has, each as long as its stream.
    const auto cycles = [&](double down, double across, double stream) {
        return batches * (down / rows + 1) * (across / cols + 1) * (2 * rows + cols + stream);
    };
    check_count("multiply-accumulates", batches * m * n * k);
    check_count("cycles on the array", std::max({cycles(k, n, m), cycles(k, m, n), cycles(m, n, k)}));
}

}  // namespace

std::vector<Share> split(const Config& config, const Contraction& c) {
    check_size(config, c);
    const std::uint64_t cores = config.cores;
    const Share all = whole(c);
    if (cores == 1) return {all};
    const auto part = [cores](std::uint64_t size, std::uint64_t granule, std::uint64_t core) {
        const std::uint64_t share = round_up(ceil_div(size, cores), granule);
        return Range{std::min(size, core * share), std::min(size, (core + 1) * share)};
    };
    // The split whose largest share computes least; batches before rows before columns on a tie.
    const auto cost = [&](std::uint64_t batches, std::uint64_t rows, std::uint64_t cols) {
        Cycle least = kNever;
        for (Dataflow dataflow : config.array.dataflows) {
            least = std::min(least, array_work(config.array, dataflow, c.matrix(rows, cols, c.depth)).busy);
        }
        return batches * least;
    };
    const Range batch = part(c.batches, 1, 0), row = part(c.rows, 1, 0), col = part(c.cols, 1, 0);
    const std::uint64_t by_batch = cost(batch.size(), c.rows, c.cols);
    const std::uint64_t by_row = cost(c.batches, row.size(), c.cols);
    const std::uint64_t by_col = cost(c.batches, c.rows, col.size());
    std::vector<Share> shares;
    for (std::uint64_t core = 0; core < cores; ++core) {
        Share share = all;
        if (by_batch <= by_row && by_batch <= by_col) {
            share.batches = part(c.batches, 1, core);
        } else if (by_row <= by_col) {
            share.rows = part(c.rows, 1, core);
        } else {
            share.cols = part(c.cols, 1, core);
        }
        shares.push_back(share);
    }
    return shares;
}

Footprint footprint(const Contraction& c, const Share& share, const Mapping& m) {
    const std::uint64_t tile_rows = std::min(m.tile_rows, share.rows.size());
    const std::uint64_t tile_cols = std::min(m.tile_cols, share.cols.size());
    const std::uint64_t tile_depth = std::min(m.tile_depth, c.depth);
    const Range row{share.rows.begin, share.rows.begin + tile_rows},
        col{share.cols.begin, share.cols.begin + tile_cols};
    // Windows overlap the edges of the input least in the middle; a tile there is the largest.
    const std::uint64_t middle = share.rows.begin + (share.rows.size() - tile_rows) / 2;
    const Range mid{middle, middle + tile_rows};
    const Range k{0, tile_depth}, whole{0, c.depth};
    const std::uint64_t batch = share.batches.begin;
    Footprint need;
    need.hold(m.keep_a, c.a(batch, mid, k, false).bytes(), c.a(batch, mid, whole, false).bytes(),
              c.a(batch, share.rows, whole, false).bytes());
    need.hold(m.keep_b, c.b(batch, k, col).bytes(), c.b(batch, whole, col).bytes(),
              c.b(batch, whole, share.cols).bytes());
    if (c.has_bias) {
        if (c.bias_per_row) {
            need.step += c.bias(batch, row, col).bytes();
        } else {
            need.kept += c.bias(batch, row, share.cols).bytes();
        }
    }
    const MatrixShape shape = c.matrix(tile_rows, tile_cols, tile_depth);
    need.accumulator = shape.m * shape.n * c.accumulator_element;
    return need;
}

namespace {

constexpr const char* kKeepNames[] = {"none", "panel", "all"};

/// The index of a name among `names`.
template <std::size_t N>
std::size_t index_of(const std::string& name, const char* const (&names)[N], const std::string& text) {
    const auto found = std::find(std::begin(names), std::end(names), name);
    if (found == std::end(names)) {
        throw std::invalid_argument("mapping '" + text + "': '" + name + "' is not one of its names; expected as in " +
                                    describe(Mapping{64, 256, 128}));
    }
    return static_cast<std::size_t>(found - std::begin(names));
}

}  // namespace

std::string describe(const Mapping& m) {
    return "rows " + std::to_string(m.tile_rows) + " cols " + std::to_string(m.tile_cols) + " depth " +
           std::to_string(m.tile_depth) + (m.rows_outer ? ", rows outer, a " : ", columns outer, a ") +
           kKeepNames[static_cast<std::size_t>(m.keep_a)] + ", b " + kKeepNames[static_cast<std::size_t>(m.keep_b)] +
           ", " + kDataflowNames[static_cast<std::size_t>(m.dataflow)];
}

Mapping parse_mapping(const std::string& text) {
    Mapping m;
    std::istringstream in(text);
    std::string rows, cols, depth, outer, word, a, keep_a, b, keep_b, dataflow;
    in >> rows >> m.tile_rows >> cols >> m.tile_cols >> depth >> m.tile_depth >> word >> outer >> word >> a >> keep_a >>
        b >> keep_b >> dataflow;

    if (!in || m.tile_rows == 0 || m.tile_cols == 0 || m.tile_depth == 0) {
        throw std::invalid_argument("mapping '" + text + "': expected as in " + describe(Mapping{64, 256, 128}));
    }
    const auto bare = [](const std::string& s) { return s.substr(0, s.find(',')); };
    m.rows_outer = outer == "rows";
    m.keep_a = static_cast<Mapping::Keep>(index_of(bare(keep_a), kKeepNames, text));
    m.keep_b = static_cast<Mapping::Keep>(index_of(bare(keep_b), kKeepNames, text));
    m.dataflow = static_cast<Dataflow>(index_of(dataflow, kDataflowNames, text));
    return m;
}

Plan make_contraction_plan(const Config& config, const std::shared_ptr<const Contraction>& contraction,
                           const std::vector<Share>& shares, const Mapping& mapping) {
    const Contraction& c = *contraction;
    Plan plan;
    plan.mac_dtype = c.dtype;
    plan.mapping = describe(mapping);
    plan.dataflow = kDataflowNames[static_cast<std::size_t>(mapping.dataflow)];
    const MatrixShape shape = c.matrix(c.rows, c.cols, c.depth);
    const std::uint64_t folds = c.batches * array_folds(config.array, mapping.dataflow, shape);
    // Counted as SCALE-Sim does: the index of the last cycle.
    plan.array_cycles =
        ceil_div(folds, config.array.count) * array_fold_cycles(config.array, mapping.dataflow, shape) - 1;
    for (const Share& share : shares) {
        plan.parts.push_back(share.empty() ? nullptr
                                           : std::make_unique<ContractionStream>(config, contraction, share, mapping));
    }
    return plan;
}

}  // namespace acalsim
