#include "plan/sweep_plan.h"

#include <algorithm>
#include <stdexcept>

namespace acalsim {

namespace {

/// Goes through the tiles of one core's share of a pass, under a tiling clipped to that share.
class SweepTiles {
  public:
    SweepTiles(const Config& config, const Sweep& sweep, const SweepShare& share, const Tiling& tiling)
        : config_(config),
          sweep_(sweep),
          share_(share),
          rank_(sweep.dims.size()),
          box_(rank_),
          origin_(share.begin),
          uses_(sweep.operands.size()) {
        for (bool inner : {false, true}) {
            for (std::size_t d = 0; d < rank_; ++d) {
                if ((sweep.reduced[d] || sweep.ordered[d]) == inner) order_.push_back(d);
            }
        }
        for (std::size_t d = 0; d < rank_; ++d) {
            box_[d] = sweep.whole[d] ? share.span(d) : std::min(tiling.box[d], share.span(d));
        }
        for (std::size_t i = 0; i < uses_.size(); ++i) plan_use(i, tiling.keep >> i & 1);
        if (footprint() > config.scratchpad.size) {
            throw std::invalid_argument("command: one tile needs " + std::to_string(footprint()) +
                                        " bytes, scratchpad.size_kib holds " + std::to_string(config.scratchpad.size));
        }
    }

    std::uint64_t steps() const {
        std::uint64_t n = 1;
        for (std::size_t d = 0; d < rank_; ++d) n *= ceil_div(share_.span(d), box_[d]);
        return n;
    }

    Bytes footprint() const { return kept_ + sweep_.tile_bytes(box_); }

    /// Fills the step of the current tile and moves on; false after the last one.
    bool next(Step& step) {
        std::vector<std::uint64_t> extent(rank_);
        for (std::size_t d = 0; d < rank_; ++d) extent[d] = std::min(box_[d], share_.end[d] - origin_[d]);
        bool first_reduced = true, last_reduced = true, last = true;
        for (std::size_t d = 0; d < rank_; ++d) {
            const bool at_end = origin_[d] + extent[d] == share_.end[d];
            last = last && at_end;
            if (!sweep_.reduced[d]) continue;
            first_reduced = first_reduced && origin_[d] == share_.begin[d];
            last_reduced = last_reduced && at_end;
        }
        std::uint64_t elements = 1;
        for (std::uint64_t e : extent) elements *= e;
        for (std::size_t i = 0; i < sweep_.operands.size(); ++i) {
            const SweepOperand& operand = sweep_.operands[i];
            if (operand.write) {
                const bool allocate = first_reduced, store = last_reduced;
                if (!allocate && !store) continue;
                const Bytes bytes = append(operand, extent, step.stores);  // no operand stores unless all do
                if (allocate) step.scratch += bytes;
                if (store) {
                    step.scratch_store += bytes;
                } else {
                    step.stores.clear();
                }
                continue;
            }
            if (!visit(i)) continue;
            const Bytes bytes = append(operand, extent, step.loads);
            step.scratch += bytes;
            uses_[i].held += bytes;
        }
        if (sweep_.vector) {
            const bool reduces = sweep_.row_elements > 0 && last_reduced;
            const std::uint64_t rows = reduces ? ceil_div(elements, sweep_.row_elements) : 0;
            step.vector = vector_work(config_.vector, elements, sweep_.ops, {rows, sweep_.row_elements});
            step.vector.busy =
                std::max(step.vector.busy, groups_in_order(extent) * latency(config_.vector, sweep_.carry));
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

    /// Appends what the current tile moves of an operand; its bytes.
    Bytes append(const SweepOperand& operand, const std::vector<std::uint64_t>& extent, std::vector<Box>& boxes) const {
        std::size_t before = boxes.size();
        operand.append_boxes(origin_.data(), extent.data(), boxes);
        Bytes bytes = 0;
        for (; before < boxes.size(); ++before) bytes += boxes[before].bytes();
        return bytes;
    }

    /// Groups of lanes of a tile that follow one another along ordered dims; lanes hold neighbours of the last dim.
    std::uint64_t groups_in_order(const std::vector<std::uint64_t>& extent) const {
        std::uint64_t groups = 1;
        for (std::size_t d = 0; d < rank_; ++d) {
            if (sweep_.ordered[d]) groups *= d + 1 == rank_ ? ceil_div(extent[d], config_.vector.lanes) : extent[d];
        }
        return groups;
    }

    void plan_use(std::size_t i, bool keep) {
        const SweepOperand& operand = sweep_.operands[i];
        if (operand.write) return;
        Use& use = uses_[i];
        use.weight.assign(rank_, 0);
        std::uint64_t tiles = 1;
        for (std::size_t d = rank_; d-- > 0;) {
            if (!operand.axes[d].varies()) continue;
            use.weight[d] = tiles;
            tiles *= ceil_div(share_.span(d), box_[d]);
        }
        use.keep = keep;
        if (!keep) return;
        use.visited.assign(tiles, false);
        kept_ += sweep_.distinct_bytes(operand);
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
            if (origin_[d] < share_.end[d]) return;
            origin_[d] = share_.begin[d];
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
            key += use.weight[d] * ((origin_[d] - share_.begin[d]) / box_[d]);
        }
        return key;
    }

    const Config& config_;
    const Sweep& sweep_;
    SweepShare share_;
    std::size_t rank_;
    std::vector<std::uint64_t> box_, origin_;
    std::vector<std::size_t> order_;
    std::vector<Use> uses_;
    Bytes kept_ = 0;
};

class SweepStream final : public StepStream {
  public:
    SweepStream(const Config& config, std::shared_ptr<const std::vector<Sweep>> passes,
                const std::vector<Tiling>& tilings, std::uint64_t core)
        : passes_(std::move(passes)) {
        for (std::size_t i = 0; i < passes_->size(); ++i) {
            const Sweep& sweep = (*passes_)[i];
            const SweepShare share(sweep, core, config.cores);
            if (share.empty) continue;
            SweepTiles tiles(config, sweep, share, tilings[i]);
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

}  // namespace

double rehearse(const Config& config, MemoryProfile& memory, const Sweep& sweep, const Tiling& tiling,
                std::uint64_t limit) {
    const SweepShare share(sweep, 0, config.cores);
    if (share.empty) return 0;
    SweepTiles tiles(config, sweep, share, tiling);
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

Plan make_sweep_plan(const Config& config, const std::shared_ptr<const std::vector<Sweep>>& passes,
                     const std::vector<Tiling>& tilings) {
    Plan plan;
    plan.mapping = describe(tilings);
    for (std::uint64_t core = 0; core < config.cores; ++core) {
        auto stream = std::make_unique<SweepStream>(config, passes, tilings, core);
        plan.parts.push_back(stream->empty() ? nullptr : std::move(stream));
    }
    return plan;
}

}  // namespace acalsim
