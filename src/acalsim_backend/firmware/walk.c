/* The walker: runs the commands of an image in order, on this core, on an accelerator or on the host. */
#include "acal.h"

static void *at(acal_image_t *image, uint64_t offset) { return (char *)image + offset; }

/* Whether a table of n items lies inside the image. */
static int table_fits(const acal_image_t *image, uint64_t offset, uint64_t n, uint64_t item) {
    return offset <= image->size && n <= (image->size - offset) / item;
}

static uint32_t check_image(const acal_image_t *image, acal_fault_t *fault) {
    fault->address = 0;
    if (image->magic != ACAL_IMAGE_MAGIC || image->version != ACAL_ABI_VERSION) return ACAL_STATUS_BAD_VERSION;
    int fits = table_fits(image, image->index, image->n_commands, sizeof(uint64_t)) &&
               table_fits(image, image->bindings, image->n_tensors, sizeof(uint64_t)) &&
               table_fits(image, image->relocations, image->n_relocations, sizeof(acal_relocation_t)) &&
               table_fits(image, image->records, image->n_commands, sizeof(acal_record_t)) &&
               table_fits(image, image->queue, image->queue_entries, sizeof(acal_queue_entry_t));
    return fits ? ACAL_STATUS_OK : ACAL_STATUS_BAD_ADDRESS;
}

static uint32_t relocate(acal_image_t *image, acal_fault_t *fault) {
    const acal_relocation_t *relocations = at(image, image->relocations);
    const uint64_t *bindings = at(image, image->bindings);
    for (uint32_t i = 0; i < image->n_relocations; i++) {
        const acal_relocation_t *r = &relocations[i];
        if (r->tensor >= image->n_tensors || r->offset % 8 != 0 || !table_fits(image, r->offset, 1, 8)) {
            fault->address = r->offset;
            return ACAL_STATUS_BAD_ADDRESS;
        }
        *(uint64_t *)at(image, r->offset) = bindings[r->tensor] + (uint64_t)r->addend;
    }
    return ACAL_STATUS_OK;
}

/* Command i, or 0 if the index points outside the image. */
static const acal_command_t *command_at(acal_image_t *image, uint32_t i) {
    uint64_t offset = ((const uint64_t *)at(image, image->index))[i];
    if (offset % 8 != 0 || !table_fits(image, offset, 1, sizeof(acal_command_t))) return 0;
    const acal_command_t *command = at(image, offset);
    return table_fits(image, offset, 1, command->size) ? command : 0;
}

/* Length of the run of accelerator commands for one device that starts at `first`. */
static uint32_t segment_length(acal_image_t *image, uint32_t first) {
    uint16_t device = command_at(image, first)->device;
    uint32_t n = 1;
    for (; first + n < image->n_commands; n++) {
        const acal_command_t *command = command_at(image, first + n);
        if (!command || command->placement != ACAL_PLACEMENT_ACCELERATOR || command->device != device) break;
    }
    return n;
}

/* Runs command i on this core or on the host, and records when. */
static uint32_t run_here(acal_image_t *image, uint32_t i, const acal_command_t *command, acal_fault_t *fault) {
    acal_record_t *record = (acal_record_t *)at(image, image->records) + i;
    record->begin = acal_instret();
    if (command->placement == ACAL_PLACEMENT_HOST)
        ACAL_TRY(acal_hostcall(i, fault));
    else
        ACAL_TRY(acal_execute(command, fault));
    record->end = acal_instret();
    return ACAL_STATUS_OK;
}

/* Runs the command at *i, or the segment that starts there, and moves *i behind it; on failure *i is the culprit. */
static uint32_t step(acal_image_t *image, uint32_t *i, acal_fault_t *fault) {
    const acal_command_t *command = command_at(image, *i);
    fault->address = 0;
    if (!command) return ACAL_STATUS_BAD_ADDRESS;
    if (command->placement == ACAL_PLACEMENT_ACCELERATOR) {
        uint32_t n = segment_length(image, *i), failed = *i;
        uint32_t status = acal_submit(image, *i, n, &failed, fault);
        *i = status == ACAL_STATUS_OK ? *i + n : failed;
        return status;
    }
    ACAL_TRY(run_here(image, *i, command, fault));
    ++*i;
    return ACAL_STATUS_OK;
}

static void finish(acal_image_t *image, uint32_t status, uint32_t command, uint64_t address) {
    image->status = status;
    image->failed_command = status == ACAL_STATUS_OK ? 0 : command;
    image->failed_address = address;
}

static uint32_t walk(acal_image_t *image, uint32_t *i, acal_fault_t *fault) {
    image->instret_begin = acal_instret();
    while (*i < image->n_commands) ACAL_TRY(step(image, i, fault));
    image->instret_end = acal_instret();
    return ACAL_STATUS_OK;
}

uint32_t acal_run(acal_image_t *image) {
    acal_fault_t fault = {0};
    uint32_t i = 0;
    uint32_t status = check_image(image, &fault);
    if (status == ACAL_STATUS_OK) status = relocate(image, &fault);
    if (status == ACAL_STATUS_OK) {
        acal_machine_begin(image);
        status = walk(image, &i, &fault);
    }
    finish(image, status, i, fault.address);
    image->runs++;
    return status;
}

void acal_begin(acal_image_t *image) {
    finish(image, ACAL_STATUS_OK, 0, 0);
    acal_machine_begin(image);
    image->instret_begin = acal_instret();
}

void acal_on_cpu(acal_image_t *image, uint32_t i) {
    acal_fault_t fault = {0};
    if (image->status == ACAL_STATUS_OK)
        finish(image, run_here(image, i, command_at(image, i), &fault), i, fault.address);
}

void acal_inline_begin(acal_image_t *image, uint32_t i) {
    ((acal_record_t *)at(image, image->records))[i].begin = acal_instret();
}

void acal_inline_end(acal_image_t *image, uint32_t i) {
    ((acal_record_t *)at(image, image->records))[i].end = acal_instret();
}

void acal_on_accelerator(acal_image_t *image, uint32_t first, uint32_t n) {
    acal_fault_t fault = {0};
    uint32_t failed = first;
    if (image->status == ACAL_STATUS_OK) {
        uint32_t status = acal_submit(image, first, n, &failed, &fault);
        finish(image, status, failed, fault.address);
    }
}

uint32_t acal_end(acal_image_t *image) {
    image->instret_end = acal_instret();
    image->runs++;
    return image->status;
}
