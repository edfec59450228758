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
