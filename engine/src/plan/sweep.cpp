#include "plan/sweep.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <stdexcept>

#include "plan/mapper.h"

namespace acalsim {

SweepOperand::SweepOperand(const Operand& operand, bool is_write)
    : address(operand.address), element(operand.element), write(is_write), axes(operand.rank) {
    for (std::size_t d = 0; d < operand.rank; ++d) {
        axes[d].stride = operand.strides[d];
        axes[d].limit = operand.dims[d];
    }
}

Box SweepOperand::box(const std::uint64_t* origin, const std::uint64_t* extent) const {
    std::uint64_t at = address;
    std::uint64_t counts[Box::kMaxRank];
    std::int64_t strides[Box::kMaxRank];
    for (std::size_t d = 0; d < axes.size(); ++d) {
        const Axis& axis = axes[d];
        const std::uint64_t last = origin[d] + extent[d] - 1;
        std::uint64_t low = origin[d] * axis.scale_num / axis.scale_den;
        std::uint64_t high = axis.adaptive ? ceil_div((last + 1) * axis.scale_num, axis.scale_den)
                                           : last * axis.scale_num / axis.scale_den + axis.window;
        low = low > axis.padding ? low - axis.padding : 0;
        high = std::min(axis.limit, high > axis.padding ? high - axis.padding : 0);
        low = std::min(low, axis.limit);
        if (axis.stride == 0) {
            low = 0;
            high = 1;
        }
        at += low * static_cast<std::uint64_t>(axis.stride) * element;
        counts[d] = high > low ? high - low : 0;
        strides[d] = axis.stride;
    }
    return Box::of(at, element, axes.size(), counts, strides);
}

Sweep::Sweep(const Operand& shape)
    : dims(shape.dims, shape.dims + shape.rank), reduced(shape.rank, false), whole(shape.rank, false) {}

namespace {

bool plain_axis(const SweepOperand::Axis& axis) {
    return axis.window == 1 && axis.padding == 0 && !axis.adaptive && axis.scale_num == 1;
}

}  // namespace

void Sweep::collapse() {
    const auto erase = [this](std::size_t d) {
        const auto at = static_cast<std::ptrdiff_t>(d);
        dims.erase(dims.begin() + at);
        reduced.erase(reduced.begin() + at);
        whole.erase(whole.begin() + at);
        for (SweepOperand& o : operands) o.axes.erase(o.axes.begin() + at);
    };
    for (std::size_t d = dims.size(); d-- > 0;) {
        const bool plain =
            std::all_of(operands.begin(), operands.end(), [&](const SweepOperand& o) { return plain_axis(o.axes[d]); });
        if (dims[d] == 1 && plain && dims.size() > 1) erase(d);
    }
    for (std::size_t d = dims.size(); d-- > 1;) {
        const bool even = std::all_of(operands.begin(), operands.end(), [&](const SweepOperand& o) {
            const SweepOperand::Axis &outer = o.axes[d - 1], &inner = o.axes[d];
            return plain_axis(outer) && plain_axis(inner) &&
                   outer.stride == inner.stride * static_cast<std::int64_t>(dims[d]);
        });
        if (!even || reduced[d] != reduced[d - 1] || whole[d] != whole[d - 1]) continue;
        for (SweepOperand& o : operands) {
            o.axes[d - 1].stride = o.axes[d].stride;
            o.axes[d - 1].limit = dims[d - 1] * dims[d];
        }
        dims[d - 1] *= dims[d];
        erase(d);
    }
}

namespace {

constexpr std::uint64_t kStages = 4;         // tiles in flight: two loading, one computing, one storing
constexpr std::uint64_t kTilesOnIdeal = 16;  // where memory costs nothing: enough for compute to overlap

/// Tiles of one pass on one core.
class SweepTiles {
  public:
    SweepTiles(const Config& config, const Sweep& sweep, std::uint64_t core)
        : config_(config), sweep_(sweep), rank_(sweep.dims.size()), box_(rank_, 1), begin_(rank_, 0), end_(sweep.dims) {
        empty_ = std::any_of(end_.begin(), end_.end(), [](std::uint64_t d) { return d == 0; });
        if (!empty_) split(core, config.cores);
        if (empty_) return;
        for (bool reduced : {false, true}) {
            for (std::size_t d = 0; d < rank_; ++d) {
                if (sweep_.reduced[d] == reduced) order_.push_back(d);
            }
        }
        uses_.resize(sweep_.operands.size());
        origin_ = begin_;
    }

    /// Chooses the tiling that is used from now on.
    Tiling choose(MemoryProfile& memory) {
        if (empty_) return {};
        choose_box(memory);
        Tiling tiling{box_, 0};
        for (std::size_t i = 0; i < uses_.size(); ++i) {
            if (plan_use(i, worth_keeping(i))) tiling.keep |= std::uint64_t{1} << i;
        }
        return tiling;
    }

    /// Uses a tiling, clipped to this core's share.
    void use(const Tiling& tiling) {
        if (empty_) return;
        for (std::size_t d = 0; d < rank_; ++d) {
            const std::uint64_t span = end_[d] - begin_[d];
            box_[d] = sweep_.whole[d] ? span : std::min(tiling.box[d], span);
        }
        for (std::size_t i = 0; i < uses_.size(); ++i) plan_use(i, tiling.keep >> i & 1);
        check_fits();
    }

    bool empty() const { return empty_; }

    std::uint64_t steps() const {
        std::uint64_t n = 1;
        for (std::size_t d = 0; d < rank_; ++d) n *= ceil_div(end_[d] - begin_[d], box_[d]);
        return n;
    }

    Bytes footprint() const { return kept_ + tile_bytes(); }

    /// Fills the step of the current tile and moves on; false after the last one.
    bool next(Step& step) {
        std::vector<std::uint64_t> extent(rank_);
        for (std::size_t d = 0; d < rank_; ++d) extent[d] = std::min(box_[d], end_[d] - origin_[d]);
        bool first_reduced = true, last_reduced = true, last = true;
        for (std::size_t d = 0; d < rank_; ++d) {
            const bool at_end = origin_[d] + extent[d] == end_[d];
            last = last && at_end;
            if (!sweep_.reduced[d]) continue;
            first_reduced = first_reduced && origin_[d] == begin_[d];
            last_reduced = last_reduced && at_end;
        }
        std::uint64_t elements = 1;
        for (std::uint64_t e : extent) elements *= e;
        for (std::size_t i = 0; i < sweep_.operands.size(); ++i) {
            const SweepOperand& operand = sweep_.operands[i];
            if (operand.write) {
                const bool allocate = first_reduced, store = last_reduced;
                if (!allocate && !store) continue;
                const Box box = operand.box(origin_.data(), extent.data());
                if (allocate) step.scratch += box.bytes();
                if (store) {
                    step.scratch_store += box.bytes();
                    step.stores.push_back(box);
                }
                continue;
            }
            if (!visit(i)) continue;
            const Box box = operand.box(origin_.data(), extent.data());
            if (box.bytes() == 0) continue;
            step.loads.push_back(box);
            step.scratch += box.bytes();
            uses_[i].held += box.bytes();
        }
        if (sweep_.vector) {
            const bool reduces = sweep_.row_elements > 0 && last_reduced;
            const std::uint64_t rows = reduces ? ceil_div(elements, sweep_.row_elements) : 0;
            step.vector = vector_work(config_.vector, elements, sweep_.ops, {rows, sweep_.row_elements});
            step.vector_ops = elements * std::max<std::uint64_t>(1, sweep_.ops.total());
            for (const SweepOperand& o : sweep_.operands) step.scratchpad_traffic += elements * o.element;
        }
        advance();
        release(step, last);
        return !last;
    }

  private:
    struct Use {
        bool keep = false;                  // resident until the pass ends
        std::vector<bool> visited;          // of a kept operand: tiles already loaded
        std::vector<std::uint64_t> weight;  // per dim: tile number to index of `visited` or key
        std::uint64_t last = ~std::uint64_t{0};
        Bytes held = 0;
    };

    void split(std::uint64_t core, std::uint64_t cores) {
        if (cores == 1) return;
        // The outermost dim that every core can have a part of; reduced and whole dims stay together.
        for (std::size_t d = 0; d < rank_; ++d) {
            if (sweep_.reduced[d] || sweep_.whole[d]) continue;
            if (sweep_.dims[d] < cores && d + 1 < rank_) continue;
            const std::uint64_t share = ceil_div(sweep_.dims[d], cores);
            begin_[d] = std::min(sweep_.dims[d], core * share);
            end_[d] = std::min(sweep_.dims[d], (core + 1) * share);
            empty_ = begin_[d] == end_[d];
            return;
        }
        empty_ = core > 0;
    }

    /// Bytes of a full tile at the origin of the pass: an upper bound for every tile.
    Bytes tile_bytes() const {
        Bytes bytes = 0;
        for (const SweepOperand& o : sweep_.operands) bytes += operand_bytes(o);
        return bytes;
    }

    Bytes operand_bytes(const SweepOperand& o) const {
        Bytes bytes = o.element;
        for (std::size_t d = 0; d < rank_; ++d) {
            const SweepOperand::Axis& axis = o.axes[d];
            if (axis.stride == 0) continue;
            const std::uint64_t reach = axis.adaptive ? ceil_div(box_[d] * axis.scale_num, axis.scale_den) + 1
                                                      : (box_[d] - 1) * axis.scale_num / axis.scale_den + axis.window;
            bytes *= std::min(axis.limit, reach);
        }
        return bytes;
    }

    void choose_box(MemoryProfile& memory) {
        const auto span = [this](std::size_t d) { return end_[d] - begin_[d]; };
        for (std::size_t d = 0; d < rank_; ++d) box_[d] = sweep_.whole[d] ? span(d) : 1;
        const Bytes limit = config_.scratchpad.size / kStages;
        // First whole bursts along the dim in which each operand is contiguous, then inner dims before outer ones.
        for (const SweepOperand& o : sweep_.operands) {
            for (std::size_t d = 0; d < rank_; ++d) {
                if (o.axes[d].stride != 1) continue;
                grow(d, std::max(box_[d], std::min(span(d), ceil_div(config_.dma.burst, o.element))), limit);
            }
        }
        const std::vector<std::uint64_t> least = box_;
        for (std::size_t d = 0; d < rank_; ++d) box_[d] = span(d);
        const Bytes wanted = std::min(limit, best_tile_bytes(memory));
        box_ = least;
        for (std::size_t d = rank_; d-- > 0;) grow(d, span(d), wanted);
        check_fits();
    }

    /// With the whole share as the tile: the size at which the overhead of many tiles (turning the bus, latencies that
    /// a DMA channel waits out) and what one tile exposes at both ends (its transfers, its compute) add up to the
    /// least.
    Bytes best_tile_bytes(MemoryProfile& memory) const {
        const auto bytes = static_cast<double>(tile_bytes());
        const double per_byte = memory.cycles(Box(0, tile_bytes())) / bytes;
        std::uint64_t elements = 1;
        for (std::uint64_t d : box_) elements *= d;
        const Work work = sweep_.vector ? vector_work(config_.vector, elements, sweep_.ops) : Work{};
        const double overhead = 2 * memory.turn() + static_cast<double>(sweep_.operands.size()) * memory.latency() /
                                                        static_cast<double>(config_.dma.channels);
        if (overhead == 0) return std::max<Bytes>(1, tile_bytes() / kTilesOnIdeal);
        return static_cast<Bytes>(std::sqrt(bytes * overhead / (per_byte + static_cast<double>(work.busy) / bytes)));
    }

    void check_fits() const {
        if (kept_ + tile_bytes() <= config_.scratchpad.size) return;
        throw std::invalid_argument("command: one tile needs " + std::to_string(kept_ + tile_bytes()) +
                                    " bytes, scratchpad.size_kib holds " + std::to_string(config_.scratchpad.size));
    }

    /// Enlarges the tile along `d` towards `size` while it stays within `limit` bytes.
    void grow(std::size_t d, std::uint64_t size, Bytes limit) {
        std::uint64_t low = box_[d], high = size;
        while (low < high) {
            box_[d] = low + (high - low + 1) / 2;
            if (tile_bytes() <= limit) {
                low = box_[d];
            } else {
                high = box_[d] - 1;
            }
        }
        box_[d] = low;
        if (low < size && low > 0) box_[d] = ceil_div(size, ceil_div(size, low));  // tiles of even size
    }

    /// Whether several tiles read the same part of an input and all of it fits beside the tiles in flight.
    bool worth_keeping(std::size_t i) const {
        const SweepOperand& operand = sweep_.operands[i];
        if (operand.write) return false;
        std::uint64_t repeats = 1;
        for (std::size_t d = 0; d < rank_; ++d) {
            if (operand.axes[d].stride == 0) repeats *= ceil_div(end_[d] - begin_[d], box_[d]);
        }
        const Bytes held = kept_ + distinct_bytes(operand) + tile_bytes();
        return repeats > 1 && held <= config_.scratchpad.size &&
               held + (kStages - 1) * tile_bytes() <= 2 * config_.scratchpad.size;
    }

    Bytes distinct_bytes(const SweepOperand& operand) const {
        Bytes bytes = operand.element;
        for (std::size_t d = 0; d < rank_; ++d) {
            if (operand.axes[d].stride != 0) bytes *= std::min(operand.axes[d].limit, sweep_.dims[d]);
        }
        return bytes;
    }

    bool plan_use(std::size_t i, bool keep) {
        const SweepOperand& operand = sweep_.operands[i];
        if (operand.write) return false;
        Use& use = uses_[i];
        use.weight.assign(rank_, 0);
        std::uint64_t tiles = 1;
        for (std::size_t d = rank_; d-- > 0;) {
            if (operand.axes[d].stride == 0) continue;
            use.weight[d] = tiles;
            tiles *= ceil_div(end_[d] - begin_[d], box_[d]);
        }
        use.keep = keep;
        if (!keep) return false;
        use.visited.assign(tiles, false);
        kept_ += distinct_bytes(operand);
        return true;
    }

    /// Whether operand `i` has to be loaded for the current tile.
    bool visit(std::size_t i) {
        Use& use = uses_[i];
        const std::uint64_t tile = key(use);
        const bool resident = use.keep ? static_cast<bool>(use.visited[tile]) : use.last == tile;
        if (use.keep) use.visited[tile] = true;
        use.last = tile;
        return !resident;
    }

    void advance() {
        for (std::size_t i = order_.size(); i-- > 0;) {
            const std::size_t d = order_[i];
            origin_[d] += box_[d];
            if (origin_[d] < end_[d]) return;
            origin_[d] = begin_[d];
        }
    }

    /// A tile of an input is given back unless it is kept or the next tile of the pass reads it again.
    void release(Step& step, bool last) {
        for (Use& use : uses_) {
            if (!last && (use.keep || use.last == key(use))) continue;
            step.scratch_release += use.held;
            use.held = 0;
        }
    }

    std::uint64_t key(const Use& use) const {
        std::uint64_t key = 0;
        for (std::size_t d = 0; d < rank_ && !use.weight.empty(); ++d) {
            key += use.weight[d] * ((origin_[d] - begin_[d]) / box_[d]);
        }
        return key;
    }

    const Config& config_;
    const Sweep& sweep_;
    std::size_t rank_;
    std::vector<std::uint64_t> box_, begin_, end_, origin_;
    std::vector<std::size_t> order_;
    std::vector<Use> uses_;
    Bytes kept_ = 0;
    bool empty_ = false;
};

class SweepStream final : public StepStream {
  public:
    SweepStream(const Config& config, std::shared_ptr<const std::vector<Sweep>> passes,
                const std::vector<Tiling>& tilings, std::uint64_t core)
        : passes_(std::move(passes)) {
        for (std::size_t i = 0; i < passes_->size(); ++i) {
            SweepTiles tiles(config, (*passes_)[i], core);
            if (tiles.empty()) continue;
            tiles.use(tilings[i]);
            footprint_ = std::max(footprint_, tiles.footprint());
            steps_ += tiles.steps();
            tiles_.push_back(std::move(tiles));
        }
    }

    bool empty() const { return tiles_.empty(); }

    bool next(Step& step) override {
        if (pass_ == tiles_.size()) return false;
        step.clear();
        step.after_all = pass_ > 0 && first_;
        first_ = false;
        if (!tiles_[pass_].next(step)) {
            ++pass_;
            first_ = true;
        }
        return true;
    }

    std::uint64_t steps() const override { return steps_; }
    Bytes scratch_footprint() const override { return footprint_; }
    Bytes accumulator_footprint() const override { return 0; }

  private:
    std::shared_ptr<const std::vector<Sweep>> passes_;
    std::vector<SweepTiles> tiles_;
    std::size_t pass_ = 0;
    bool first_ = true;
    Bytes footprint_ = 0;
    std::uint64_t steps_ = 0;
};

/// Throws std::invalid_argument if what is counted of the pass could leave 64 bits.
void check_size(const Config& config, const Sweep& sweep) {
    double elements = 1, interval = 1;
    for (std::uint64_t d : sweep.dims) elements *= static_cast<double>(d);
    for (std::size_t kind = 0; kind < kVectorClasses; ++kind) {
        interval += static_cast<double>(sweep.ops.count[kind]) * static_cast<double>(config.vector.ops[kind].interval);
    }
    check_count("cycles of the vector unit, a lane each", elements * interval);
}

}  // namespace

Tiling choose_tiling(const Config& config, MemoryProfile& memory, const Sweep& sweep) {
    return SweepTiles(config, sweep, 0).choose(memory);
}

double rehearse(const Config& config, MemoryProfile& memory, const Sweep& sweep, const Tiling& tiling,
                std::uint64_t limit) {
    SweepTiles tiles(config, sweep, 0);
    if (tiles.empty()) return 0;
    tiles.use(tiling);
    double transfers = 0, compute = 0, ends = 2 * memory.latency();
    std::uint64_t played = 0;
    Step step;
    for (bool more = true; more && played < limit; ++played) {
        step.clear();
        more = tiles.next(step);
        for (const std::vector<Box>* boxes : {&step.loads, &step.stores}) {
            for (const Box& box : *boxes) transfers += memory.cycles(box);
        }
        if (!step.loads.empty() && !step.stores.empty()) transfers += 2 * memory.turn();
        compute += static_cast<double>(step.vector.busy);
        if (played == 0) ends += std::min(transfers, compute) + static_cast<double>(step.vector.drain);
    }
    return ends + std::max(transfers, compute) * static_cast<double>(tiles.steps()) / static_cast<double>(played);
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

std::vector<std::uint64_t> key(const std::vector<Sweep>& passes) {
    std::vector<std::uint64_t> key;
    for (const Sweep& sweep : passes) {
        key.insert(key.end(), {sweep.dims.size(), sweep.operands.size(), sweep.vector, sweep.row_elements});
        key.insert(key.end(), sweep.dims.begin(), sweep.dims.end());
        key.insert(key.end(), sweep.reduced.begin(), sweep.reduced.end());
        key.insert(key.end(), sweep.whole.begin(), sweep.whole.end());
        key.insert(key.end(), sweep.ops.count.begin(), sweep.ops.count.end());
        for (const SweepOperand& o : sweep.operands) {
            key.insert(key.end(), {o.element, o.write});
            for (const SweepOperand::Axis& axis : o.axes) {
                key.insert(key.end(), {static_cast<std::uint64_t>(axis.stride), axis.limit, axis.scale_num,
                                       axis.scale_den, axis.window, axis.padding, axis.adaptive});
            }
        }
    }
    return key;
}

Plan make_sweep_plan(const Config& config, Mapper& mapper, std::vector<Sweep> passes) {
    for (Sweep& sweep : passes) {
        check_size(config, sweep);
        sweep.collapse();
    }
    const auto shared = std::make_shared<const std::vector<Sweep>>(std::move(passes));
    const std::vector<Tiling>& tilings = mapper.tile(*shared);
    Plan plan;
    plan.estimate = [&mapper, shared, tilings] { return mapper.estimate(*shared, tilings); };
    plan.mapping = describe(tilings);
    for (std::uint64_t core = 0; core < config.cores; ++core) {
        auto stream = std::make_unique<SweepStream>(config, shared, tilings, core);
        plan.parts.push_back(stream->empty() ? nullptr : std::move(stream));
    }
    return plan;
}

}  // namespace acalsim
