#include "memory/dram_standard.h"

#include <stdexcept>

namespace acalsim {

namespace {

// Values at the nominal clock. Organisation and primary timings agree with Ramulator 2.1's presets of the same name.
const DramStandard kStandards[] = {
    // JESD79-4: 8 Gb x8 devices, speed bin 2400R; 64-bit channel; tRFC1 350 ns, tREFI 7.8 us, tFAW for 1 KiB pages.
    {"DDR4-2400",
     2400,
     8,
     {/*burst*/ 64, /*row*/ 8192,  /*groups*/ 4,  /*banks*/ 4, /*nBL*/ 4,    /*nCCDS*/ 4,  /*nCCDL*/ 6,
      /*nCL*/ 16,
      /*nCWL*/ 12,  /*nRCDRD*/ 16, /*nRCDWR*/ 16, /*nRP*/ 16,  /*nRAS*/ 39,  /*nRTP*/ 9,   /*nWR*/ 18,
      /*nWTRS*/ 3,
      /*nWTRL*/ 9,  /*nRRDS*/ 4,   /*nRRDL*/ 6,   /*nFAW*/ 26, /*nRFC*/ 420, /*nRFCpb*/ 0, /*nREFI*/ 9360},
     false},
    // JESD209-5B: 16 Gb x16 device, bank-group mode, CK 800 MHz with WCK at 4:1; tRFCab 280 ns, tRFCpb 140 ns,
    // tREFI 3906 ns. Write to read in one group counts BL/n_max (4) beside tWTR_L (10).
    {"LPDDR5-6400",
     6400,
     2,
     {/*burst*/ 32, /*row*/ 2048,  /*groups*/ 4,  /*banks*/ 4, /*nBL*/ 2,    /*nCCDS*/ 2,    /*nCCDL*/ 4,
      /*nCL*/ 17,
      /*nCWL*/ 9,   /*nRCDRD*/ 15, /*nRCDWR*/ 15, /*nRP*/ 15,  /*nRAS*/ 34,  /*nRTP*/ 8,     /*nWR*/ 28,
      /*nWTRS*/ 5,
      /*nWTRL*/ 12, /*nRRDS*/ 4,   /*nRRDL*/ 4,   /*nFAW*/ 16, /*nRFC*/ 224, /*nRFCpb*/ 112, /*nREFI*/ 3125},
     true},
    // JESD235D: 8 Gb per channel, pseudo-channel mode (64 bits, BL4) at 2 Gb/s; tRFC 350 ns, tRFCSB 160 ns,
    // tREFI 3.9 us. tFAW is the vendors' 15 ns.
    {"HBM2",
     2000,
     8,
     {/*burst*/ 32, /*row*/ 1024,  /*groups*/ 4,  /*banks*/ 4, /*nBL*/ 2,    /*nCCDS*/ 2,    /*nCCDL*/ 4,
      /*nCL*/ 14,
      /*nCWL*/ 5,   /*nRCDRD*/ 14, /*nRCDWR*/ 12, /*nRP*/ 14,  /*nRAS*/ 34,  /*nRTP*/ 5,     /*nWR*/ 16,
      /*nWTRS*/ 6,
      /*nWTRL*/ 8,  /*nRRDS*/ 4,   /*nRRDL*/ 4,   /*nFAW*/ 15, /*nRFC*/ 350, /*nRFCpb*/ 160, /*nREFI*/ 3900},
     true},
};

}  // namespace

const DramStandard* find_dram_standard(const std::string& name) {
    for (const DramStandard& standard : kStandards) {
        if (name == standard.name) return &standard;
    }
    return nullptr;
}

DramTiming dram_timing(const Config& config, const DramStandard& standard) {
    const MemoryConfig& memory = config.memory;
    if (memory.refresh == "per_bank" && !standard.has_per_bank_refresh) {
        throw std::invalid_argument(std::string(standard.name) + " has no per-bank refresh; use all_bank or none");
    }
    DramTiming t = standard.timing;
    // Actual over nominal clock: bytes per second of all channels.
    const Ratio scale{memory.bytes_per_cycle.num * config.frequency_mhz,
                      memory.bytes_per_cycle.den * memory.channels * standard.megatransfers * standard.width};
    for (std::uint64_t* n : {&t.nCL, &t.nCWL, &t.nRCDRD, &t.nRCDWR, &t.nRP, &t.nRAS, &t.nRTP, &t.nWR, &t.nWTRS,
                             &t.nWTRL, &t.nRRDS, &t.nRRDL, &t.nFAW, &t.nRFC, &t.nRFCpb, &t.nREFI}) {
        *n = convert(*n, scale);
    }
    t.refresh = memory.refresh == "none"       ? Refresh::kNone
                : memory.refresh == "per_bank" ? Refresh::kPerBank
                                               : Refresh::kAllBank;
    t.closed_page = memory.closed_page;
    return t;
}

Ratio dram_clock(const Config& config, const DramTiming& timing) {
    const MemoryConfig& memory = config.memory;
    return {memory.channels * timing.burst * memory.bytes_per_cycle.den, timing.nBL * memory.bytes_per_cycle.num};
}

}  // namespace acalsim
