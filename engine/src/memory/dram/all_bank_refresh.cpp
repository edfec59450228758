#include "memory/dram/refresh.h"

namespace acalsim {

namespace {

class AllBankRefresh final : public DramRefresh {
  public:
    explicit AllBankRefresh(const DramTiming& timing) : DramRefresh(timing.nREFI, 1) {}

  private:
    void refresh(DramBanks& banks, std::uint64_t) override { banks.refresh_all(due()); }
};

}  // namespace

std::unique_ptr<DramRefresh> make_all_bank_refresh(const DramTiming& timing) {
    return std::make_unique<AllBankRefresh>(timing);
}

}  // namespace acalsim
