#include "acalsim/plan.h"

#include <stdexcept>

#include "plan/mapper.h"
#include "plan/plans.h"
#include "plan/sweep_plan.h"

namespace acalsim {

namespace {

CommandWork work_of_opcode(const Config& config, const Command& command) {
    switch (command.header().opcode) {
#define ACAL_CASE(NAME, name) \
    case ACAL_OPCODE_##NAME: return work_of(config, command.as<acal_##name##_t>());
        ACAL_COMMANDS(ACAL_CASE)
#undef ACAL_CASE
        default: throw std::invalid_argument("command: opcode " + std::to_string(command.header().opcode));
    }
}

}  // namespace

CommandWork make_work(const Config& config, const Command& command) {
    CommandWork work = work_of_opcode(config, command);
    for (Sweep& sweep : work.passes) {
        check_size(config, sweep);
        sweep.collapse();
    }
    return work;
}

CommandWork work_of(const Config&, const acal_barrier_t&) { return CommandWork::over({}); }

Plan make_plan(const Config& config, Mapper& mapper, const Command& command) {
    CommandWork work = make_work(config, command);
    if (!work.contraction) {
        const auto passes = std::make_shared<const std::vector<Sweep>>(std::move(work.passes));
        const std::vector<Tiling>& tilings = mapper.tile(*passes);
        Plan plan = make_sweep_plan(config, passes, tilings);
        plan.estimate = [&mapper, passes, tilings] { return mapper.estimate(*passes, tilings); };
        return plan;
    }
    const Contraction& c = *work.contraction;
    if (whole(c).empty() || c.depth == 0) {
        Plan nothing;
        nothing.mac_dtype = c.dtype;
        return nothing;
    }
    const std::vector<Share> shares = split(config, c);
    const Mapping& mapping = mapper.map(command, c, shares);
    Plan plan = make_contraction_plan(config, work.contraction, shares, mapping);
    plan.estimate = [&mapper, contraction = work.contraction, share = shares.front(), mapping] {
        return mapper.estimate(*contraction, share, mapping);
    };
    return plan;
}

}  // namespace acalsim
