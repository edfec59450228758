#include "acalsim/engine.h"

#include <algorithm>
#include <queue>
#include <stdexcept>
#include <unordered_map>
#include <utility>
#include <variant>

#include "acalsim/command.h"
#include "acalsim/interconnect.h"
#include "acalsim/plan.h"
#include "core.h"
#include "plan/mapper.h"
#include "plan/plans.h"
#include "uses.h"

namespace acalsim {

const char* const kCauseNames[kCauses] = {"array", "vector", "launch", "dram", "scratchpad", "dependency"};
const char* const kUnitNames[kUnits] = {"launch", "array", "vector", "dma"};

class Engine::Impl final : public CoreHost {
  public:
    Impl(const Config& config, std::unique_ptr<MemoryPort> memory)
        : config_(config),
          memory_(memory ? std::move(memory) : make_memory(config)),
          link_(config_),
          mapper_(config_, poll_) {
        for (std::size_t i = 0; i < config_.cores; ++i) cores_.push_back(std::make_unique<Core>(config_, i, *this));
    }

    void submit(Cycle now, const void* bytes, std::size_t size) {
        const Command command(bytes, size);
        Plan plan = make_plan(config_, mapper_, command);
        if (in_flight_ == 0) start_epoch(now);
        auto state = std::make_unique<Node>();
        state->command.sequence = nodes_.size();
        state->command.record.id = command.header().id;
        state->command.record.mac_dtype = plan.mac_dtype;
        state->command.record.array_cycles = plan.array_cycles;
        state->command.record.dataflow = plan.dataflow;
        for (const auto& stream : plan.parts) state->steps += stream ? stream->steps() : 0;
        state->plan = std::move(plan);
        const std::size_t index = nodes_.size();
        for (std::uint32_t id : command.dependencies()) {
            // An id that is not in flight belongs to an earlier segment, which has completed.
            const auto known = by_id_.find(id);
            if (known == by_id_.end() || nodes_[known->second]->completed) continue;
            nodes_[known->second]->dependents.push_back(index);
            ++state->waits_for;
        }
        by_id_[command.header().id] = index;
        nodes_.push_back(std::move(state));
        ++in_flight_;
        if (nodes_[index]->waits_for == 0) queue_launch(index, now - epoch_);
    }

    Cycle next_event() const {
        if (in_flight_ == 0) return kNever;
        const Cycle own = events_.empty() ? kNever : events_.top().at;
        const Cycle next = std::min(own, memory_->next_event());
        return next == kNever ? kNever : epoch_ + std::max(next, time_);
    }

    void advance(Cycle now) {
        try {
            advance_to(now - epoch_);
        } catch (...) {
            abandon();
            throw;
        }
    }

    void abandon() {
        in_flight_ = 0;
        completed_.clear();
        start_epoch(epoch_);
    }

    Progress progress() {
        double done = 0, all = 0;
        for (auto& node : nodes_) {
            if (node->estimate == 0 && node->plan.estimate) node->estimate = std::max(1.0, node->plan.estimate());
            all += node->estimate;
            if (node->completed) {
                done += node->estimate;
            } else if (node->steps > 0) {
                done +=
                    node->estimate * static_cast<double>(node->command.steps_done) / static_cast<double>(node->steps);
            }
        }
        return {time_, in_flight_ > 0 && all > 0 ? done / all : 1.0};
    }

    double estimate(const void* bytes, std::size_t size) {
        const Plan plan = make_plan(config_, mapper_, Command(bytes, size));
        return static_cast<double>(config_.launch) + (plan.estimate ? plan.estimate() : 0.0);
    }

    void set_poll(std::function<void()> poll) { poll_ = std::move(poll); }

    std::string mapping(const void* bytes, std::size_t size) {
        return make_plan(config_, mapper_, Command(bytes, size)).mapping;
    }

    Cycle run() {
        advance(kNever);
        return epoch_ + time_;
    }

    void pin_mapping(const void* bytes, std::size_t size, const std::string& mapping) {
        const Command command(bytes, size);
        CommandWork work = make_work(config_, command);
        if (work.contraction) {
            mapper_.pin(*work.contraction, parse_mapping(mapping));
            return;
        }
        std::vector<Sweep>& passes = work.passes;
        for (Sweep& sweep : passes) sweep.collapse();
        mapper_.pin(passes, parse_tilings(mapping, passes));
    }

    std::vector<Completion> completions() { return std::exchange(completed_, {}); }
    const Stats& stats() const { return stats_; }
    std::vector<ChannelStats> channels() const { return memory_->channels(); }
    const std::vector<Interval>& intervals() const { return uses_.all(); }

    void schedule(Cycle at, std::size_t core, UnitEvent event, std::uint32_t part, std::uint64_t step) override {
        schedule(at, CoreEvent{core, event, part, step});
    }

    void transfer(std::size_t core, std::uint32_t channel, std::uint32_t part, std::uint64_t step, bool write,
                  const Box& box) override {
        const auto id = static_cast<std::uint32_t>(core * config_.dma.channels + channel);
        flying_.resize(std::max<std::size_t>(flying_.size(), id + 1));
        flying_[id] = {core, channel, part, step, write, link_.cross(core, time_, box.bytes()), {}};
        memory_->issue(time_, {id, static_cast<std::uint32_t>(core), write, box});
    }

    void occupied(Unit unit, std::size_t core, std::uint32_t index, const CommandState& command, Cycle begin, Cycle end,
                  Bytes bytes) override {
        uses_.add({static_cast<std::uint32_t>(unit), static_cast<std::uint32_t>(core), index, command.record.id, begin,
                   end, end - begin, bytes});
    }

    void part_done(CommandState& command) override {
        if (--command.parts_left == 0) complete(command.sequence);
    }

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
    struct LinkCrossed {  // the last byte of a transfer that memory has served
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
    static constexpr std::uint64_t kRoundsPerPoll = 16;

    void advance_to(Cycle limit) {
        while (in_flight_ > 0) {
            if (poll_ && ++rounds_ % kRoundsPerPoll == 0) poll_();
            for (auto& core : cores_) core->dispatch(time_);
            if (in_flight_ == 0) break;
            const Cycle own = events_.empty() ? kNever : events_.top().at;
            const Cycle horizon = std::min(own, limit);
            Cycle reached = horizon;
            ended_.clear();
            if (memory_->next_event() <= horizon) reached = memory_->advance(horizon, ended_);
            if (reached == kNever) throw std::logic_error("engine: commands in flight, but no event is due");
            time_ = std::max(time_, reached);
            if (ended_.empty() && own > time_) break;  // limit reached
            for (const TransferEnd& end : ended_) leave_memory(end);
            while (!events_.empty() && events_.top().at <= time_) handle_event();
        }
    }

    void start_epoch(Cycle now) {
        epoch_ = now;
        time_ = 0;
        launcher_free_ = 0;
        event_order_ = 0;
        events_ = {};
        nodes_.clear();
        by_id_.clear();
        uses_.clear();
        memory_->reset();
        link_.reset();
        for (auto& core : cores_) core->reset();
    }

    /// The command processor takes one command after the other, in the order in which they become ready.
    void queue_launch(std::size_t index, Cycle now) {
        const Cycle begin = std::max(launcher_free_, now);
        launcher_free_ = begin + config_.launch;
        schedule(begin, LaunchBegin{index});
        schedule(launcher_free_, LaunchEnd{index});
    }

    void schedule(Cycle at, const Event& event) { events_.push({at, event_order_++, event}); }

    void handle_event() {
        const Event event = events_.top().event;
        events_.pop();
        ++stats_.events;
        std::visit([this](const auto& e) { handle(e); }, event);
    }

    void handle(const LaunchBegin& begin) {
        CommandState& command = nodes_[begin.command]->command;
        command.record.start = command.record.end = time_;
        command.begin(time_, CommandState::Activity::kLaunch);
        occupied(Unit::kLaunch, 0, 0, command, time_, time_ + config_.launch, 0);
    }

    void handle(const LinkCrossed& crossed) { end_transfer(crossed.transfer); }

    void handle(const CoreEvent& e) { cores_[e.core]->on_event(time_, e.event, e.part, e.step); }

    void handle(const LaunchEnd& end) {
        Node& node = *nodes_[end.command];
        node.command.end(time_, CommandState::Activity::kLaunch);
        for (auto& stream : node.plan.parts) node.command.parts_left += stream != nullptr;
        if (node.command.parts_left == 0) {
            complete(end.command);
            return;
        }
        for (std::size_t core = 0; core < node.plan.parts.size(); ++core) {
            if (node.plan.parts[core]) cores_[core]->add(node.command, std::move(node.plan.parts[core]));
        }
    }

    /// Memory has served a transfer; it ends once its last byte has crossed the core's link as well.
    void leave_memory(const TransferEnd& transfer) {
        flying_[transfer.id].end = transfer;
        const Cycle end = std::max(time_, flying_[transfer.id].link_free) + config_.interconnect.latency;
        if (end == time_) {
            end_transfer(transfer.id);
        } else {
            schedule(end, LinkCrossed{transfer.id});
        }
    }

    void end_transfer(std::uint32_t id) {
        ++stats_.events;
        const Flying flying = flying_[id];
        cores_[flying.core]->on_transfer(time_, flying.channel, flying.part, flying.step, flying.write, flying.end);
    }

    void complete(std::size_t index) {
        Node& node = *nodes_[index];
        node.completed = true;
        node.command.settle(time_);
        const Completion& record = node.command.record;
        completed_.push_back(record);
        ++stats_.commands;
        stats_.bytes_read += record.bytes_read;
        stats_.bytes_written += record.bytes_written;
        stats_.macs += record.macs;
        if (--in_flight_ == 0) stats_.busy_cycles += time_;
        for (std::size_t dependent : node.dependents) {
            if (--nodes_[dependent]->waits_for == 0) queue_launch(dependent, time_);
        }
    }

    Config config_;
    std::unique_ptr<MemoryPort> memory_;
    Interconnect link_;
    std::function<void()> poll_;
    Mapper mapper_;
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

Engine::Engine(const Config& config, std::unique_ptr<MemoryPort> memory)
    : impl_(std::make_unique<Impl>(config, std::move(memory))) {}
Engine::~Engine() = default;
void Engine::submit(Cycle now, const void* command, std::size_t size) { impl_->submit(now, command, size); }
Cycle Engine::run() { return impl_->run(); }
std::string Engine::mapping(const void* command, std::size_t size) { return impl_->mapping(command, size); }
void Engine::pin_mapping(const void* command, std::size_t size, const std::string& mapping) {
    impl_->pin_mapping(command, size, mapping);
}
Cycle Engine::next_event() const { return impl_->next_event(); }
void Engine::advance(Cycle now) { impl_->advance(now); }
std::vector<Completion> Engine::completions() { return impl_->completions(); }
void Engine::set_poll(std::function<void()> poll) { impl_->set_poll(std::move(poll)); }
void Engine::abandon() { impl_->abandon(); }
Progress Engine::progress() { return impl_->progress(); }
double Engine::estimate(const void* command, std::size_t size) { return impl_->estimate(command, size); }
const Stats& Engine::stats() const { return impl_->stats(); }
std::vector<ChannelStats> Engine::channels() const { return impl_->channels(); }
const std::vector<Interval>& Engine::intervals() const { return impl_->intervals(); }

}  // namespace acalsim
