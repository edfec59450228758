/* Entry of a generated program: calls its main and powers off with what that returns. */
#include "acal.h"

int main(void);

void acal_main(const void *device_tree) {
    acal_devices_begin(device_tree);
    if (!acal_device(0))
        acal_print(
            "acal: no accelerator on this board: a plain -M virt has none. Run the program with\n"
            "acal: `acalsim device serve` and the QEMU command line that it prints, or with acalsim itself.\n");
    acal_power_off((uint32_t)main());
}
