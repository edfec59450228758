#include "core.h"

#include <algorithm>

namespace acalsim {

using Activity = CommandState::Activity;

void CommandState::settle(Cycle now) {
    if (now > record.end) record.causes[static_cast<std::size_t>(cause())] += now - record.end;
    record.end = now;
}

void CommandState::change(Cycle now, Activity activity, int by) {
    settle(now);
    active_[static_cast<std::size_t>(activity)] += by;
}

Cause CommandState::cause() const {
    const auto any = [this](Activity activity) { return active_[static_cast<std::size_t>(activity)] > 0; };
    if (any(Activity::kArray)) return Cause::kArray;
    if (any(Activity::kVector)) return Cause::kVector;
    if (any(Activity::kLaunch)) return Cause::kLaunch;
    if (any(Activity::kArrayTaken)) return Cause::kArray;
    if (any(Activity::kVectorTaken)) return Cause::kVector;
    if (any(Activity::kLoad)) return Cause::kDram;
    if (any(Activity::kPass)) return Cause::kDependency;
    if (any(Activity::kSpace)) return Cause::kScratchpad;
    return Cause::kDram;
}

Core::Core(const Config& config, std::size_t index, CoreHost& host) : config_(config), index_(index), host_(host) {
    reset();
}

void Core::reset() {
    parts_.clear();
    active_.clear();
    requests_ = {};
    free_channels_.clear();
    for (std::uint64_t c = config_.dma.channels; c-- > 0;) free_channels_.push_back(static_cast<std::uint32_t>(c));
    order_ = 0;
    scratch_free_ = config_.scratchpad.size;
    accumulator_free_ = config_.scratchpad.accumulator;
    array_busy_ = vector_busy_ = false;
}

void Core::add(CommandState& command, std::unique_ptr<StepStream> stream) {
    const auto id = static_cast<std::uint32_t>(parts_.size());
    Part part;
    part.command = &command;
    part.stream = std::move(stream);
    parts_.push_back(std::move(part));
    active_.push_back(id);
}

void Core::dispatch(Cycle now) {
    do {
        progress_ = false;
        for (std::size_t i = 0; i < active_.size(); ++i) {
            while (fill(now, active_[i])) progress_ = true;
        }
        while (start_array(now)) progress_ = true;
        while (start_vector(now)) progress_ = true;
    } while (progress_);
    issue();
    active_.erase(
        std::remove_if(active_.begin(), active_.end(), [this](std::uint32_t id) { return parts_[id].finished; }),
        active_.end());
}

/// Commands that allocate at the same time must all fit, or two of them could each hold what the other needs.
bool Core::may_allocate(const Part& part) const {
    Bytes scratch = part.stream->scratch_footprint(), accumulator = part.stream->accumulator_footprint();
    bool alone = true;
    for (std::uint32_t id : active_) {
        const Part& other = parts_[id];
        if (&other == &part || other.finished) continue;
        alone = alone && !other.allocating;
        scratch += other.allocating ? other.stream->scratch_footprint() : other.scratch;
        accumulator += other.allocating ? other.stream->accumulator_footprint() : other.accumulator;
    }
    return alone || (scratch <= config_.scratchpad.size && accumulator <= config_.scratchpad.accumulator);
}

/// Takes space for the next step of a part and queues its loads; false when there is nothing to take or no room.
bool Core::fill(Cycle now, std::uint32_t id) {
    Part& part = parts_[id];
    if (part.exhausted) return false;
    if (!part.allocating) {
        if (!may_allocate(part)) {
            set_wait(now, part, part.waits_space, true, Activity::kSpace);
            return false;
        }
        part.allocating = true;
    }
    if (!part.has_pending) {
        part.has_pending = part.stream->next(part.pending);
        if (!part.has_pending) {
            part.exhausted = true;
            part.allocating = false;
            set_wait(now, part, part.waits_space, false, Activity::kSpace);
            if (part.steps.empty()) {
                part.finished = true;
                host_.part_done(*part.command);
            }
            return true;
        }
    }
    const Step& step = part.pending;
    const bool pass = step.after_all && !part.steps.empty();
    const bool space = !pass && (step.scratch > scratch_free_ || step.accumulator > accumulator_free_);
    set_wait(now, part, part.waits_pass, pass, Activity::kPass);
    set_wait(now, part, part.waits_space, space, Activity::kSpace);
    if (pass || space) return false;

    scratch_free_ -= step.scratch;
    accumulator_free_ -= step.accumulator;
    part.scratch += step.scratch;
    part.accumulator += step.accumulator;
    const std::uint64_t index = part.end();
    StepState state;
    state.step = std::move(part.pending);
    part.pending = Step{};
    part.has_pending = false;
    state.loads_left = state.step.loads.size();
    state.stores_left = state.step.stores.size();
    for (const Box& box : state.step.loads) {
        requests_.push({part.command->sequence, index, order_++, id, false, box});
        part.command->begin(now, Activity::kLoad);
        part.command->record.bytes_read += box.bytes();
        part.command->record.scratchpad_bytes += box.bytes();
    }
    Completion& record = part.command->record;
    record.macs += state.step.macs;
    record.scratchpad_bytes += state.step.scratchpad_traffic;
    record.accumulator_bytes += state.step.accumulator_traffic;
    record.vector_ops += state.step.vector_ops;
    part.steps.push_back(std::move(state));
    if (part.at(index).loads_left == 0) loaded(now, id, index);
    return true;
}

void Core::loaded(Cycle now, std::uint32_t id, std::uint64_t index) {
    StepState& state = parts_[id].at(index);
    state.array_ready = now + state.step.array.preload;
    if (state.step.array.busy == 0) {
        state.array_done = true;
        if (state.step.vector.busy == 0) computed(now, id, index);
    } else if (state.array_ready > now) {
        host_.schedule(state.array_ready, index_, CoreHost::Event::kArrayReady, id, index);
    }
    progress_ = true;
}

bool Core::start_array(Cycle now) {
    for (std::uint32_t id : active_) {
        Part& part = parts_[id];
        while (part.next_array < part.end() && part.at(part.next_array).step.array.busy == 0) ++part.next_array;
        if (part.next_array >= part.end()) continue;
        StepState& state = part.at(part.next_array);
        if (state.array_ready > now) continue;
        set_wait(now, part, part.waits_array, array_busy_, Activity::kArrayTaken);
        if (array_busy_) continue;
        array_busy_ = true;
        part.command->begin(now, Activity::kArray);
        part.command->record.array_busy += state.step.array.busy;
        host_.schedule(now + state.step.array.busy, index_, CoreHost::Event::kArrayBusyEnd, id, part.next_array);
        ++part.next_array;
        return true;
    }
    return false;
}

bool Core::start_vector(Cycle now) {
    for (std::uint32_t id : active_) {
        Part& part = parts_[id];
        while (part.next_vector < part.end() && part.at(part.next_vector).step.vector.busy == 0) ++part.next_vector;
        if (part.next_vector >= part.end()) continue;
        StepState& state = part.at(part.next_vector);
        if (!state.array_done || state.loads_left > 0) continue;
        set_wait(now, part, part.waits_vector, vector_busy_, Activity::kVectorTaken);
        if (vector_busy_) continue;
        vector_busy_ = true;
        part.command->begin(now, Activity::kVector);
        part.command->record.vector_busy += state.step.vector.busy;
        host_.schedule(now + state.step.vector.busy, index_, CoreHost::Event::kVectorBusyEnd, id, part.next_vector);
        ++part.next_vector;
        return true;
    }
    return false;
}

void Core::issue() {
    while (!free_channels_.empty() && !requests_.empty()) {
        const Request request = requests_.top();
        requests_.pop();
        const std::uint32_t channel = free_channels_.back();
        free_channels_.pop_back();
        host_.transfer(index_, channel, request.part, request.step, request.write, request.box);
    }
}

void Core::on_event(Cycle now, CoreHost::Event event, std::uint32_t id, std::uint64_t index) {
    Part& part = parts_[id];
    switch (event) {
        case CoreHost::Event::kArrayReady: break;  // dispatch does the rest
        case CoreHost::Event::kArrayBusyEnd: {
            array_busy_ = false;
            StepState& state = part.at(index);
            release(part, state.step.scratch_release, 0);
            host_.schedule(now + state.step.array.drain, index_, CoreHost::Event::kArrayDrained, id, index);
            break;
        }
        case CoreHost::Event::kArrayDrained: {
            part.command->end(now, Activity::kArray);
            StepState& state = part.at(index);
            state.array_done = true;
            if (state.step.vector.busy == 0) computed(now, id, index);
            break;
        }
        case CoreHost::Event::kVectorBusyEnd:
            vector_busy_ = false;
            host_.schedule(now + part.at(index).step.vector.drain, index_, CoreHost::Event::kVectorDrained, id, index);
            break;
        case CoreHost::Event::kVectorDrained:
            part.command->end(now, Activity::kVector);
            computed(now, id, index);
            break;
    }
}

void Core::computed(Cycle now, std::uint32_t id, std::uint64_t index) {
    Part& part = parts_[id];
    StepState& state = part.at(index);
    if (state.step.array.busy == 0) release(part, state.step.scratch_release, 0);
    for (const Box& box : state.step.stores) {
        requests_.push({part.command->sequence, index, order_++, id, true, box});
        part.command->begin(now, Activity::kStore);
        part.command->record.bytes_written += box.bytes();
        part.command->record.scratchpad_bytes += box.bytes();
    }
    if (state.step.stores.empty()) stored(now, id, index);
}

void Core::on_transfer(Cycle now, std::uint32_t channel, std::uint32_t id, std::uint64_t index, bool write) {
    free_channels_.push_back(channel);
    Part& part = parts_[id];
    StepState& state = part.at(index);
    part.command->end(now, write ? Activity::kStore : Activity::kLoad);
    if (write) {
        if (--state.stores_left == 0) stored(now, id, index);
    } else if (--state.loads_left == 0) {
        loaded(now, id, index);
    }
}

void Core::stored(Cycle now, std::uint32_t id, std::uint64_t index) {
    Part& part = parts_[id];
    StepState& state = part.at(index);
    release(part, state.step.scratch_store, state.step.accumulator_store);
    state.done = true;
    progress_ = true;
    while (!part.steps.empty() && part.steps.front().done) {
        part.steps.pop_front();
        ++part.first;
    }
    part.next_array = std::max(part.next_array, part.first);
    part.next_vector = std::max(part.next_vector, part.first);
    if (part.steps.empty() && part.exhausted && !part.finished) {
        part.finished = true;
        part.command->settle(now);
        host_.part_done(*part.command);
    }
}

void Core::release(Part& part, Bytes scratch, Bytes accumulator) {
    scratch_free_ += scratch;
    accumulator_free_ += accumulator;
    part.scratch -= scratch;
    part.accumulator -= accumulator;
}

void Core::set_wait(Cycle now, Part& part, bool& flag, bool value, Activity activity) {
    if (flag == value) return;
    flag = value;
    value ? part.command->begin(now, activity) : part.command->end(now, activity);
}

}  // namespace acalsim
