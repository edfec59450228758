#include "memory/dram/row_policy.h"

namespace acalsim {

namespace {

class ClosedRows final : public DramRowPolicy {
  public:
    void close(std::uint64_t now, const DramSource& last, std::uint64_t bank, DramBanks& banks) override {
        if (!last.is_hit(now, banks)) banks.close(bank);
    }
};

}  // namespace

std::unique_ptr<DramRowPolicy> make_closed_rows() { return std::make_unique<ClosedRows>(); }

}  // namespace acalsim
