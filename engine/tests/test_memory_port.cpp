// Does the engine work with memory that a host serves, and does a rehearsal foresee what it does?
#include <cmath>
#include <memory>
#include <stdexcept>
#include <vector>

#include "acalsim/engine.h"
#include "check.h"
#include "commands.h"
#include "plan/plans.h"
#include "plan/rehearsal.h"

using namespace acalsim;

namespace {

/// Serves every transfer after a fixed time and remembers them.
class HostMemory final : public MemoryPort {
  public:
    HostMemory(Cycle time, std::vector<Transfer>& seen) : time_(time), seen_(seen) {}
    void reset() override {}
    void issue(Cycle now, const Transfer& transfer) override {
        seen_.push_back(transfer);
        flying_.push_back({now + time_, transfer.id});
    }
    Cycle next_event() const override { return flying_.empty() ? kNever : flying_.front().at; }
    Cycle advance(Cycle limit, std::vector<TransferEnd>& ended) override {
        if (next_event() > limit) return limit;
        const Cycle at = next_event();
        while (!flying_.empty() && flying_.front().at == at) {
            ended.push_back({flying_.front().id, 0, 0});
            flying_.erase(flying_.begin());
        }
        return at;
    }
    std::vector<ChannelStats> channels() const override { return {}; }

  private:
    struct Flying {
        Cycle at;
        std::uint32_t id;
    };
    const Cycle time_;
    std::vector<Transfer>& seen_;
    std::vector<Flying> flying_;
};

}  // namespace

TEST(host_memory, "does a host's memory see every byte once, at most dma.channels transfers at a time?") {
    const acal_gemm_t command = gemm(64, 64, 64);
    Cycle before = 0;
    for (Cycle time : {Cycle{10}, Cycle{1000}}) {
        std::vector<Transfer> seen;
        Config config;
        Engine engine(config, std::make_unique<HostMemory>(time, seen));
        engine.submit(0, &command, sizeof command);
        const Cycle end = engine.run();
        Bytes read = 0, written = 0;
        for (const Transfer& t : seen) {
            (t.write ? written : read) += t.box.bytes();
            CHECK(t.id < config.dma.channels);
        }
        CHECK_EQUAL(read, 2 * 64 * 64 * 4);
        CHECK_EQUAL(written, 64 * 64 * 4);
        CHECK(end > before + time);
        before = end;
    }
}

TEST(rehearsal, "does a rehearsal foresee the engine's cycles on memory of a fixed rate?") {
    Config config;
    config.launch = 0;
    config.memory.bytes_per_cycle = {32, 1};
    config.dma.burst = 4;  // no partial bursts, of which the profile knows the average alone
    const std::int64_t sizes[][3] = {{64, 64, 64}, {200, 50, 300}, {16, 256, 100}, {333, 77, 45}};
    const char* mappings[] = {"rows 16 cols 16 depth 16, rows outer, a none, b none, ws",
                              "rows 64 cols 32 depth 64, columns outer, a all, b panel, ws",
                              "rows 32 cols 48 depth 32, rows outer, a panel, b none, os",
                              "rows 50 cols 64 depth 16, rows outer, a panel, b all, is"};
    for (const auto& size : sizes) {
        const acal_gemm_t command = gemm(size[0], size[1], size[2]);
        const auto contraction = make_work(config, Command(&command, sizeof command)).contraction;
        for (const char* text : mappings) {
            MemoryProfile memory(config);
            const Mapping mapping = parse_mapping(text);
            Engine engine(config);
            engine.pin_mapping(&command, sizeof command, text);
            try {
                engine.submit(0, &command, sizeof command);
            } catch (const std::invalid_argument&) {
                continue;  // does not fit on chip
            }
            const auto cycles = static_cast<double>(engine.run());
            const double foreseen = rehearse(config, memory, *contraction, whole(*contraction), mapping, 1 << 30);
            CHECK(std::abs(foreseen / cycles - 1) < 0.03);
        }
    }
}
