#include "plan/rehearsal.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <vector>

namespace acalsim {

namespace {

/// Bytes that come back at a time, the earliest first.
struct Release {
    double at;
    Bytes scratch, accumulator;
    bool operator>(const Release& other) const { return at > other.at; }
};

class Rehearsal {
  public:
    Rehearsal(const Config& config, const RehearsalMemory& memory)
        : config_(config),
          memory_(memory),
          channels_(config.dma.channels, 0.0),
          scratch_free_(static_cast<double>(config.scratchpad.size)),
          accumulator_free_(static_cast<double>(config.scratchpad.accumulator)) {}

    double run(StepStream& stream) {
        Step step;
        while (stream.next(step)) play(step);
        while (!stores_.empty()) store();
        return end_;
    }

  private:
    struct Store {
        double ready, bytes;
        Bytes scratch, accumulator;
        bool operator>(const Store& other) const { return ready > other.ready; }
    };

    void play(const Step& step) {
        if (step.after_all) {
            while (!stores_.empty()) store();
            allocated_ = std::max(allocated_, end_);
        }
        allocate(step);
        double loaded = allocated_;
        for (const Box& box : step.loads) {
            // Stores that are ready when a channel comes free belong to older steps
            // and go first.
            while (!stores_.empty() && stores_.top().ready <= std::max(allocated_, free_channel())) store();
            loaded = std::max(loaded, transfer(allocated_, cost(box)));
        }
        double computed = loaded;
        if (step.array.busy > 0) {
            array_free_ = std::max(array_free_, loaded + static_cast<double>(step.array.preload)) +
                          static_cast<double>(step.array.busy);
            releases_.push({array_free_, step.scratch_release, 0});
            computed = array_free_ + static_cast<double>(step.array.drain);
        }
        if (step.vector.busy > 0) {
            vector_free_ = std::max(vector_free_, computed) + static_cast<double>(step.vector.busy);
            computed = vector_free_ + static_cast<double>(step.vector.drain);
        }
        if (step.array.busy == 0) releases_.push({computed, step.scratch_release, 0});
        end_ = std::max(end_, computed);
        for (std::size_t i = 0; i < step.stores.size(); ++i) {
            const bool last = i + 1 == step.stores.size();
            stores_.push(
                {computed, cost(step.stores[i]), last ? step.scratch_store : 0, last ? step.accumulator_store : 0});
        }
    }

    /// Moves `allocated_` on until the step has room.
    void allocate(const Step& step) {
        const auto scratch = static_cast<double>(step.scratch), accumulator = static_cast<double>(step.accumulator);
        const auto take = [this] {
            scratch_free_ += static_cast<double>(releases_.top().scratch);
            accumulator_free_ += static_cast<double>(releases_.top().accumulator);
            releases_.pop();
        };
        while (!releases_.empty() && releases_.top().at <= allocated_) take();
        while (scratch > scratch_free_ || accumulator > accumulator_free_) {
            if (releases_.empty() || (!stores_.empty() && stores_.top().ready <= releases_.top().at)) {
                if (stores_.empty())
                    break;  // the stream's footprint was checked: nothing is left to wait
                            // for
                store();
                continue;
            }
            allocated_ = std::max(allocated_, releases_.top().at);
            take();
        }
        scratch_free_ -= scratch;
        accumulator_free_ -= accumulator;
    }

    void store() {
        const Store next = stores_.top();
        stores_.pop();
        const double at = transfer(next.ready, next.bytes);
        releases_.push({at, next.scratch, next.accumulator});
        end_ = std::max(end_, at);
    }

    double free_channel() const { return *std::min_element(channels_.begin(), channels_.end()); }

    /// One DMA channel carries a transfer; all share the pipe. The time of its
    /// end.
    double transfer(double ready, double bytes) {
        double& channel = *std::min_element(channels_.begin(), channels_.end());
        pipe_free_ = std::max({pipe_free_, ready, channel}) + bytes / memory_.bytes_per_cycle;
        return channel = pipe_free_ + memory_.latency;
    }

    /// Bytes of whole bursts.
    double cost(const Box& box) const {
        return static_cast<double>(box.runs() * round_up(box.run(), config_.dma.burst));
    }

    const Config& config_;
    const RehearsalMemory memory_;
    std::vector<double> channels_;  // when each DMA channel is free again
    std::priority_queue<Release, std::vector<Release>, std::greater<>> releases_;
    std::priority_queue<Store, std::vector<Store>, std::greater<>> stores_;
    double scratch_free_, accumulator_free_;
    double allocated_ = 0, array_free_ = 0, vector_free_ = 0, pipe_free_ = 0, end_ = 0;
};

}  // namespace

double rehearse(const Config& config, const RehearsalMemory& memory, StepStream& stream) {
    return Rehearsal(config, memory).run(stream);
}

}  // namespace acalsim
