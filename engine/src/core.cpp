#include "core.h"

#include <algorithm>
#include <utility>

#include "acalsim/scratchpad.h"

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
    free_channels_.clear();
    for (std::uint64_t c = config_.dma.channels; c-- > 0;) free_channels_.push_back(static_cast<std::uint32_t>(c));
    channel_taken_.assign(config_.dma.channels, 0);
    channel_bytes_.assign(config_.dma.channels, 0);
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
        while (start(now, kArrays)) progress_ = true;
        while (start(now, kVectorUnit)) progress_ = true;
    } while (progress_);
    issue(now);
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

/// Reads the next step and the one behind it, as far as there are any; false when there is none.
bool Core::fetch_steps(Part& part) {
    if (!part.has_pending) {
        if (part.has_following) {
            std::swap(part.pending, part.following);
            part.has_pending = true;
        } else {
            part.has_pending = part.end() == 0 && part.stream->next(part.pending);
        }
        part.has_following = part.has_pending && part.stream->next(part.following);
    }
    return part.has_pending;
}

/// Puts the stores of all steps before `end` that are not queued yet behind what the DMA has to do.
void Core::queue_stores(Part& part, std::uint64_t end) {
    part.next_store = std::max(part.next_store, part.first);  // steps without stores may have gone
    for (; part.next_store < end; ++part.next_store) {
        const Step& step = part.at(part.next_store).step;
        if (step.stores.empty()) continue;
        for (std::uint32_t box = 0; box < step.stores.size(); ++box) {
            part.requests.push_back({part.next_store, box, true});
        }
        part.least_scratch -= step.scratch_store;
        part.least_accumulator -= step.accumulator_store;
    }
}

/// Queues stores of earlier steps ahead of the step's loads: those of steps far enough before it, those without which
/// it would never find room, and those without which the one behind it would not, so that its loads need not wait for a
/// store's end. The newest step's stores have yet to be computed, so the latter leaves them behind.
void Core::make_room(Part& part, const Step& step) {
    Bytes scratch = config_.scratchpad.size, accumulator = config_.scratchpad.accumulator;
    for (std::uint32_t id : active_) {
        if (&parts_[id] == &part) continue;
        scratch -= parts_[id].scratch;
        accumulator -= parts_[id].accumulator;
    }
    const auto lacks_room = [&](std::uint64_t steps) {
        return part.least_scratch + steps * step.scratch > scratch ||
               part.least_accumulator + steps * step.accumulator > accumulator;
    };
    while (true) {
        const std::uint64_t oldest = std::max(part.next_store, part.first);
        if (oldest == part.end()) return;
        const bool behind = oldest + 1 < part.end();
        const bool due =
            oldest + kStepsAhead < part.end() && part.loaded - part.at(oldest).loads_until >= config_.loads_ahead();
        if (!due && !lacks_room(1) && !(behind && lacks_room(2))) return;
        queue_stores(part, oldest + 1);
    }
}

/// Whether the part may take space, from now on until its last step has.
bool Core::start_allocating(Cycle now, Part& part) {
    if (part.allocating) return true;
    part.allocating = may_allocate(part);
    if (!part.allocating) set_wait(now, part, part.waits_space, true, Activity::kSpace);
    return part.allocating;
}

/// All steps of the part have been taken.
void Core::exhaust(Cycle now, Part& part) {
    part.exhausted = true;
    part.allocating = false;
    queue_stores(part, part.end());
    set_wait(now, part, part.waits_space, false, Activity::kSpace);
    if (!part.steps.empty()) return;
    part.finished = true;
    host_.part_done(*part.command);
}

/// Whether the step can be taken at `now`; the part waits for what is missing.
bool Core::has_room(Cycle now, Part& part, const Step& step) {
    const bool pass = step.after_all && !part.steps.empty();
    const bool space = !pass && (step.scratch > scratch_free_ || step.accumulator > accumulator_free_);
    set_wait(now, part, part.waits_pass, pass, Activity::kPass);
    set_wait(now, part, part.waits_space, space, Activity::kSpace);
    return !pass && !space;
}

/// The unit that streams the step's operands waits for banks that the next step's loads are written to.
void Core::add_bank_delay(Part& part, Step& step) {
    Work& streaming = step.array.busy > 0 ? step.array : step.vector;
    if (streaming.busy == 0) return;
    BankWrites writes;
    if (part.has_following) {
        for (const Box& box : part.following.loads) writes.add(config_.scratchpad, box);
    }
    const Cycle delay =
        bank_delay(config_.scratchpad, streaming.busy, step.scratchpad_traffic, part.kept + step.scratch, writes);
    streaming.busy += delay;
    part.command->record.bank_conflict_cycles += delay;
}

/// Takes the step's space.
void Core::allocate(Part& part, const Step& step) {
    scratch_free_ -= step.scratch;
    accumulator_free_ -= step.accumulator;
    part.scratch += step.scratch;
    part.accumulator += step.accumulator;
    part.kept += step.scratch - step.scratch_release - step.scratch_store;  // may be modulo 2^64
    part.least_scratch += step.scratch - step.scratch_release;              // as well
    part.least_accumulator += step.accumulator;
    if (step.stores.empty()) {
        part.least_scratch -= step.scratch_store;
        part.least_accumulator -= step.accumulator_store;
    }
}

/// Puts the loads of the newest step behind what the DMA has to do.
void Core::queue_loads(Cycle now, Part& part) {
    StepState& state = part.steps.back();
    const std::uint64_t index = part.end() - 1;
    for (std::uint32_t box = 0; box < state.step.loads.size(); ++box) {
        part.requests.push_back({index, box, false});
        part.command->begin(now, Activity::kLoad);
        part.loaded += state.step.loads[box].bytes();
    }
    state.loads_until = part.loaded;
}

/// Adds what the step moves and computes to its command's record; its stores are added when they are there.
void Core::count(Completion& record, const Step& step) {
    for (const Box& box : step.loads) {
        record.bytes_read += box.bytes();
        record.scratchpad_bytes += box.bytes();
    }
    record.macs += step.macs;
    record.vector_ops += step.vector_ops;
    record.scratchpad_bytes += step.scratchpad_traffic;
    record.accumulator_bytes += step.accumulator_traffic;
}

/// Takes the next step of a part and queues its loads; false when there is nothing to take or no room.
bool Core::fill(Cycle now, std::uint32_t id) {
    Part& part = parts_[id];
    if (part.exhausted || !start_allocating(now, part)) return false;
    if (!fetch_steps(part)) {
        exhaust(now, part);
        return true;
    }
    if (part.pending.after_all) queue_stores(part, part.end());
    make_room(part, part.pending);
    if (!has_room(now, part, part.pending)) return false;

    const std::uint64_t index = part.end();
    StepState& state = part.steps.emplace_back(std::exchange(part.pending, Step{}));
    part.has_pending = false;
    add_bank_delay(part, state.step);
    allocate(part, state.step);
    queue_loads(now, part);
    count(part.command->record, state.step);
    if (state.loads_left == 0) loaded(now, id, index);
    return true;
}

void Core::loaded(Cycle now, std::uint32_t id, std::uint64_t index) {
    StepState& state = parts_[id].at(index);
    if (state.step.array.busy == 0) {
        state.vector_ready = now;
        if (state.step.vector.busy == 0) computed(now, id, index);
    } else {
        state.array_ready = now + state.step.array.preload;
        if (state.array_ready > now) host_.schedule(state.array_ready, index_, UnitEvent::kArrayReady, id, index);
    }
    progress_ = true;
}

/// What tells the two units that compute apart.
struct Core::ComputeUnit {
    Unit name;
    Work Step::* work;
    Cycle StepState::* ready;
    std::uint64_t Part::* next;
    bool Part::* waits;
    bool Core::* busy;
    Cycle Completion::* busy_cycles;
    Activity works, taken;
    UnitEvent busy_end;
};

const Core::ComputeUnit Core::kArrays{Unit::kArray,
                                      &Step::array,
                                      &StepState::array_ready,
                                      &Part::next_array,
                                      &Part::waits_array,
                                      &Core::array_busy_,
                                      &Completion::array_busy,
                                      Activity::kArray,
                                      Activity::kArrayTaken,
                                      UnitEvent::kArrayBusyEnd};
const Core::ComputeUnit Core::kVectorUnit{Unit::kVector,
                                          &Step::vector,
                                          &StepState::vector_ready,
                                          &Part::next_vector,
                                          &Part::waits_vector,
                                          &Core::vector_busy_,
                                          &Completion::vector_busy,
                                          Activity::kVector,
                                          Activity::kVectorTaken,
                                          UnitEvent::kVectorBusyEnd};

/// Starts the next step on a unit, of the oldest part that has one ready; false when there is none or the unit is busy.
bool Core::start(Cycle now, const ComputeUnit& unit) {
    for (std::uint32_t id : active_) {
        Part& part = parts_[id];
        std::uint64_t& next = part.*unit.next;
        while (next < part.end() && (part.at(next).step.*unit.work).busy == 0) ++next;
        if (next >= part.end()) continue;
        const StepState& state = part.at(next);
        if (state.*unit.ready > now) continue;
        set_wait(now, part, part.*unit.waits, this->*unit.busy, unit.taken);
        if (this->*unit.busy) continue;
        const Cycle busy = (state.step.*unit.work).busy;
        this->*unit.busy = true;
        part.command->begin(now, unit.works);
        part.command->record.*unit.busy_cycles += busy;
        host_.occupied(unit.name, index_, 0, *part.command, now, now + busy, 0);
        host_.schedule(now + busy, index_, unit.busy_end, id, next);
        ++next;
        return true;
    }
    return false;
}

void Core::issue(Cycle now) {
    for (std::uint32_t id : active_) {
        Part& part = parts_[id];
        while (!free_channels_.empty() && !part.requests.empty()) {
            const Request request = part.requests.front();
            const StepState& state = part.at(request.step);
            if (request.write && !state.computed) break;
            part.requests.pop_front();
            const std::uint32_t channel = free_channels_.back();
            free_channels_.pop_back();
            channel_taken_[channel] = now;
            const auto& boxes = request.write ? state.step.stores : state.step.loads;
            channel_bytes_[channel] = boxes[request.box].bytes();
            host_.transfer(index_, channel, id, request.step, request.write, boxes[request.box]);
        }
    }
}

void Core::on_event(Cycle now, UnitEvent event, std::uint32_t id, std::uint64_t index) {
    Part& part = parts_[id];
    switch (event) {
        case UnitEvent::kArrayReady: break;  // dispatch does the rest
        case UnitEvent::kArrayBusyEnd: {
            array_busy_ = false;
            StepState& state = part.at(index);
            release(part, state.step.scratch_release, 0);
            host_.schedule(now + state.step.array.drain, index_, UnitEvent::kArrayDrained, id, index);
            break;
        }
        case UnitEvent::kArrayDrained: {
            part.command->end(now, Activity::kArray);
            StepState& state = part.at(index);
            state.vector_ready = now;
            if (state.step.vector.busy == 0) computed(now, id, index);
            break;
        }
        case UnitEvent::kVectorBusyEnd:
            vector_busy_ = false;
            host_.schedule(now + part.at(index).step.vector.drain, index_, UnitEvent::kVectorDrained, id, index);
            break;
        case UnitEvent::kVectorDrained:
            part.command->end(now, Activity::kVector);
            computed(now, id, index);
            break;
    }
}

void Core::computed(Cycle now, std::uint32_t id, std::uint64_t index) {
    Part& part = parts_[id];
    StepState& state = part.at(index);
    if (state.step.array.busy == 0) release(part, state.step.scratch_release, 0);
    state.computed = true;
    for (const Box& box : state.step.stores) {
        part.command->begin(now, Activity::kStore);
        part.command->record.bytes_written += box.bytes();
        part.command->record.scratchpad_bytes += box.bytes();
    }
    if (state.step.stores.empty()) stored(now, id, index);
}

void Core::on_transfer(Cycle now, std::uint32_t channel, std::uint32_t id, std::uint64_t index, bool write,
                       const TransferEnd& end) {
    free_channels_.push_back(channel);
    Part& part = parts_[id];
    StepState& state = part.at(index);
    part.command->record.bursts += end.bursts;
    part.command->record.row_hits += end.row_hits;
    host_.occupied(Unit::kDma, index_, channel, *part.command, channel_taken_[channel], now, channel_bytes_[channel]);
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
        ++part.command->steps_done;
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
