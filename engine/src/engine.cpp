#include "acalsim/engine.h"

#include <utility>

#include "acalsim/command.h"
#include "acalsim/plan.h"
#include "plan/mapper.h"
#include "plan/plans.h"
#include "simulation.h"

namespace acalsim {

const char* const kCauseNames[kCauses] = {"array", "vector", "launch", "dram", "scratchpad", "dependency"};
const char* const kUnitNames[kUnits] = {"launch", "array", "vector", "dma"};

class Engine::Impl {
  public:
    Impl(const Config& given, std::unique_ptr<MemoryPort> memory)
        : config(given), mapper(config, poll), simulation(config, poll, std::move(memory)) {}

    Plan plan(const Command& command) { return make_plan(config, mapper, command); }

    const Config config;
    std::function<void()> poll;
    Mapper mapper;
    Simulation simulation;
};

Engine::Engine(const Config& config, std::unique_ptr<MemoryPort> memory)
    : impl_(std::make_unique<Impl>(config, std::move(memory))) {}
Engine::~Engine() = default;

void Engine::submit(Cycle now, const void* bytes, std::size_t size) {
    const Command command(bytes, size);
    Plan plan = impl_->plan(command);
    impl_->simulation.submit(now, command.header().id, command.dependencies(), std::move(plan));
}

std::string Engine::mapping(const void* command, std::size_t size) {
    return impl_->plan(Command(command, size)).mapping;
}

void Engine::pin_mapping(const void* bytes, std::size_t size, const std::string& mapping) {
    const CommandWork work = make_work(impl_->config, Command(bytes, size));
    if (work.contraction) {
        impl_->mapper.pin(*work.contraction, parse_mapping(mapping));
    } else {
        impl_->mapper.pin(work.passes, parse_tilings(mapping, work.passes));
    }
}

double Engine::estimate(const void* command, std::size_t size) {
    const Plan plan = impl_->plan(Command(command, size));
    return static_cast<double>(impl_->config.launch) + (plan.estimate ? plan.estimate() : 0.0);
}

void Engine::set_poll(std::function<void()> poll) { impl_->poll = std::move(poll); }
Cycle Engine::next_event() const { return impl_->simulation.next_event(); }
void Engine::advance(Cycle now) { impl_->simulation.advance(now); }
Cycle Engine::run() { return impl_->simulation.run(); }
void Engine::abandon() { impl_->simulation.abandon(); }
Progress Engine::progress() { return impl_->simulation.progress(); }
std::vector<Completion> Engine::completions() { return impl_->simulation.completions(); }
const Stats& Engine::stats() const { return impl_->simulation.stats(); }
std::vector<ChannelStats> Engine::channels() const { return impl_->simulation.channels(); }
const std::vector<Interval>& Engine::intervals() const { return impl_->simulation.intervals(); }

}  // namespace acalsim
