/* Writes a word to the Echo device, polls it back and says what it was. */
#include "acal.h"

int main(void)
{
    volatile uint32_t *echo = (volatile uint32_t *)acal_device(0);
    if (!echo)
        return 2;
    echo[ACAL_REGISTER_DATA_IN / 4] = 0x3F800000;
    while (!(echo[ACAL_REGISTER_STATUS / 4] & ACAL_STATUSBIT_DATA_READY))
        ;
    acal_print("echo: ");
    acal_print_hex(echo[ACAL_REGISTER_DATA_OUT / 4]);
    acal_print("\n");
    echo[ACAL_REGISTER_DATA_IN / 4] = 0xDEADBEEF;
    return 0;
}
