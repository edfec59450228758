// Cycles of the vector unit.
#pragma once

#include <array>

#include "acalsim/config.h"
#include "acalsim/step.h"

namespace acalsim {

/// Operations of one element by class, and those of them that follow one another on the longest path.
struct VectorOps {
    std::array<std::uint64_t, kVectorClasses> count{};
    std::array<std::uint64_t, kVectorClasses> chain{};

    VectorOps() = default;
    /// Operations that each need the one before.
    VectorOps(std::initializer_list<std::pair<VectorClass, std::uint64_t>> sequence) {
        for (const auto& [kind, n] : sequence) add(kind, n);
    }
    void add(VectorClass kind, std::uint64_t n = 1) {
        count[static_cast<std::size_t>(kind)] += n;
        chain[static_cast<std::size_t>(kind)] += n;
    }
    std::uint64_t total() const;
};

/// Cycles from the first operand to the last result of the longest path.
Cycle latency(const VectorConfig& config, const VectorOps& ops);

/// Rows that are reduced to one value each, across lanes.
struct VectorReductions {
    std::uint64_t rows = 0;      // 0: nothing is reduced
    std::uint64_t elements = 1;  // of one row
};

/// `elements` spread over the lanes: a group of them starts every sum of issue intervals (one cycle where the unit only
/// copies). Results come the latencies of the longest path after the last group. A reduction adds up in each lane what
/// passes, then across lanes in a tree, which takes a row a cycle; whatever the lanes, n values need ceil(log2 n)
/// additions one after the other.
Work vector_work(const VectorConfig& config, std::uint64_t elements, const VectorOps& ops,
                 VectorReductions reductions = {});

}  // namespace acalsim
