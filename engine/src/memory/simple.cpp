// Memory of a fixed latency and one pipe of a fixed bandwidth, shared first come first served.
#include "memory/models.h"

#include <algorithm>

namespace acalsim {

namespace {

class SimpleMemory final : public MemoryPort {
  public:
    explicit SimpleMemory(const Config& config)
        : rate_(config.memory.bytes_per_cycle), latency_(config.memory.latency), burst_(config.dma.burst) {}

    void reset() override {
        pipe_free_ = 0;
        flying_.clear();
        stats_ = {};
    }

    void issue(Cycle now, const Transfer& transfer) override {
        Bytes moved = 0;  // whole bursts: a run that starts or ends inside one still occupies it
        transfer.box.for_each_run([&](std::uint64_t address, Bytes bytes) {
            moved += round_up(address + bytes, burst_) - address / burst_ * burst_;
        });
        (transfer.write ? stats_.bytes_written : stats_.bytes_read) += moved;
        // The pipe counts in 1/num cycles, so that its rate is exact.
        pipe_free_ = std::max(pipe_free_, Wide{now} * rate_.num) + Wide{moved} * rate_.den;
        const auto end = static_cast<Cycle>((pipe_free_ + rate_.num - 1) / rate_.num);
        flying_.push_back({end + latency_, transfer.id});
    }

    Cycle next_event() const override { return flying_.empty() ? kNever : flying_.front().end; }

    Cycle advance(Cycle limit, std::vector<TransferEnd>& ended) override {
        const Cycle reached = std::min(limit, next_event());
        std::size_t n = 0;
        for (; n < flying_.size() && flying_[n].end == reached; ++n) ended.push_back({flying_[n].id, 0, 0});
        flying_.erase(flying_.begin(), flying_.begin() + static_cast<std::ptrdiff_t>(n));
        return reached;
    }

    std::vector<ChannelStats> channels() const override { return {stats_}; }

  private:
    struct Flying {
        Cycle end;
        std::uint32_t id;
    };
    Ratio rate_;
    Cycle latency_;
    Bytes burst_;
    Wide pipe_free_ = 0;
    std::vector<Flying> flying_;  // in order of their end
    ChannelStats stats_;
};

}  // namespace

std::unique_ptr<MemoryPort> make_simple_memory(const Config& config) { return std::make_unique<SimpleMemory>(config); }

}  // namespace acalsim
