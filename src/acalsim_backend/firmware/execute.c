/* From opcode to kernel. */
#include "acal.h"

uint32_t acal_execute(const acal_command_t *command, acal_fault_t *fault)
{
    fault->address = 0;
    if (command->version != ACAL_ABI_VERSION)
        return ACAL_STATUS_BAD_VERSION;
    switch (command->opcode) {
    case ACAL_OPCODE_GEMM:
        return acal_gemm((const acal_gemm_t *)command, fault);
    case ACAL_OPCODE_CONV2D:
        return acal_conv2d((const acal_conv2d_t *)command, fault);
    case ACAL_OPCODE_VECTOR:
        return acal_vector((const acal_vector_t *)command, fault);
    case ACAL_OPCODE_REDUCE:
        return acal_reduce((const acal_reduce_t *)command, fault);
    case ACAL_OPCODE_SOFTMAX:
        return acal_softmax((const acal_softmax_t *)command, fault);
    case ACAL_OPCODE_NORM:
        return acal_norm((const acal_norm_t *)command, fault);
    case ACAL_OPCODE_POOL2D:
        return acal_pool2d((const acal_pool2d_t *)command, fault);
    case ACAL_OPCODE_COPY:
        return acal_copy((const acal_copy_t *)command, fault);
    case ACAL_OPCODE_FILL:
        return acal_fill((const acal_fill_t *)command, fault);
    case ACAL_OPCODE_BARRIER: /* commands run one after the other: all before it have completed */
        return ACAL_STATUS_OK;
    default:
        return ACAL_STATUS_BAD_OPCODE;
    }
}
