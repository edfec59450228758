// What a command is cut into: steps that load, compute and store one tile.
#pragma once

#include <vector>

#include "acalsim/box.h"
#include "acalsim/types.h"

namespace acalsim {

/// Use of a pipelined unit: it is busy from its start, `preload` after the operands are there; results come `drain`
/// later.
struct Work {
    Cycle preload = 0;
    Cycle busy = 0;
    Cycle drain = 0;
};

/// One tile: allocate, load, array, vector unit, store, release; each phase waits for the one before.
struct Step {
    bool after_all = false;     // starts when every earlier step of the part has ended: its results are read back
    Bytes scratch = 0;          // scratchpad taken before the loads are issued
    Bytes scratch_release = 0;  // given back when compute has ended
    Bytes scratch_store = 0;    // given back when the stores have ended
    Bytes accumulator = 0;      // accumulator taken before the loads are issued
    Bytes accumulator_store = 0;
    std::vector<Box> loads;
    std::vector<Box> stores;
    Work array;
    Work vector;
    std::uint64_t macs = 0;
    std::uint64_t vector_ops = 0;
    Bytes scratchpad_traffic = 0;  // read or written by array and vector unit
    Bytes accumulator_traffic = 0;

    void clear() {
        after_all = false;
        scratch = scratch_release = scratch_store = accumulator = accumulator_store = 0;
        loads.clear();
        stores.clear();
        array = vector = Work{};
        macs = vector_ops = 0;
        scratchpad_traffic = accumulator_traffic = 0;
    }
};

/// Generates the steps of one command on one core, in the order in which its loads are issued.
class StepStream {
  public:
    virtual ~StepStream() = default;

    /// Fills `step`; false when there are no more.
    virtual bool next(Step& step) = 0;

    /// How many there are in all.
    virtual std::uint64_t steps() const = 0;

    /// Most scratchpad and accumulator that is held before a step can be finished without a further step.
    virtual Bytes scratch_footprint() const = 0;
    virtual Bytes accumulator_footprint() const = 0;
};

}  // namespace acalsim
