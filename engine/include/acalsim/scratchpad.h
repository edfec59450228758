// Banks of the scratchpad.
#pragma once

#include "acalsim/config.h"
#include "acalsim/step.h"

namespace acalsim {

/// Cycles by which banks delay the unit that streams a step's operands; `resident` bytes are on chip for it, `next` is
/// the step that is loaded meanwhile, null if there is none.
///
/// A bank gives or takes one word of `bank_bytes` in a cycle. The unit waits
/// - while all banks together give less than it asks for, and
/// - a cycle for each word that the DMA writes into a bank in use. Tensors fill banks one after the other, each step
///   beginning with a bank of its own; so there are none as long as the banks of both steps together are not more than
///   there are, and beyond that the share of the next step's banks that coincide.
Cycle bank_delay(const ScratchpadConfig& config, Bytes resident, const Step& step, const Step* next);

}  // namespace acalsim
