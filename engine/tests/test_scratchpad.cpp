// Banks: who waits, and for how long?
#include "acalsim/scratchpad.h"
#include "check.h"

using namespace acalsim;

namespace {

ScratchpadConfig four_banks() {
    ScratchpadConfig c;
    c.size = 64 << 10;
    c.banks = 4;
    c.bank_bytes = 64;
    return c;
}

BankWrites writes(const ScratchpadConfig& c, Bytes bytes) {
    BankWrites w;
    w.add(c, Box(0, bytes));
    return w;
}

}  // namespace

TEST(separate_banks, "does nobody wait while computing and loading use banks of their own?") {
    const ScratchpadConfig c = four_banks();
    CHECK_EQUAL(bank_delay(c, 1000, 0, 32 << 10, writes(c, 32 << 10)), 0);
    CHECK_EQUAL(bank_delay(c, 1000, 0, 48 << 10, writes(c, 16 << 10)), 0);
}

TEST(shared_bank, "does each word written into a bank in use cost a cycle?") {
    const ScratchpadConfig c = four_banks();
    // Three banks in use, two written: one of those two coincides.
    CHECK_EQUAL(bank_delay(c, 1000, 0, 48 << 10, writes(c, 32 << 10)), (32 << 10) / 64 / 2);
    ScratchpadConfig one = c;
    one.banks = 1;
    CHECK_EQUAL(bank_delay(one, 1000, 0, 1024, writes(one, 6400)), 100);
}

TEST(bounded, "is a unit delayed at most once in each of its cycles?") {
    ScratchpadConfig c = four_banks();
    c.banks = 1;
    CHECK_EQUAL(bank_delay(c, 10, 0, 1024, writes(c, 6400)), 10);
}

TEST(short_runs, "does each run of a strided box begin in a word of its own?") {
    const ScratchpadConfig c = four_banks();
    const std::uint64_t counts[] = {10, 5};
    const std::int64_t strides[] = {100, 1};
    BankWrites w;
    w.add(c, Box::of(0, 4, 2, counts, strides));
    CHECK_EQUAL(w.bytes, 200);
    CHECK_EQUAL(w.words, 10);
}

TEST(rate, "do all banks together bound what a unit streams?") {
    const ScratchpadConfig c = four_banks();
    CHECK_EQUAL(bank_delay(c, 100, 100 * 256, 1024, {}), 0);
    CHECK_EQUAL(bank_delay(c, 100, 100 * 512, 1024, {}), 100);
}

TEST(larger, "is a larger scratchpad with as many banks never worse?") {
    for (Bytes resident = 1 << 10; resident < 64 << 10; resident += 5 << 10) {
        for (Bytes loaded = 1 << 10; loaded < 64 << 10; loaded += 7 << 10) {
            Cycle before = kNever;
            for (Bytes size = 64 << 10; size <= 256 << 10; size += 8 << 10) {
                ScratchpadConfig c = four_banks();
                c.size = size;
                const Cycle now = bank_delay(c, 100000, 0, resident, writes(c, loaded));
                CHECK(now <= before);
                before = now;
            }
        }
    }
}
