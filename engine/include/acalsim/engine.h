// The cycle-level engine: commands in, completions out, never ticking an idle cycle.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "acalsim/config.h"
#include "acalsim/memory_port.h"

namespace acalsim {

/// What a cycle of a command's span went to; exactly one cause each, the first that applies.
enum class Cause : std::size_t {
    kArray,       // an array works, or is taken by another command
    kVector,      // the vector unit works, or is taken by another command
    kLaunch,      // fetch and decode
    kDram,        // operands or results are on their way from or to memory
    kScratchpad,  // no room for the next tile
    kDependency,  // an earlier pass of the same command has to end, because its results are read back
};
constexpr std::size_t kCauses = 6;
extern const char* const kCauseNames[kCauses];

/// A finished command. Times count from the canonical state at the doorbell.
struct Completion {
    std::uint32_t id = 0;
    Cycle start = 0;  // launched: its dependencies have completed and the command processor has taken it
    Cycle end = 0;
    Cycle array_cycles = 0;  // closed form of its matrix product on the array, without tiling; 0 if it has none
    Cycle array_busy = 0;    // summed over cores
    Cycle vector_busy = 0;
    Bytes bytes_read = 0;
    Bytes bytes_written = 0;
    std::uint64_t macs = 0;
    std::uint64_t vector_ops = 0;
    std::uint8_t mac_dtype = 0;           // ABI dtype of the products
    const char* dataflow = "";            // of the first core's share; empty without a matrix product
    Bytes scratchpad_bytes = 0;           // read or written by array, vector unit and DMA
    Bytes accumulator_bytes = 0;          // read or written
    std::uint64_t bursts = 0;             // of the DRAM; 0 for memory without rows
    std::uint64_t row_hits = 0;           // of them, those that found their row open
    Cycle bank_conflict_cycles = 0;       // part of array_busy and vector_busy: waiting for scratchpad banks
    std::array<Cycle, kCauses> causes{};  // sums to end - start
};

/// What can be in use by one command at a time.
enum class Unit : std::size_t { kLaunch, kArray, kVector, kDma };
constexpr std::size_t kUnits = 4;
extern const char* const kUnitNames[kUnits];

/// A command's use of a unit from `begin` up to, not including, `end`; `busy` of these cycles it was in use. They are
/// fewer where short gaps between uses were closed to bound what is kept.
struct Interval {
    std::uint32_t unit;  // a Unit
    std::uint32_t core;
    std::uint32_t index;  // which of a core's DMA channels
    std::uint32_t command;
    Cycle begin, end, busy;
    Bytes bytes;  // that the DMA moved
};

/// A contiguous piece of a DMA transfer, which was on its way from `begin` to `end`.
struct Access {
    Cycle begin, end;
    std::uint64_t address;
    Bytes bytes;
    std::uint32_t command;
    std::uint32_t write;
};

/// Totals since the engine was made.
struct Stats {
    std::uint64_t commands = 0;
    Cycle busy_cycles = 0;  // with at least one command in flight
    Bytes bytes_read = 0;
    Bytes bytes_written = 0;
    std::uint64_t macs = 0;
    std::uint64_t events = 0;
};

/// How far the commands in flight have come.
struct Progress {
    Cycle cycles = 0;     // since the canonical state
    double fraction = 1;  // of their work: steps that have ended, a command's weighted by its estimate
};

/// Schedules commands on cores that share one memory. Times given by the host are absolute and never decrease.
/// Engines share nothing that changes: each may be used in a thread of its own. One engine is used by one thread at a
/// time. A call that throws leaves it idle, with nothing in flight and nothing to be collected, unless said otherwise.
class Engine {
  public:
    /// With `memory` null the model named in the configuration serves.
    explicit Engine(const Config& config, std::unique_ptr<MemoryPort> memory = nullptr);
    ~Engine();

    /// Queues a command; an idle engine starts from the canonical state at `now`. Throws std::invalid_argument and then
    /// leaves what was in flight as it was.
    void submit(Cycle now, const void* command, std::size_t size);

    /// Nothing becomes visible before this cycle; kNever when idle.
    Cycle next_event() const;

    /// Runs everything up to and including `now`.
    void advance(Cycle now);

    /// Runs until idle; the cycle of the last completion.
    Cycle run();

    /// The mapping that a command gets on the first core, as text: "rows 64 cols 256 depth 128, rows outer, a panel, b
    /// none, ws" for GEMM and CONV2D; for others, per pass, the tile and the inputs that stay on chip: "8x512 keep 2".
    std::string mapping(const void* command, std::size_t size);

    /// Uses that mapping for all commands of this shape from now on, in place of the mapper's choice. Throws
    /// std::invalid_argument if the text is not a mapping of such a command.
    void pin_mapping(const void* command, std::size_t size, const std::string& mapping);

    /// Called every few microseconds to milliseconds while the engine plans or runs; it may look at progress(), and it
    /// may throw, which ends the call that it interrupts.
    void set_poll(std::function<void()> poll);

    /// Drops what is in flight and what was completed but not collected; the engine is idle.
    void abandon();

    Progress progress();

    /// Cycles that the command takes about, alone on the machine: what the mapper expects of the mapping that it gets.
    /// Step by step for the first steps of each kind, with memory's measured cost of runs; the rest is extrapolated.
    double estimate(const void* command, std::size_t size);

    /// Commands that completed since the last call, in order of completion.
    std::vector<Completion> completions();

    const Stats& stats() const;

    /// What the channels of the memory have moved since the canonical state.
    std::vector<ChannelStats> channels() const;

    /// Uses of the units since the canonical state, in order of their first end. Those of one command on one unit that
    /// touch are one; beyond kMostIntervals, so are those with short gaps between them, down to one for each command
    /// and unit.
    const std::vector<Interval>& intervals() const;
    static constexpr std::size_t kMostIntervals = std::size_t{1} << 16;

    /// Whether accesses are recorded from the next canonical state on: all of them, so it is not bounded.
    void record_accesses(bool on);

    /// What was recorded since the canonical state, in order of the transfers' ends.
    const std::vector<Access>& accesses() const;

  private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace acalsim
