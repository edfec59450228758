// Memory without limits: every transfer ends in the cycle that it starts in, so that compute alone can be seen.
#include "memory/models.h"

namespace acalsim {

namespace {

class IdealMemory final : public MemoryPort {
  public:
    void reset() override { ids_.clear(); }
    void issue(Cycle now, const Transfer& transfer) override {
        now_ = now;
        ids_.push_back(transfer.id);
    }
    Cycle next_event() const override { return ids_.empty() ? kNever : now_; }
    Cycle advance(Cycle limit, std::vector<std::uint32_t>& ended) override {
        if (ids_.empty()) return limit;
        ended.insert(ended.end(), ids_.begin(), ids_.end());
        ids_.clear();
        return now_;
    }

  private:
    Cycle now_ = 0;
    std::vector<std::uint32_t> ids_;
};

}  // namespace

std::unique_ptr<MemoryPort> make_ideal_memory() { return std::make_unique<IdealMemory>(); }

}  // namespace acalsim
