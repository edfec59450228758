// How far do the three accounts of a mapping's cycles agree: the estimate in closed form, the rehearsal, the
// simulation?
#include <algorithm>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "commands.h"
#include "plan/candidates.h"
#include "plan/plans.h"
#include "plan/rehearsal.h"
#include "simulation.h"

using namespace acalsim;

namespace {

/// Cycles of one mapping, alone on one core, from the end of its launch to its last store.
struct Accounts {
    double estimate, rehearsal, simulation;
    double array;        // of them the arrays compute, apart from waiting for banks
    Bytes shortest_run;  // of any transfer
};

class Draw {
  public:
    explicit Draw(std::uint64_t seed) : seed_(seed) {}

    std::uint64_t below(std::uint64_t n) {
        seed_ = seed_ * 6364136223846793005ULL + 1442695040888963407ULL;
        return (seed_ >> 33) % n;
    }
    std::int64_t size(std::uint64_t most) { return static_cast<std::int64_t>(1 + below(most)); }
    std::uint64_t of(std::initializer_list<std::uint64_t> values) { return values.begin()[below(values.size())]; }

    Config config(const std::string& preset) {
        Config c;
        c.array.rows = of({4, 16, 32});
        c.array.cols = of({8, 16, 64});
        c.array.count = of({1, 2});
        c.array.double_buffered = below(2);
        c.array.dataflows = {static_cast<Dataflow>(below(3))};
        c.scratchpad.size = of({32, 128, 1024}) << 10;
        c.scratchpad.accumulator = of({16, 128}) << 10;
        c.dma.channels = of({1, 2, 5});
        c.memory.preset = preset;
        c.memory.channels = preset == "simple" || preset == "ideal" ? 1 : of({1, 2, 8});
        c.memory.bytes_per_cycle = {of({8, 32, 128}), 1};
        c.memory.refresh = below(2) ? "all_bank" : "none";
        return c;
    }

    std::shared_ptr<const Contraction> contraction(const Config& config) {
        if (below(3) == 0) {
            const std::int64_t channels = size(64), taps = size(3), filters = size(64), edge = taps + size(30);
            const acal_conv2d_t command = conv2d(channels, edge, filters, taps, size(2), size(2) - 1);
            return make_work(config, Command(&command, sizeof command)).contraction;
        }
        const std::uint64_t m = of({30, 300, 600}), n = of({30, 300, 600}), k = of({30, 300, 600});
        acal_gemm_t command = gemm(size(m), size(n), size(k));
        if (below(2)) {
            const bool per_row = below(2);
            command.bias = matrix(std::uint64_t{4} << 32, command.out.dims[0], command.out.dims[1]);
            if (!per_row) command.bias.strides[0] = 0;
            command.activation = ACAL_ACTIVATION_RELU;
        }
        return make_work(config, Command(&command, sizeof command)).contraction;
    }

  private:
    std::uint64_t seed_;
};

constexpr std::uint64_t kMostSteps = 2000;  // of a mapping that is looked at, for the time that it takes

Bytes shortest_run(const Plan& plan) {
    Bytes least = kNever;
    Step step;
    while (plan.parts.front()->next(step)) {
        for (const std::vector<Box>* boxes : {&step.loads, &step.stores}) {
            for (const Box& box : *boxes) least = std::min(least, box.run());
        }
    }
    return least;
}

/// Of the mapping estimated to be fastest and of three others, for each of `draws` contractions and hardwares.
std::vector<Accounts> accounts(
    const std::string& preset, std::uint64_t draws, const std::function<void(Config&)>& change = [](Config&) {}) {
    const std::function<void()> poll;
    std::vector<Accounts> all;
    for (std::uint64_t seed = 1; seed <= draws; ++seed) {
        Draw draw(seed);
        Config config = draw.config(preset);
        change(config);
        const std::shared_ptr<const Contraction> contraction = draw.contraction(config);
        const Share share = whole(*contraction);
        MemoryProfile memory(config);
        std::vector<Candidate> found;
        double best = std::numeric_limits<double>::infinity();
        append_candidates(config, memory, *contraction, share, config.array.dataflows.front(), found, best);
        found.erase(std::remove_if(found.begin(), found.end(),
                                   [&](const Candidate& c) {
                                       return c.steps > kMostSteps ||
                                              !footprint(*contraction, share, c.mapping).fits(config.scratchpad);
                                   }),
                    found.end());
        if (found.empty()) continue;
        std::swap(found.front(), *std::min_element(found.begin(), found.end(),
                                                   [](const auto& x, const auto& y) { return x.time < y.time; }));
        for (std::size_t n = 0; n < 4; ++n) {
            const Candidate& candidate = found[n == 0 ? 0 : draw.below(found.size())];
            const auto plan = [&] { return make_contraction_plan(config, contraction, {share}, candidate.mapping); };
            Simulation simulation(config, poll);
            simulation.submit(0, 0, {}, plan());
            simulation.run();
            const Completion done = simulation.completions().front();
            all.push_back({candidate.time, rehearse(config, memory, *contraction, share, candidate.mapping, kNever),
                           static_cast<double>(done.end - done.start - config.launch),
                           static_cast<double>(done.array_busy - done.bank_conflict_cycles) /
                               static_cast<double>(config.array.count),
                           shortest_run(plan())});
        }
    }
    return all;
}

/// The quantile of a ratio.
template <typename Ratio>
double quantile(const std::vector<Accounts>& all, double q, Ratio&& ratio) {
    std::vector<double> ratios;
    for (const Accounts& a : all) ratios.push_back(ratio(a));
    std::sort(ratios.begin(), ratios.end());
    return ratios[static_cast<std::size_t>(q * static_cast<double>(ratios.size() - 1))];
}

double rehearsed(const Accounts& a) { return a.rehearsal / a.simulation; }
double estimated(const Accounts& a) { return a.estimate / a.simulation; }

}  // namespace

// The bounds below were found with a thousand draws for each memory; a test takes the first of them.
namespace {

constexpr std::uint64_t kDraws = 150;

void check_within(const std::vector<Accounts>& all, double (*ratio)(const Accounts&), double least, double most) {
    CHECK(all.size() > kDraws);
    CHECK(quantile(all, 0, ratio) >= least);
    CHECK(quantile(all, 1, ratio) <= most);
}

/// Memory of a fixed rate whose profile is exact: no partial bursts, and no runs shorter than those that it measures.
std::vector<Accounts> on_fixed_rate(std::uint64_t channels, std::uint64_t bytes_per_cycle) {
    std::vector<Accounts> all = accounts("simple", kDraws, [&](Config& config) {
        config.dma.burst = 4;
        config.dma.channels = channels;
        config.memory.bytes_per_cycle = {bytes_per_cycle, 1};
    });
    all.erase(std::remove_if(all.begin(), all.end(), [](const Accounts& a) { return a.shortest_run < 32; }), all.end());
    return all;
}

constexpr const char* kDrams[] = {"DDR4-2400", "LPDDR5-6400", "HBM2"};

}  // namespace

TEST(exact, "is a rehearsal exact where memory costs nothing?") {
    const std::vector<Accounts> all = accounts("ideal", kDraws);
    CHECK(all.size() > 3 * kDraws);
    for (const Accounts& a : all) CHECK_EQUAL(a.rehearsal, a.simulation);
}

TEST(one_channel, "is a rehearsal exact on one DMA channel and memory of a fixed rate?") {
    // An element a cycle: every transfer takes whole cycles.
    for (const Accounts& a : on_fixed_rate(1, 4)) CHECK_EQUAL(a.rehearsal, a.simulation);
    // Otherwise the memory ends each transfer at a whole cycle, and the measured profile has that in what it says of
    // all runs, so that a rehearsal of short transfers is too long.
    check_within(on_fixed_rate(1, 128), rehearsed, 0.999, 1.02);
}

TEST(several_channels, "is a rehearsal near on several DMA channels and memory of a fixed rate?") {
    // A core gives a transfer to the channel that is free, a rehearsal to each by turns.
    for (std::uint64_t channels : {2, 5}) {
        check_within(on_fixed_rate(channels, 4), rehearsed, 0.98, 1.001);
        check_within(on_fixed_rate(channels, 128), rehearsed, 0.94, 1.02);
    }
}

TEST(on_dram, "is a rehearsal on DRAM within a factor, and mostly near?") {
    // The profile has the mean cost of runs of a length and pitch; which rows a transfer finds open, whether a refresh
    // comes and where in a burst a run begins is not known of any one. Runs below 32 bytes count as if they had 32.
    for (const char* preset : kDrams) {
        const std::vector<Accounts> all = accounts(preset, kDraws);
        check_within(all, rehearsed, 0.5, 2.4);
        CHECK(quantile(all, 0.05, rehearsed) > 0.85 && quantile(all, 0.95, rehearsed) < 1.35);
        CHECK(quantile(all, 0.5, rehearsed) > 0.97 && quantile(all, 0.5, rehearsed) < 1.06);
    }
}

TEST(estimates, "is an estimate no less than the arrays' work, within a factor of the simulation, and mostly near?") {
    // It takes all tiles to be full and all steps to be alike, overlap to be complete or none, and a part of what is
    // hidden to show; so it is a bound in neither direction, apart from the arrays' work, which it sums exactly, with
    // folds spread over several arrays without rounding up.
    for (const char* preset : {"ideal", "simple", "DDR4-2400", "LPDDR5-6400", "HBM2"}) {
        const std::vector<Accounts> all = accounts(preset, kDraws);
        for (const Accounts& a : all) CHECK(a.estimate >= a.array * (1 - 1e-9));
        check_within(all, estimated, 0.3, 4.0);
        CHECK(quantile(all, 0.05, estimated) > 0.65 && quantile(all, 0.95, estimated) < 1.9);
        CHECK(quantile(all, 0.5, estimated) > 0.95 && quantile(all, 0.5, estimated) < 1.25);
    }
}
