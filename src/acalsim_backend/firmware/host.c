/* The kernels as a library for the host: guest RAM is a block of host memory, and there is no accelerator. */
#include "acal.h"

static _Thread_local char *ram;
static _Thread_local uint64_t ram_address, ram_size;
static _Thread_local uint32_t (*hostcall)(uint32_t index);

/* Guest bytes [guest_base, guest_base + size) are at base, for the calling thread. */
void acal_set_ram(void *base, uint64_t guest_base, uint64_t size) {
    ram = base;
    ram_address = guest_base;
    ram_size = size;
}

/* What runs HOST command number `index`, for the calling thread; returns ACAL_STATUS_*. */
void acal_set_hostcall(uint32_t (*callback)(uint32_t index)) { hostcall = callback; }

void *acal_ptr(uint64_t address) { return ram + (address - ram_address); }

int acal_in_ram(uint64_t address, uint64_t size) {
    return address >= ram_address && size <= ram_size && address - ram_address <= ram_size - size;
}

uint32_t acal_run_image(uint64_t image_address) {
    if (!acal_in_ram(image_address, sizeof(acal_image_t))) return ACAL_STATUS_BAD_ADDRESS;
    acal_image_t *image = acal_ptr(image_address);
    if (image->magic == ACAL_IMAGE_MAGIC && !acal_in_ram(image_address, image->size)) return ACAL_STATUS_BAD_ADDRESS;
    return acal_run(image);
}

void acal_machine_begin(const acal_image_t *image) { (void)image; }

uint64_t acal_instret(void) { return 0; }

/* Without an accelerator its commands run one after the other on the kernels. */
uint32_t acal_submit(acal_image_t *image, uint32_t first, uint32_t n, uint32_t *failed, acal_fault_t *fault) {
    const uint64_t *index = (const uint64_t *)((char *)image + image->index);
    for (*failed = first; *failed < first + n; ++*failed)
        ACAL_TRY(acal_execute((const acal_command_t *)((char *)image + index[*failed]), fault));
    return ACAL_STATUS_OK;
}

uint32_t acal_hostcall(uint32_t index, acal_fault_t *fault) {
    fault->address = 0;
    return hostcall ? hostcall(index) : ACAL_STATUS_UNSUPPORTED;
}
