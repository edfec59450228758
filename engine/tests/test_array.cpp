// Closed forms of the arrays.
#include "acalsim/array.h"
#include "check.h"

using namespace acalsim;

TEST(folds, "does each dataflow lay the right dimensions on the array?") {
    ArrayConfig array;
    array.rows = 8;
    array.cols = 4;
    const MatrixShape shape{17, 9, 30};
    CHECK_EQUAL(array_folds(array, Dataflow::kWeightStationary, shape), 4 * 3);
    CHECK_EQUAL(array_folds(array, Dataflow::kInputStationary, shape), 4 * 5);
    CHECK_EQUAL(array_folds(array, Dataflow::kOutputStationary, shape), 3 * 3);
    CHECK_EQUAL(array_fold_cycles(array, Dataflow::kWeightStationary, shape), 2 * 8 + 4 + 17 - 2);
    CHECK_EQUAL(array_fold_cycles(array, Dataflow::kInputStationary, shape), 2 * 8 + 4 + 9 - 2);
    CHECK_EQUAL(array_fold_cycles(array, Dataflow::kOutputStationary, shape), 8 + 4 + 30 - 2);
}

TEST(single_fold, "does one fold last the same with and without overlap?") {
    ArrayConfig array;
    for (Dataflow d : {Dataflow::kWeightStationary, Dataflow::kOutputStationary, Dataflow::kInputStationary}) {
        const MatrixShape shape{16, 16, 16};
        array.double_buffered = true;
        const Work w = array_work(array, d, shape);
        CHECK_EQUAL(w.preload + w.busy + w.drain, array_fold_cycles(array, d, shape));
    }
}

TEST(several, "do two arrays halve the folds, rounded up?") {
    ArrayConfig array;
    array.double_buffered = false;
    const MatrixShape shape{100, 48, 16};
    const Cycle one = array_work(array, Dataflow::kWeightStationary, shape).busy;
    array.count = 2;
    CHECK_EQUAL(array_work(array, Dataflow::kWeightStationary, shape).busy, one / 3 * 2);
}
