// Constructors of the built-in memory models.
#pragma once

#include "acalsim/memory_port.h"

namespace acalsim {

std::unique_ptr<MemoryPort> make_simple_memory(const Config& config);
std::unique_ptr<MemoryPort> make_ideal_memory();

}  // namespace acalsim
