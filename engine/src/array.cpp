#include "acalsim/array.h"

#include <algorithm>

namespace acalsim {

namespace {

struct Folding {
    std::uint64_t down;    // dimension laid over the rows
    std::uint64_t across;  // dimension laid over the columns
    std::uint64_t stream;  // dimension that flows through
};

Folding folding(Dataflow dataflow, const MatrixShape& s) {
    switch (dataflow) {
        case Dataflow::kWeightStationary: return {s.k, s.n, s.m};
        case Dataflow::kInputStationary: return {s.k, s.m, s.n};
        case Dataflow::kOutputStationary: return {s.m, s.n, s.k};
    }
    return {};
}

}  // namespace

std::uint64_t array_folds(const ArrayConfig& array, Dataflow dataflow, const MatrixShape& shape) {
    const Folding f = folding(dataflow, shape);
    return ceil_div(f.down, array.rows) * ceil_div(f.across, array.cols);
}

Cycle array_fold_cycles(const ArrayConfig& array, Dataflow dataflow, const MatrixShape& shape) {
    const Cycle stationary = dataflow == Dataflow::kOutputStationary ? 0 : array.rows;
    return stationary + array.rows + array.cols + folding(dataflow, shape).stream - 2;
}

Work array_work(const ArrayConfig& array, Dataflow dataflow, const MatrixShape& shape) {
    if (shape.m == 0 || shape.n == 0 || shape.k == 0) return {};
    const std::uint64_t folds = ceil_div(array_folds(array, dataflow, shape), array.count);
    if (!array.double_buffered) return {0, folds * array_fold_cycles(array, dataflow, shape), 0};
    // Loading R rows of the next stationary tile (or draining R rows of results) hides behind a stream of at least R.
    const Cycle fold = std::max(folding(dataflow, shape).stream, array.rows);
    const Cycle preload = dataflow == Dataflow::kOutputStationary ? 0 : array.rows;
    return {preload, folds * fold, array.rows + array.cols - 2};
}

ArrayTraffic array_traffic(const ArrayConfig& array, Dataflow dataflow, const MatrixShape& s) {
    // The stationary operand is read once; the streaming one once for each fold across the columns.
    const std::uint64_t a = s.m * s.k, b = s.k * s.n, out = s.m * s.n;
    switch (dataflow) {
        case Dataflow::kWeightStationary:
            return {a * ceil_div(s.n, array.cols), b, 2 * out * ceil_div(s.k, array.rows)};
        case Dataflow::kInputStationary: return {a, b * ceil_div(s.m, array.cols), 2 * out * ceil_div(s.k, array.rows)};
        case Dataflow::kOutputStationary: return {a * ceil_div(s.n, array.cols), b * ceil_div(s.m, array.rows), out};
    }
    return {};
}

}  // namespace acalsim
