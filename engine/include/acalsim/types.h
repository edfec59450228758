// Units and the arithmetic that every component shares.
#pragma once

#include <cstdint>
#include <limits>

namespace acalsim {

/// Time in device core cycles, counted from the canonical state at the doorbell unless said otherwise.
using Cycle = std::uint64_t;
using Bytes = std::uint64_t;

constexpr Cycle kNever = std::numeric_limits<Cycle>::max();

constexpr std::uint64_t ceil_div(std::uint64_t a, std::uint64_t b) { return (a + b - 1) / b; }
constexpr std::uint64_t round_up(std::uint64_t a, std::uint64_t b) { return ceil_div(a, b) * b; }

/// For products of times and rates.
using Wide = unsigned __int128;

/// An exact positive ratio between two clock domains or rates.
struct Ratio {
    std::uint64_t num = 1;
    std::uint64_t den = 1;
};

/// The one conversion between domains: count * num / den, rounded up.
constexpr std::uint64_t convert(std::uint64_t count, Ratio ratio) {
    return static_cast<std::uint64_t>((Wide{count} * ratio.num + ratio.den - 1) / ratio.den);
}

/// Its inverse for lower bounds: count * num / den, rounded down.
constexpr std::uint64_t convert_down(std::uint64_t count, Ratio ratio) {
    return static_cast<std::uint64_t>(Wide{count} * ratio.num / ratio.den);
}

}  // namespace acalsim
