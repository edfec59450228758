// POOL2D: windows over the last two dims.
#include <stdexcept>

#include "plan/plans.h"
#include "plan/sweep.h"

namespace acalsim {

CommandWork work_of(const Config&, const acal_pool2d_t& command) {
    const Operand x(command.x), out(command.out), indices(command.indices);
    if (x.rank != 4 || out.rank != 4) throw std::invalid_argument("POOL2D: operands of another rank than 4");
    Sweep sweep{out};
    SweepOperand in(x, false);
    std::uint64_t window = 1;
    for (std::size_t i = 0; i < 2; ++i) {
        SweepOperand::Axis& axis = in.axes[2 + i];
        if (command.mode == ACAL_POOLMODE_ADAPTIVE_AVG) {
            axis.adaptive = true;
            axis.scale_num = x.dims[2 + i];
            axis.scale_den = std::max<std::uint64_t>(1, out.dims[2 + i]);
            window *= ceil_div(axis.scale_num, axis.scale_den);
        } else {
            if (command.kernel[i] < 1 || command.stride[i] < 1 || command.dilation[i] < 1 || command.padding[i] < 0) {
                throw std::invalid_argument("POOL2D: kernel, stride, dilation or padding out of range");
            }
            axis.scale_num = static_cast<std::uint64_t>(command.stride[i]);
            axis.window = static_cast<std::uint64_t>((command.kernel[i] - 1) * command.dilation[i] + 1);
            axis.padding = static_cast<std::uint64_t>(command.padding[i]);
            window *= static_cast<std::uint64_t>(command.kernel[i]);
        }
    }
    sweep.operands = {in, {out, true}};
    if (indices.present) sweep.operands.emplace_back(indices, true);
    sweep.ops.add(VectorClass::kArithmetic, window * (indices.present ? 2 : 1));
    return CommandWork::over({std::move(sweep)});
}

}  // namespace acalsim
