#include "memory/dram/refresh.h"

namespace acalsim {

namespace {

class PerBankRefresh final : public DramRefresh {
  public:
    explicit PerBankRefresh(const DramTiming& timing)
        : DramRefresh(timing.nREFI, timing.groups * timing.banks), groups_(timing.groups), banks_(timing.banks) {
        begin_round();
    }

  private:
    void begin_round() override { refreshed_.assign(groups_ * banks_, false); }

    /// The bank that a stream left last will be needed last, the one in use goes at the end.
    void refresh(DramBanks& banks, std::uint64_t last_bank) override {
        for (std::uint64_t back = 1; back <= banks_; ++back) {
            const std::uint64_t bank = (last_bank + banks_ - back % banks_) % banks_;
            for (std::uint64_t group = 0; group < groups_; ++group) {
                if (refreshed_[group * banks_ + bank]) continue;
                refreshed_[group * banks_ + bank] = true;
                banks.refresh(due(), group, bank);
                return;
            }
        }
    }

    const std::uint64_t groups_, banks_;
    std::vector<bool> refreshed_;  // in this round
};

}  // namespace

std::unique_ptr<DramRefresh> make_per_bank_refresh(const DramTiming& timing) {
    return std::make_unique<PerBankRefresh>(timing);
}

}  // namespace acalsim
