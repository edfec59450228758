// One plan per family of commands.
#pragma once

#include "acalsim/plan.h"
#include "plan/contraction.h"

namespace acalsim {

/// The contraction of a GEMM or CONV2D command; null for other commands.
std::shared_ptr<const Contraction> make_contraction(const Config& config, const Command& command);

std::shared_ptr<const Contraction> gemm_contraction(const acal_gemm_t& command);
std::shared_ptr<const Contraction> conv2d_contraction(const Config& config, const acal_conv2d_t& command);
Plan plan_vector(const Config& config, const acal_vector_t& command);
Plan plan_copy(const Config& config, const acal_copy_t& command);
Plan plan_fill(const Config& config, const acal_fill_t& command);
Plan plan_reduce(const Config& config, const acal_reduce_t& command);
Plan plan_softmax(const Config& config, const acal_softmax_t& command);
Plan plan_norm(const Config& config, const acal_norm_t& command);
Plan plan_pool2d(const Config& config, const acal_pool2d_t& command);

}  // namespace acalsim
