// What the hardware file says, in the units of the engine. device/timing.py fills it.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "acal_abi.h"
#include "acalsim/types.h"

namespace acalsim {

enum class Dataflow : std::size_t { kWeightStationary, kOutputStationary, kInputStationary };
constexpr const char* kDataflowNames[] = {"ws", "os", "is"};

struct ArrayConfig {
    std::uint64_t count = 1;  // arrays that share one tile
    std::uint64_t rows = 16;
    std::uint64_t cols = 16;
    std::vector<Dataflow> dataflows{Dataflow::kWeightStationary};  // that the arrays can run; one is chosen per command
    bool double_buffered = true;  // stationary operand loaded, results drained behind compute
};

/// Classes of vector operations that take equally long.
enum class VectorClass : std::size_t {
    kArithmetic = ACAL_VECTORCLASS_ARITHMETIC,
    kDivide = ACAL_VECTORCLASS_DIVIDE,
    kRoot = ACAL_VECTORCLASS_ROOT,
    kExponential = ACAL_VECTORCLASS_EXPONENTIAL,
    kTranscendental = ACAL_VECTORCLASS_TRANSCENDENTAL,
};
constexpr std::size_t kVectorClasses = ACAL_VECTORCLASS_TRANSCENDENTAL + 1;

struct VectorConfig {
    struct Timing {
        Cycle interval = 1;  // between groups of lanes
        Cycle latency = 4;   // from operands to result
    };
    std::uint64_t lanes = 16;
    std::array<Timing, kVectorClasses> ops{};
    bool fused_rows = true;  // SOFTMAX and NORM keep rows on chip
};

struct ScratchpadConfig {
    Bytes size = 256 << 10;
    Bytes accumulator = 64 << 10;
    std::uint64_t banks = 4;
    Bytes bank_bytes = 64;  // what a bank gives or takes in a cycle
};

struct DmaConfig {
    std::uint64_t channels = 2;      // transfers in flight at the same time
    std::uint64_t outstanding = 16;  // bursts in flight per core and memory channel
    Bytes burst = 64;                // smallest transfer
};

struct MemoryConfig {
    std::string preset = "simple";
    Cycle latency = 60;       // simple: request to first data; DRAM: controller and wires beside the DRAM's own
    Ratio bytes_per_cycle{};  // peak of all channels together
    std::uint64_t channels = 1;
    Bytes interleave = 256;            // neighbouring bytes on one channel
    std::string refresh = "all_bank";  // or per_bank, none
    bool closed_page = false;
    bool fast_path = true;  // schedule runs of row hits at once; false: burst by burst, with the same result
};

struct InterconnectConfig {
    Ratio bytes_per_cycle{0, 1};  // of each core's link; 0: never the limit
    Cycle latency = 0;            // added to every transfer
};

constexpr std::uint64_t kStepsAhead = 4;

struct Config {
    std::uint64_t frequency_mhz = 1000;
    std::uint64_t cores = 1;
    Cycle launch = 100;  // fetch and decode of one command
    ArrayConfig array;
    VectorConfig vector;
    ScratchpadConfig scratchpad;
    DmaConfig dma;
    MemoryConfig memory;
    InterconnectConfig interconnect;

    /// The DMA takes so many steps' and bytes of loads ahead of an earlier step's stores: several times what may be in
    /// flight at the memory, so that the units are supplied while the stores are computed, but not all, which would
    /// leave the stores to the end.
    Bytes loads_ahead() const { return 4 * dma.outstanding * dma.burst * memory.channels; }
};

}  // namespace acalsim
