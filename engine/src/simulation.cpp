#include "simulation.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace acalsim {

namespace {

constexpr std::uint64_t kRoundsPerPoll = 16;

}  // namespace

Simulation::Simulation(const Config& config, const std::function<void()>& poll, std::unique_ptr<MemoryPort> memory)
    : config_(config), poll_(poll), memory_(memory ? std::move(memory) : make_memory(config)), link_(config) {
    CoreHost& host = *this;
    for (std::size_t i = 0; i < config.cores; ++i) cores_.push_back(std::make_unique<Core>(config, i, host));
}

void Simulation::submit(Cycle now, std::uint32_t id, const std::vector<std::uint32_t>& dependencies, Plan plan) {
    if (in_flight_ == 0) start_epoch(now);
    auto node = std::make_unique<Node>();
    node->command.sequence = nodes_.size();
    node->command.record.id = id;
    node->command.record.mac_dtype = plan.mac_dtype;
    node->command.record.array_cycles = plan.array_cycles;
    node->command.record.dataflow = plan.dataflow;
    for (const auto& stream : plan.parts) node->steps += stream ? stream->steps() : 0;
    node->plan = std::move(plan);
    const std::size_t index = nodes_.size();
    for (std::uint32_t dependency : dependencies) {
        // An id that is not in flight belongs to an earlier segment, which has completed.
        const auto known = by_id_.find(dependency);
        if (known == by_id_.end() || nodes_[known->second]->completed) continue;
        nodes_[known->second]->dependents.push_back(index);
        ++node->waits_for;
    }
    by_id_[id] = index;
    nodes_.push_back(std::move(node));
    ++in_flight_;
    if (nodes_[index]->waits_for == 0) queue_launch(index, now - epoch_);
}

Cycle Simulation::next_event() const {
    if (in_flight_ == 0) return kNever;
    const Cycle own = events_.empty() ? kNever : events_.top().at;
    const Cycle next = std::min(own, memory_->next_event());
    return next == kNever ? kNever : epoch_ + std::max(next, time_);
}

void Simulation::advance(Cycle now) {
    try {
        advance_to(now - epoch_);
    } catch (...) {
        abandon();
        throw;
    }
}

Cycle Simulation::run() {
    advance(kNever);
    return epoch_ + time_;
}

void Simulation::abandon() {
    in_flight_ = 0;
    completed_.clear();
    start_epoch(epoch_);
}

Progress Simulation::progress() {
    double done = 0, all = 0;
    for (auto& node : nodes_) {
        if (node->estimate == 0 && node->plan.estimate) node->estimate = std::max(1.0, node->plan.estimate());
        all += node->estimate;
        if (node->completed) {
            done += node->estimate;
        } else if (node->steps > 0) {
            done += node->estimate * static_cast<double>(node->command.steps_done) / static_cast<double>(node->steps);
        }
    }
    return {time_, in_flight_ > 0 && all > 0 ? done / all : 1.0};
}

void Simulation::start_epoch(Cycle now) {
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

void Simulation::advance_to(Cycle limit) {
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

void Simulation::handle_event() {
    const Event event = events_.top().event;
    events_.pop();
    ++stats_.events;
    std::visit([this](const auto& e) { handle(e); }, event);
}

/// The command processor takes one command after the other, in the order in which they become ready.
void Simulation::queue_launch(std::size_t index, Cycle now) {
    const Cycle begin = std::max(launcher_free_, now);
    launcher_free_ = begin + config_.launch;
    schedule(begin, LaunchBegin{index});
    schedule(launcher_free_, LaunchEnd{index});
}

void Simulation::handle(const LaunchBegin& begin) {
    CommandState& command = nodes_[begin.command]->command;
    command.record.start = command.record.end = time_;
    command.begin(time_, CommandState::Activity::kLaunch);
    occupied(Unit::kLaunch, 0, 0, command, time_, time_ + config_.launch, 0);
}

void Simulation::handle(const LaunchEnd& end) {
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
void Simulation::leave_memory(const TransferEnd& transfer) {
    flying_[transfer.id].end = transfer;
    const Cycle end = std::max(time_, flying_[transfer.id].link_free) + config_.interconnect.latency;
    if (end == time_) {
        end_transfer(transfer.id);
    } else {
        schedule(end, LinkCrossed{transfer.id});
    }
}

void Simulation::end_transfer(std::uint32_t id) {
    ++stats_.events;
    const Flying flying = flying_[id];
    cores_[flying.core]->on_transfer(time_, flying.channel, flying.part, flying.step, flying.write, flying.end);
}

void Simulation::complete(std::size_t index) {
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

void Simulation::schedule(Cycle at, std::size_t core, UnitEvent event, std::uint32_t part, std::uint64_t step) {
    schedule(at, CoreEvent{core, event, part, step});
}

void Simulation::transfer(std::size_t core, std::uint32_t channel, std::uint32_t part, std::uint64_t step, bool write,
                          const Box& box) {
    const auto id = static_cast<std::uint32_t>(core * config_.dma.channels + channel);
    flying_.resize(std::max<std::size_t>(flying_.size(), id + 1));
    flying_[id] = {core, channel, part, step, write, link_.cross(core, time_, box.bytes()), {}};
    memory_->issue(time_, {id, static_cast<std::uint32_t>(core), write, box});
}

void Simulation::occupied(Unit unit, std::size_t core, std::uint32_t index, const CommandState& command, Cycle begin,
                          Cycle end, Bytes bytes) {
    uses_.add({static_cast<std::uint32_t>(unit), static_cast<std::uint32_t>(core), index, command.record.id, begin, end,
               end - begin, bytes});
}

void Simulation::part_done(CommandState& command) {
    if (--command.parts_left == 0) complete(command.sequence);
}

}  // namespace acalsim
