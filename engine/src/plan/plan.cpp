#include "acalsim/plan.h"

#include <stdexcept>

#include "plan/plans.h"

namespace acalsim {

std::shared_ptr<const Contraction> make_contraction(const Config& config, const Command& command) {
    switch (command.header().opcode) {
        case ACAL_OPCODE_GEMM: return gemm_contraction(command.as<acal_gemm_t>());
        case ACAL_OPCODE_CONV2D: return conv2d_contraction(config, command.as<acal_conv2d_t>());
        default: return nullptr;
    }
}

std::vector<Sweep> make_passes(const Config& config, const Command& command) {
    switch (command.header().opcode) {
        case ACAL_OPCODE_VECTOR: return vector_passes(config, command.as<acal_vector_t>());
        case ACAL_OPCODE_REDUCE: return reduce_passes(command.as<acal_reduce_t>());
        case ACAL_OPCODE_SOFTMAX: return softmax_passes(config, command.as<acal_softmax_t>());
        case ACAL_OPCODE_NORM: return norm_passes(config, command.as<acal_norm_t>());
        case ACAL_OPCODE_POOL2D: return pool2d_passes(command.as<acal_pool2d_t>());
        case ACAL_OPCODE_COPY: return copy_passes(command.as<acal_copy_t>());
        case ACAL_OPCODE_FILL: return fill_passes(command.as<acal_fill_t>());
        case ACAL_OPCODE_BARRIER: return {};
        default: throw std::invalid_argument("command: opcode " + std::to_string(command.header().opcode));
    }
}

Plan make_plan(const Config& config, Mapper& mapper, const Command& command) {
    if (auto contraction = make_contraction(config, command)) {
        return make_contraction_plan(config, mapper, command, std::move(contraction));
    }
    return make_sweep_plan(config, mapper, make_passes(config, command));
}

}  // namespace acalsim
