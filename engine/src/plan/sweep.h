// Element-wise passes over an iteration space: everything that needs no array.
#pragma once

#include <vector>

#include "acalsim/command.h"
#include "acalsim/config.h"
#include "acalsim/vector_unit.h"

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
        bool indexed = false;       // places of a table: which row of it is there, an index says
        /// Whether there are different elements along it for different tiles; scale 0 is a window that stays.
        bool varies() const { return stride != 0 && scale_num != 0; }
    };
    /// An indexed axis of a table.
    struct Extent {
        std::uint64_t size;
        std::int64_t stride;  // elements
    };
    std::uint64_t address = 0;
    Bytes element = 0;
    bool write = false;
    std::vector<Axis> axes;
    std::vector<Extent> table;  // not empty: rows of it go to the indexed axes, by no order that is known

    SweepOperand(const Operand& operand, bool write);
    /// What a tile moves. Rows of a table are spread over it evenly, by a fixed sequence.
    void append_boxes(const std::uint64_t* origin, const std::uint64_t* extent, std::vector<Box>& boxes) const;
    /// Bytes for a tile of such extents at the origin of the pass: an upper bound for every tile.
    Bytes tile_bytes(const std::vector<std::uint64_t>& tile) const;

  private:
    Box box(const std::uint64_t* origin, const std::uint64_t* extent) const;
    void append_rows(const std::uint64_t* origin, const std::uint64_t* extent, std::vector<Box>& boxes) const;
};

/// One pass: reads its inputs and writes its outputs once, tile by tile.
struct Sweep {
    std::vector<std::uint64_t> dims;
    std::vector<bool> reduced;  // per dim: outputs are stored when the last tile along it is done
    std::vector<bool> whole;    // per dim: a tile spans it entirely
    std::vector<bool> ordered;  // per dim: elements need those before them; one core takes all of it, in order
    std::vector<SweepOperand> operands;
    VectorOps ops;                   // per element of the iteration space
    bool vector = true;              // false: DMA alone
    VectorOps carry;                 // along ordered dims, from a group of lanes to the next
    std::uint64_t row_elements = 0;  // that are reduced to one value across lanes; 0: none are

    explicit Sweep(const Operand& shape);
    /// Of all operands.
    Bytes tile_bytes(const std::vector<std::uint64_t>& tile) const;
    /// Bytes of an operand that the whole pass reads or writes.
    Bytes distinct_bytes(const SweepOperand& operand) const;
    /// Merges neighbouring dims that every operand steps through evenly.
    void collapse();
};

/// The part of a pass that one core does, a half-open range of each dim.
struct SweepShare {
    std::vector<std::uint64_t> begin, end;
    bool empty = false;

    SweepShare(const Sweep& sweep, std::uint64_t core, std::uint64_t cores);
    std::uint64_t span(std::size_t d) const { return end[d] - begin[d]; }
};

/// Throws std::invalid_argument if what is counted of the pass could leave 64 bits.
void check_size(const Config& config, const Sweep& sweep);

/// Everything that the best tilings depend on.
std::vector<std::uint64_t> key(const std::vector<Sweep>& passes);

}  // namespace acalsim
