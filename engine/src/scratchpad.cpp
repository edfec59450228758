#include "acalsim/scratchpad.h"

#include <algorithm>

namespace acalsim {

Cycle bank_delay(const ScratchpadConfig& config, Cycle busy, Bytes traffic, Bytes resident, const BankWrites& writes) {
    const Cycle streaming = std::max(busy, ceil_div(traffic, config.banks * config.bank_bytes));
    if (writes.bytes == 0) return streaming - busy;
    const Bytes bank = std::max<Bytes>(1, config.size / config.banks);
    const std::uint64_t in_use = std::min(config.banks, ceil_div(resident, bank));
    const std::uint64_t written = std::min(config.banks, ceil_div(writes.bytes, bank));
    const std::uint64_t shared = std::max(config.banks, in_use + written) - config.banks;
    return streaming - busy + std::min(streaming, ceil_div(writes.words * shared, written));
}

}  // namespace acalsim
