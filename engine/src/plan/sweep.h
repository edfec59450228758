// Element-wise passes over an iteration space: everything that needs no array.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "acalsim/command.h"
#include "acalsim/config.h"
#include "acalsim/plan.h"
#include "acalsim/vector_unit.h"
#include "plan/memory_profile.h"

namespace acalsim {

/// How one operand follows the iteration space. A plain operand has window 1, scale 1/1 and offset 0 in every dim.
struct SweepOperand {
    struct Axis {
        std::int64_t stride = 0;  // elements; 0: the operand does not vary along this dim
        std::uint64_t limit = 0;  // size of the operand along this dim
        std::uint64_t scale_num = 1, scale_den = 1;
        std::uint64_t window = 1;
        std::uint64_t padding = 0;  // subtracted from the first index
        bool adaptive = false;      // window ends at ceil((i + 1) * scale)
    };
    std::uint64_t address = 0;
    Bytes element = 0;
    bool write = false;
    std::vector<Axis> axes;

    SweepOperand(const Operand& operand, bool write);
    Box box(const std::uint64_t* origin, const std::uint64_t* extent) const;
};

/// One pass: reads its inputs and writes its outputs once, tile by tile.
struct Sweep {
    std::vector<std::uint64_t> dims;
    std::vector<bool> reduced;  // per dim: outputs are stored when the last tile along it is done
    std::vector<bool> whole;    // per dim: a tile spans it entirely
    std::vector<SweepOperand> operands;
    VectorOps ops;                   // per element of the iteration space
    bool vector = true;              // false: DMA alone
    std::uint64_t row_elements = 0;  // that are reduced to one value across lanes; 0: none are

    explicit Sweep(const Operand& shape);
    /// Merges neighbouring dims that every operand steps through evenly.
    void collapse();
};

/// How one pass is cut: the tile, and by bit the operands that stay on chip from their first use to the last.
struct Tiling {
    std::vector<std::uint64_t> box;
    std::uint64_t keep = 0;
};

/// The tiling with which the first core's share of a pass is sooner done than with smaller or larger tiles.
Tiling choose_tiling(const Config& config, MemoryProfile& memory, const Sweep& sweep);

/// Cycles of the first core's share of a pass, about: the first `limit` tiles played through, transfers beside compute,
/// the rest taken to go on like them.
double rehearse(const Config& config, MemoryProfile& memory, const Sweep& sweep, const Tiling& tiling,
                std::uint64_t limit);

/// "8x512 keep 2; 8x512": a tiling for each pass, the kept operands as the sum of 2^i.
std::string describe(const std::vector<Tiling>& tilings);

/// The tilings that such a text describes, one for each pass; throws std::invalid_argument.
std::vector<Tiling> parse_tilings(const std::string& text, const std::vector<Sweep>& passes);

/// Everything that the best tilings depend on.
std::vector<std::uint64_t> key(const std::vector<Sweep>& passes);

/// The plan of passes that follow one another; each pass is split over the cores.
Plan make_sweep_plan(const Config& config, Mapper& mapper, std::vector<Sweep> passes);

}  // namespace acalsim
