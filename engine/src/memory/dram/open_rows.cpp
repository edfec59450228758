#include "memory/dram/row_policy.h"

namespace acalsim {

namespace {

class OpenRows final : public DramRowPolicy {
  public:
    void close(std::uint64_t, const DramSource&, std::uint64_t, DramBanks&) override {}
};

}  // namespace

std::unique_ptr<DramRowPolicy> make_open_rows() { return std::make_unique<OpenRows>(); }

}  // namespace acalsim
