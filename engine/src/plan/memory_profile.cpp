#include "plan/memory_profile.h"

#include <algorithm>
#include <vector>

#include "acalsim/memory_port.h"

namespace acalsim {

namespace {

constexpr std::uint64_t kMeasuredRuns = 24;  // of one transfer, fewer if they are long
constexpr Bytes kProbe = Bytes{16} << 10;    // bytes of one transfer, about

/// Serves transfers in order, as many in flight as the cores may have; the cycles at which each ended.
std::vector<Cycle> serve(MemoryPort& memory, const Config& config, std::vector<Transfer> transfers) {
    memory.reset();
    std::vector<Cycle> at(transfers.size());
    std::vector<TransferEnd> ended;
    std::vector<std::size_t> slots(config.cores * config.dma.channels);
    std::vector<std::uint32_t> free;
    for (std::uint32_t slot = 0; slot < slots.size(); ++slot) free.push_back(slot);
    Cycle now = 0;
    for (std::size_t issued = 0, done = 0; done < transfers.size(); done += ended.size()) {
        for (; issued < transfers.size() && !free.empty(); ++issued) {
            transfers[issued].id = free.back();
            slots[free.back()] = issued;
            free.pop_back();
            memory.issue(now, transfers[issued]);
        }
        ended.clear();
        now = memory.advance(kNever - 1, ended);
        for (const TransferEnd& end : ended) {
            at[slots[end.id]] = now;
            free.push_back(end.id);
        }
    }
    return at;
}

}  // namespace

MemoryProfile::MemoryProfile(const Config& given) : config_(given) {
    config_.dma.channels = std::max<std::uint64_t>(2, given.dma.channels);
    const Config& config = config_;
    const Ratio link = config.interconnect.bytes_per_cycle;
    if (link.num > 0) link_cycles_per_byte_ = static_cast<double>(link.den) / static_cast<double>(link.num);
    if (config.memory.preset == "ideal") return;
    memory_ = make_memory(config);
    const auto sharers = static_cast<double>(config.cores);
    const Bytes stripe = config.memory.channels * config.memory.interleave;
    const Bytes probe = round_up(kProbe, stripe);

    // Long runs, through many refreshes.
    const auto read = [](std::uint64_t address, Bytes bytes) { return Transfer{0, 0, false, Box(address, bytes)}; };
    const Bytes lot = 64 * probe;
    const std::vector<Cycle> lots = serve(*memory_, config, {read(0, lot), read(lot, lot)});
    cycles_per_byte_ = sharers * static_cast<double>(lots[1] - lots[0]) / static_cast<double>(lot);
    const auto one = static_cast<double>(serve(*memory_, config, {read(0, config.dma.burst)}).front());
    latency_ = std::max(0.0, one - cycles_per_byte_ / sharers * static_cast<double>(config.dma.burst)) +
               static_cast<double>(config.interconnect.latency);
    std::vector<Transfer> reads, alternating;
    for (std::uint64_t i = 0; i < 8; ++i) {
        reads.push_back(read(i * probe, probe));
        alternating.push_back(read(i * probe, probe));
        alternating.back().write = i % 2 == 1;
    }
    const auto same = static_cast<double>(serve(*memory_, config, reads).back());
    turn_ = std::max(0.0, (static_cast<double>(serve(*memory_, config, alternating).back()) - same) / 7);
}

/// What `runs` more runs add to as many, with all cores at it, each in another place; not less than long runs would.
double MemoryProfile::more_runs(Bytes run, std::uint64_t runs, Bytes pitch) {
    const std::uint64_t counts[] = {run, runs};
    const std::int64_t strides[] = {1, static_cast<std::int64_t>(pitch)};
    std::vector<Transfer> transfers;
    for (std::uint64_t part = 0; part < 2; ++part) {
        for (std::uint32_t core = 0; core < config_.cores; ++core) {
            const std::uint64_t at = (part + std::uint64_t{2} * core) * runs * pitch;
            transfers.push_back({0, core, false, Box::of(at, 1, 2, counts, strides)});
        }
    }
    const std::vector<Cycle> ends = serve(*memory_, config_, transfers);
    const auto middle = ends.begin() + static_cast<std::ptrdiff_t>(config_.cores);
    const Cycle first = *std::max_element(ends.begin(), middle), second = *std::max_element(middle, ends.end());
    return std::max(static_cast<double>(second) - static_cast<double>(first),
                    cycles_per_byte_ * static_cast<double>(run * runs));
}

double MemoryProfile::measured(Line& line, std::size_t length, Bytes pitch) {
    double& cycles = line[length - kShortest];
    if (cycles == 0) {
        const Bytes run = Bytes{1} << length;
        const std::uint64_t most = std::max<std::uint64_t>(8, kMeasuredRuns / config_.cores);
        const std::uint64_t runs = std::clamp<std::uint64_t>(kProbe / config_.cores / run, 2, most);
        cycles = more_runs(run, runs, std::max(pitch, run + 64)) / static_cast<double>(runs);
    }
    return cycles;
}

/// Between two measured lengths it is interpolated.
double MemoryProfile::run_cycles(Bytes run, Bytes pitch) {
    Line& line = lines_[pitch];
    if (run <= Bytes{1} << kShortest) return measured(line, kShortest, pitch);
    if (run >= Bytes{1} << kLongest) {
        return measured(line, kLongest, pitch) + cycles_per_byte_ * static_cast<double>(run - (Bytes{1} << kLongest));
    }
    std::size_t low = kShortest;
    while (Bytes{2} << low <= run) ++low;
    const double part = static_cast<double>(run) / static_cast<double>(Bytes{1} << low) - 1;
    if (part == 0) return measured(line, low, pitch);
    return (1 - part) * measured(line, low, pitch) + part * measured(line, low + 1, pitch);
}

double MemoryProfile::cycles(const Box& box) {
    const double link = link_cycles_per_byte_ * static_cast<double>(box.bytes());
    if (!memory_ || box.bytes() == 0) return link;
    // A run that begins anywhere in a burst touches parts of two more often than one that begins where bursts do.
    const Bytes pitch = box.rank() > 0 ? box.dim(0).stride : 0, burst = config_.dma.burst;
    const Bytes places = box.address() | box.run() | pitch | burst;
    const Bytes alignment = places & (~places + 1);
    return std::max(link, static_cast<double>(box.runs()) * run_cycles(box.run() + burst - alignment, pitch));
}

}  // namespace acalsim
