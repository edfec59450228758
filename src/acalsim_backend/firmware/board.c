/* The board apart from its devices: memory, UART and power. */
#include "acal.h"

enum { EXIT_COMMAND_FAILED = 1 };

/* On RISC-V an address is a pointer; RAM ends where the machine says by a fault. */
void *acal_ptr(uint64_t address) { return (void *)(uintptr_t)address; }

int acal_in_ram(uint64_t address, uint64_t size) { return address >= ACAL_RAM_BASE && address + size >= address; }

void acal_print(const char *text) {
    for (; *text; text++) *(volatile uint8_t *)(uintptr_t)ACAL_UART_BASE = (uint8_t)*text;
}

void acal_print_hex(uint64_t value) {
    char digits[19] = "0x";
    for (int i = 0; i < 16; i++) digits[2 + i] = "0123456789abcdef"[(value >> (60 - 4 * i)) & 15];
    digits[18] = 0;
    acal_print(digits);
}

_Noreturn void acal_power_off(uint32_t code) {
    volatile uint32_t *power_off = (volatile uint32_t *)(uintptr_t)ACAL_POWER_OFF;
    *power_off = code ? code << 16 | ACAL_POWER_OFF_FAIL : ACAL_POWER_OFF_PASS;
    for (;;);
}

uint32_t acal_report(const acal_image_t *image) {
    if (image->status == ACAL_STATUS_OK) return 0;
    acal_print("acal: command ");
    acal_print_hex(image->failed_command);
    acal_print(" failed with status ");
    acal_print_hex(image->status);
    acal_print(" at address ");
    acal_print_hex(image->failed_address);
    acal_print("\n");
    return EXIT_COMMAND_FAILED;
}
