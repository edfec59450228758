/* Finding the devices, and driving the accelerator's queue. */
#include "acal.h"

enum { ECHO_DEVICE = 0, FIRST_COMPUTE = 1, ANY_COMPUTE = FIRST_COMPUTE };

static inline uint32_t read32(uintptr_t address) { return *(volatile uint32_t *)address; }

static inline void write32(uintptr_t address, uint32_t value) { *(volatile uint32_t *)address = value; }

static inline uint64_t read64(uintptr_t address) { return *(volatile uint64_t *)address; }

static inline void write64(uintptr_t address, uint64_t value) { *(volatile uint64_t *)address = value; }

static inline void fence(void) { __asm__ volatile("fence iorw, iorw" ::: "memory"); }

/* --- finding ---------------------------------------------------------------------------------- */

enum { PCI_SLOTS = 32, PCI_SLOT_SHIFT = 15, PCI_COMMAND = 0x04, PCI_BAR0 = 0x10, PCI_BAR1 = 0x14 };
enum { PCI_MEMORY_AND_MASTER = 6, PCI_BAR_TYPE = 6, PCI_BAR_64_BIT = 4 };

static uintptr_t pci_base; /* where the device's BAR0 was placed; 0: devices have fixed addresses */
static int found_by_pci, absent;

/* Places BAR0 of the accelerator and returns its base; 0 if no slot of bus 0 holds it. */
static uintptr_t scan_pci(void) {
    for (uintptr_t slot = 0; slot < PCI_SLOTS; slot++) {
        uintptr_t function = ACAL_PCI_ECAM_BASE + (slot << PCI_SLOT_SHIFT);
        if (read32(function) != ACAL_PCI_ID) continue;
        uint32_t type = read32(function + PCI_BAR0) & PCI_BAR_TYPE;
        write32(function + PCI_BAR0, ACAL_PCI_BAR_BASE);
        if (type == PCI_BAR_64_BIT) write32(function + PCI_BAR1, 0);
        *(volatile uint16_t *)(function + PCI_COMMAND) |= PCI_MEMORY_AND_MASTER;
        return ACAL_PCI_BAR_BASE;
    }
    return 0;
}

void acal_devices_begin(const void *device_tree) {
    found_by_pci = device_tree != 0;
    if (found_by_pci) {
        pci_base = scan_pci();
        absent = pci_base == 0;
    }
}

uintptr_t acal_device(uint32_t i) {
    if (absent) return 0;
    if (found_by_pci) return pci_base + (uintptr_t)i * ACAL_DEVICE_SIZE;
    return ACAL_DEVICE_BASE + (uintptr_t)i * ACAL_DEVICE_STRIDE;
}

uintptr_t acal_mmio(uintptr_t address) {
    uintptr_t offset = address - ACAL_DEVICE_BASE;
    return acal_device((uint32_t)(offset / ACAL_DEVICE_STRIDE)) + offset % ACAL_DEVICE_STRIDE;
}

/* --- time ------------------------------------------------------------------------------------- */

/* An emulator with an exact count of its own answers in CPU_TIME; QEMU counts in minstret. */
uint64_t acal_instret(void) {
    uint64_t count;
    if (!found_by_pci) return read64(acal_device(ANY_COMPUTE) + ACAL_REGISTER_CPU_TIME);
    __asm__ volatile("csrr %0, minstret" : "=r"(count));
    return count;
}

static void tell_time(uintptr_t device) {
    uint64_t now = 0; /* which a device that is told by its emulator ignores: both ways cost the same */
    if (found_by_pci) now = acal_instret();
    write64(device + ACAL_REGISTER_CPU_TIME, now);
}

/* --- queue ------------------------------------------------------------------------------------ */

static uint32_t device_error(uintptr_t device, uint32_t fallback, uint32_t *failed, acal_fault_t *fault) {
    uint32_t code = read32(device + ACAL_REGISTER_ERR_CODE);
    *failed = read32(device + ACAL_REGISTER_ERR_COMMAND);
    fault->address = read64(device + ACAL_REGISTER_ERR_ADDR);
    return code != ACAL_STATUS_OK ? code : fallback;
}

void acal_machine_begin(const acal_image_t *image) { (void)image; }

uint32_t acal_submit(acal_image_t *image, uint32_t first, uint32_t n, uint32_t *failed, acal_fault_t *fault) {
    const uint64_t *index = (const uint64_t *)((char *)image + image->index);
    acal_queue_entry_t *ring = (acal_queue_entry_t *)((char *)image + image->queue);
    const acal_command_t *command = (const acal_command_t *)((char *)image + index[first]);
    uintptr_t device = acal_device(FIRST_COMPUTE + command->device);
    if (!device || n > image->queue_entries) return ACAL_STATUS_BAD_QUEUE;
    write64(device + ACAL_REGISTER_QBASE, (uint64_t)(uintptr_t)ring);
    write32(device + ACAL_REGISTER_QSIZE, image->queue_entries);
    uint32_t tail = read32(device + ACAL_REGISTER_TAIL);
    for (uint32_t i = 0; i < n; i++) {
        acal_queue_entry_t *entry = &ring[(tail + i) & (image->queue_entries - 1)];
        entry->command = (uint64_t)(uintptr_t)image + index[first + i];
        entry->id = ((const acal_command_t *)entry->command)->id;
        entry->flags = 0;
    }
    fence();
    tell_time(device);
    write32(device + ACAL_REGISTER_TAIL, tail + n);
    tell_time(device);
    (void)read64(device + ACAL_REGISTER_WAIT);
    fence();
    if (read32(device + ACAL_REGISTER_STATUS) & ACAL_STATUSBIT_ERROR)
        return device_error(device, ACAL_STATUS_INTERNAL, failed, fault);
    return ACAL_STATUS_OK;
}

uint32_t acal_hostcall(uint32_t index, acal_fault_t *fault) {
    uintptr_t device = acal_device(ANY_COMPUTE);
    uint32_t failed;
    if (!device) return ACAL_STATUS_BAD_QUEUE;
    fence();
    tell_time(device);
    write32(device + ACAL_REGISTER_HOSTCALL, index);
    fence();
    if (read32(device + ACAL_REGISTER_STATUS) & ACAL_STATUSBIT_ERROR)
        return device_error(device, ACAL_STATUS_INTERNAL, &failed, fault);
    return ACAL_STATUS_OK;
}
