"""Reductions over any set of axes."""

from __future__ import annotations

from dataclasses import replace

from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops.base import Operator, Signature, dtype_of, normal_axis
from acalsim_backend.ops.lowering import Lowering
from acalsim_backend.program.commands import Reduce
from acalsim_backend.program.enums import MAX_RANK, DType, ReduceOp
from acalsim_backend.program.view import View, contiguous_strides

_HALF_TYPES = (DType.F16, DType.BF16)


def reduced_axes(op: ACALSimOp, rank: int) -> tuple[int, ...]:
    """The axes that ATen's ``dim`` argument names; all of them when it is absent or empty."""
    dim = op.attrs.get("dim")
    items = () if dim is None else dim if isinstance(dim, tuple) else (dim,)
    return tuple(sorted({normal_axis(int(d), rank) for d in items})) or tuple(range(rank))


def grouped(x: View, out: View, axes: tuple[int, ...]) -> tuple[View, View, int]:
    """Merge neighbouring axes of one kind (kept or reduced) that x walks evenly; returns x, out and the axis mask."""
    dims: list[int] = []
    x_strides: list[int] = []
    out_dims: list[int] = []
    kinds: list[bool] = []
    for i, (d, s) in enumerate(zip(x.dims, x.strides, strict=True)):
        if d == 1:
            continue
        kind = i in axes
        if dims and kinds[-1] == kind and x_strides[-1] == s * d:
            dims[-1] *= d
            x_strides[-1] = s
            out_dims[-1] = 1 if kind else dims[-1]
        else:
            dims.append(d)
            x_strides.append(s)
            out_dims.append(1 if kind else d)
            kinds.append(kind)
    if not dims:
        dims, x_strides, out_dims, kinds = [1], [1], [1], [True]
    mask = sum(1 << i for i, kind in enumerate(kinds) if kind)
    result = replace(out, dims=tuple(out_dims), strides=contiguous_strides(tuple(out_dims)))
    return replace(x, dims=tuple(dims), strides=tuple(x_strides)), result, mask


class _Reduction(Operator):
    """Shared by the reductions: shape rule and lowering to one REDUCE command."""

    reduce_op: ReduceOp
    empty: float | None = None
    """Value over no elements, where PyTorch defines one."""

    def infer(self, op: ACALSimOp, ir: ACALSimIR) -> Signature | None:
        shape = ir.tensors[op.inputs[0]].shape
        axes = reduced_axes(op, len(shape))
        kept = tuple(1 if i in axes else d for i, d in enumerate(shape))
        if not op.attrs.get("keepdim"):
            kept = tuple(d for i, d in enumerate(shape) if i not in axes)
        return [(kept, ir.tensors[name].dtype) for name in op.outputs]

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        return ir.tensors[op.inputs[0]].numel

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        x = to.view(op.inputs[0])
        axes = reduced_axes(op, len(x.dims))
        value, indices = op.output(0), op.output(1)
        out = to.define(value) if value else to.scratch(to.ir.tensors[op.outputs[0]].shape, x.dtype)
        if x.numel == 0 and out.numel:
            assert self.empty is not None  # ATen refuses the others while tracing
            to.fill(out, self.empty)
            return
        x = to.convert(x, self.accumulation(x.dtype, out.dtype))
        if indices:
            position = to.define(indices)
            if x.dims:
                _extreme(to, x, axes[0], out, position, self.reduce_op)
                return
            to.fill(position, 0)
        rows, values, mask = grouped(x, out, axes)
        if len(rows.dims) > MAX_RANK:  # kept and reduced axes take turns: bring them together
            order = [*(i for i in range(len(x.dims)) if i not in axes), *axes]
            turned = replace(x, dims=tuple(x.dims[i] for i in order), strides=tuple(x.strides[i] for i in order))
            kept = len(order) - len(axes)
            rows, values, mask = grouped(to.dense(turned), out, tuple(range(kept, len(order))))
        x, out = rows, values
        to.emit(Reduce(x=x, out=out, op=self.reduce_op, axes=mask))

    def accumulation(self, source: DType, result: DType) -> DType:
        """The dtype that eager converts x to before it reduces, or one of the same values that the command takes."""
        return result

    def unsupported(self, op: ACALSimOp, ir: ACALSimIR) -> str | None:
        x = ir.tensors[op.inputs[0]]
        if x.numel == 0 and ir.tensors[op.outputs[0]].numel and self.empty is None:
            return "reduction over no elements"
        return None


def _extreme(to: Lowering, x: View, axis: int, out: View, position: View, how: ReduceOp) -> None:
    """The extreme values along one axis, and where the first of each stands; ``out`` and ``position`` are dense."""
    lead, tail = _product(x.dims[:axis]), _product(x.dims[axis + 1 :])
    x, out, position = (
        replace(view, dims=dims, strides=contiguous_strides(dims))
        for view, dims in (
            (to.dense(x), (lead, x.dims[axis], tail)),
            (out, (lead, 1, tail)),
            (position, (lead, 1, tail)),
        )
    )
    to.emit(Reduce(x=x, out=out, indices=position, op=how, axes=0b010))


def _product(dims: tuple[int, ...]) -> int:
    n = 1
    for d in dims:
        n *= d
    return n


class Sum(_Reduction):
    """sum over axes."""

    op_type = ACALSimOpType.SUM
    targets = ("aten.sum.default", "aten.sum.dim_IntList")
    reduce_op = ReduceOp.SUM
    empty = 0.0

    def accumulation(self, source: DType, result: DType) -> DType:
        return source if source in _HALF_TYPES and result is DType.F32 else result

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        if dtype_of(op.outputs[0], to.ir) is DType.BOOL:  # the sum of truths as a truth: whether there is one
            Any().lower(op, to)
        else:
            super().lower(op, to)


class Prod(_Reduction):
    """prod over an axis, or over all elements."""

    op_type = ACALSimOpType.PROD
    targets = ("aten.prod.default", "aten.prod.dim_int")
    reduce_op = ReduceOp.PROD
    empty = 1.0

    def unsupported(self, op: ACALSimOp, ir: ACALSimIR) -> str | None:
        return "result is bool" if dtype_of(op.outputs[0], ir) is DType.BOOL else None


class Mean(_Reduction):
    """mean over axes."""

    op_type = ACALSimOpType.MEAN
    targets = ("aten.mean.default", "aten.mean.dim")
    reduce_op = ReduceOp.MEAN
    empty = float("nan")

    def accumulation(self, source: DType, result: DType) -> DType:
        narrow = (*_HALF_TYPES, DType.F32)  # eager takes the mean of half types in f32
        if result in narrow:
            return source if source in narrow else DType.F32
        return result


class Max(_Reduction):
    """amax over axes, and max along one axis with its indices."""

    op_type = ACALSimOpType.MAX
    targets = ("aten.amax.default", "aten.max.default", "aten.max.dim")
    reduce_op = ReduceOp.MAX


class Min(_Reduction):
    """amin over axes, and min along one axis with its indices."""

    op_type = ACALSimOpType.MIN
    targets = ("aten.amin.default", "aten.min.default", "aten.min.dim")
    reduce_op = ReduceOp.MIN


class ArgMax(Operator):
    """argmax(self, dim): where the first of the largest values stands, along an axis or among all elements."""

    op_type = ACALSimOpType.ARGMAX
    targets: tuple[str, ...] = ("aten.argmax.default",)
    reduce_op = ReduceOp.MAX

    def unsupported(self, op: ACALSimOp, ir: ACALSimIR) -> str | None:
        return "no elements" if ir.tensors[op.inputs[0]].numel == 0 else None

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        x, position = to.view(op.inputs[0]), to.define(op.outputs[0])
        dim = op.attrs.get("dim")
        if dim is None:
            x = to.dense(x)
            x = replace(x, dims=(x.numel,), strides=(1,))
        if x.dims:
            _extreme(
                to, x, normal_axis(dim or 0, len(x.dims)), to.scratch(position.dims, x.dtype), position, self.reduce_op
            )
        else:
            to.fill(position, 0)


class ArgMin(ArgMax):
    """argmin(self, dim)."""

    op_type = ACALSimOpType.ARGMIN
    targets = ("aten.argmin.default",)
    reduce_op = ReduceOp.MIN


class Any(_Reduction):
    """Logical or over axes: the maximum of truth values."""

    op_type = ACALSimOpType.ANY
    targets = ("aten.any.default", "aten.any.dim", "aten.any.dims")
    reduce_op = ReduceOp.MAX
    empty = 0.0

    def accumulation(self, source: DType, result: DType) -> DType:
        return DType.BOOL

    def infer(self, op: ACALSimOp, ir: ACALSimIR) -> Signature | None:
        if op.attrs.get("dim") == ():  # here no axes are none, not all
            return [(ir.tensors[op.inputs[0]].shape, "bool")]
        return super().infer(op, ir)

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        if op.op_type is ACALSimOpType.ANY and op.attrs.get("dim") == ():  # of a sum as a truth they are all
            to.copy(to.view(op.inputs[0]), to.define(op.outputs[0]))
        else:
            super().lower(op, to)

    def unsupported(self, op: ACALSimOp, ir: ACALSimIR) -> str | None:
        return "result is not bool" if dtype_of(op.outputs[0], ir) is not DType.BOOL else None
