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

Plan make_plan(const Config& config, Mapper& mapper, const Command& command) {
    switch (command.header().opcode) {
        case ACAL_OPCODE_GEMM:
        case ACAL_OPCODE_CONV2D:
            return make_contraction_plan(config, mapper, command, make_contraction(config, command));
        case ACAL_OPCODE_VECTOR: return plan_vector(config, command.as<acal_vector_t>());
        case ACAL_OPCODE_REDUCE: return plan_reduce(config, command.as<acal_reduce_t>());
        case ACAL_OPCODE_SOFTMAX: return plan_softmax(config, command.as<acal_softmax_t>());
        case ACAL_OPCODE_NORM: return plan_norm(config, command.as<acal_norm_t>());
        case ACAL_OPCODE_POOL2D: return plan_pool2d(config, command.as<acal_pool2d_t>());
        case ACAL_OPCODE_COPY: return plan_copy(config, command.as<acal_copy_t>());
        case ACAL_OPCODE_FILL: return plan_fill(config, command.as<acal_fill_t>());
        case ACAL_OPCODE_BARRIER: return {};
        default: throw std::invalid_argument("command: opcode " + std::to_string(command.header().opcode));
    }
}

}  // namespace acalsim
