// From a command to its steps on each core.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "acalsim/command.h"
#include "acalsim/config.h"
#include "acalsim/step.h"

namespace acalsim {

/// A command's share for every core that takes part (an empty pointer for the others), and its closed-form array time.
struct Plan {
    std::vector<std::unique_ptr<StepStream>> parts;
    Cycle array_cycles = 0;
    std::uint8_t mac_dtype = 0;
    const char* dataflow = "";
    std::string mapping;               // of the first core
    std::function<double()> estimate;  // of its cycles, alone on the machine; null if it has no steps
};

class Mapper;

/// Cuts a command into steps; throws std::invalid_argument if its operands do not fit together.
Plan make_plan(const Config& config, Mapper& mapper, const Command& command);

}  // namespace acalsim
