#include "acalsim/command.h"

#include <cmath>
#include <cstring>
#include <sstream>
#include <stdexcept>
#include <string>

namespace acalsim {

namespace {

std::size_t struct_size(std::uint16_t opcode) {
    switch (opcode) {
#define ACAL_CASE(NAME, name) \
    case ACAL_OPCODE_##NAME: return sizeof(acal_##name##_t);
        ACAL_COMMANDS(ACAL_CASE)
#undef ACAL_CASE
        default: return 0;
    }
}

/// Sums of a few such counts stay within 64 bits.
constexpr double kMostCounted = 2e18;

[[noreturn]] void bad(const std::string& what) { throw std::invalid_argument("command: " + what); }

}  // namespace

Bytes element_bytes(std::uint8_t dtype) {
    constexpr Bytes kSize[] = {1, 1, 1, 2, 4, 8, 2, 2, 4, 8};
    if (dtype >= std::size(kSize)) bad("dtype " + std::to_string(dtype) + ", expected 0 to 9");
    return kSize[dtype];
}

void check_count(const char* what, double count) {
    if (count <= kMostCounted) return;
    std::ostringstream text;
    text << count << " " << what << ", which 64 bits cannot count; expected at most " << kMostCounted;
    bad(text.str());
}

Operand::Operand(const acal_operand_t& raw) : present(raw.flags & ACAL_OPERANDFLAG_PRESENT) {
    if (!present) return;
    if (raw.rank > ACAL_MAX_RANK) bad("operand of rank " + std::to_string(raw.rank) + ", expected at most 6");
    address = raw.addr;
    dtype = raw.dtype;
    element = element_bytes(raw.dtype);
    rank = raw.rank;
    double all = 1, reach = 1;
    for (std::size_t d = 0; d < rank; ++d) {
        if (raw.dims[d] < 0) bad("operand with dimension " + std::to_string(raw.dims[d]) + ", expected at least 0");
        dims[d] = static_cast<std::uint64_t>(raw.dims[d]);
        strides[d] = raw.strides[d];
        all *= static_cast<double>(dims[d]);
        if (dims[d] > 1) reach += static_cast<double>(dims[d] - 1) * std::abs(static_cast<double>(strides[d]));
    }
    check_count("elements of an operand", all);
    check_count("bytes that an operand spans", reach * static_cast<double>(element));
}

std::uint64_t Operand::elements() const {
    std::uint64_t n = 1;
    for (std::size_t d = 0; d < rank; ++d) n *= dims[d];
    return n;
}

Box Operand::box(const std::uint64_t* origin, const std::uint64_t* extent) const {
    std::uint64_t at = address;
    for (std::size_t d = 0; d < rank; ++d) {
        at += origin[d] * static_cast<std::uint64_t>(strides[d]) * element;  // modulo 2^64 for negative strides
    }
    return Box::of(at, element, rank, extent, strides);
}

Box Operand::box() const { return Box::of(address, element, rank, dims, strides); }

Command::Command(const void* bytes, std::size_t size) {
    acal_command_t header;
    if (size < sizeof header) bad(std::to_string(size) + " bytes, expected a header of 32");
    std::memcpy(&header, bytes, sizeof header);
    const std::string name = std::to_string(header.id);
    if (header.version != ACAL_ABI_VERSION) {
        bad(name + " has ABI version " + std::to_string(header.version) + ", expected " +
            std::to_string(ACAL_ABI_VERSION));
    }
    const std::size_t body = struct_size(header.opcode);
    if (body == 0) bad(name + " has opcode " + std::to_string(header.opcode) + ", which the accelerator does not have");
    const std::size_t deps_end = header.dep_offset + std::size_t{4} * header.n_deps;
    if (header.size > size || header.size < body || deps_end > header.size) {
        bad(name + " has size " + std::to_string(header.size) + " with " + std::to_string(size) +
            " bytes given, expected at least " + std::to_string(body));
    }
    words_.resize(ceil_div(header.size, 8));
    std::memcpy(words_.data(), bytes, header.size);
}

std::vector<std::uint32_t> Command::dependencies() const {
    std::vector<std::uint32_t> ids(header().n_deps);
    if (!ids.empty()) {
        std::memcpy(ids.data(), reinterpret_cast<const char*>(words_.data()) + header().dep_offset, 4 * ids.size());
    }
    return ids;
}

Command Command::relocated() const {
    constexpr std::uint64_t kBase = std::uint64_t{1} << 31, kAlignment = 64;
    Command copy = *this;
    std::uint64_t cursor = kBase;
    const auto place = [&cursor](acal_operand_t& raw) {
        const Operand operand(raw);
        if (!operand.present) return;
        std::uint64_t before = 0, after = operand.element;
        for (std::size_t d = 0; d < operand.rank; ++d) {
            const std::int64_t stride = operand.strides[d];
            const std::uint64_t reach = operand.dims[d] ? (operand.dims[d] - 1) * operand.element : 0;
            (stride < 0 ? before : after) += reach * static_cast<std::uint64_t>(stride < 0 ? -stride : stride);
        }
        raw.addr = cursor + before;
        cursor = round_up(cursor + before + after, kAlignment);
    };
    if (header().opcode == ACAL_OPCODE_GEMM) {
        auto& gemm = *reinterpret_cast<acal_gemm_t*>(copy.words_.data());
        for (acal_operand_t* operand : {&gemm.a, &gemm.b, &gemm.out, &gemm.bias}) place(*operand);
    } else if (header().opcode == ACAL_OPCODE_CONV2D) {
        auto& conv = *reinterpret_cast<acal_conv2d_t*>(copy.words_.data());
        for (acal_operand_t* operand : {&conv.x, &conv.weight, &conv.out, &conv.bias}) place(*operand);
    }
    return copy;
}

}  // namespace acalsim
