// One core: arrays, vector unit, DMA and on-chip memory, working on the steps of its parts.
#pragma once

#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "acalsim/config.h"
#include "acalsim/engine.h"
#include "acalsim/memory_port.h"
#include "acalsim/step.h"

namespace acalsim {

/// A command in flight: its record, and what its cycles are being spent on.
class CommandState {
  public:
    Completion record;
    std::uint64_t sequence = 0;  // order of submission
    std::size_t parts_left = 0;
    std::uint64_t steps_done = 0;  // of all parts

    enum class Activity : std::size_t {
        kArray,
        kVector,
        kLaunch,
        kLoad,
        kStore,
        kSpace,
        kPass,
        kArrayTaken,
        kVectorTaken
    };

    /// From `now` on one more (or one less) unit is busy with this command; the cycles before go to their cause.
    void begin(Cycle now, Activity activity) { change(now, activity, +1); }
    void end(Cycle now, Activity activity) { change(now, activity, -1); }
    /// Attributes the cycles up to `now`.
    void settle(Cycle now);

  private:
    void change(Cycle now, Activity activity, int by);
    Cause cause() const;
    std::array<int, 9> active_{};
};

/// What a core has scheduled for a later cycle.
enum class UnitEvent : std::uint8_t { kArrayReady, kArrayBusyEnd, kArrayDrained, kVectorBusyEnd, kVectorDrained };

/// What a core asks of the engine around it.
class CoreHost {
  public:
    virtual ~CoreHost() = default;
    virtual void schedule(Cycle at, std::size_t core, UnitEvent event, std::uint32_t part, std::uint64_t step) = 0;
    virtual void transfer(std::size_t core, std::uint32_t channel, std::uint32_t part, std::uint64_t step, bool write,
                          const Box& box) = 0;
    virtual void occupied(Unit unit, std::size_t core, std::uint32_t index, const CommandState& command, Cycle begin,
                          Cycle end, Bytes bytes) = 0;
    virtual void part_done(CommandState& command) = 0;
};

/// Schedules the steps of its parts; between parts the oldest goes first. Within a part every unit and the DMA work in
/// an order that follows from the steps alone, never from the time at which something ended: so whatever becomes faster
/// lets nothing else start later (timed event graphs are monotone; F. Baccelli et al., "Synchronization and Linearity",
/// 1992).
class Core {
  public:
    Core(const Config& config, std::size_t index, CoreHost& host);

    void reset();
    void add(CommandState& command, std::unique_ptr<StepStream> stream);
    /// Starts everything that can start at `now`.
    void dispatch(Cycle now);
    void on_event(Cycle now, UnitEvent event, std::uint32_t part, std::uint64_t step);
    void on_transfer(Cycle now, std::uint32_t channel, std::uint32_t part, std::uint64_t step, bool write,
                     const TransferEnd& end);

  private:
    struct StepState {
        Step step;
        std::size_t loads_left, stores_left;
        Bytes loads_until = 0;        // by the part's steps up to this one
        Cycle array_ready = kNever;   // operands there and stationary ones preloaded
        Cycle vector_ready = kNever;  // operands there and the array done with them
        bool computed = false;
        bool done = false;

        explicit StepState(Step&& taken)
            : step(std::move(taken)), loads_left(step.loads.size()), stores_left(step.stores.size()) {}
    };
    struct Request {
        std::uint64_t step;
        std::uint32_t box;  // among the step's loads or stores
        bool write;
    };
    struct Part {
        CommandState* command = nullptr;
        std::unique_ptr<StepStream> stream;
        std::deque<StepState> steps;  // from `first` on
        std::uint64_t first = 0, next_array = 0, next_vector = 0;
        std::deque<Request> requests;  // the DMA's order; a store waits at the head until its step has computed
        std::uint64_t next_store = 0;  // first step whose stores are not among them yet
        Step pending, following;       // the next step and the one behind it
        bool has_pending = false, has_following = false;
        bool allocating = false, exhausted = false, finished = false;
        bool waits_space = false, waits_pass = false, waits_array = false, waits_vector = false;
        Bytes scratch = 0, accumulator = 0;              // held
        Bytes loaded = 0;                                // by all steps so far
        Bytes kept = 0;                                  // loaded by earlier steps for later ones
        Bytes least_scratch = 0, least_accumulator = 0;  // held once all steps taken have computed and stored, up to
                                                         // the stores that are not queued yet

        std::uint64_t end() const { return first + steps.size(); }
        StepState& at(std::uint64_t index) { return steps[index - first]; }
    };
    struct ComputeUnit;
    static const ComputeUnit kArrays, kVectorUnit;

    bool fill(Cycle now, std::uint32_t id);
    bool may_allocate(const Part& part) const;
    bool start_allocating(Cycle now, Part& part);
    bool fetch_steps(Part& part);
    void exhaust(Cycle now, Part& part);
    void queue_stores(Part& part, std::uint64_t end);
    void make_room(Part& part, const Step& step);
    bool has_room(Cycle now, Part& part, const Step& step);
    void add_bank_delay(Part& part, Step& step);
    void allocate(Part& part, const Step& step);
    void queue_loads(Cycle now, Part& part);
    static void count(Completion& record, const Step& step);
    bool start(Cycle now, const ComputeUnit& unit);
    void issue(Cycle now);
    void loaded(Cycle now, std::uint32_t id, std::uint64_t index);
    void computed(Cycle now, std::uint32_t id, std::uint64_t index);
    void stored(Cycle now, std::uint32_t id, std::uint64_t index);
    void release(Part& part, Bytes scratch, Bytes accumulator);
    void set_wait(Cycle now, Part& part, bool& flag, bool value, CommandState::Activity activity);

    const Config& config_;
    std::size_t index_;
    CoreHost& host_;
    std::vector<Part> parts_;
    std::vector<std::uint32_t> active_;
    std::vector<std::uint32_t> free_channels_;
    std::vector<Cycle> channel_taken_;
    std::vector<Bytes> channel_bytes_;  // of its transfer
    Bytes scratch_free_ = 0, accumulator_free_ = 0;
    bool array_busy_ = false, vector_busy_ = false, progress_ = false;
};

}  // namespace acalsim
