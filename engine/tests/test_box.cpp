// Strided blocks and clock domains.
#include "acalsim/box.h"
#include "check.h"

using namespace acalsim;

TEST(merge, "is a dense block one run, whatever the order and sign of its dims?") {
    const std::uint64_t counts[] = {3, 4, 5};
    const std::int64_t rows[] = {20, 5, 1}, columns[] = {1, 3, 12}, back[] = {20, -5, 1};
    for (const std::int64_t* strides : {rows, columns, back}) {
        const Box box = Box::of(1000, 4, 3, counts, strides);
        CHECK_EQUAL(box.bytes(), 240);
        CHECK_EQUAL(box.runs(), 1);
    }
    CHECK_EQUAL(Box::of(1000, 4, 3, counts, back).address(), 1000 - 3 * 5 * 4);
}

TEST(broadcast, "does a broadcast dim count once?") {
    const std::uint64_t counts[] = {7, 5};
    const std::int64_t strides[] = {0, 1};
    CHECK_EQUAL(Box::of(0, 2, 2, counts, strides).bytes(), 10);
}

TEST(runs, "are the runs of a strided block where they should be?") {
    const std::uint64_t counts[] = {3, 2};
    const std::int64_t strides[] = {10, 1};
    std::uint64_t expected = 64, seen = 0;
    Box::of(64, 4, 2, counts, strides).for_each_run([&](std::uint64_t address, Bytes bytes) {
        CHECK_EQUAL(address, expected);
        CHECK_EQUAL(bytes, 8);
        expected += 40;
        ++seen;
    });
    CHECK_EQUAL(seen, 3);
}

TEST(domains, "do clock domains convert exactly and round up?") {
    CHECK_EQUAL(convert(10, {3, 2}), 15);
    CHECK_EQUAL(convert(11, {3, 2}), 17);
    CHECK_EQUAL(convert(std::uint64_t{1} << 62, {3, 3}), std::uint64_t{1} << 62);
}
