// Chooses tile sizes, loop order and what stays on chip.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "plan/contraction.h"
#include "plan/rehearsal.h"

namespace acalsim {

/// Finds the mapping with the lowest estimated time; the result is kept by
/// shape.
class Mapper {
  public:
    explicit Mapper(const Config& config);

    /// Throws std::invalid_argument when not even the smallest tile fits on chip.
    const Mapping& map(std::shared_ptr<const Contraction> contraction, const Share& share);

    /// Every mapping that the search considers.
    std::vector<Mapping> candidates(const Contraction& contraction, const Share& share) const;

    /// Uses a mapping for this shape from now on.
    void pin(const Contraction& contraction, const Share& share, const Mapping& mapping);

    /// Estimated cycles of a share under a mapping; kNever if it does not fit.
    double estimate(const Contraction& contraction, const Share& share, const Mapping& mapping) const;

  private:
    static std::vector<std::uint64_t> key(const Contraction& contraction, const Share& share);

    const Config& config_;
    const RehearsalMemory memory_;
    std::map<std::vector<std::uint64_t>, Mapping> found_;
};

}  // namespace acalsim
