/* From opcode to kernel. */
#include "acal.h"

/* Bytes of the struct of each opcode; 0 where there is no kernel. */
static uint32_t struct_size(uint16_t opcode) {
    static const uint32_t sizes[] = {
        [ACAL_OPCODE_GEMM] = sizeof(acal_gemm_t),       [ACAL_OPCODE_CONV2D] = sizeof(acal_conv2d_t),
        [ACAL_OPCODE_VECTOR] = sizeof(acal_vector_t),   [ACAL_OPCODE_REDUCE] = sizeof(acal_reduce_t),
        [ACAL_OPCODE_SOFTMAX] = sizeof(acal_softmax_t), [ACAL_OPCODE_NORM] = sizeof(acal_norm_t),
        [ACAL_OPCODE_POOL2D] = sizeof(acal_pool2d_t),   [ACAL_OPCODE_COPY] = sizeof(acal_copy_t),
        [ACAL_OPCODE_FILL] = sizeof(acal_fill_t),       [ACAL_OPCODE_BARRIER] = sizeof(acal_barrier_t),
    };
    return opcode < sizeof sizes / sizeof sizes[0] ? sizes[opcode] : 0;
}

uint32_t acal_execute(const acal_command_t *command, acal_fault_t *fault) {
    fault->address = 0;
    if (command->version != ACAL_ABI_VERSION) return ACAL_STATUS_BAD_VERSION;
    if (struct_size(command->opcode) == 0) return ACAL_STATUS_BAD_OPCODE;
    if (command->size < struct_size(command->opcode)) return ACAL_STATUS_BAD_SHAPE;
    switch (command->opcode) {
        case ACAL_OPCODE_GEMM: return acal_gemm((const acal_gemm_t *)command, fault);
        case ACAL_OPCODE_CONV2D: return acal_conv2d((const acal_conv2d_t *)command, fault);
        case ACAL_OPCODE_VECTOR: return acal_vector((const acal_vector_t *)command, fault);
        case ACAL_OPCODE_REDUCE: return acal_reduce((const acal_reduce_t *)command, fault);
        case ACAL_OPCODE_SOFTMAX: return acal_softmax((const acal_softmax_t *)command, fault);
        case ACAL_OPCODE_NORM: return acal_norm((const acal_norm_t *)command, fault);
        case ACAL_OPCODE_POOL2D: return acal_pool2d((const acal_pool2d_t *)command, fault);
        case ACAL_OPCODE_COPY: return acal_copy((const acal_copy_t *)command, fault);
        case ACAL_OPCODE_FILL: return acal_fill((const acal_fill_t *)command, fault);
        case ACAL_OPCODE_BARRIER: /* commands run one after the other: all before it have completed */
            return ACAL_STATUS_OK;
        default: return ACAL_STATUS_BAD_OPCODE;
    }
}
