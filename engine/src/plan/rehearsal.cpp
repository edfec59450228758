#include "plan/rehearsal.h"

#include <algorithm>
#include <deque>
#include <vector>

#include "acalsim/scratchpad.h"

namespace acalsim {

namespace {

using Keep = Mapping::Keep;

constexpr std::uint64_t kLongestDepth = 1 << 20;  // steps of one tile of the result that are played

struct Cost {
    Bytes bytes = 0;
    double cycles = 0;
    BankWrites writes;
};

/// Full tiles and the last one differ, rows of windows also at the first tile.
enum Kind : std::size_t { kFirst, kMiddle, kLast, kKinds };

class Rehearsal {
  public:
    Rehearsal(const Config& config, MemoryProfile& memory, const Contraction& c, const Share& share, const Mapping& map)
        : config_(config),
          memory_(memory),
          c_(c),
          share_(share),
          map_(map),
          row_tiles_(ceil_div(share.rows.size(), map.tile_rows)),
          col_tiles_(ceil_div(share.cols.size(), map.tile_cols)),
          depth_tiles_(ceil_div(c.depth, map.tile_depth)),
          slots_(config.dma.channels, 0.0) {
        tabulate();
    }

    double run(std::uint64_t limit) {
        const bool several = share_.batches.size() > 1;
        same_a_ = several && c_.same_a(share_.batches.begin + 1);
        same_b_ = several && c_.same_b(share_.batches.begin + 1);
        const std::uint64_t outers = map_.rows_outer ? row_tiles_ : col_tiles_;
        const std::uint64_t inners = map_.rows_outer ? col_tiles_ : row_tiles_;
        const std::uint64_t rounds = share_.batches.size() * outers;
        double second = 0;  // when the second round had ended: the first loads what the others find on chip
        for (std::uint64_t round = 0; round < rounds; ++round) {
            for (std::uint64_t inner = 0; inner < inners; ++inner) {
                for (std::uint64_t depth = 0; depth < depth_tiles_; ++depth) {
                    next(round / outers, round % outers, inner, depth, outers, inners);
                    if (steps_ == kLongestDepth && round == 0 && inner == 0) {
                        const auto tiles = static_cast<double>(rounds) * static_cast<double>(inners);
                        return progress() / static_cast<double>(depth + 1) * tiles * static_cast<double>(depth_tiles_);
                    }
                }
                if (steps_ > limit && round == 0) {
                    const auto part = static_cast<double>(inner + 1) / static_cast<double>(rounds * inners);
                    return progress() / part;
                }
            }
            if (round == 1) second = progress();
            if (steps_ > limit && round >= 2 && round + 1 < rounds) {
                const auto played = static_cast<double>(round - 1), left = static_cast<double>(rounds - round - 1);
                return progress() + left * (progress() - second) / played;
            }
        }
        play(nullptr);
        while (!stores_.empty()) store();
        return end_;
    }

  private:
    struct Light {  // a step without its boxes
        const Cost *a = nullptr, *b = nullptr, *bias = nullptr, *out = nullptr;
        Work array, vector;
        Bytes scratch = 0, release = 0, accumulator = 0, accumulator_store = 0;
        Bytes traffic = 0;
    };
    struct Release {
        double at;
        Bytes bytes;
    };
    struct Store {
        double ready, cycles;
        Bytes accumulator;
        std::uint64_t step;
        Bytes loads_until;
    };

    double progress() const { return std::max(array_free_, pipe_free_); }

    static Kind kind(std::uint64_t tile, std::uint64_t tiles) {
        return tile + 1 == tiles ? kLast : tile == 0 ? kFirst : kMiddle;
    }

    Cost cost(const Box& box) {
        Cost cost{box.bytes(), memory_.cycles(box), {}};
        cost.writes.add(config_.scratchpad, box);
        return cost;
    }

    void tabulate() {
        const auto range = [](Range all, std::uint64_t tile, std::size_t kind) {
            const std::uint64_t tiles = ceil_div(all.size(), tile);
            const std::uint64_t index = kind == kLast ? tiles - 1 : kind == kFirst || tiles < 3 ? 0 : tiles / 2;
            return Range{all.begin + index * tile, std::min(all.end, all.begin + (index + 1) * tile)};
        };
        const std::uint64_t batch = share_.batches.begin;
        for (std::size_t r = 0; r < kKinds; ++r) {
            if ((r == kFirst && row_tiles_ < 2) || (r == kMiddle && row_tiles_ < 3)) continue;
            const Range row = range(share_.rows, map_.tile_rows, r);
            const bool resident = map_.keep_a == Keep::kAll && row.begin > share_.rows.begin;
            for (std::size_t k : {kLast, kFirst}) {
                if (k == kFirst && depth_tiles_ < 2) continue;
                const Range depth = range({0, c_.depth}, map_.tile_depth, k);
                a_[r][k] = cost(c_.a(batch, row, depth, resident));
                for (std::size_t n : {kFirst, kLast}) {
                    if (n == kFirst && col_tiles_ < 2) continue;
                    const Range col = range(share_.cols, map_.tile_cols, n);
                    if (r == kLast) b_[k][n] = cost(c_.b(batch, depth, col));
                    if (k == kLast) {
                        out_[r][n] = cost(c_.out(batch, row, col));
                        if (c_.has_bias) bias_[r][n] = cost(c_.bias(batch, row, col));
                    }
                    const MatrixShape shape = c_.matrix(row.size(), col.size(), depth.size());
                    array_[r][n][k] = array_work(config_.array, map_.dataflow, shape);
                    const ArrayTraffic traffic = array_traffic(config_.array, map_.dataflow, shape);
                    traffic_[r][n][k] = traffic.a * c_.a_element + traffic.b * c_.b_element;
                    elements_[r][n] = shape.m * shape.n;
                    if (c_.post.total() > 0) vector_[r][n] = vector_work(config_.vector, elements_[r][n], c_.post);
                }
            }
        }
    }

    /// As ContractionStream does it: an operand is loaded at its first use in its scope and given back at its last.
    void fetch(Light& step, const Cost& cost, const Cost*& load, Keep keep, std::uint64_t other, std::uint64_t others,
               bool same_before, bool same_after) const {
        bool loads = true, releases = true;
        if (keep != Keep::kNone) {
            loads = other == 0;
            releases = other + 1 == others;
        }
        if (keep == Keep::kAll) {
            loads = loads && !same_before;
            releases = releases && !same_after;
        }
        if (loads && cost.bytes > 0) {
            load = &cost;
            step.scratch += cost.bytes;
        }
        if (releases) step.release += cost.bytes;
    }

    void next(std::uint64_t batch, std::uint64_t outer, std::uint64_t inner, std::uint64_t depth, std::uint64_t outers,
              std::uint64_t inners) {
        const std::uint64_t row_tile = map_.rows_outer ? outer : inner, col_tile = map_.rows_outer ? inner : outer;
        const Kind r = kind(row_tile, row_tiles_);
        const Kind n = col_tile + 1 == col_tiles_ ? kLast : kFirst, k = depth + 1 == depth_tiles_ ? kLast : kFirst;
        const bool first_batch = batch == 0, last_batch = batch + 1 == share_.batches.size();
        Light step;
        fetch(step, a_[r][k], step.a, map_.keep_a, map_.rows_outer ? inner : outer, map_.rows_outer ? inners : outers,
              same_a_ && !first_batch, same_a_ && !last_batch);
        fetch(step, b_[k][n], step.b, map_.keep_b, map_.rows_outer ? outer : inner, map_.rows_outer ? outers : inners,
              same_b_ && !first_batch, same_b_ && !last_batch);
        step.array = array_[r][n][k];
        step.traffic = traffic_[r][n][k];
        const Bytes accumulator = elements_[r][n] * c_.accumulator_element;
        if (depth == 0) step.accumulator = accumulator;
        if (depth + 1 == depth_tiles_) {
            step.accumulator_store = accumulator;
            step.out = &out_[r][n];
            step.vector = vector_[r][n];
            if (c_.has_bias) {
                const bool kept = !c_.bias_per_row;
                if (!kept || row_tile == 0) {
                    step.bias = &bias_[r][n];
                    step.scratch += step.bias->bytes;
                }
                if (!kept || row_tile + 1 == row_tiles_) step.release += bias_[r][n].bytes;
            }
        }
        play(&step);
    }

    /// Plays the step before `following`, whose loads may meet its operands in the banks.
    void play(const Light* following) {
        if (has_step_) play(step_, following);
        has_step_ = following != nullptr;
        if (following) step_ = *following;
    }

    void play(const Light& step, const Light* following) {
        make_room(step);
        const auto wait = [this](std::deque<Release>& releases, Bytes& held, Bytes needed, Bytes size) {
            while (!releases.empty() && (releases.front().at <= allocated_ || held + needed > size)) {
                allocated_ = std::max(allocated_, releases.front().at);
                held -= releases.front().bytes;
                releases.pop_front();
            }
            held += needed;
        };
        wait(scratch_releases_, scratch_, step.scratch, config_.scratchpad.size);
        wait(accumulator_releases_, accumulator_, step.accumulator, config_.scratchpad.accumulator);
        double loaded = allocated_;
        for (const Cost* load : {step.a, step.b, step.bias}) {
            if (!load) continue;
            loaded = std::max(loaded, transfer(allocated_, load->cycles, false));
            loaded_ += load->bytes;
        }
        array_free_ = std::max(array_free_, loaded + static_cast<double>(step.array.preload)) +
                      static_cast<double>(step.array.busy + delay(step, following));
        scratch_releases_.push_back({array_free_, step.release});
        double computed = array_free_ + static_cast<double>(step.array.drain);
        if (step.vector.busy > 0) {
            vector_free_ = std::max(vector_free_, computed) + static_cast<double>(step.vector.busy);
            computed = vector_free_ + static_cast<double>(step.vector.drain);
        }
        end_ = std::max(end_, computed);
        kept_ += step.scratch - step.release;
        least_accumulator_ += step.accumulator;
        if (step.out) stores_.push_back({computed, step.out->cycles, step.accumulator_store, steps_, loaded_});
        ++steps_;
    }

    Cycle delay(const Light& step, const Light* following) const {
        BankWrites writes;
        if (following) {
            for (const Cost* load : {following->a, following->b, following->bias}) {
                if (load) writes.add(load->writes);
            }
        }
        return bank_delay(config_.scratchpad, step.array.busy, step.traffic, kept_ + step.scratch, writes);
    }

    /// Core::make_room: stores go ahead of loads that need their space.
    void make_room(const Light& step) {
        const auto lacks_room = [&](std::uint64_t steps) {
            return kept_ + steps * step.scratch > config_.scratchpad.size ||
                   least_accumulator_ + steps * step.accumulator > config_.scratchpad.accumulator;
        };
        while (!stores_.empty()) {
            const std::uint64_t oldest = stores_.front().step;
            const bool behind = oldest + 1 < steps_;
            const bool due =
                oldest + kStepsAhead < steps_ && loaded_ - stores_.front().loads_until >= config_.loads_ahead();
            if (!due && !lacks_room(1) && !(behind && lacks_room(2))) return;
            store();
        }
    }

    void store() {
        const Store next = stores_.front();
        stores_.pop_front();
        const double at = transfer(next.ready, next.cycles, true);
        accumulator_releases_.push_back({at, next.accumulator});
        least_accumulator_ -= next.accumulator;
        end_ = std::max(end_, at);
    }

    /// The DMA starts transfers in order, as many in flight as it has channels; memory is one pipe.
    double transfer(double ready, double cycles, bool write) {
        double& slot = slots_[slot_++ % slots_.size()];
        issued_ = std::max({issued_, ready, slot});
        pipe_free_ = std::max(pipe_free_ + (write != write_ ? memory_.turn() : 0.0), issued_) + cycles;
        write_ = write;
        return slot = pipe_free_ + memory_.latency();
    }

    const Config& config_;
    MemoryProfile& memory_;
    const Contraction& c_;
    const Share& share_;
    const Mapping& map_;
    const std::uint64_t row_tiles_, col_tiles_, depth_tiles_;
    bool same_a_ = false, same_b_ = false;

    Cost a_[kKinds][kKinds], b_[kKinds][kKinds], out_[kKinds][kKinds], bias_[kKinds][kKinds];
    Work array_[kKinds][kKinds][kKinds], vector_[kKinds][kKinds];
    Bytes traffic_[kKinds][kKinds][kKinds] = {};
    std::uint64_t elements_[kKinds][kKinds] = {};

    Light step_;
    bool has_step_ = false, write_ = false;
    std::vector<double> slots_;  // when each DMA channel is free again
    std::size_t slot_ = 0;
    std::deque<Release> scratch_releases_, accumulator_releases_;
    std::deque<Store> stores_;  // not yet queued
    Bytes scratch_ = 0, accumulator_ = 0, kept_ = 0, least_accumulator_ = 0;
    std::uint64_t steps_ = 0;
    Bytes loaded_ = 0;
    double allocated_ = 0, issued_ = 0, pipe_free_ = 0, array_free_ = 0, vector_free_ = 0, end_ = 0;
};

}  // namespace

double rehearse(const Config& config, MemoryProfile& memory, const Contraction& contraction, const Share& share,
                const Mapping& mapping, std::uint64_t limit) {
    return Rehearsal(config, memory, contraction, share, mapping).run(limit);
}

}  // namespace acalsim
