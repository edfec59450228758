#include "acalsim/scratchpad.h"

#include <algorithm>

namespace acalsim {

Cycle bank_delay(const ScratchpadConfig& config, Bytes resident, const Step& step, const Step* next) {
    const Cycle busy = step.array.busy > 0 ? step.array.busy : step.vector.busy;
    const Cycle streaming = std::max(busy, ceil_div(step.scratchpad_traffic, config.banks * config.bank_bytes));
    Bytes loaded = 0;
    std::uint64_t words = 0;
    if (next != nullptr) {
        for (const Box& box : next->loads) {
            loaded += box.bytes();
            words += box.runs() * ceil_div(box.run(), config.bank_bytes);
        }
    }
    if (loaded == 0) return streaming - busy;
    const Bytes bank = std::max<Bytes>(1, config.size / config.banks);
    const std::uint64_t in_use = std::min(config.banks, ceil_div(resident, bank));
    const std::uint64_t written = std::min(config.banks, ceil_div(loaded, bank));
    const std::uint64_t shared = std::max(config.banks, in_use + written) - config.banks;
    return streaming - busy + std::min(streaming, ceil_div(words * shared, written));
}

}  // namespace acalsim
