// The DRAM standards: organisation and timing of one channel, in its own clock. One file each; standard.cpp lists them.
#pragma once

#include <string>

#include "acalsim/config.h"

namespace acalsim {

/// One channel; n* count clocks of its command clock. Defaults are those of DDR4-2400.
struct DramTiming {
    Bytes burst = 64;                     // bytes of one burst
    Bytes row = 8192;                     // bytes of one row of one bank
    std::uint64_t groups = 4, banks = 4;  // bank groups, banks in each
    std::uint64_t nBL = 4, nCCDS = 4, nCCDL = 6;
    std::uint64_t nCL = 16, nCWL = 12, nRCDRD = 16, nRCDWR = 16, nRP = 16, nRAS = 39;
    std::uint64_t nRTP = 9, nWR = 18, nWTRS = 3, nWTRL = 9, nRRDS = 4, nRRDL = 6, nFAW = 26;
    std::uint64_t nRFC = 420, nRFCpb = 0, nREFI = 9360;  // nRFCpb 0: there is no per-bank refresh

    /// CAS to CAS of a stream that rotates over the bank groups.
    std::uint64_t spacing() const { return nCCDS > nBL ? nCCDS : nBL; }
};

/// A standard at its nominal clock. Organisation and primary timings agree with Ramulator 2.1's presets of the same
/// name.
struct DramStandard {
    const char* name;
    std::uint64_t megatransfers;  // per second
    Bytes width;                  // bytes a channel moves in one transfer
    DramTiming timing;
};

extern const DramStandard kDdr4_2400, kLpddr5_6400, kHbm2;

/// Null when there is no such standard.
const DramStandard* find_dram_standard(const std::string& name);

/// Timing at the clock that gives `config.memory` its bandwidth: what the standard bounds in nanoseconds stays as long,
/// what it counts in clocks (burst length, CAS to CAS) stays as many.
DramTiming dram_timing(const Config& config, const DramStandard& standard);

/// Device cycles per clock of a channel.
Ratio dram_clock(const Config& config, const DramTiming& timing);

}  // namespace acalsim
