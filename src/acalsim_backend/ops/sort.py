"""Sorting along an axis."""

from __future__ import annotations

from typing import Any

from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops.base import Operator, normal_axis
from acalsim_backend.ops.lowering import Lowering
from acalsim_backend.ops.scan import around
from acalsim_backend.program.commands import Sort as SortCommand
from acalsim_backend.program.enums import DType


class Sort(Operator):
    """sort(self, dim, descending): stable, also where PyTorch leaves the order of equal elements open."""

    op_type = ACALSimOpType.SORT
    targets: tuple[str, ...] = ("aten.sort.default", "aten.sort.stable")

    def descending(self, attrs: dict[str, Any]) -> bool:
        """Whether the largest come first."""
        return bool(attrs.get("descending", False))

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        shape = ir.tensors[op.inputs[0]].shape
        n = shape[normal_axis(op.attrs.get("dim", -1), len(shape))] if shape else 1
        return ir.tensors[op.inputs[0]].numel * max(n - 1, 0).bit_length()

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        x = to.view(op.inputs[0])
        axis = normal_axis(op.attrs.get("dim", -1), len(x.dims))
        outs = [to.define(name) if name else None for name in (op.output(0), op.output(1))]
        values, indices = (None if out is None else around(to, out, axis) for out in outs)
        rows = around(to, x, axis)
        if rows.numel and any(out is not None and out.numel for out in (values, indices)):
            work = to.scratch((4 * rows.dims[1],), DType.I64)
            descending = int(self.descending(op.attrs))
            to.emit(SortCommand(x=rows, work=work, values=values, indices=indices, axis=1, descending=descending))


class Topk(Sort):
    """topk(self, k, dim, largest): always sorted, which PyTorch may do but need not."""

    op_type = ACALSimOpType.TOPK
    targets = ("aten.topk.default",)

    def descending(self, attrs: dict[str, Any]) -> bool:
        return bool(attrs.get("largest", True))
