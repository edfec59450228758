/* Entry of the firmware: runs the image that the machine put into RAM, then powers off. */
#include "acal.h"

/* Written by the machine before reset. */
struct {
    uint64_t image; /* address of the image, 0: none */
} acal_boot __attribute__((section(".data"), used)) = {0};

enum { EXIT_NO_IMAGE = 3 };

void acal_main(const void *device_tree) {
    acal_image_t *image = (acal_image_t *)(uintptr_t)*(volatile uint64_t *)&acal_boot.image;
    if (!image) {
        acal_print("acal: no image: acal_boot.image is 0\n");
        acal_power_off(EXIT_NO_IMAGE);
    }
    acal_devices_begin(device_tree);
    acal_run(image);
    acal_power_off(acal_report(image));
}
