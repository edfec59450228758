#include "plan/mapper.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>

#include "plan/candidates.h"
#include "plan/plans.h"
#include "plan/rehearsal.h"
#include "plan/sweep_plan.h"
#include "simulation.h"

namespace acalsim {

namespace {

using Keep = Mapping::Keep;

// Bounds of the search, chosen for its time; drawn shapes other than those of the tests were used.
constexpr std::uint64_t kRehearsedSteps = 8000;  // of all rehearsals of one shape
constexpr std::uint64_t kStepsOfOne = 1000;      // of one rehearsal
constexpr std::size_t kRehearsals = 48;
constexpr std::size_t kTrials = 6;
constexpr double kTriedVisits = 2000;                           // of all trials of one shape
constexpr double kRehearsedEqual = 1.007, kTriedEqual = 1.002;  // times that count as equal

}  // namespace

Mapper::Mapper(const Config& config, const std::function<void()>& poll) : config_(config), poll_(poll) {}
Mapper::~Mapper() = default;

void Mapper::pin(const Contraction& c, const Mapping& mapping) { found_[c.key()] = mapping; }

const Mapping& Mapper::map(const Command& command, const Contraction& c, const std::vector<Share>& shares) {
    std::vector<std::uint64_t> key = c.key();
    const auto known = found_.find(key);
    if (known != found_.end()) return known->second;
    // It is kept by shape, so it must not depend on where the tensors of the first command of a shape happen to lie.
    const Command anywhere = command.relocated();
    return found_.emplace(std::move(key), search(make_work(config_, anywhere).contraction, shares)).first->second;
}

void Mapper::pin(const std::vector<Sweep>& passes, std::vector<Tiling> tilings) {
    tilings_[key(passes)] = std::move(tilings);
}

const std::vector<Tiling>& Mapper::tile(const std::vector<Sweep>& passes) {
    std::vector<std::uint64_t> shape = key(passes);
    const auto known = tilings_.find(shape);
    if (known != tilings_.end()) return known->second;
    std::vector<Tiling> tilings;
    for (const Sweep& sweep : passes) tilings.push_back(choose_tiling(config_, memory(), sweep));
    return tilings_.emplace(std::move(shape), std::move(tilings)).first->second;
}

double Mapper::estimate(const Contraction& c, const Share& share, const Mapping& mapping) {
    return rehearse(config_, memory(), c, share, mapping, kStepsOfOne);
}

double Mapper::estimate(const std::vector<Sweep>& passes, const std::vector<Tiling>& tilings) {
    double cycles = 0;
    for (std::size_t i = 0; i < passes.size(); ++i) {
        cycles += rehearse(config_, memory(), passes[i], tilings[i], kStepsOfOne);
    }
    return cycles;
}

MemoryProfile& Mapper::memory() {
    if (!memory_) memory_ = std::make_unique<MemoryProfile>(config_);
    return *memory_;
}

/// Cycles of the contraction with nothing else on the machine.
Cycle Mapper::try_out(const std::shared_ptr<const Contraction>& contraction, const std::vector<Share>& shares,
                      const Mapping& mapping) {
    if (!trial_) trial_ = std::make_unique<Simulation>(config_, poll_);
    trial_->submit(0, 0, {}, make_contraction_plan(config_, contraction, shares, mapping));
    const Cycle cycles = trial_->run();
    trial_->completions();
    return cycles;
}

Mapping Mapper::search(const std::shared_ptr<const Contraction>& contraction, const std::vector<Share>& shares) {
    const Contraction& c = *contraction;
    // The share that reads most stands for all: it may be one in the middle, whose windows reach beyond both its edges.
    const auto reads = [&c](const Share& s) {
        return s.rows.size() == 0 ? 0 : c.a(s.batches.begin, s.rows, {0, c.depth}, false).bytes();
    };
    const Share& share = *std::max_element(shares.begin(), shares.end(),
                                           [&](const Share& x, const Share& y) { return reads(x) < reads(y); });
    const auto fits = [&](const Mapping& mapping) {
        return std::all_of(shares.begin(), shares.end(), [&](const Share& s) {
            return s.empty() || footprint(c, s, mapping).fits(config_.scratchpad);
        });
    };
    std::vector<Candidate> candidates;
    double shortest = std::numeric_limits<double>::infinity();
    for (Dataflow dataflow : config_.array.dataflows) {
        append_candidates(config_, memory(), c, share, dataflow, candidates, shortest);
    }
    const auto earlier = [](const Candidate& x, const Candidate& y) { return x.time < y.time; };
    const double limit = kPromising * shortest;
    candidates.erase(
        std::remove_if(candidates.begin(), candidates.end(), [limit](const Candidate& x) { return x.time > limit; }),
        candidates.end());
    std::stable_sort(candidates.begin(), candidates.end(), earlier);

    std::uint64_t steps_left = kRehearsedSteps;
    std::vector<Candidate> rehearsed;
    for (Candidate& candidate : candidates) {
        if (rehearsed.size() == kRehearsals) break;
        const std::uint64_t steps = std::min(candidate.steps, kStepsOfOne);
        if (steps > steps_left) break;
        if (!fits(candidate.mapping)) continue;
        steps_left -= steps;
        if (poll_) poll_();
        candidate.time = rehearse(config_, memory(), c, share, candidate.mapping, kStepsOfOne);
        rehearsed.push_back(candidate);
    }
    if (rehearsed.empty()) {
        const Mapping smallest{1, 1, 1, true, Keep::kNone, Keep::kNone, config_.array.dataflows.front()};
        if (fits(smallest)) return smallest;
        const Footprint need = footprint(c, share, smallest);
        throw std::invalid_argument("command: its smallest tile needs " + std::to_string(need.kept + need.step) +
                                    " + " + std::to_string(need.accumulator) + " bytes on chip; scratchpad has " +
                                    std::to_string(config_.scratchpad.size) + " and accumulator " +
                                    std::to_string(config_.scratchpad.accumulator));
    }
    // Of those that are as good as equally fast the one that needs memory least.
    const auto choose = [&](double equal) {
        const double best = equal * std::min_element(rehearsed.begin(), rehearsed.end(), earlier)->time;
        return std::min_element(rehearsed.begin(), rehearsed.end(),
                                [best](const Candidate& x, const Candidate& y) {
                                    return (x.time <= best) != (y.time <= best) ? x.time <= best : x.memory < y.memory;
                                })
            ->mapping;
    };
    std::stable_sort(rehearsed.begin(), rehearsed.end(), earlier);
    double visits_left = kTriedVisits;
    std::size_t tried = 0;
    for (; tried < std::min(rehearsed.size(), kTrials) && rehearsed[tried].visits <= visits_left; ++tried) {
        visits_left -= rehearsed[tried].visits;
        rehearsed[tried].time = static_cast<double>(try_out(contraction, shares, rehearsed[tried].mapping));
    }
    if (tried == 0) return choose(kRehearsedEqual);
    rehearsed.resize(tried);
    return choose(kTriedEqual);
}

}  // namespace acalsim
