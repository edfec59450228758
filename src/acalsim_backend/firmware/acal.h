/*
 * What the kernels, the walker and the driver share. Kernels see operands and addresses only; they know nothing of
 * machines. The same sources run on the RISC-V core and, as a library, on the host.
 */
#ifndef ACAL_H
#define ACAL_H

#include "acal_abi.h"

/* Working memory of kernels: one per thread on the host, not cleared at reset on the guest. */
#if defined(__riscv)
#define ACAL_SCRATCH static __attribute__((section(".scratch"), aligned(64)))
#else
#define ACAL_SCRATCH static _Thread_local __attribute__((aligned(64)))
#endif

/* Leaves the function with a status that is not OK. */
#define ACAL_TRY(status)                               \
    do {                                               \
        uint32_t status_ = (status);                   \
        if (status_ != ACAL_STATUS_OK) return status_; \
    } while (0)

/* --- running commands ------------------------------------------------------------------------- */

/* Where a command went wrong: the address of the operand or byte, 0 if no address is to blame. */
typedef struct {
    uint64_t address;
} acal_fault_t;

/* Run one command by its opcode, whatever its placement; returns ACAL_STATUS_*. Never crashes on a bad command. */
uint32_t acal_execute(const acal_command_t *command, acal_fault_t *fault);

/* The kernel of each command. */
#define ACAL_KERNEL(NAME, name) uint32_t acal_##name(const acal_##name##_t *command, acal_fault_t *fault);
ACAL_COMMANDS(ACAL_KERNEL)
#undef ACAL_KERNEL

/* --- guest memory ----------------------------------------------------------------------------- */

/* Pointer to a guest address that acal_check_operand found in range. */
void *acal_ptr(uint64_t address);

/* Whether guest bytes [address, address + size) are RAM. */
int acal_in_ram(uint64_t address, uint64_t size);

/* Checks dtype, rank, dims, alignment and address range of a required operand. */
uint32_t acal_check_operand(const acal_operand_t *operand, acal_fault_t *fault);

/* The same for an operand that may be absent. */
uint32_t acal_check_optional(const acal_operand_t *operand, acal_fault_t *fault);

int acal_present(const acal_operand_t *operand);
int acal_same_dims(const acal_operand_t *a, const acal_operand_t *b);
int64_t acal_numel(const acal_operand_t *operand);

/* --- element types ---------------------------------------------------------------------------- */

/* Kernels compute in three types: f16, bf16 and f32 as f32; f64 as f64; integers and bool as i64. */
typedef enum { ACAL_CLASS_F32, ACAL_CLASS_F64, ACAL_CLASS_I64, ACAL_CLASSES } acal_class_t;

enum { ACAL_BLOCK = ACAL_VECTOR_BLOCK }; /* elements that row kernels buffer at a time */

acal_class_t acal_class(uint8_t dtype);
int64_t acal_itemsize(uint8_t dtype);
int acal_is_float(uint8_t dtype);
int64_t acal_class_size(acal_class_t type);

/* Whether the dtype is the type of its class, so that memory needs no conversion. */
int acal_is_natural(uint8_t dtype);

/* values[i] (of the dtype's class) = memory[i * stride], i < n; stride in elements. */
void acal_load_row(void *values, const void *memory, uint8_t dtype, int64_t stride, int64_t n);

/* memory[i * stride] = values[i] rounded to dtype. */
void acal_store_row(void *memory, const void *values, uint8_t dtype, int64_t stride, int64_t n);

/* to[i * to_stride] = from[i * from_stride] without looking at the values, so that NaNs keep their bits. */
void acal_move_row(void *to, int64_t to_stride, const void *from, int64_t from_stride, int64_t itemsize, int64_t n);

/* values[i] rounded to dtype, in place; 0 where the dtype is the class's own type. */
typedef void acal_round_t(void *values, int64_t n);
acal_round_t *acal_rounding(uint8_t dtype);
void acal_round_row(void *values, uint8_t dtype, int64_t n);

/* Conversion from the class of one dtype to the class of another; the result is rounded by acal_round_row. */
typedef void acal_convert_t(void *to, const void *from, int64_t n);
acal_convert_t *acal_conversion(uint8_t to, uint8_t from);

/* Applies ACAL_ACTIVATION_* to values of a class. */
typedef void acal_activate_t(void *values, int64_t n);
uint32_t acal_activation(uint32_t activation, acal_class_t type, acal_activate_t **function);

/* --- iteration -------------------------------------------------------------------------------- */

enum { ACAL_NEST_OPERANDS = 12 };

/*
 * A loop nest over operands of equal dims. Dimensions are ordered by the stride of the first operand and merged where
 * all operands allow; the innermost is left to the caller as a row.
 */
typedef struct {
    int32_t rank, n_operands;
    int64_t row;                                      /* elements of the innermost dimension */
    int64_t row_stride[ACAL_NEST_OPERANDS];           /* their strides, in elements */
    char *data[ACAL_NEST_OPERANDS];                   /* first element of the current row */
    int64_t dims[ACAL_MAX_RANK];                      /* outer dimensions */
    int64_t steps[ACAL_NEST_OPERANDS][ACAL_MAX_RANK]; /* their strides, in bytes */
    int64_t index[ACAL_MAX_RANK];
} acal_nest_t;

/* Starts a nest; returns 0 if there is nothing to iterate over. */
int acal_nest_begin(acal_nest_t *nest, const acal_operand_t *const *operands, int32_t n);

/* Goes to the next row; returns 0 after the last. */
int acal_nest_next(acal_nest_t *nest);

/* --- matrix product --------------------------------------------------------------------------- */

/* A strided matrix in memory. Strides in elements. */
typedef struct {
    const void *data;
    int64_t row_stride, column_stride;
    uint8_t dtype;
} acal_matrix_t;

/* Writes W-wide panels [panel][k][W] of b's columns [column, column + columns) and rows [k, k + depth). */
typedef void acal_pack_t(const void *context, void *panels, int64_t column, int64_t columns, int64_t k, int64_t depth);

/* Writes the class values of a's row at columns [k, k + depth). */
typedef void acal_load_a_t(const void *context, void *values, int64_t row, int64_t k, int64_t depth);

/* out = activation(round(alpha * a @ b + beta * bias)), m x n, depth k. */
typedef struct {
    int64_t m, n, k;
    acal_class_t type;
    acal_matrix_t a; /* used where load_a is 0 */
    acal_matrix_t b; /* used where pack_b is 0 */
    acal_load_a_t *load_a;
    acal_pack_t *pack_b;
    const void *context;
    acal_matrix_t out;
    acal_matrix_t bias; /* data 0: none */
    float alpha, beta;
    int narrow_integers; /* accumulate in 32 bits */
    acal_activate_t *activate;
} acal_product_t;

void acal_product(const acal_product_t *product);

/* Turns n sums into results and stores them at (row, column) of out. */
void acal_finish_row(const acal_product_t *product, void *sums, int64_t row, int64_t column, int64_t n);

/*
 * A group of an image with few filters (m of the product), without a matrix product; `image` is its first channel. Uses
 * a, load_a, out and what turns sums into results; returns 0 if the sizes do not suit it.
 */
int acal_conv2d_narrow(const acal_conv2d_t *command, const acal_product_t *product, const char *image);

/* Distributes a row of `columns` class values to row k of W-wide panels of the given depth, zero-filling the last. */
void acal_panel_row(void *panels, const void *row, acal_class_t type, int64_t columns, int64_t k, int64_t depth);

/* --- walker and devices ----------------------------------------------------------------------- */

/*
 * Run an image: patch addresses from the binding table, walk the commands, fill the records and the result fields of
 * the header. Returns the status that the header holds.
 */
uint32_t acal_run(acal_image_t *image);

/*
 * The same, spelled out by generated C: acal_begin, then every command in order, acal_end. After a command that failed
 * the others do nothing; acal_end returns the status.
 */
void acal_begin(acal_image_t *image);
void acal_on_cpu(acal_image_t *image, uint32_t i);
void acal_on_accelerator(acal_image_t *image, uint32_t first, uint32_t n);
void acal_inline_begin(acal_image_t *image, uint32_t i); /* around code that does what command i says */
void acal_inline_end(acal_image_t *image, uint32_t i);
uint32_t acal_end(acal_image_t *image);

/* What the walker needs from its machine (driver.c on the guest, host.c on the host). */
void acal_machine_begin(const acal_image_t *image);
uint64_t acal_instret(void);

/*
 * Run the commands first .. first + n - 1 on their accelerator and wait. On failure *failed is the index of the
 * command.
 */
uint32_t acal_submit(acal_image_t *image, uint32_t first, uint32_t n, uint32_t *failed, acal_fault_t *fault);

/* Have the host run HOST command number `index`. */
uint32_t acal_hostcall(uint32_t index, acal_fault_t *fault);

#if defined(__riscv)
/* Base address of device i (0 Echo, 1 and up Compute); 0 if the machine has none. */
uintptr_t acal_device(uint32_t i);

/* Where the register at an address of the fixed memory map is on this machine. */
uintptr_t acal_mmio(uintptr_t address);

/* Find the devices: by PCI if a device tree was passed at reset, else at their fixed addresses. */
void acal_devices_begin(const void *device_tree);

/* Print which command of an image failed, if one did; returns the exit code. */
uint32_t acal_report(const acal_image_t *image);

void acal_print(const char *text);
void acal_print_hex(uint64_t value);
_Noreturn void acal_power_off(uint32_t code);
#endif

void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);

#endif
