// The row policy of a DRAM channel.
#pragma once

#include <memory>

#include "memory/dram/source.h"

namespace acalsim {

/// Closes rows before another row of their bank is asked for. One file for each policy.
class DramRowPolicy {
  public:
    virtual ~DramRowPolicy() = default;

    /// Asked before each choice at `now`; `last` was served last, from the open row of `bank`.
    virtual void close(std::uint64_t now, const DramSource& last, std::uint64_t bank, DramBanks& banks) = 0;
};

/// Rows stay open until another row of their bank is needed.
std::unique_ptr<DramRowPolicy> make_open_rows();

/// A row is closed when the run of bursts in it has ended.
std::unique_ptr<DramRowPolicy> make_closed_rows();

}  // namespace acalsim
