// Does the engine work with memory that a host serves?
#include <memory>
#include <vector>

#include "acalsim/engine.h"
#include "check.h"
#include "commands.h"

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
