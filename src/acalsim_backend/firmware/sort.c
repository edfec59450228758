/*
 * SORT: a stable merge sort from the bottom up of keys, 64 bits that are ordered as the elements are, and their
 * positions. Each step of a merge does the same whatever the keys are, so that its time follows from shapes alone.
 */
#include "acal.h"
#include "numeric.h"

/* Keys and positions; merges go from one pair to the other. */
typedef struct {
    uint64_t *keys;
    int64_t *positions;
} pairs_t;

/* A row along the sorted axis, of n elements, of which k are asked for. */
typedef struct {
    const acal_sort_t *command;
    int64_t n, k;
    const char *x;
    char *values, *indices; /* 0: nobody asks for them */
    pairs_t from, to;
    uint64_t loaded[ACAL_BLOCK];
} row_t;

static uint64_t flipped(uint64_t bits, uint64_t sign) {
    uint64_t negative = acal_mask64((bits & sign) != 0);
    return bits ^ (negative | sign);
}

/* Order-preserving: zeros of both signs are equal, and NaNs are equal and the largest. */
static uint64_t key_of_f32(float x) {
    uint64_t key = flipped(acal_bits_of_f32(x + 0.0f), 0x80000000u) & 0xffffffffu;
    return key | acal_mask64(x != x);
}

static uint64_t key_of_f64(double x) {
    return flipped(acal_bits_of_f64(x + 0.0), (uint64_t)1 << 63) | acal_mask64(x != x);
}

static uint64_t key_of_i64(int64_t x) { return (uint64_t)x ^ (uint64_t)1 << 63; }

#define KEYS(NAME, TYPE, KEY)                                                        \
    static void NAME(uint64_t *keys, const void *values, uint64_t flip, int64_t n) { \
        const TYPE *value = values;                                                  \
        for (int64_t i = 0; i < n; i++) keys[i] = KEY(value[i]) ^ flip;              \
    }

KEYS(keys_of_f32, float, key_of_f32)
KEYS(keys_of_f64, double, key_of_f64)
KEYS(keys_of_i64, int64_t, key_of_i64)

static void load(row_t *row) {
    static void (*const of[ACAL_CLASSES])(uint64_t *, const void *, uint64_t, int64_t) = {keys_of_f32, keys_of_f64,
                                                                                          keys_of_i64};
    const acal_operand_t *x = &row->command->x;
    int64_t stride = x->strides[row->command->axis];
    uint64_t flip = row->command->descending ? ~(uint64_t)0 : 0;
    for (int64_t at = 0; at < row->n; at += ACAL_BLOCK) {
        int64_t n = row->n - at < ACAL_BLOCK ? row->n - at : ACAL_BLOCK;
        acal_load_row(row->loaded, row->x + at * stride * acal_itemsize(x->dtype), x->dtype, stride, n);
        of[acal_class(x->dtype)](row->from.keys + at, row->loaded, flip, n);
    }
    for (int64_t i = 0; i < row->n; i++) row->from.positions[i] = i;
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/*
 * The first `count` of two runs that start at `left` and at `right`. Behind the end of a run a key is read that does
 * not count; behind the keys lie the positions, so that this is memory of the command, too.
 */
static void merge(const row_t *row, int64_t left, int64_t n_left, int64_t right, int64_t n_right, int64_t count) {
    const pairs_t from = row->from, to = row->to;
    int64_t left_end = left + n_left, right_end = right + n_right, start = left;
    for (int64_t i = 0; i < count; i++) {
        int from_right = ((right < right_end) & (from.keys[right] < from.keys[left])) | (left >= left_end);
        int64_t taken = acal_select_i64(from_right, right, left);
        to.keys[start + i] = from.keys[taken];
        to.positions[start + i] = from.positions[taken];
        right += from_right;
        left += !from_right;
    }
}

/* Of every run the first k are kept, for no others can be among the first k of all. */
static void sort_row(row_t *row) {
    load(row);
    for (int64_t width = 1; width < row->n; width *= 2) {
        for (int64_t left = 0; left < row->n; left += 2 * width) {
            int64_t right = least(left + width, row->n);
            int64_t n_left = least(right - left, row->k), n_right = least(least(width, row->n - right), row->k);
            merge(row, left, n_left, right, n_right, least(n_left + n_right, row->k));
        }
        pairs_t sorted = row->to;
        row->to = row->from;
        row->from = sorted;
    }
}

/* The elements at the positions, their bits as they are. Values that lie in the working memory overwrite positions. */
#define PICK(NAME, TYPE)                                                                    \
    static void NAME(const row_t *row, int64_t to_stride, int64_t from_stride) {            \
        TYPE *to = (TYPE *)row->values;                                                     \
        const TYPE *from = (const TYPE *)row->x;                                            \
        for (int64_t i = 0; i < row->k; i++) {                                              \
            int64_t position = row->from.positions[i];                                      \
            position = acal_select_i64((uint64_t)position < (uint64_t)row->n, position, 0); \
            to[i * to_stride] = from[position * from_stride];                               \
        }                                                                                   \
    }

PICK(pick_1, uint8_t)
PICK(pick_2, uint16_t)
PICK(pick_4, uint32_t)
PICK(pick_8, uint64_t)

static void store(const row_t *row) {
    static void (*const picks[])(const row_t *, int64_t, int64_t) = {
        [1] = pick_1, [2] = pick_2, [4] = pick_4, [8] = pick_8};
    const acal_operand_t *x = &row->command->x, *values = &row->command->values, *indices = &row->command->indices;
    uint32_t axis = row->command->axis;
    if (row->values) picks[acal_itemsize(x->dtype)](row, values->strides[axis], x->strides[axis]);
    if (row->indices) acal_store_row(row->indices, row->from.positions, ACAL_DTYPE_I64, indices->strides[axis], row->k);
}

static uint32_t check_result(const acal_sort_t *command, const acal_operand_t *out) {
    if (!acal_present(out)) return ACAL_STATUS_OK;
    if (out->rank != command->x.rank) return ACAL_STATUS_BAD_RANK;
    acal_operand_t whole = *out;
    whole.dims[command->axis] = command->x.dims[command->axis];
    int fits = acal_same_dims(&whole, &command->x) && out->dims[command->axis] <= whole.dims[command->axis];
    return fits ? ACAL_STATUS_OK : ACAL_STATUS_BAD_SHAPE;
}

static uint32_t check(const acal_sort_t *command, acal_fault_t *fault) {
    const acal_operand_t *x = &command->x, *work = &command->work;
    const acal_operand_t *values = &command->values, *indices = &command->indices;
    ACAL_TRY(acal_check_operand(x, fault));
    ACAL_TRY(acal_check_operand(work, fault));
    ACAL_TRY(acal_check_optional(values, fault));
    ACAL_TRY(acal_check_optional(indices, fault));
    if (command->axis >= x->rank || work->rank != 1) return ACAL_STATUS_BAD_RANK;
    if (work->dtype != ACAL_DTYPE_I64) return ACAL_STATUS_BAD_DTYPE;
    if (acal_present(values) && values->dtype != x->dtype) return ACAL_STATUS_BAD_DTYPE;
    if (acal_present(indices) && indices->dtype != ACAL_DTYPE_I64) return ACAL_STATUS_BAD_DTYPE;
    ACAL_TRY(check_result(command, values));
    ACAL_TRY(check_result(command, indices));
    if (work->dims[0] % 4 != 0 || work->dims[0] / 4 != x->dims[command->axis] || work->strides[0] != 1)
        return ACAL_STATUS_BAD_SHAPE;
    if (!acal_present(values) && !acal_present(indices)) return ACAL_STATUS_BAD_SHAPE;
    int both = acal_present(values) && acal_present(indices);
    return both && !acal_same_dims(values, indices) ? ACAL_STATUS_BAD_SHAPE : ACAL_STATUS_OK;
}

uint32_t acal_sort(const acal_sort_t *command, acal_fault_t *fault) {
    ACAL_SCRATCH row_t row;
    ACAL_TRY(check(command, fault));
    acal_operand_t x = command->x, values = command->values, indices = command->indices;
    const acal_operand_t *operands[] = {&x, &values, &indices};
    int valued = acal_present(&values), indexed = acal_present(&indices);
    acal_nest_t nest;
    uint32_t axis = command->axis;
    row.command = command;
    row.n = x.dims[axis];
    row.k = valued ? values.dims[axis] : indices.dims[axis];
    if (row.k == 0) return ACAL_STATUS_OK;
    if (!valued) values = x; /* an operand for the nest, which nobody writes */
    if (!indexed) indices = x;
    x.dims[axis] = 1; /* the nest is over where rows begin */
    if (!acal_nest_begin(&nest, operands, 3)) return ACAL_STATUS_OK;
    uint64_t *work = acal_ptr(command->work.addr);
    do {
        for (int64_t i = 0; i < nest.row; i++) {
            row.x = nest.data[0] + i * nest.row_stride[0] * acal_itemsize(x.dtype);
            row.values = valued ? nest.data[1] + i * nest.row_stride[1] * acal_itemsize(x.dtype) : 0;
            row.indices = indexed ? nest.data[2] + i * nest.row_stride[2] * (int64_t)sizeof(int64_t) : 0;
            row.from = (pairs_t){work, (int64_t *)work + 2 * row.n};
            row.to = (pairs_t){work + row.n, (int64_t *)work + 3 * row.n};
            sort_row(&row);
            store(&row);
        }
    } while (acal_nest_next(&nest));
    return ACAL_STATUS_OK;
}
