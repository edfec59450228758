// Main memory made of DRAM channels.
#include <algorithm>
#include <stdexcept>

#include "memory/dram/channel.h"
#include "memory/models.h"

namespace acalsim {

namespace {

class DramMemory final : public MemoryPort {
  public:
    DramMemory(const Config& config, const DramTiming& timing)
        : clock_(dram_clock(config, timing)),
          map_(config.memory.channels, config.memory.interleave, timing.burst),
          latency_(config.memory.latency),
          burst_(timing.burst),
          pieces_(config.memory.channels),
          flying_(config.cores * config.dma.channels) {
        const std::uint64_t latency = convert(latency_, {clock_.den, clock_.num});
        // The window is counted in DMA bursts; the DRAM's may be smaller.
        const std::uint64_t window =
            std::max<std::uint64_t>(1, config.dma.outstanding * config.dma.burst / timing.burst);
        for (std::uint64_t c = 0; c < config.memory.channels; ++c) {
            channels_.emplace_back(timing, config.memory, config.cores, window, latency);
        }
        next_.assign(channels_.size(), kNever);
    }

    void reset() override {
        for (DramChannel& channel : channels_) channel.reset();
        next_.assign(channels_.size(), kNever);
        for (Flying& flying : flying_) flying = {};
        ended_.clear();
        age_ = 0;
    }

    void issue(Cycle now, const Transfer& transfer) override {
        for (auto& pieces : pieces_) pieces.clear();
        map_.split(transfer.box, pieces_);
        const std::uint64_t clock = convert(now, {clock_.den, clock_.num});
        Flying& flying = flying_[transfer.id];
        flying = {};
        for (std::size_t c = 0; c < channels_.size(); ++c) {
            if (pieces_[c].empty()) continue;
            ++flying.channels;
            channels_[c].start(clock, transfer.source, transfer.id, age_, transfer.write, pieces_[c]);
            next_[c] = channels_[c].next();
        }
        ++age_;
        if (flying.channels == 0) ended_.push_back({now, {transfer.id, 0, 0}});
    }

    Cycle next_event() const override {
        Cycle first = ended_.empty() ? kNever : first_ended();
        const std::uint64_t clock = *std::min_element(next_.begin(), next_.end());
        return clock == kNever ? first : std::min(first, convert(clock, clock_));
    }

    Cycle advance(Cycle limit, std::vector<TransferEnd>& ended) override {
        while (true) {
            const auto earliest = std::min_element(next_.begin(), next_.end());
            const std::uint64_t clock = *earliest;
            // A decision after a transfer's end has to wait: that end may bring a new transfer.
            if (clock == kNever || convert(clock, clock_) > std::min(limit, first_ended())) break;
            DramChannel& channel = channels_[static_cast<std::size_t>(earliest - next_.begin())];
            const DramChannel::Ended end = channel.step();
            *earliest = channel.next();
            if (!end.ended) continue;
            Flying& flying = flying_[end.id];
            flying.last_data = std::max(flying.last_data, end.at);
            flying.bursts += end.bursts;
            flying.row_hits += end.bursts - end.activations;
            if (--flying.channels > 0) continue;
            ended_.push_back({convert(flying.last_data, clock_) + latency_, {end.id, flying.bursts, flying.row_hits}});
        }
        const Cycle first = first_ended();
        if (first > limit) return limit;
        for (std::size_t i = 0; i < ended_.size();) {
            if (ended_[i].at == first) {
                ended.push_back(ended_[i].transfer);
                ended_.erase(ended_.begin() + static_cast<std::ptrdiff_t>(i));
            } else {
                ++i;
            }
        }
        return first;
    }

    std::vector<ChannelStats> channels() const override {
        std::vector<ChannelStats> all;
        for (const DramChannel& channel : channels_) {
            const DramStats& s = channel.stats();
            all.push_back(
                {s.reads * burst_, s.writes * burst_, s.reads + s.writes, s.reads + s.writes - s.activations});
        }
        return all;
    }

  private:
    struct Flying {
        std::size_t channels = 0;  // that still work on it
        std::uint64_t last_data = 0;
        std::uint64_t bursts = 0, row_hits = 0;
    };
    struct End {
        Cycle at;
        TransferEnd transfer;
    };

    Cycle first_ended() const {
        Cycle first = kNever;
        for (const End& end : ended_) first = std::min(first, end.at);
        return first;
    }

    Ratio clock_;
    AddressMap map_;
    Cycle latency_;
    Bytes burst_;
    std::vector<DramChannel> channels_;
    std::vector<std::uint64_t> next_;  // per channel: clock of its next decision
    std::vector<std::vector<Piece>> pieces_;
    std::vector<Flying> flying_;
    std::vector<End> ended_;
    std::uint64_t age_ = 0;
};

}  // namespace

std::unique_ptr<MemoryPort> make_dram_memory(const Config& config, const DramStandard& standard) {
    const DramTiming timing = dram_timing(config, standard);
    if (config.memory.refresh == "per_bank" && timing.nRFCpb == 0) {
        throw std::invalid_argument(std::string(standard.name) + " has no per-bank refresh; use all_bank or none");
    }
    if (config.memory.channels == 0 || config.memory.interleave % timing.burst != 0) {
        throw std::invalid_argument("memory: interleave of " + std::to_string(config.memory.interleave) +
                                    " bytes is not a multiple of the burst of " + std::to_string(timing.burst));
    }
    return std::make_unique<DramMemory>(config, timing);
}

}  // namespace acalsim
