/*
 * Callbacks that the emulator calls once per block, in C because Python costs 1 us each time. They reach unicorn only
 * through the function pointer they are given and include no header of it.
 */
#include <stdbool.h>
#include <stdint.h>

enum { CACHE_BLOCKS = 16384 }; /* a power of two; two bytes of guest code per slot */
enum { PAGE_BITS = 12 };
enum { MEM_FETCH = 18, PROT_READ_WRITE = 3, PROT_ALL = 7 }; /* as in unicorn.h */

typedef struct {
    uint64_t address;
    uint32_t size;
    uint32_t instructions;
} acal_block_t;

/* Shared with Python; acalsim_backend.machine.unicorn declares the fields before `cache` in the same order. */
typedef struct {
    uint64_t retired;       /* instructions of every block entered so far, the current one counted in full */
    uint64_t stop_at;       /* no block is entered once this many have retired: watchdog, or Python's turn */
    uint64_t block_address; /* the current block */
    uint64_t block_size;    /* in bytes */
    uint64_t ram_base;
    uint64_t ram_size;
    const uint8_t *ram;
    uint64_t text_begin; /* page-aligned range of guest code: readable and executable, everything else is data */
    uint64_t text_end;
    int (*stop)(void *engine);
    acal_block_t cache[CACHE_BLOCKS];
} acal_core_t;

uint64_t acal_core_size(void) { return sizeof(acal_core_t); }

/* Bytes of an RV64GC instruction: its two lowest bits are 11 unless it is compressed. */
static uint32_t instruction_bytes(const uint8_t *code) { return (*code & 3) == 3 ? 4 : 2; }

static uint32_t count_instructions(const acal_core_t *core, uint64_t address, uint64_t size) {
    uint64_t offset = address - core->ram_base;
    if (offset > core->ram_size || size > core->ram_size - offset) return 0;
    uint32_t n = 0;
    for (uint64_t at = 0; at < size; at += instruction_bytes(core->ram + offset + at)) n++;
    return n;
}

/* UC_HOOK_BLOCK: counts the block that is about to run, unless it is time to stop before it. */
void acal_on_block(void *engine, uint64_t address, uint32_t size, void *user) {
    acal_core_t *core = user;
    if (core->retired >= core->stop_at) {
        core->block_size = 0;
        core->stop(engine);
        return;
    }
    acal_block_t *block = &core->cache[(address >> 1) & (CACHE_BLOCKS - 1)];
    if (block->address != address || block->size != size) {
        block->address = address;
        block->size = size;
        block->instructions = count_instructions(core, address, size);
    }
    core->block_address = address;
    core->block_size = size;
    core->retired += block->instructions;
}

/* Instructions retired before the one at `pc`, which lies in the current block. */
uint64_t acal_retired_before(const acal_core_t *core, uint64_t pc) {
    uint64_t end = core->block_address + core->block_size;
    if (pc < core->block_address || pc > end) return core->retired;
    return core->retired - count_instructions(core, pc, end - pc);
}

typedef struct {
    uint64_t physical;
    int permissions;
} acal_tlb_entry_t; /* uc_tlb_entry */

/*
 * UC_HOOK_TLB_FILL: the identity mapping. Only code can be executed, and pages of data must not be executable: the
 * emulator would watch stores to them. What is missing or read-only is known to the memory behind.
 */
bool acal_on_tlb_fill(void *engine, uint64_t address, int access, acal_tlb_entry_t *entry, void *user) {
    (void)engine;
    const acal_core_t *core = user;
    bool text = address >= core->text_begin && address < core->text_end;
    if (access == MEM_FETCH && !text) return false;
    entry->physical = address >> PAGE_BITS << PAGE_BITS;
    entry->permissions = text ? PROT_ALL : PROT_READ_WRITE;
    return true;
}
