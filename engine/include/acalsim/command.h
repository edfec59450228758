// A command of the ABI, checked and readable; the engine sees nothing of memory but this.
#pragma once

#include <cstddef>
#include <vector>

#include "acal_abi.h"
#include "acalsim/box.h"
#include "acalsim/types.h"

namespace acalsim {

/// An operand with its element size; `present` is false for an optional operand that is not given.
struct Operand {
    bool present = false;
    std::uint64_t address = 0;
    Bytes element = 0;
    std::uint8_t dtype = 0;
    std::size_t rank = 0;
    std::uint64_t dims[ACAL_MAX_RANK] = {};
    std::int64_t strides[ACAL_MAX_RANK] = {};  // in elements

    explicit Operand(const acal_operand_t& raw);

    std::uint64_t elements() const;
    /// The distinct elements between `origin` and `origin + extent`.
    Box box(const std::uint64_t* origin, const std::uint64_t* extent) const;
    /// All distinct elements.
    Box box() const;
};

/// The bytes of one command, copied to aligned storage. Operand addresses are absolute.
class Command {
  public:
    /// Throws std::invalid_argument, saying what is wrong, if the bytes are not a command of this ABI version.
    Command(const void* bytes, std::size_t size);

    const acal_command_t& header() const { return as<acal_command_t>(); }
    const void* bytes() const { return words_.data(); }
    std::size_t size() const { return header().size; }
    std::vector<std::uint32_t> dependencies() const;

    /// A GEMM or CONV2D of the same shape, its operands one behind the other from a fixed address on.
    Command relocated() const;

    template <typename T>
    const T& as() const {
        return *reinterpret_cast<const T*>(words_.data());
    }

  private:
    std::vector<std::uint64_t> words_;
};

/// Throws std::invalid_argument if there are more of them than sums of 64 bits can count.
void check_count(const char* what, double count);

/// Bytes of one element of an ABI dtype.
Bytes element_bytes(std::uint8_t dtype);

}  // namespace acalsim
