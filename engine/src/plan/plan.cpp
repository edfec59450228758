#include "acalsim/plan.h"

#include <stdexcept>

#include "plan/plans.h"

namespace acalsim {

CommandWork make_work(const Config& config, const Command& command) {
    switch (command.header().opcode) {
#define ACAL_CASE(NAME, name) \
    case ACAL_OPCODE_##NAME: return work_of(config, command.as<acal_##name##_t>());
        ACAL_COMMANDS(ACAL_CASE)
#undef ACAL_CASE
        default: throw std::invalid_argument("command: opcode " + std::to_string(command.header().opcode));
    }
}

CommandWork work_of(const Config&, const acal_barrier_t&) { return CommandWork::over({}); }

Plan make_plan(const Config& config, Mapper& mapper, const Command& command) {
    CommandWork work = make_work(config, command);
    if (work.contraction) return make_contraction_plan(config, mapper, command, std::move(work.contraction));
    return make_sweep_plan(config, mapper, std::move(work.passes));
}

}  // namespace acalsim
