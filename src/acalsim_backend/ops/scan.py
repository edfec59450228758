"""Running sums, products and extremes along an axis."""

from __future__ import annotations

import math
from dataclasses import replace

from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops.base import Operator, dtype_of, normal_axis
from acalsim_backend.ops.lowering import Lowering
from acalsim_backend.program.commands import Scan
from acalsim_backend.program.enums import DType, ScanOp
from acalsim_backend.program.view import View, contiguous_strides


def around(to: Lowering, view: View, axis: int) -> View:
    """The view as [what lies before the axis, the axis, what lies behind it], dense."""
    lead, tail = math.prod(view.dims[:axis]), math.prod(view.dims[axis + 1 :])
    dims = (lead, view.dims[axis] if view.dims else 1, tail)
    return replace(to.dense(view), dims=dims, strides=contiguous_strides(dims))


class _Scan(Operator):
    """Shared by all of them: one SCAN."""

    scan_op: ScanOp

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        value, position = op.output(0), op.output(1)
        x = to.view(op.inputs[0])
        axis = normal_axis(op.attrs["dim"], len(x.dims))
        out = to.define(value) if value else to.scratch(x.dims, x.dtype)
        indices = around(to, to.define(position), axis) if position else None
        x = to.convert(x, self.accumulation(x.dtype, out.dtype))
        command = Scan(x=around(to, x, axis), out=around(to, out, axis), indices=indices, op=self.scan_op, axis=1)
        to.emit(command)

    def accumulation(self, source: DType, result: DType) -> DType:
        """The dtype that eager converts x to, or one of the same values that the command takes."""
        same = not source.is_float and result is DType.I64
        return source if same else result


class Cumsum(_Scan):
    """cumsum(self, dim, dtype)."""

    op_type = ACALSimOpType.CUMSUM
    targets = ("aten.cumsum.default",)
    scan_op = ScanOp.SUM


class Cumprod(_Scan):
    """cumprod(self, dim, dtype)."""

    op_type = ACALSimOpType.CUMPROD
    targets = ("aten.cumprod.default",)
    scan_op = ScanOp.PROD


class Cummax(_Scan):
    """cummax(self, dim): the largest values so far, and where they stand."""

    op_type = ACALSimOpType.CUMMAX
    targets: tuple[str, ...] = ("aten.cummax.default",)
    scan_op = ScanOp.MAX


class Cummin(_Scan):
    """cummin(self, dim)."""

    op_type = ACALSimOpType.CUMMIN
    targets = ("aten.cummin.default",)
    scan_op = ScanOp.MIN


class LogCumsumExp(_Scan):
    """logcumsumexp(self, dim): logarithms of running sums of exponentials."""

    op_type = ACALSimOpType.LOGCUMSUMEXP
    targets = ("aten.logcumsumexp.default",)
    scan_op = ScanOp.LOGADDEXP

    def unsupported(self, op: ACALSimOp, ir: ACALSimIR) -> str | None:
        if dtype_of(op.outputs[0], ir) is DType.F64:
            return "the kernels have exp and log in single precision only"
        return None

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        return 6 * super().flops(op, ir)
