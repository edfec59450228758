// Closed forms of the vector unit.
#include "acalsim/vector_unit.h"
#include "check.h"

using namespace acalsim;

namespace {

VectorConfig unit() {
    VectorConfig c;
    c.lanes = 8;
    c.ops = {{{1, 4}, {3, 10}, {5, 12}, {2, 6}, {7, 20}}};
    return c;
}

}  // namespace

TEST(vector_busy, "is a group of lanes started every sum of issue intervals?") {
    const Work w = vector_work(unit(), 17, {{VectorClass::kArithmetic, 2}, {VectorClass::kTranscendental, 1}});
    CHECK_EQUAL(w.busy, 3 * (2 + 7));
    CHECK_EQUAL(w.drain, 2 * 4 + 20);
}

TEST(vector_classes, "has each class an interval and a latency of its own?") {
    const Cycle intervals[] = {1, 3, 5, 2, 7}, latencies[] = {4, 10, 12, 6, 20};
    for (std::size_t kind = 0; kind < kVectorClasses; ++kind) {
        const Work w = vector_work(unit(), 8, {{static_cast<VectorClass>(kind), 1}});
        CHECK_EQUAL(w.busy, intervals[kind]);
        CHECK_EQUAL(w.drain, latencies[kind]);
    }
}

TEST(vector_parallel, "do operations beside the longest path take slots but no latency?") {
    VectorOps ops{{VectorClass::kDivide, 1}};
    ++ops.count[static_cast<std::size_t>(VectorClass::kArithmetic)];
    const Work w = vector_work(unit(), 8, ops);
    CHECK_EQUAL(w.busy, 3 + 1);
    CHECK_EQUAL(w.drain, 10);
}

TEST(vector_tree, "does a reduction add the levels of its tree, and a cycle for each further row?") {
    const VectorOps add{{VectorClass::kArithmetic, 1}};
    const Work w = vector_work(unit(), 3 * 20, add, {3, 20});
    CHECK_EQUAL(w.busy, 8 + 3 - 1);
    CHECK_EQUAL(w.drain, 4 + 5 * 4);  // 2^5 is the first power of two from 20 on
}

TEST(vector_empty, "does nothing take no time, and a copy a cycle for each group?") {
    CHECK_EQUAL(vector_work(unit(), 0, {{VectorClass::kArithmetic, 1}}).busy, 0);
    CHECK_EQUAL(vector_work(unit(), 9, {}).busy, 2);
}

TEST(vector_lanes, "are more lanes never slower?") {
    for (std::uint64_t elements = 1; elements < 300; elements += 7) {
        Cycle before = kNever;
        for (std::uint64_t lanes = 1; lanes < 70; ++lanes) {
            VectorConfig c = unit();
            c.lanes = lanes;
            const Work w = vector_work(c, elements, {{VectorClass::kArithmetic, 1}}, {1, elements});
            CHECK(w.busy + w.drain <= before);
            before = w.busy + w.drain;
        }
    }
}
