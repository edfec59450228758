"""HOST: any ATen operator that neither CPU nor accelerator has, run by PyTorch on guest memory."""

from __future__ import annotations

from dataclasses import replace

from acalsim_backend.errors import UnsupportedError
from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops.base import Operator
from acalsim_backend.ops.lowering import HostCallSite, Lowering
from acalsim_backend.program.commands import MAX_HOST_INPUTS, MAX_HOST_OUTPUTS, Host
from acalsim_backend.program.enums import MAX_RANK, Placement
from acalsim_backend.program.view import View


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
        inputs, outputs = [to.as_pytorch(name) for name in op.inputs], [to.define(name) for name in op.outputs]
        layouts = ((v.dims, v.strides) if len(v.dims) > MAX_RANK else None for v in (*inputs, *outputs))
        to.host_calls.append(HostCallSite(op, tuple(layouts)))
        to.emit(
            Host(
                inputs=tuple(map(_memory, inputs)),
                outputs=tuple(map(_memory, outputs)),
                n_inputs=len(op.inputs),
                n_outputs=len(op.outputs),
                call=len(to.host_calls) - 1,
                placement=Placement.HOST,
            )
        )


def _memory(view: View) -> View:
    """The view itself, or the memory that it lies in as one dimension if its rank is beyond a view's."""
    if len(view.dims) <= MAX_RANK:
        return view
    low, high = view.extent
    return replace(view, dims=((high - low) // view.dtype.itemsize,), strides=(1,), offset=low)
