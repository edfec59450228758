"""Softmax and its logarithm along any axis."""

from __future__ import annotations

from dataclasses import replace

from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops.base import Operator, dtype_of, normal_axis
from acalsim_backend.ops.lowering import Lowering, collapse, split_rank, without
from acalsim_backend.program.commands import Softmax as SoftmaxCommand
from acalsim_backend.program.enums import MAX_RANK, DType
from acalsim_backend.program.view import View


def rows_of(views: list[View], axis: int) -> list[list[View]]:
    """The views with ``axis`` last and the other dims collapsed in front, split to the ABI's rank."""
    lead = collapse([without(v, axis) for v in views])
    parts = split_rank(lead, MAX_RANK - 1)
    return [[_with_last(p, v, axis) for p, v in zip(part, views, strict=True)] for part in parts]


def _with_last(part: View, view: View, axis: int) -> View:
    return replace(part, dims=(*part.dims, view.dims[axis]), strides=(*part.strides, view.strides[axis]))


class Softmax(Operator):
    """_softmax(self, dim)."""

    op_type = ACALSimOpType.SOFTMAX
    targets = ("aten._softmax.default",)
    log = 0

    def unsupported(self, op: ACALSimOp, ir: ACALSimIR) -> str | None:
        if dtype_of(op.outputs[0], ir) is DType.F64:
            return "the kernels have exp in single precision only"
        return "half_to_float is a GPU feature" if op.attrs.get("half_to_float") else None

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        return 5 * super().flops(op, ir)

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        x, out = to.view(op.inputs[0]), to.define(op.outputs[0])
        if not x.dims:
            x, out = (replace(v, dims=(1,), strides=(1,)) for v in (x, out))
        for source, result in rows_of([x, out], normal_axis(op.attrs["dim"], len(x.dims))):
            to.emit(SoftmaxCommand(x=source, out=result, log=self.log))


class LogSoftmax(Softmax):
    """_log_softmax(self, dim)."""

    op_type = ACALSimOpType.LOG_SOFTMAX
    targets = ("aten._log_softmax.default",)
    log = 1
