#include "memory/dram/refresh.h"

namespace acalsim {

namespace {

class NoRefresh final : public DramRefresh {
  public:
    NoRefresh() : DramRefresh(kNever, 1) {}

  private:
    void refresh(DramBanks&, std::uint64_t) override {}
};

}  // namespace

std::unique_ptr<DramRefresh> make_no_refresh() { return std::make_unique<NoRefresh>(); }

}  // namespace acalsim
