// Plans on cores that share one memory, played from event to event.
#pragma once

#include <functional>
#include <memory>
#include <queue>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "acalsim/config.h"
#include "acalsim/engine.h"
#include "acalsim/interconnect.h"
#include "acalsim/memory_port.h"
#include "acalsim/plan.h"
#include "core.h"
#include "uses.h"

namespace acalsim {

/// An Engine without its mapper: what it says of times, epochs and exceptions holds here.
class Simulation final : private CoreHost {
  public:
    /// With `memory` null the model named in the configuration serves. `poll` is called now and then, if it is there
    /// then; both references have to outlive this.
    Simulation(const Config& config, const std::function<void()>& poll, std::unique_ptr<MemoryPort> memory = nullptr);

    /// Queues a command, of which nothing but its plan matters; ids that are not in flight have completed.
    void submit(Cycle now, std::uint32_t id, const std::vector<std::uint32_t>& dependencies, Plan plan);
    Cycle next_event() const;
    void advance(Cycle now);
    Cycle run();
    void abandon();
    Progress progress();

    std::vector<Completion> completions() { return std::exchange(completed_, {}); }
    const Stats& stats() const { return stats_; }
    std::vector<ChannelStats> channels() const { return memory_->channels(); }
    const std::vector<Interval>& intervals() const { return uses_.all(); }

  private:
    struct Node {
        CommandState command;
        Plan plan;
        std::uint64_t steps = 0;  // of all parts
        double estimate = 0;      // 0: not yet asked for
        std::size_t waits_for = 0;
        std::vector<std::size_t> dependents;
        bool completed = false;
    };
    struct LaunchBegin {
        std::size_t command;
    };
    struct LaunchEnd {
        std::size_t command;
    };
    struct LinkCrossed {  // by the last byte of a transfer that memory has served
        std::uint32_t transfer;
    };
    struct CoreEvent {
        std::size_t core;
        UnitEvent event;
        std::uint32_t part;
        std::uint64_t step;
    };
    using Event = std::variant<LaunchBegin, LaunchEnd, LinkCrossed, CoreEvent>;
    struct Scheduled {
        Cycle at;
        std::uint64_t order;
        Event event;
        bool operator<(const Scheduled& o) const { return at != o.at ? at > o.at : order > o.order; }
    };
    struct Flying {
        std::size_t core;
        std::uint32_t channel, part;
        std::uint64_t step;
        bool write;
        Cycle link_free;
        TransferEnd end;
    };

    void schedule(Cycle at, std::size_t core, UnitEvent event, std::uint32_t part, std::uint64_t step) override;
    void transfer(std::size_t core, std::uint32_t channel, std::uint32_t part, std::uint64_t step, bool write,
                  const Box& box) override;
    void occupied(Unit unit, std::size_t core, std::uint32_t index, const CommandState& command, Cycle begin, Cycle end,
                  Bytes bytes) override;
    void part_done(CommandState& command) override;

    void start_epoch(Cycle now);
    void advance_to(Cycle limit);
    void schedule(Cycle at, const Event& event) { events_.push({at, event_order_++, event}); }
    void handle_event();
    void handle(const LaunchBegin& begin);
    void handle(const LaunchEnd& end);
    void handle(const LinkCrossed& crossed) { end_transfer(crossed.transfer); }
    void handle(const CoreEvent& e) { cores_[e.core]->on_event(time_, e.event, e.part, e.step); }
    void queue_launch(std::size_t index, Cycle now);
    void leave_memory(const TransferEnd& transfer);
    void end_transfer(std::uint32_t id);
    void complete(std::size_t index);

    const Config& config_;
    const std::function<void()>& poll_;
    std::unique_ptr<MemoryPort> memory_;
    Interconnect link_;
    std::vector<std::unique_ptr<Core>> cores_;
    std::vector<std::unique_ptr<Node>> nodes_;
    std::unordered_map<std::uint32_t, std::size_t> by_id_;
    std::priority_queue<Scheduled> events_;
    std::vector<Flying> flying_;
    std::vector<TransferEnd> ended_;
    Uses uses_;
    std::vector<Completion> completed_;
    Stats stats_;
    Cycle epoch_ = 0, time_ = 0, launcher_free_ = 0;
    std::uint64_t event_order_ = 0, rounds_ = 0;
    std::size_t in_flight_ = 0;
};

}  // namespace acalsim
