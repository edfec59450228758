/* Traps: nothing in the firmware expects one, so each is reported and ends the run. */
#include "acal.h"

/* Read by the machine after a failed run. */
struct {
    uint64_t cause, pc, address;
} acal_trap;

enum { EXIT_TRAP = 2 };

/* Called by the handler in start.S with mcause, mepc and mtval. */
_Noreturn void acal_trapped(uint64_t cause, uint64_t pc, uint64_t address) {
    acal_trap.cause = cause;
    acal_trap.pc = pc;
    acal_trap.address = address;
    acal_print("acal: trap, cause ");
    acal_print_hex(cause);
    acal_print(" pc ");
    acal_print_hex(pc);
    acal_print(" address ");
    acal_print_hex(address);
    acal_print("\n");
    acal_power_off(EXIT_TRAP);
}
