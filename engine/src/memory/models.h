// Constructors of the built-in memory models.
#pragma once

#include "acalsim/memory_port.h"
#include "memory/dram/standard.h"

namespace acalsim {

std::unique_ptr<MemoryPort> make_simple_memory(const Config& config);
std::unique_ptr<MemoryPort> make_ideal_memory();
std::unique_ptr<MemoryPort> make_dram_memory(const Config& config, const DramStandard& standard);

}  // namespace acalsim
