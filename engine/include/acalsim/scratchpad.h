// Banks of the scratchpad.
#pragma once

#include "acalsim/box.h"
#include "acalsim/config.h"

namespace acalsim {

/// What the DMA writes while a unit computes.
struct BankWrites {
    Bytes bytes = 0;
    std::uint64_t words = 0;

    /// Adds a box; each of its runs begins in a word of its own.
    void add(const ScratchpadConfig& config, const Box& box) {
        bytes += box.bytes();
        words += box.runs() * ceil_div(box.run(), config.bank_bytes);
    }
    void add(const BankWrites& other) {
        bytes += other.bytes;
        words += other.words;
    }
};

/// Cycles by which banks delay a unit that is busy for `busy` cycles and reads or writes `traffic` bytes meanwhile, of
/// `resident` bytes on chip, while the DMA writes the operands of the next step.
///
/// A bank gives or takes one word of `bank_bytes` in a cycle. The unit waits
/// - while all banks together give less than it asks for, and
/// - a cycle for each word that the DMA writes into a bank in use. Tensors fill banks one after the other, each step
///   beginning with a bank of its own; so there are none as long as the banks of both steps together are not more than
///   there are, and beyond that the share of the next step's banks that coincide.
Cycle bank_delay(const ScratchpadConfig& config, Cycle busy, Bytes traffic, Bytes resident, const BankWrites& writes);

}  // namespace acalsim
