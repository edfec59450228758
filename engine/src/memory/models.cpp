#include "memory/models.h"

#include <stdexcept>

namespace acalsim {

std::unique_ptr<MemoryPort> make_memory(const Config& config) {
    const std::string& preset = config.memory.preset;
    if (preset == "simple") return make_simple_memory(config);
    if (preset == "ideal") return make_ideal_memory();
    throw std::invalid_argument("memory preset '" + preset + "': expected simple or ideal");
}

}  // namespace acalsim
