/* Checking operands, and loop nests over them. */
#include "acal.h"

int acal_present(const acal_operand_t *operand) { return operand->flags & ACAL_OPERANDFLAG_PRESENT; }

int acal_same_dims(const acal_operand_t *a, const acal_operand_t *b) {
    int same = a->rank == b->rank;
    for (int i = 0; same && i < a->rank; i++) same = a->dims[i] == b->dims[i];
    return same;
}

int64_t acal_numel(const acal_operand_t *operand) {
    int64_t n = 1;
    for (int i = 0; i < operand->rank; i++) n *= operand->dims[i];
    return n;
}

/* Bytes that the operand reaches below and above its first element; fails where that overflows. */
static int extent(const acal_operand_t *operand, int64_t *low, int64_t *high) {
    int64_t size = acal_itemsize(operand->dtype), reach;
    int failed = 0;
    *low = 0;
    *high = size;
    for (int i = 0; i < operand->rank; i++) {
        failed |= __builtin_mul_overflow(operand->strides[i], size, &reach);
        failed |= __builtin_mul_overflow(operand->dims[i] - 1, reach, &reach);
        failed |= __builtin_add_overflow(reach < 0 ? *low : *high, reach, reach < 0 ? low : high);
    }
    return !failed;
}

uint32_t acal_check_operand(const acal_operand_t *operand, acal_fault_t *fault) {
    int64_t low, high, numel = 1;
    fault->address = operand->addr;
    if (!acal_present(operand)) return ACAL_STATUS_BAD_ADDRESS;
    if (operand->dtype > ACAL_DTYPE_F64) return ACAL_STATUS_BAD_DTYPE;
    if (operand->rank > ACAL_MAX_RANK) return ACAL_STATUS_BAD_RANK;
    if (operand->zero_point != 0) return ACAL_STATUS_UNSUPPORTED;
    for (int i = 0; i < operand->rank; i++)
        if (operand->dims[i] < 0 || __builtin_mul_overflow(numel, operand->dims[i], &numel))
            return ACAL_STATUS_BAD_SHAPE;
    if (operand->addr % (uint64_t)acal_itemsize(operand->dtype) != 0) return ACAL_STATUS_UNALIGNED;
    if (numel != 0) {
        if (!extent(operand, &low, &high)) return ACAL_STATUS_BAD_ADDRESS;
        if (!acal_in_ram(operand->addr + (uint64_t)low, (uint64_t)high - (uint64_t)low)) return ACAL_STATUS_BAD_ADDRESS;
    }
    fault->address = 0;
    return ACAL_STATUS_OK;
}

uint32_t acal_check_optional(const acal_operand_t *operand, acal_fault_t *fault) {
    return acal_present(operand) ? acal_check_operand(operand, fault) : ACAL_STATUS_OK;
}

/* --- nests ------------------------------------------------------------------------------------ */

/* Dimensions of a nest before it is split into outer dimensions and row; strides in elements. */
typedef struct {
    int32_t rank;
    int64_t dims[ACAL_MAX_RANK];
    int64_t strides[ACAL_NEST_OPERANDS][ACAL_MAX_RANK];
} space_t;

static int64_t magnitude(int64_t x) { return x < 0 ? -x : x; }

/* Inserts a dimension so that the first operand's strides fall. */
static void insert_dimension(space_t *space, const acal_operand_t *const *operands, int32_t n, int32_t axis) {
    int32_t at = space->rank++;
    /* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): no nest is without operands, so strides[0] is set. */
    while (at > 0 && magnitude(space->strides[0][at - 1]) < magnitude(operands[0]->strides[axis])) {
        space->dims[at] = space->dims[at - 1];
        for (int32_t k = 0; k < n; k++) space->strides[k][at] = space->strides[k][at - 1];
        at--;
    }
    space->dims[at] = operands[0]->dims[axis];
    for (int32_t k = 0; k < n; k++) space->strides[k][at] = operands[k]->strides[axis];
}

/* Whether dimension i + 1 can be counted on into dimension i. */
static int mergeable(const space_t *space, int32_t n, int32_t i) {
    int merge = 1;
    for (int32_t k = 0; k < n; k++) merge &= space->strides[k][i] == space->strides[k][i + 1] * space->dims[i + 1];
    return merge;
}

static void merge_dimensions(space_t *space, int32_t n) {
    int32_t last = 0;
    for (int32_t i = 1; i < space->rank; i++) {
        space->dims[last + 1] = space->dims[i];
        for (int32_t k = 0; k < n; k++) space->strides[k][last + 1] = space->strides[k][i];
        if (mergeable(space, n, last)) {
            space->dims[last] *= space->dims[last + 1];
            for (int32_t k = 0; k < n; k++) space->strides[k][last] = space->strides[k][last + 1];
        } else {
            last++;
        }
    }
    space->rank = last + 1;
}

int acal_nest_begin(acal_nest_t *nest, const acal_operand_t *const *operands, int32_t n) {
    space_t space;
    space.rank = 0;
    for (int32_t axis = 0; axis < operands[0]->rank; axis++) {
        if (operands[0]->dims[axis] == 0) return 0;
        if (operands[0]->dims[axis] > 1) insert_dimension(&space, operands, n, axis);
    }
    if (space.rank == 0) { /* a single element */
        space.rank = 1;
        space.dims[0] = 1;
        for (int32_t k = 0; k < n; k++) space.strides[k][0] = 1;
    }
    merge_dimensions(&space, n);

    nest->rank = space.rank - 1;
    nest->n_operands = n;
    nest->row = space.dims[nest->rank];
    for (int32_t i = 0; i < nest->rank; i++) {
        nest->dims[i] = space.dims[i];
        nest->index[i] = 0;
    }
    for (int32_t k = 0; k < n; k++) {
        nest->row_stride[k] = space.strides[k][nest->rank];
        nest->data[k] = acal_ptr(operands[k]->addr);
        for (int32_t i = 0; i < nest->rank; i++)
            nest->steps[k][i] = space.strides[k][i] * acal_itemsize(operands[k]->dtype);
    }
    return 1;
}

int acal_nest_next(acal_nest_t *nest) {
    for (int32_t i = nest->rank - 1; i >= 0; i--) {
        if (++nest->index[i] < nest->dims[i]) {
            for (int32_t k = 0; k < nest->n_operands; k++) nest->data[k] += nest->steps[k][i];
            return 1;
        }
        nest->index[i] = 0;
        for (int32_t k = 0; k < nest->n_operands; k++) nest->data[k] -= nest->steps[k][i] * (nest->dims[i] - 1);
    }
    return 0;
}
