/*
 * CONV2D as a matrix product per image and group: the weights [K, C*R*S] times the image's windows [C*R*S, P*Q], which
 * are gathered block by block while they are packed, so that the window matrix never exists in memory.
 */
#include "acal.h"

enum { FEW_FILTERS = 3 }; /* per group: up to here packing the windows costs more than it saves */

typedef struct {
    const acal_conv2d_t *command;
    acal_class_t type;
    const char *image;   /* the group's first channel */
    const char *weights; /* the group's first filter */
    int64_t first_pixel; /* pixel p * Q + q that column 0 of the product stands for */
} windows_t;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* Quotient rounded up; divisor > 0. */
static int64_t ceil_div(int64_t a, int64_t b) { return a > 0 ? (a + b - 1) / b : -(-a / b); }

/* What filter element (c, r, s) sees at pixels q0 .. q0 + n - 1 of output row p, zero outside of the image. */
static void gather_row(const windows_t *windows, char *to, int64_t c, int64_t r, int64_t s, int64_t p, int64_t q0,
                       int64_t n) {
    const acal_conv2d_t *command = windows->command;
    const acal_operand_t *x = &command->x;
    int64_t size = acal_class_size(windows->type);
    int64_t h = p * command->stride[0] - command->padding[0] + r * command->dilation[0];
    int64_t shift = s * command->dilation[1] - command->padding[1]; /* w = q * stride + shift */
    int64_t step = command->stride[1];
    int64_t begin = larger(q0, ceil_div(-shift, step)), end = smaller(q0 + n, ceil_div(x->dims[3] - shift, step));
    if (h < 0 || h >= x->dims[2] || begin >= end) {
        memset(to, 0, (size_t)(n * size));
        return;
    }
    int64_t offset = c * x->strides[1] + h * x->strides[2] + (begin * step + shift) * x->strides[3];
    memset(to, 0, (size_t)((begin - q0) * size));
    acal_load_row(to + (begin - q0) * size, windows->image + offset * acal_itemsize(x->dtype), x->dtype,
                  step * x->strides[3], end - begin);
    memset(to + (end - q0) * size, 0, (size_t)((q0 + n - end) * size));
}

/* Filter `row` where its axes do not merge into one stride. */
static void load_filter(const void *context, void *values, int64_t row, int64_t k, int64_t depth) {
    const windows_t *windows = context;
    const acal_operand_t *weight = &windows->command->weight;
    int64_t taps = weight->dims[3], area = weight->dims[2] * taps;
    for (int64_t i = 0; i < depth; i++) {
        int64_t c = (k + i) / area, r = (k + i) % area / taps, s = (k + i) % taps;
        int64_t offset =
            row * weight->strides[0] + c * weight->strides[1] + r * weight->strides[2] + s * weight->strides[3];
        acal_load_row((char *)values + i * acal_class_size(windows->type),
                      windows->weights + offset * acal_itemsize(weight->dtype), weight->dtype, 1, 1);
    }
}

static void pack_windows(const void *context, void *panels, int64_t column, int64_t columns, int64_t k, int64_t depth) {
    ACAL_SCRATCH uint64_t row[ACAL_BLOCK];
    const windows_t *windows = context;
    const acal_operand_t *weight = &windows->command->weight;
    int64_t rows = weight->dims[2], taps = weight->dims[3], width = windows->command->out.dims[3];
    int64_t s = k % taps, r = k / taps % rows, c = k / taps / rows;
    for (int64_t i = 0; i < depth; i++) {
        int64_t pixel = windows->first_pixel + column, left = columns;
        int64_t p = pixel / width, q = pixel % width;
        char *to = (char *)row;
        for (; left > 0; p++, q = 0) {
            int64_t n = smaller(left, width - q);
            gather_row(windows, to, c, r, s, p, q, n);
            to += n * acal_class_size(windows->type);
            left -= n;
        }
        acal_panel_row(panels, row, windows->type, columns, i, depth);
        if (++s == taps) {
            s = 0;
            if (++r == rows) {
                r = 0;
                c++;
            }
        }
    }
}

/* --- checks ----------------------------------------------------------------------------------- */

static uint32_t check_dtypes(const acal_conv2d_t *command) {
    acal_class_t type = acal_class(command->out.dtype);
    int same = acal_class(command->x.dtype) == type && acal_class(command->weight.dtype) == type;
    if (acal_present(&command->bias)) same = same && acal_class(command->bias.dtype) == type;
    return same ? ACAL_STATUS_OK : ACAL_STATUS_BAD_DTYPE;
}

static uint32_t check_dims(const acal_conv2d_t *command) {
    const acal_operand_t *x = &command->x, *weight = &command->weight, *out = &command->out, *bias = &command->bias;
    if (x->rank != 4 || weight->rank != 4 || out->rank != 4 || (acal_present(bias) && bias->rank != 1))
        return ACAL_STATUS_BAD_RANK;
    int fits = command->groups >= 1 && x->dims[0] == out->dims[0] && weight->dims[0] == out->dims[1];
    fits = fits && weight->dims[0] % command->groups == 0 && x->dims[1] % command->groups == 0;
    fits = fits && weight->dims[1] == x->dims[1] / command->groups;
    fits = fits && (!acal_present(bias) || bias->dims[0] == weight->dims[0]);
    for (int i = 0; i < 2; i++)
        fits = fits && command->stride[i] >= 1 && command->dilation[i] >= 1 && command->padding[i] >= 0 &&
               command->stride[i] <= INT32_MAX && command->dilation[i] <= INT32_MAX && command->padding[i] <= INT32_MAX;
    return fits ? ACAL_STATUS_OK : ACAL_STATUS_BAD_SHAPE;
}

static uint32_t check(const acal_conv2d_t *command, acal_fault_t *fault) {
    ACAL_TRY(acal_check_operand(&command->x, fault));
    ACAL_TRY(acal_check_operand(&command->weight, fault));
    ACAL_TRY(acal_check_operand(&command->out, fault));
    ACAL_TRY(acal_check_optional(&command->bias, fault));
    ACAL_TRY(check_dtypes(command));
    return check_dims(command);
}

/* --- the convolution -------------------------------------------------------------------------- */

static char *element(const acal_operand_t *operand, int64_t i, int64_t j) {
    int64_t offset = i * operand->strides[0] + j * operand->strides[1];
    return (char *)acal_ptr(operand->addr) + offset * acal_itemsize(operand->dtype);
}

/* Whether pixels of an image or output plane are evenly spaced, so that it is one row of a matrix. */
static int is_flat(const acal_operand_t *operand) {
    return operand->dims[2] <= 1 || operand->strides[2] == operand->dims[3] * operand->strides[3];
}

/* A 1x1 filter with stride 1 and no padding sees the image as it lies. */
static int is_pointwise(const acal_conv2d_t *command) {
    const acal_operand_t *x = &command->x, *out = &command->out;
    int same = command->weight.dims[2] == 1 && command->weight.dims[3] == 1;
    for (int i = 0; i < 2; i++)
        same = same && command->stride[i] == 1 && command->padding[i] == 0 && x->dims[2 + i] == out->dims[2 + i];
    return same && is_flat(x) && is_flat(out);
}

/*
 * The weights of a group are a matrix [K / groups, C / groups * R * S] if its columns are evenly spaced: finds their
 * distance in elements, or returns 0. Axes of size 1 may have any stride.
 */
static int weights_are_flat(const acal_operand_t *weight, int64_t *step) {
    int64_t columns = 1;
    *step = 1;
    for (int axis = 3; axis > 0; axis--) {
        if (weight->dims[axis] == 1) continue;
        if (columns == 1)
            *step = weight->strides[axis];
        else if (weight->strides[axis] != columns * *step)
            return 0;
        columns *= weight->dims[axis];
    }
    return 1;
}

static void convolve_group(const acal_conv2d_t *command, acal_product_t *product, int64_t n, int64_t group) {
    const acal_operand_t *x = &command->x, *weight = &command->weight, *out = &command->out, *bias = &command->bias;
    int64_t channels = weight->dims[1], first = group * product->m;
    windows_t windows = {
        .command = command,
        .type = product->type,
        .image = element(x, n, group * channels),
        .weights = element(weight, first, 0),
    };
    product->a.data = windows.weights;
    product->context = &windows;
    if (acal_present(bias))
        product->bias =
            (acal_matrix_t){(char *)acal_ptr(bias->addr) + first * bias->strides[0] * acal_itemsize(bias->dtype),
                            bias->strides[0], 0, bias->dtype};
    if (!product->pack_b) product->b = (acal_matrix_t){windows.image, x->strides[1], x->strides[3], x->dtype};
    product->out = (acal_matrix_t){element(out, n, first), out->strides[1], out->strides[3], out->dtype};
    if (product->m <= FEW_FILTERS && product->pack_b && acal_conv2d_narrow(command, product, windows.image)) return;
    if (is_flat(out)) {
        product->n = out->dims[2] * out->dims[3];
        acal_product(product);
        return;
    }
    product->n = out->dims[3];
    for (int64_t p = 0; p < out->dims[2]; p++) {
        windows.first_pixel = p * out->dims[3];
        product->out.data = element(out, n, first) + p * out->strides[2] * acal_itemsize(out->dtype);
        acal_product(product);
    }
}

uint32_t acal_conv2d(const acal_conv2d_t *command, acal_fault_t *fault) {
    acal_product_t product = {.alpha = 1.0f, .beta = 1.0f};
    ACAL_TRY(check(command, fault));
    product.type = acal_class(command->out.dtype);
    ACAL_TRY(acal_activation(command->activation, product.type, &product.activate));
    product.a.dtype = command->weight.dtype;
    product.a.row_stride = command->weight.strides[0];
    if (!weights_are_flat(&command->weight, &product.a.column_stride)) product.load_a = load_filter;
    if (acal_numel(&command->out) == 0) return ACAL_STATUS_OK;
    product.m = command->weight.dims[0] / command->groups;
    product.k = command->weight.dims[1] * command->weight.dims[2] * command->weight.dims[3];
    product.pack_b = is_pointwise(command) ? 0 : pack_windows;
    product.narrow_integers = command->x.dtype <= ACAL_DTYPE_I8 && command->weight.dtype <= ACAL_DTYPE_I8;
    for (int64_t n = 0; n < command->x.dims[0]; n++)
        for (int64_t group = 0; group < command->groups; group++) convolve_group(command, &product, n, group);
    return ACAL_STATUS_OK;
}
