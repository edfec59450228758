/* Entry of a generated program: calls its main and powers off with what that returns. */
#include "acal.h"

int main(void);

void acal_main(const void *device_tree) {
    acal_devices_begin(device_tree);
    acal_power_off((uint32_t)main());
}
