#include "acalsim/plan.h"

#include <stdexcept>

#include "plan/plans.h"

namespace acalsim {

Plan make_plan(const Config& config, Mapper& mapper, const Command& command) {
    switch (command.header().opcode) {
        case ACAL_OPCODE_GEMM: return plan_gemm(config, mapper, command.as<acal_gemm_t>());
        case ACAL_OPCODE_CONV2D: return plan_conv2d(config, mapper, command.as<acal_conv2d_t>());
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
