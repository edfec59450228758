// Matrix products and convolutions as one loop nest over tiles of rows, columns and depth.
#pragma once

#include <string>
#include <vector>

#include "acalsim/array.h"
#include "acalsim/box.h"
#include "acalsim/config.h"
#include "acalsim/plan.h"
#include "acalsim/step.h"
#include "acalsim/vector_unit.h"

namespace acalsim {

/// A half-open range of tiling units.
struct Range {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::uint64_t size() const { return end - begin; }
};

/// The geometry of out[row, col] += a[row, depth] * b[depth, col] for each batch, in units in which it may be tiled.
class Contraction {
  public:
    virtual ~Contraction() = default;

    std::uint64_t batches = 1, rows = 0, cols = 0, depth = 0;
    std::uint64_t max_tile_rows = ~std::uint64_t{0};  // rows of one tile must be neighbours in memory
    Bytes a_element = 4, b_element = 4, accumulator_element = 4;
    std::uint8_t dtype = 0;  // of a, for the energy of a multiply-accumulate
    VectorOps post;          // per output element after the last product: bias, activation, scaling
    bool has_bias = false;
    bool bias_per_row = false;  // bias differs from row to row (of tiling units), so that each tile reads its own

    /// What the arrays see of a tile.
    virtual MatrixShape matrix(std::uint64_t tile_rows, std::uint64_t tile_cols, std::uint64_t tile_depth) const = 0;
    /// Bytes to fetch; `resident` rows before `row.begin` are on chip already, so that a window reads new rows alone.
    virtual Box a(std::uint64_t batch, Range row, Range k, bool resident) const = 0;
    virtual Box b(std::uint64_t batch, Range k, Range col) const = 0;
    virtual Box out(std::uint64_t batch, Range row, Range col) const = 0;
    virtual Box bias(std::uint64_t batch, Range row, Range col) const = 0;
    /// Whether this batch uses the same a (b) as the one before it.
    virtual bool same_a(std::uint64_t batch) const = 0;
    virtual bool same_b(std::uint64_t batch) const = 0;
    /// Everything that the best mapping depends on.
    virtual std::vector<std::uint64_t> key() const = 0;
};

/// How a contraction is cut: tile sizes, loop order, what stays on chip.
struct Mapping {
    enum class Keep { kNone, kPanel, kAll };  // kPanel: the tiles of one outer index over the whole depth

    std::uint64_t tile_rows = 1, tile_cols = 1, tile_depth = 1;
    bool rows_outer = true;  // the outer loop runs over rows, the inner over columns; depth is innermost
    Keep keep_a = Keep::kNone, keep_b = Keep::kNone;
    Dataflow dataflow = Dataflow::kWeightStationary;
};

/// The part of a contraction that one core computes.
struct Share {
    Range batches, rows, cols;

    bool empty() const { return batches.size() == 0 || rows.size() == 0 || cols.size() == 0; }
};

/// All of it, for one core.
inline Share whole(const Contraction& c) { return {{0, c.batches}, {0, c.rows}, {0, c.cols}}; }

/// "rows 64 cols 256 depth 128, columns outer, a panel, b none, ws".
std::string describe(const Mapping& mapping);

/// The mapping that such a text describes; throws std::invalid_argument.
Mapping parse_mapping(const std::string& text);

/// Scratchpad and accumulator bytes that a mapping holds at once.
struct Footprint {
    Bytes kept = 0;  // resident operands
    Bytes step = 0;  // what one step adds
    Bytes accumulator = 0;

    /// Adds an operand, of which a tile, the panel along the whole depth and all have so many bytes.
    void hold(Mapping::Keep keep, Bytes tile, Bytes panel, Bytes all) {
        if (keep == Mapping::Keep::kNone) {
            step += tile;
        } else {
            kept += keep == Mapping::Keep::kPanel ? panel : all;
        }
    }
    bool fits(const ScratchpadConfig& config) const {
        return kept + step <= config.size && accumulator <= config.accumulator;
    }
};
Footprint footprint(const Contraction& c, const Share& share, const Mapping& mapping);

/// A share for each core, of which some may be empty. Throws std::invalid_argument if what is counted of the
/// contraction could leave 64 bits.
std::vector<Share> split(const Config& config, const Contraction& c);

/// The steps of the shares under a mapping; throws std::invalid_argument if it does not fit on chip.
Plan make_contraction_plan(const Config& config, const std::shared_ptr<const Contraction>& contraction,
                           const std::vector<Share>& shares, const Mapping& mapping);

}  // namespace acalsim
