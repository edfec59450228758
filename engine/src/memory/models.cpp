#include "memory/models.h"

#include <stdexcept>

namespace acalsim {

std::unique_ptr<MemoryPort> make_memory(const Config& config) {
    const std::string& preset = config.memory.preset;
    if (preset == "simple") return make_simple_memory(config);
    if (preset == "ideal") return make_ideal_memory();
    if (const DramStandard* standard = find_dram_standard(preset)) return make_dram_memory(config, *standard);
    throw std::invalid_argument("memory preset '" + preset +
                                "': expected simple, ideal, DDR4-2400, LPDDR5-6400 or HBM2");
}

}  // namespace acalsim
