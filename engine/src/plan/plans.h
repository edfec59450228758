// One plan per family of commands.
#pragma once

#include <utility>

#include "acalsim/plan.h"
#include "plan/contraction.h"
#include "plan/sweep.h"

namespace acalsim {

/// What a command does to its tensors: a matrix product, or passes over them, none for BARRIER.
struct CommandWork {
    std::shared_ptr<const Contraction> contraction;
    std::vector<Sweep> passes;

    static CommandWork product(std::shared_ptr<const Contraction> contraction) { return {std::move(contraction), {}}; }
    static CommandWork over(std::vector<Sweep> passes) { return {nullptr, std::move(passes)}; }
};

/// The work of each command of the ABI; throws std::invalid_argument if its operands do not fit together.
#define ACAL_WORK_OF(NAME, name) CommandWork work_of(const Config& config, const acal_##name##_t& command);
ACAL_COMMANDS(ACAL_WORK_OF)
#undef ACAL_WORK_OF

/// The same of any command; its passes are checked and collapsed.
CommandWork make_work(const Config& config, const Command& command);

}  // namespace acalsim
