"""HOST: any ATen operator that neither CPU nor accelerator has, run by PyTorch on guest memory."""

from __future__ import annotations

from acalsim_backend.errors import UnsupportedError
from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops.base import Operator
from acalsim_backend.ops.lowering import Lowering
from acalsim_backend.program.commands import MAX_HOST_INPUTS, MAX_HOST_OUTPUTS, Host
from acalsim_backend.program.enums import Placement


class HostOperator(Operator):
    """One HOST command; its call number indexes the list of host calls. Without results it is run for its effect."""

    op_type = ACALSimOpType.HOST
    targets = ()

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        return 0

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        if len(op.inputs) > MAX_HOST_INPUTS or len(op.outputs) > MAX_HOST_OUTPUTS:
            raise UnsupportedError(
                f"{op.target} ({op.source}): {len(op.inputs)} input and {len(op.outputs)} output tensors, an operator "
                f"on the host may have {MAX_HOST_INPUTS} and {MAX_HOST_OUTPUTS}; call it on fewer tensors at a time, "
                "or keep it out of the compiled function with torch.compiler.disable"
            )
        to.emit(
            Host(
                inputs=tuple(to.as_pytorch(name) for name in op.inputs),
                outputs=tuple(to.define(name) for name in op.outputs),
                n_inputs=len(op.inputs),
                n_outputs=len(op.outputs),
                call=len(to.host_calls) - 1,
                placement=Placement.HOST,
            )
        )
