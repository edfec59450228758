#include "plan/tiling.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <stdexcept>

namespace acalsim {

namespace {

constexpr std::uint64_t kStages = 4;         // tiles in flight: two loading, one computing, one storing
constexpr std::uint64_t kTilesOnIdeal = 16;  // where memory costs nothing: enough for compute to overlap

/// Finds the tiling of one pass for one core's share.
class TilingChoice {
  public:
    TilingChoice(const Config& config, MemoryProfile& memory, const Sweep& sweep, const SweepShare& share)
        : config_(config), memory_(memory), sweep_(sweep), share_(share), rank_(sweep.dims.size()), box_(rank_, 1) {}

    Tiling choose() {
        choose_box();
        Tiling tiling{box_, 0};
        Bytes kept = 0;
        for (std::size_t i = 0; i < sweep_.operands.size(); ++i) {
            if (!worth_keeping(sweep_.operands[i], kept)) continue;
            kept += sweep_.distinct_bytes(sweep_.operands[i]);
            tiling.keep |= std::uint64_t{1} << i;
        }
        return tiling;
    }

  private:
    void choose_box() {
        for (std::size_t d = 0; d < rank_; ++d) box_[d] = sweep_.whole[d] ? share_.span(d) : 1;
        const Bytes limit = config_.scratchpad.size / kStages;
        // First whole bursts along the dim in which each operand is contiguous, then inner dims before outer ones.
        for (const SweepOperand& o : sweep_.operands) {
            for (std::size_t d = 0; d < rank_; ++d) {
                if (o.axes[d].stride != 1) continue;
                grow(d, std::max(box_[d], std::min(share_.span(d), ceil_div(config_.dma.burst, o.element))), limit);
            }
        }
        const std::vector<std::uint64_t> least = box_;
        for (std::size_t d = 0; d < rank_; ++d) box_[d] = share_.span(d);
        const Bytes wanted = std::min(limit, best_tile_bytes());
        box_ = least;
        for (std::size_t d = rank_; d-- > 0;) grow(d, share_.span(d), wanted);
    }

    /// With the whole share as the tile: the size at which the overhead of many tiles (turning the bus, latencies that
    /// a DMA channel waits out) and what one tile exposes at both ends (its transfers, its compute) add up to the
    /// least.
    Bytes best_tile_bytes() const {
        const auto bytes = static_cast<double>(sweep_.tile_bytes(box_));
        const double per_byte = memory_.cycles(Box(0, sweep_.tile_bytes(box_))) / bytes;
        std::uint64_t elements = 1;
        for (std::uint64_t d : box_) elements *= d;
        const Work work = sweep_.vector ? vector_work(config_.vector, elements, sweep_.ops) : Work{};
        const double overhead = 2 * memory_.turn() + static_cast<double>(sweep_.operands.size()) * memory_.latency() /
                                                         static_cast<double>(config_.dma.channels);
        if (overhead == 0) return std::max<Bytes>(1, sweep_.tile_bytes(box_) / kTilesOnIdeal);
        return static_cast<Bytes>(std::sqrt(bytes * overhead / (per_byte + static_cast<double>(work.busy) / bytes)));
    }

    /// Enlarges the tile along `d` towards `size` while it stays within `limit` bytes.
    void grow(std::size_t d, std::uint64_t size, Bytes limit) {
        std::uint64_t low = box_[d], high = size;
        while (low < high) {
            box_[d] = low + (high - low + 1) / 2;
            if (sweep_.tile_bytes(box_) <= limit) {
                low = box_[d];
            } else {
                high = box_[d] - 1;
            }
        }
        box_[d] = low;
        if (low < size && low > 0) box_[d] = ceil_div(size, ceil_div(size, low));  // tiles of even size
    }

    /// Whether several tiles read the same part of an input and all of it fits beside the tiles in flight.
    bool worth_keeping(const SweepOperand& operand, Bytes kept) const {
        if (operand.write) return false;
        std::uint64_t repeats = 1;
        for (std::size_t d = 0; d < rank_; ++d) {
            if (!operand.axes[d].varies()) repeats *= ceil_div(share_.span(d), box_[d]);
        }
        const Bytes held = kept + sweep_.distinct_bytes(operand) + sweep_.tile_bytes(box_);
        return repeats > 1 && held <= config_.scratchpad.size &&
               held + (kStages - 1) * sweep_.tile_bytes(box_) <= 2 * config_.scratchpad.size;
    }

    const Config& config_;
    MemoryProfile& memory_;
    const Sweep& sweep_;
    const SweepShare& share_;
    const std::size_t rank_;
    std::vector<std::uint64_t> box_;
};

}  // namespace

Tiling choose_tiling(const Config& config, MemoryProfile& memory, const Sweep& sweep) {
    const SweepShare share(sweep, 0, config.cores);
    if (share.empty) return {};
    return TilingChoice(config, memory, sweep, share).choose();
}

std::string describe(const std::vector<Tiling>& tilings) {
    std::string text;
    for (const Tiling& tiling : tilings) {
        if (&tiling != &tilings.front()) text += "; ";
        for (std::size_t d = 0; d < tiling.box.size(); ++d) text += (d ? "x" : "") + std::to_string(tiling.box[d]);
        if (tiling.keep) text += " keep " + std::to_string(tiling.keep);
    }
    return text;
}

std::vector<Tiling> parse_tilings(const std::string& text, const std::vector<Sweep>& passes) {
    const auto bad = [&text] {
        throw std::invalid_argument("mapping '" + text + "': expected a tile for each pass as in 8x512 keep 2; 8x512");
    };
    std::vector<Tiling> tilings;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line, ';');) {
        Tiling& tiling = tilings.emplace_back();
        std::istringstream words(line);
        std::string box, keep;
        words >> box;
        if (words >> keep && !(keep == "keep" && words >> tiling.keep)) bad();
        std::istringstream sizes(box);
        for (std::string size; std::getline(sizes, size, 'x');) {
            if (size.empty() || size.find_first_not_of("0123456789") != std::string::npos) bad();
            tiling.box.push_back(std::stoull(size));
        }
    }
    bool fits = tilings.size() == passes.size();
    for (std::size_t i = 0; fits && i < passes.size(); ++i) {
        const std::vector<std::uint64_t>& box = tilings[i].box;
        fits = box.size() == passes[i].dims.size() && std::find(box.begin(), box.end(), 0) == box.end();
    }
    if (!fits) bad();
    return tilings;
}

}  // namespace acalsim
