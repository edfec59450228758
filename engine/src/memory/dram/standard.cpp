#include "memory/dram/standard.h"

namespace acalsim {

const DramStandard* find_dram_standard(const std::string& name) {
    for (const DramStandard* standard : {&kDdr4_2400, &kLpddr5_6400, &kHbm2}) {
        if (name == standard->name) return standard;
    }
    return nullptr;
}

DramTiming dram_timing(const Config& config, const DramStandard& standard) {
    const MemoryConfig& memory = config.memory;
    DramTiming t = standard.timing;
    // Actual over nominal clock: bytes per second of all channels.
    const Ratio scale{memory.bytes_per_cycle.num * config.frequency_mhz,
                      memory.bytes_per_cycle.den * memory.channels * standard.megatransfers * standard.width};
    for (std::uint64_t* n : {&t.nCL, &t.nCWL, &t.nRCDRD, &t.nRCDWR, &t.nRP, &t.nRAS, &t.nRTP, &t.nWR, &t.nWTRS,
                             &t.nWTRL, &t.nRRDS, &t.nRRDL, &t.nFAW, &t.nRFC, &t.nRFCpb, &t.nREFI}) {
        *n = convert(*n, scale);
    }
    return t;
}

Ratio dram_clock(const Config& config, const DramTiming& timing) {
    const MemoryConfig& memory = config.memory;
    return {memory.channels * timing.burst * memory.bytes_per_cycle.den, timing.nBL * memory.bytes_per_cycle.num};
}

}  // namespace acalsim
