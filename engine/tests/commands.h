// Commands for tests.
#pragma once

#include <cstdint>

#include "acal_abi.h"

inline acal_operand_t matrix(std::uint64_t address, std::int64_t rows, std::int64_t cols) {
    acal_operand_t o{};
    o.addr = address;
    o.dtype = 8;  // f32
    o.rank = 2;
    o.flags = ACAL_OPERANDFLAG_PRESENT;
    o.dims[0] = rows;
    o.dims[1] = cols;
    o.strides[0] = cols;
    o.strides[1] = 1;
    return o;
}

inline acal_gemm_t gemm(std::int64_t m, std::int64_t n, std::int64_t k) {
    acal_gemm_t g{};
    g.header.opcode = ACAL_OPCODE_GEMM;
    g.header.version = ACAL_ABI_VERSION;
    g.header.size = sizeof g;
    g.header.dep_offset = sizeof g.header;
    g.a = matrix(std::uint64_t{1} << 32, m, k);
    g.b = matrix(std::uint64_t{2} << 32, k, n);
    g.out = matrix(std::uint64_t{3} << 32, m, n);
    g.alpha = g.beta = 1;
    return g;
}

inline acal_softmax_t softmax(std::int64_t rows, std::int64_t cols) {
    acal_softmax_t s{};
    s.header.opcode = ACAL_OPCODE_SOFTMAX;
    s.header.version = ACAL_ABI_VERSION;
    s.header.size = sizeof s;
    s.header.dep_offset = sizeof s.header;
    s.x = matrix(std::uint64_t{1} << 32, rows, cols);
    s.out = matrix(std::uint64_t{2} << 32, rows, cols);
    return s;
}

/// As many rows of a table as are asked for.
inline acal_gather_t gather(std::int64_t rows, std::int64_t cols, std::int64_t count) {
    acal_gather_t g{};
    g.header.opcode = ACAL_OPCODE_GATHER;
    g.header.version = ACAL_ABI_VERSION;
    g.header.size = sizeof g;
    g.header.dep_offset = sizeof g.header;
    g.x = matrix(std::uint64_t{1} << 32, rows, cols);
    g.indices[0] = matrix(std::uint64_t{2} << 32, 1, count);
    g.indices[0].dtype = 5;  // i64
    g.indices[0].rank = 1;
    g.indices[0].dims[0] = count;
    g.indices[0].strides[0] = 1;
    g.out = matrix(std::uint64_t{3} << 32, count, cols);
    g.n_indices = 1;
    return g;
}

/// Of one image, with a bias and an activation.
inline acal_conv2d_t conv2d(std::int64_t channels, std::int64_t size, std::int64_t filters, std::int64_t taps,
                            std::int64_t stride, std::int64_t padding) {
    const auto tensor = [](std::uint64_t address, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) {
        acal_operand_t o = matrix(address, h, w);
        o.rank = 4;
        const std::int64_t dims[] = {n, c, h, w}, strides[] = {c * h * w, h * w, w, 1};
        for (int d = 0; d < 4; ++d) {
            o.dims[d] = dims[d];
            o.strides[d] = strides[d];
        }
        return o;
    };
    const std::int64_t out = (size + 2 * padding - taps) / stride + 1;
    acal_conv2d_t c{};
    c.header.opcode = ACAL_OPCODE_CONV2D;
    c.header.version = ACAL_ABI_VERSION;
    c.header.size = sizeof c;
    c.header.dep_offset = sizeof c.header;
    c.x = tensor(std::uint64_t{1} << 32, 1, channels, size, size);
    c.weight = tensor(std::uint64_t{2} << 32, filters, channels, taps, taps);
    c.out = tensor(std::uint64_t{3} << 32, 1, filters, out, out);
    c.bias = matrix(std::uint64_t{4} << 32, 1, filters);
    c.bias.rank = 1;
    c.bias.dims[0] = filters;
    c.bias.strides[0] = 1;
    c.stride[0] = c.stride[1] = stride;
    c.padding[0] = c.padding[1] = padding;
    c.dilation[0] = c.dilation[1] = c.groups = 1;
    c.activation = ACAL_ACTIVATION_RELU;
    return c;
}
