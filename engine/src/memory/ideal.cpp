// Memory without limits: every transfer ends in the cycle that it starts in, so that compute alone can be seen.
#include "memory/models.h"

namespace acalsim {

namespace {

class IdealMemory final : public MemoryPort {
  public:
    void reset() override {
        ended_.clear();
        stats_ = {};
    }
    void issue(Cycle now, const Transfer& transfer) override {
        now_ = now;
        ended_.push_back({transfer.id, 0, 0});
        (transfer.write ? stats_.bytes_written : stats_.bytes_read) += transfer.box.bytes();
    }
    Cycle next_event() const override { return ended_.empty() ? kNever : now_; }
    Cycle advance(Cycle limit, std::vector<TransferEnd>& ended) override {
        if (ended_.empty()) return limit;
        ended.insert(ended.end(), ended_.begin(), ended_.end());
        ended_.clear();
        return now_;
    }
    std::vector<ChannelStats> channels() const override { return {stats_}; }

  private:
    Cycle now_ = 0;
    std::vector<TransferEnd> ended_;
    ChannelStats stats_;
};

}  // namespace

std::unique_ptr<MemoryPort> make_ideal_memory() { return std::make_unique<IdealMemory>(); }

}  // namespace acalsim
