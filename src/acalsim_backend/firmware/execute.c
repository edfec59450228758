/* From opcode to kernel. */
#include "acal.h"

/* Bytes of the struct of each opcode; 0 where there is no kernel. */
static uint32_t struct_size(uint16_t opcode) {
#define SIZE(NAME, name) [ACAL_OPCODE_##NAME] = sizeof(acal_##name##_t),
    static const uint32_t sizes[] = {ACAL_COMMANDS(SIZE)};
#undef SIZE
    return opcode < sizeof sizes / sizeof sizes[0] ? sizes[opcode] : 0;
}

uint32_t acal_execute(const acal_command_t *command, acal_fault_t *fault) {
    fault->address = 0;
    if (command->version != ACAL_ABI_VERSION) return ACAL_STATUS_BAD_VERSION;
    if (struct_size(command->opcode) == 0) return ACAL_STATUS_BAD_OPCODE;
    if (command->size < struct_size(command->opcode)) return ACAL_STATUS_BAD_SHAPE;
    switch (command->opcode) {
#define CASE(NAME, name) \
    case ACAL_OPCODE_##NAME: return acal_##name((const acal_##name##_t *)command, fault);
        ACAL_COMMANDS(CASE)
#undef CASE
        default: return ACAL_STATUS_BAD_OPCODE;
    }
}

/* Commands run one after the other: all before it have completed. */
uint32_t acal_barrier(const acal_barrier_t *command, acal_fault_t *fault) {
    (void)command;
    (void)fault;
    return ACAL_STATUS_OK;
}
