/* GATHER and SCATTER: rows of a table at places that indices say. */
#include "acal.h"
#include "numeric.h"

/* Both commands: the table [*batch, *indexed, *rest] and the rows [*batch, *j, *rest] that leave it or come to it. */
typedef struct {
    const acal_operand_t *table, *rows, *indices;
    int32_t n_indices, batch, rank; /* rank: of an index, that is of [*batch, *j] */
    int wrap;
} indexed_t;

/* What moves at one place: elements of `rest`, an innermost row repeated over outer dimensions. */
typedef struct {
    int32_t rank;
    int64_t row, table_stride, rows_stride;                                             /* strides in elements */
    int64_t dims[ACAL_MAX_RANK], table_steps[ACAL_MAX_RANK], rows_steps[ACAL_MAX_RANK]; /* steps in bytes */
} block_t;

/* Does to one row what the command is there for. */
typedef void place_t(char *table, int64_t table_stride, char *rows, int64_t rows_stride, uint8_t dtype, int64_t n);

static uint32_t check(const indexed_t *c, acal_fault_t *fault) {
    const acal_operand_t *table = c->table, *rows = c->rows;
    ACAL_TRY(acal_check_operand(table, fault));
    ACAL_TRY(acal_check_operand(rows, fault));
    if (table->dtype != rows->dtype) return ACAL_STATUS_BAD_DTYPE;
    if (c->n_indices < 1 || c->n_indices > ACAL_MAX_INDICES) return ACAL_STATUS_BAD_SHAPE;
    if (c->rank < 1) return ACAL_STATUS_BAD_RANK;
    for (int32_t i = 0; i < c->n_indices; i++) {
        ACAL_TRY(acal_check_operand(&c->indices[i], fault));
        if (!acal_same_dims(&c->indices[i], &c->indices[0])) return ACAL_STATUS_BAD_SHAPE;
        if (c->indices[i].dtype != ACAL_DTYPE_I32 && c->indices[i].dtype != ACAL_DTYPE_I64)
            return ACAL_STATUS_BAD_DTYPE;
    }
    int32_t rest = table->rank - c->batch - c->n_indices;
    if (c->batch < 0 || c->batch > c->rank || rest < 0 || rows->rank != c->rank + rest) return ACAL_STATUS_BAD_RANK;
    int fits = 1;
    for (int32_t i = 0; i < c->rank; i++) fits &= rows->dims[i] == c->indices[0].dims[i];
    for (int32_t i = 0; i < c->batch; i++) fits &= rows->dims[i] == table->dims[i];
    for (int32_t i = 0; i < rest; i++) fits &= rows->dims[c->rank + i] == table->dims[c->batch + c->n_indices + i];
    return fits ? ACAL_STATUS_OK : ACAL_STATUS_BAD_SHAPE;
}

/* The rest's dimensions, neighbours merged where table and rows allow. */
static block_t block_of(const indexed_t *c) {
    block_t block = {.row = 1, .table_stride = 1, .rows_stride = 1};
    int64_t dims[ACAL_MAX_RANK], table[ACAL_MAX_RANK], rows[ACAL_MAX_RANK];
    int32_t first = c->batch + c->n_indices, n = 0;
    for (int32_t i = 0; i < c->table->rank - first; i++) {
        int64_t dim = c->table->dims[first + i], t = c->table->strides[first + i], r = c->rows->strides[c->rank + i];
        if (dim == 1) continue;
        if (n > 0 && table[n - 1] == t * dim && rows[n - 1] == r * dim) {
            dims[n - 1] *= dim;
            table[n - 1] = t;
            rows[n - 1] = r;
        } else {
            dims[n] = dim;
            table[n] = t;
            rows[n++] = r;
        }
    }
    if (n == 0) return block;
    int64_t itemsize = acal_itemsize(c->table->dtype);
    block.rank = n - 1;
    block.row = dims[n - 1];
    block.table_stride = table[n - 1];
    block.rows_stride = rows[n - 1];
    for (int32_t i = 0; i < n - 1; i++) {
        block.dims[i] = dims[i];
        block.table_steps[i] = table[i] * itemsize;
        block.rows_steps[i] = rows[i] * itemsize;
    }
    return block;
}

static void place_block(const block_t *block, char *table, char *rows, uint8_t dtype, place_t *place) {
    int64_t index[ACAL_MAX_RANK] = {0};
    while (1) {
        place(table, block->table_stride, rows, block->rows_stride, dtype, block->row);
        int32_t axis = block->rank - 1;
        for (; axis >= 0; axis--) {
            table += block->table_steps[axis];
            rows += block->rows_steps[axis];
            if (++index[axis] < block->dims[axis]) break;
            table -= block->table_steps[axis] * block->dims[axis];
            rows -= block->rows_steps[axis] * block->dims[axis];
            index[axis] = 0;
        }
        if (axis < 0) return;
    }
}

/* Where a walk stands: pointers to the table's batch, to the rows and to each index. */
typedef struct {
    char *table, *rows;
    const char *index[ACAL_MAX_INDICES];
} place_at_t;

static void move_along(const indexed_t *c, place_at_t *at, int32_t axis, int64_t steps) {
    int64_t itemsize = acal_itemsize(c->table->dtype);
    at->rows += steps * c->rows->strides[axis] * itemsize;
    if (axis < c->batch) at->table += steps * c->table->strides[axis] * itemsize;
    for (int32_t k = 0; k < c->n_indices; k++)
        at->index[k] += steps * c->indices[k].strides[axis] * acal_itemsize(c->indices[k].dtype);
}

/* The place of an index in its axis; outside of it, if it is. */
static int64_t from_start(const indexed_t *c, int64_t value, int64_t extent) {
    return value + (extent & (int64_t)acal_mask64(c->wrap & (value < 0)));
}

/* One row of places along the last axis. */
typedef uint32_t places_t(const indexed_t *c, const block_t *block, place_t *place, place_at_t at, acal_fault_t *fault);

static uint32_t any_places(const indexed_t *c, const block_t *block, place_t *place, place_at_t at,
                           acal_fault_t *fault) {
    uint8_t dtype = c->table->dtype;
    int64_t itemsize = acal_itemsize(dtype);
    for (int64_t i = 0; i < c->rows->dims[c->rank - 1]; i++) {
        int64_t offset = 0;
        for (int32_t k = 0; k < c->n_indices; k++) {
            int64_t value;
            acal_load_row(&value, at.index[k], c->indices[k].dtype, 1, 1);
            int64_t extent = c->table->dims[c->batch + k], start = from_start(c, value, extent);
            if (start < 0 || start >= extent) {
                fault->address = (uint64_t)value;
                return ACAL_STATUS_INDEX;
            }
            offset += start * c->table->strides[c->batch + k];
        }
        place_block(block, at.table + offset * itemsize, at.rows, dtype, place);
        move_along(c, &at, c->rank - 1, 1);
    }
    return ACAL_STATUS_OK;
}

#define MOVE_ELEMENTS(NAME, TYPE)                                                                               \
    static void NAME(int takes, char *table_, const int64_t *offsets, char *rows_, int64_t stride, int64_t n) { \
        TYPE *table = (TYPE *)table_, *rows = (TYPE *)rows_;                                                    \
        if (takes)                                                                                              \
            for (int64_t i = 0; i < n; i++) rows[i * stride] = table[offsets[i]];                               \
        else                                                                                                    \
            for (int64_t i = 0; i < n; i++) table[offsets[i]] = rows[i * stride];                               \
    }

MOVE_ELEMENTS(move_elements_1, uint8_t)
MOVE_ELEMENTS(move_elements_2, uint16_t)
MOVE_ELEMENTS(move_elements_4, uint32_t)
MOVE_ELEMENTS(move_elements_8, uint64_t)

static void take(char *table, int64_t table_stride, char *rows, int64_t rows_stride, uint8_t dtype, int64_t n);

/* The same for one index and one element at each place, which is moved. */
static uint32_t elements(const indexed_t *c, const block_t *block, place_t *place, place_at_t at, acal_fault_t *fault) {
    (void)block;
    int64_t offsets[ACAL_BLOCK], count;
    int32_t last = c->rank - 1;
    int64_t itemsize = acal_itemsize(c->table->dtype), stride = c->rows->strides[last], n = c->rows->dims[last];
    int64_t extent = c->table->dims[c->batch], table_stride = c->table->strides[c->batch];
    for (int64_t start = 0; start < n; start += count) {
        count = n - start < ACAL_BLOCK ? n - start : ACAL_BLOCK;
        acal_load_row(offsets, at.index[0], c->indices[0].dtype, c->indices[0].strides[last], count);
        for (int64_t i = 0; i < count; i++) {
            int64_t found = from_start(c, offsets[i], extent);
            if (found < 0 || found >= extent) {
                fault->address = (uint64_t)offsets[i];
                return ACAL_STATUS_INDEX;
            }
            offsets[i] = found * table_stride;
        }
        int takes = place == take;
        if (itemsize == 1)
            move_elements_1(takes, at.table, offsets, at.rows, stride, count);
        else if (itemsize == 2)
            move_elements_2(takes, at.table, offsets, at.rows, stride, count);
        else if (itemsize == 4)
            move_elements_4(takes, at.table, offsets, at.rows, stride, count);
        else
            move_elements_8(takes, at.table, offsets, at.rows, stride, count);
        move_along(c, &at, last, count);
    }
    return ACAL_STATUS_OK;
}

/* Goes through [*batch, *j] in row-major order. */
static uint32_t walk(const indexed_t *c, place_t *place, int moves, acal_fault_t *fault) {
    const block_t block = block_of(c);
    int64_t position[ACAL_MAX_RANK] = {0};
    place_at_t at = {acal_ptr(c->table->addr), acal_ptr(c->rows->addr), {0}};
    for (int32_t k = 0; k < c->n_indices; k++) at.index[k] = acal_ptr(c->indices[k].addr);
    if (acal_numel(c->rows) == 0) return ACAL_STATUS_OK;
    int single = moves && c->n_indices == 1 && c->rank > c->batch && block.rank == 0 && block.row == 1;
    places_t *places = single ? elements : any_places;
    while (1) {
        ACAL_TRY(places(c, &block, place, at, fault));
        int32_t axis = c->rank - 2;
        for (; axis >= 0; axis--) {
            int more = ++position[axis] < c->rows->dims[axis];
            move_along(c, &at, axis, more ? 1 : 1 - c->rows->dims[axis]);
            if (more) break;
            position[axis] = 0;
        }
        if (axis < 0) return ACAL_STATUS_OK;
    }
}

static void take(char *table, int64_t table_stride, char *rows, int64_t rows_stride, uint8_t dtype, int64_t n) {
    acal_move_row(rows, rows_stride, table, table_stride, acal_itemsize(dtype), n);
}

static void put(char *table, int64_t table_stride, char *rows, int64_t rows_stride, uint8_t dtype, int64_t n) {
    acal_move_row(table, table_stride, rows, rows_stride, acal_itemsize(dtype), n);
}

#define COMBINE(NAME, F32, F64, I64)                                                                                 \
    static void NAME(char *table, int64_t table_stride, char *rows, int64_t rows_stride, uint8_t dtype, int64_t n) { \
        uint64_t there[ACAL_BLOCK], here[ACAL_BLOCK];                                                                \
        int64_t itemsize = acal_itemsize(dtype);                                                                     \
        for (int64_t start = 0; start < n; start += ACAL_BLOCK) {                                                    \
            int64_t count = n - start < ACAL_BLOCK ? n - start : ACAL_BLOCK;                                         \
            acal_load_row(there, table, dtype, table_stride, count);                                                 \
            acal_load_row(here, rows, dtype, rows_stride, count);                                                    \
            if (acal_class(dtype) == ACAL_CLASS_F32) {                                                               \
                float *a = (float *)there, *b = (float *)here;                                                       \
                for (int64_t i = 0; i < count; i++) a[i] = F32(a[i], b[i]);                                          \
            } else if (acal_class(dtype) == ACAL_CLASS_F64) {                                                        \
                double *a = (double *)there, *b = (double *)here;                                                    \
                for (int64_t i = 0; i < count; i++) a[i] = F64(a[i], b[i]);                                          \
            } else {                                                                                                 \
                int64_t *a = (int64_t *)there, *b = (int64_t *)here;                                                 \
                for (int64_t i = 0; i < count; i++) a[i] = I64(a[i], b[i]);                                          \
            }                                                                                                        \
            acal_store_row(table, there, dtype, table_stride, count);                                                \
            table += count * table_stride * itemsize;                                                                \
            rows += count * rows_stride * itemsize;                                                                  \
        }                                                                                                            \
    }

#define SUM(a, b) ((a) + (b))
#define PRODUCT(a, b) ((a) * (b))
#define WRAPPED_SUM(a, b) ((int64_t)((uint64_t)(a) + (uint64_t)(b)))
#define WRAPPED_PRODUCT(a, b) ((int64_t)((uint64_t)(a) * (uint64_t)(b)))

COMBINE(add, SUM, SUM, WRAPPED_SUM)
COMBINE(multiply, PRODUCT, PRODUCT, WRAPPED_PRODUCT)
COMBINE(maximum, acal_max_f32, acal_max_f64, acal_max_i64)
COMBINE(minimum, acal_min_f32, acal_min_f64, acal_min_i64)

uint32_t acal_gather(const acal_gather_t *command, acal_fault_t *fault) {
    const indexed_t c = {&command->x,
                         &command->out,
                         command->indices,
                         (int32_t)command->n_indices,
                         (int32_t)command->batch,
                         command->indices[0].rank,
                         command->wrap != 0};
    ACAL_TRY(check(&c, fault));
    return walk(&c, take, 1, fault);
}

uint32_t acal_scatter(const acal_scatter_t *command, acal_fault_t *fault) {
    static place_t *const places[] = {[ACAL_SCATTEROP_SET] = put,
                                      [ACAL_SCATTEROP_ADD] = add,
                                      [ACAL_SCATTEROP_MUL] = multiply,
                                      [ACAL_SCATTEROP_MAX] = maximum,
                                      [ACAL_SCATTEROP_MIN] = minimum};
    const indexed_t c = {&command->out,           &command->x,
                         command->indices,        (int32_t)command->n_indices,
                         (int32_t)command->batch, command->indices[0].rank,
                         command->wrap != 0};
    ACAL_TRY(check(&c, fault));
    if (command->op >= sizeof places / sizeof places[0]) return ACAL_STATUS_UNSUPPORTED;
    if (command->op != ACAL_SCATTEROP_SET && command->out.dtype == ACAL_DTYPE_BOOL) return ACAL_STATUS_BAD_DTYPE;
    return walk(&c, places[command->op], command->op == ACAL_SCATTEROP_SET, fault);
}
