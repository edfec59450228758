// May engines work in several threads at once, and be interrupted?
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "acalsim/engine.h"
#include "check.h"
#include "commands.h"

using namespace acalsim;

namespace {

Config machine(const std::string& preset, std::uint64_t cores) {
    Config config;
    config.cores = cores;
    config.array.dataflows = {Dataflow::kWeightStationary, Dataflow::kOutputStationary};
    config.memory.preset = preset;
    config.memory.channels = preset == "simple" ? 1 : 4;
    config.memory.bytes_per_cycle = {64, 1};
    return config;
}

const Config kMachines[] = {machine("simple", 1), machine("DDR4-2400", 1), machine("HBM2", 4), machine("ideal", 2)};

/// Cycles of segments with a product, a softmax and a gather each; every shape is mapped anew by every engine.
std::vector<Cycle> segments(Engine& engine) {
    std::vector<Cycle> ends;
    for (std::int64_t size = 24; size < 120; size += 31) {
        const acal_gemm_t product = gemm(size, 2 * size, size + 7);
        acal_softmax_t rows = softmax(size, 3 * size);
        rows.header.id = 1;
        acal_gather_t table = gather(1000 * size, size, 40);
        table.header.id = 2;
        engine.submit(0, &product, sizeof product);
        engine.submit(0, &rows, sizeof rows);
        engine.submit(0, &table, sizeof table);
        engine.run();
        for (const Completion& completion : engine.completions()) ends.push_back(completion.end);
    }
    return ends;
}

std::vector<Cycle> alone(const Config& config) {
    Engine engine(config);
    return segments(engine);
}

struct Stop {};

}  // namespace

TEST(several_engines, "do engines in several threads give what each gives alone?") {
    constexpr std::size_t kMachineCount = std::size(kMachines), kThreads = 2 * kMachineCount;
    std::vector<std::vector<Cycle>> got(kThreads);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < kThreads; ++i) {
        threads.emplace_back([&got, i] {
            for (int round = 0; round < 3; ++round) {
                Engine engine(kMachines[i % kMachineCount]);
                engine.set_poll([&engine] { engine.progress(); });
                engine.record_accesses(round == 1);
                got[i] = segments(engine);
                CHECK_EQUAL(engine.accesses().empty(), round != 1);
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (std::size_t i = 0; i < kThreads; ++i) {
        CHECK_EQUAL(got[i].size(), 12U);
        CHECK(got[i] == alone(kMachines[i % kMachineCount]));
    }
}

TEST(one_engine, "does an engine that threads take turns with give what it gives one thread?") {
    for (const Config& config : kMachines) {
        const std::vector<Cycle> expected = alone(config);
        Engine engine(config);
        std::mutex turn;
        std::vector<std::vector<Cycle>> got(4);
        std::vector<std::thread> threads;
        for (std::vector<Cycle>& ends : got) {
            threads.emplace_back([&] {
                const std::lock_guard<std::mutex> mine(turn);
                ends = segments(engine);
            });
        }
        for (std::thread& thread : threads) thread.join();
        for (const std::vector<Cycle>& ends : got) CHECK(ends == expected);
    }
}

TEST(interrupted, "does a poll hear of growing progress, and is an engine that it stops as new?") {
    for (const Config& config : kMachines) {
        const std::vector<Cycle> expected = alone(config);
        const acal_gemm_t command = gemm(300, 200, 500);
        Engine engine(config);
        std::uint64_t polls = 0;
        double fraction = 0;
        Cycle cycles = 0;
        bool grows = true;
        engine.set_poll([&] {
            ++polls;
            const Progress progress = engine.progress();
            grows = grows && progress.fraction >= fraction && progress.fraction <= 1 && progress.cycles >= cycles;
            fraction = progress.fraction;
            cycles = progress.cycles;
        });
        engine.submit(0, &command, sizeof command);
        fraction = 0;
        const Cycle whole = engine.run();
        CHECK(grows);
        CHECK(polls > 2);
        const std::uint64_t all = polls;
        for (std::uint64_t stop = 1; stop < all; stop += 1 + all / 20) {  // while it plans, and while it runs
            Engine fresh(config);
            std::uint64_t left = stop;
            fresh.set_poll([&left] {
                if (--left == 0) throw Stop{};
            });
            bool stopped = false;
            try {
                fresh.submit(0, &command, sizeof command);
                fresh.run();
            } catch (const Stop&) {
                stopped = true;
            }
            CHECK(stopped);
            CHECK(fresh.next_event() == kNever);
            CHECK(fresh.completions().empty());
            fresh.set_poll(nullptr);
            CHECK(segments(fresh) == expected);
            fresh.submit(0, &command, sizeof command);
            CHECK_EQUAL(fresh.run(), whole);
        }
    }
}

TEST(estimate, "is the estimate near what the engine says?") {
    for (const Config& config : kMachines) {
        Engine engine(config);
        // Several cores that read the same operand find its rows open, which the estimate does not know.
        const double low = 0.75, high = config.cores > 1 ? 2.5 : 1.25;
        const auto near = [&](const auto& command) {
            const double foreseen = engine.estimate(&command, sizeof command);
            engine.submit(0, &command, sizeof command);
            const auto cycles = static_cast<double>(engine.run());
            return foreseen > low * cycles && foreseen < high * cycles;
        };
        CHECK(near(gemm(1000, 700, 900)));
        if (config.cores == 1) {
            CHECK(near(gemm(16, 16, 200000)));
        }
        CHECK(near(softmax(2000, 3000)));
    }
}

TEST(beyond, "are sizes that 64 bits cannot count refused?") {
    Engine engine(kMachines[0]);
    const std::int64_t sizes[][3] = {{std::int64_t{1} << 31, std::int64_t{1} << 31, std::int64_t{1} << 31},
                                     {std::int64_t{1} << 40, std::int64_t{1} << 40, 1},
                                     {INT64_MAX, 1, 1},
                                     {INT64_MAX, INT64_MAX, INT64_MAX}};
    for (const auto& size : sizes) {
        const acal_gemm_t command = gemm(size[0], size[1], size[2]);
        bool refused = false;
        try {
            engine.submit(0, &command, sizeof command);
        } catch (const std::invalid_argument&) {
            refused = true;
        }
        CHECK(refused);
        CHECK(engine.next_event() == kNever);
    }
}

TEST(slow_dram, "is a bandwidth at which refresh leaves no time refused, and one at which it does not served?") {
    for (const char* preset : {"DDR4-2400", "LPDDR5-6400", "HBM2"}) {
        bool refused = false;
        Cycle before = 0;
        for (std::uint64_t slow = 1; slow <= std::uint64_t{1} << 30 && !refused; slow *= 2) {
            Config config = machine(preset, 1);
            config.memory.bytes_per_cycle = {64, slow};
            const acal_gemm_t command = gemm(20, 20, 20);
            try {
                Engine engine(config);
                engine.submit(0, &command, sizeof command);
                const Cycle cycles = engine.run();
                CHECK(cycles >= before);
                before = cycles;
            } catch (const std::invalid_argument& error) {
                refused = std::string(error.what()).find("dram.refresh") != std::string::npos;
                CHECK(refused);
            }
        }
        CHECK(refused);
        CHECK(before > 100000);
    }
}
