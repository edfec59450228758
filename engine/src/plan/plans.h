// One plan per family of commands.
#pragma once

#include "acalsim/plan.h"
#include "plan/contraction.h"
#include "plan/sweep.h"

namespace acalsim {

/// The contraction of a GEMM or CONV2D command; null for other commands.
std::shared_ptr<const Contraction> make_contraction(const Config& config, const Command& command);

std::shared_ptr<const Contraction> gemm_contraction(const acal_gemm_t& command);
std::shared_ptr<const Contraction> conv2d_contraction(const Config& config, const acal_conv2d_t& command);

/// The passes of the other commands, empty for BARRIER; throws std::invalid_argument for a GEMM or CONV2D.
std::vector<Sweep> make_passes(const Config& config, const Command& command);

std::vector<Sweep> vector_passes(const Config& config, const acal_vector_t& command);
std::vector<Sweep> copy_passes(const acal_copy_t& command);
std::vector<Sweep> fill_passes(const acal_fill_t& command);
std::vector<Sweep> reduce_passes(const acal_reduce_t& command);
std::vector<Sweep> softmax_passes(const Config& config, const acal_softmax_t& command);
std::vector<Sweep> norm_passes(const Config& config, const acal_norm_t& command);
std::vector<Sweep> pool2d_passes(const acal_pool2d_t& command);

}  // namespace acalsim
