// Closed-form cycles of systolic arrays.
#pragma once

#include "acalsim/config.h"
#include "acalsim/step.h"

namespace acalsim {

/// A matrix product as an array sees it: [m, k] times [k, n].
struct MatrixShape {
    std::uint64_t m = 0;
    std::uint64_t n = 0;
    std::uint64_t k = 0;
};

/// Stationary tiles ("folds") that the shape needs on one array.
std::uint64_t array_folds(const ArrayConfig& array, Dataflow dataflow, const MatrixShape& shape);

/// Cycles of one fold from loading its stationary operand to its last result, nothing overlapped.
Cycle array_fold_cycles(const ArrayConfig& array, Dataflow dataflow, const MatrixShape& shape);

/// Operand elements read from the scratchpad and partial sums read or written.
struct ArrayTraffic {
    std::uint64_t a = 0, b = 0, accumulator = 0;
};
ArrayTraffic array_traffic(const ArrayConfig& array, Dataflow dataflow, const MatrixShape& shape);

/// How long the shape occupies the arrays of a core.
Work array_work(const ArrayConfig& array, Dataflow dataflow, const MatrixShape& shape);

}  // namespace acalsim
