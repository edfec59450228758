"""Operators that read or write where indices say."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops.base import Operator, dtype_of, normal_axis
from acalsim_backend.ops.lowering import Lowering, broadcast, collapse, permuted
from acalsim_backend.program.commands import Command, Gather, Scatter
from acalsim_backend.program.enums import MAX_RANK, DType, ScatterOp
from acalsim_backend.program.view import View, contiguous_strides

_INDICES = (DType.I32, DType.I64)
_BY_NAME = {
    "add": ScatterOp.ADD,
    "sum": ScatterOp.ADD,
    "multiply": ScatterOp.MUL,
    "prod": ScatterOp.MUL,
    "amax": ScatterOp.MAX,
    "amin": ScatterOp.MIN,
}


class _Indexed(Operator):
    """What all of them cannot do."""

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        return 0

    def unsupported(self, op: ACALSimOp, ir: ACALSimIR) -> str | None:
        names = [n for n, role in zip(op.inputs, op.roles, strict=True) if role.startswith(("index", "indices"))]
        if any(dtype_of(name, ir) not in _INDICES for name in names):
            return "a mask as index: how much it selects is known when it runs"
        if any(len(ir.tensors[n].shape) > MAX_RANK for n in (*op.inputs, *op.outputs)):
            return f"rank above {MAX_RANK}"
        return None


class Embedding(_Indexed):
    """embedding(weight, indices): a row of weight for each index."""

    op_type = ACALSimOpType.EMBEDDING
    targets = ("aten.embedding.default",)

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        _gather(to, to.view(op.inputs[0]), [to.view(op.inputs[1])], to.define(op.outputs[0]))


class IndexSelect(_Indexed):
    """index_select(self, dim, index): slices of self along an axis."""

    op_type = ACALSimOpType.INDEX_SELECT
    targets = ("aten.index_select.default",)

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        x, index, out = at_least_1d(to.view(op.inputs[0])), to.view(op.inputs[1]), to.define(op.outputs[0])
        axis = normal_axis(op.attrs["dim"], len(x.dims))
        _gather(to, to_front(x, axis), [at_least_1d(index)], to_front(at_least_1d(out), axis))


class Index(_Indexed):
    """index.Tensor(self, indices): the axes with indices are replaced by what these have in common, broadcast. It
    stands where the indexed axes stood if they are neighbours, else at the front."""

    op_type = ACALSimOpType.INDEX
    targets = ("aten.index.Tensor",)

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        axes, indices = _advanced(op, to)
        x, out = to.view(op.inputs[0]), to.define(op.outputs[0])
        dims = _result_dims(x.dims, axes, indices[0].dims)  # fake tensors lose an axis of 1 beside indices of rank 0
        out = _places_first(replace(out, dims=dims, strides=contiguous_strides(dims)), axes, len(indices[0].dims))
        _gather(to, _axes_first(x, axes), indices, out, wrap=True)


class IndexPut(_Indexed):
    """index_put(self, indices, values, accumulate): self with values where index.Tensor reads, set or added."""

    op_type = ACALSimOpType.INDEX_PUT
    targets = ("aten.index_put.default",)

    def unsupported(self, op: ACALSimOp, ir: ACALSimIR) -> str | None:
        adds = op.attrs.get("accumulate", False)
        return super().unsupported(op, ir) or (_reduces_truths(op, ir) if adds else None)

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        axes, indices = _advanced(op, to)
        out, values = _copied(op, to), op.input("values")
        assert values is not None
        dims = _result_dims(out.dims, axes, indices[0].dims)
        rows = _places_first(broadcast(to.view(values), dims), axes, len(indices[0].dims))
        how = ScatterOp.ADD if op.attrs.get("accumulate", False) else ScatterOp.SET
        _scatter(to, _axes_first(out, axes), indices, rows, how, wrap=True)


class GatherAlong(_Indexed):
    """gather(self, dim, index): along one axis, an index for each element; self may be longer along the others."""

    op_type = ACALSimOpType.GATHER
    targets = ("aten.gather.default",)

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        x, index, out = (
            at_least_1d(v) for v in (to.view(op.inputs[0]), to.view(op.inputs[1]), to.define(op.outputs[0]))
        )
        axis = normal_axis(op.attrs["dim"], len(x.dims))
        table, index, rows = _along(axis, x, index, out)
        _gather(to, table, [index], rows, batch=len(index.dims) - 1)


class ScatterAlong(_Indexed):
    """scatter, scatter_add, scatter_reduce(self, dim, index, src or value): self changed where gather reads."""

    op_type = ACALSimOpType.SCATTER
    targets = (
        "aten.scatter.src",
        "aten.scatter.value",
        "aten.scatter.reduce",
        "aten.scatter.value_reduce",
        "aten.scatter_add.default",
        "aten.scatter_reduce.two",
    )

    def unsupported(self, op: ACALSimOp, ir: ACALSimIR) -> str | None:
        return super().unsupported(op, ir) or _unknown_reduction(op, ir, self.reduction(op))

    def reduction(self, op: ACALSimOp) -> str:
        """Its name in PyTorch; "" where values are set."""
        return "add" if op.target == "aten.scatter_add.default" else str(op.attrs.get("reduce", ""))

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        name = op.input("index")
        assert name is not None
        out, index = at_least_1d(_copied(op, to)), at_least_1d(to.view(name))
        source = op.input("src")
        if source is None:
            value = to.scratch((), out.dtype)
            to.fill(value, op.attrs["value"])
            rows = broadcast(value, index.dims)
        else:
            rows = at_least_1d(to.view(source))
        axis = normal_axis(op.attrs["dim"], len(out.dims))
        table, index, rows = _along(axis, out, index, rows)
        reduction = self.reduction(op)
        how = _BY_NAME[reduction] if reduction else ScatterOp.SET
        _reduce_into(to, table, index, rows, how, op.attrs.get("include_self", True), batch=len(index.dims) - 1)


class IndexReduce(_Indexed):
    """index_reduce(self, dim, index, source, reduce): slices of source into self, along an axis."""

    op_type = ACALSimOpType.INDEX_REDUCE
    targets = ("aten.index_reduce.default",)

    def unsupported(self, op: ACALSimOp, ir: ACALSimIR) -> str | None:
        return super().unsupported(op, ir) or _unknown_reduction(op, ir, op.attrs["reduce"])

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        out = at_least_1d(_copied(op, to))
        index, source = (at_least_1d(to.view(name)) for name in op.inputs[1:])
        axis = normal_axis(op.attrs["dim"], len(out.dims))
        how, with_self = _BY_NAME[op.attrs["reduce"]], op.attrs.get("include_self", True)
        _reduce_into(to, to_front(out, axis), index, to_front(source, axis), how, with_self)


def at_least_1d(view: View) -> View:
    """A 0-d view as one of one element."""
    return view if view.dims else replace(view, dims=(1,), strides=(1,))


def to_front(view: View, axis: int) -> View:
    """The view with one axis before the others."""
    return permuted(view, (axis, *(i for i in range(len(view.dims)) if i != axis)))


def _copied(op: ACALSimOp, to: Lowering) -> View:
    out = to.define(op.outputs[0])
    to.copy(to.view(op.inputs[0]), out)
    return out


def _reduces_truths(op: ACALSimOp, ir: ACALSimIR) -> str | None:
    return "a reduction of truths" if dtype_of(op.outputs[0], ir) is DType.BOOL else None


def _unknown_reduction(op: ACALSimOp, ir: ACALSimIR, name: str) -> str | None:
    if not name:
        return None
    return _reduces_truths(op, ir) if name in _BY_NAME else f"reduction {name!r}"


def _advanced(op: ACALSimOp, to: Lowering) -> tuple[list[int], list[View]]:
    """The indexed axes of index.Tensor or index_put, and their indices, broadcast to one shape."""
    named = {int(role.partition(".")[2]): n for n, role in zip(op.inputs, op.roles, strict=True) if "." in role}
    axes = sorted(named)
    views = [to.view(named[axis]) for axis in axes]
    dims = tuple(torch.broadcast_shapes(*(view.dims for view in views)))
    return axes, [broadcast(view, dims) for view in views]


def _front(axes: Sequence[int]) -> int:
    """Where what is indexed stands in the result."""
    return axes[0] if axes[-1] - axes[0] == len(axes) - 1 else 0


def _result_dims(dims: Sequence[int], axes: Sequence[int], places: Sequence[int]) -> tuple[int, ...]:
    """Of index.Tensor."""
    rest, at = [d for i, d in enumerate(dims) if i not in axes], _front(axes)
    return (*rest[:at], *places, *rest[at:])


def _axes_first(view: View, axes: Sequence[int]) -> View:
    return permuted(view, (*axes, *(i for i in range(len(view.dims)) if i not in axes)))


def _places_first(view: View, axes: Sequence[int], rank: int) -> View:
    """A result of index.Tensor with the axes of its indices, ``rank`` of them, at the front."""
    at = _front(axes)
    return permuted(view, (*range(at, at + rank), *range(at), *range(at + rank, len(view.dims))))


def _along(axis: int, table: View, index: View, rows: View) -> tuple[View, View, View]:
    """Table and rows no longer than the index along the other axes (rows along this one, too); the axis comes last."""
    table = replace(
        table, dims=tuple(t if i == axis else d for i, (t, d) in enumerate(zip(table.dims, index.dims, strict=True)))
    )
    rows = replace(rows, dims=index.dims)
    order = (*(i for i in range(len(index.dims)) if i != axis), axis)
    return permuted(table, order), permuted(index, order), permuted(rows, order)


def _reduce_into(
    to: Lowering, table: View, index: View, rows: View, how: ScatterOp, with_self: bool, batch: int = 0
) -> None:
    """SCATTER; without what was there before where ``with_self`` is False."""
    if not with_self:
        nothing = to.scratch((), table.dtype)
        to.fill(nothing, _neutral(how, table.dtype))
        _scatter(to, table, [index], broadcast(nothing, rows.dims), ScatterOp.SET, batch=batch)
    _scatter(to, table, [index], rows, how, batch=batch)


def _neutral(how: ScatterOp, dtype: DType) -> float:
    if how is ScatterOp.MUL:
        return 1
    if how is ScatterOp.ADD:
        return 0
    sign = -1 if how is ScatterOp.MAX else 1
    if dtype.is_float:
        return sign * math.inf
    limits = torch.iinfo(getattr(torch, dtype.long_name))
    return limits.min if sign < 0 else limits.max


def _gather(
    to: Lowering, table: View, indices: Sequence[View], rows: View, *, batch: int = 0, wrap: bool = False
) -> None:
    def command(x: View, places: tuple[View, ...], out: View, axes: int) -> Command:
        return Gather(x=x, indices=places, out=out, n_indices=len(places), batch=axes, wrap=int(wrap))

    _emit(to, table, indices, rows, batch, command)


def _scatter(
    to: Lowering,
    table: View,
    indices: Sequence[View],
    rows: View,
    how: ScatterOp,
    *,
    batch: int = 0,
    wrap: bool = False,
) -> None:
    def command(out: View, places: tuple[View, ...], x: View, axes: int) -> Command:
        return Scatter(x=x, indices=places, out=out, n_indices=len(places), batch=axes, wrap=int(wrap), op=how)

    _emit(to, table, indices, rows, batch, command)


def _emit(
    to: Lowering,
    table: View,
    indices: Sequence[View],
    rows: View,
    batch: int,
    command: Callable[[View, tuple[View, ...], View, int], Command],
) -> None:
    """The command of a table [*batch, *indexed, *rest], indices [*batch, *j] and rows [*batch, *j, *rest], over as few
    axes as their strides allow."""
    if rows.numel == 0:
        return
    places, first = len(indices[0].dims), batch + len(indices)
    common = _merged([_axes(table, 0, batch), _axes(rows, 0, batch), *(_axes(i, 0, batch) for i in indices)])
    moved = collapse([_axes(rows, batch, places), *(_axes(i, batch, places) for i in indices)])
    rest = _merged([_axes(table, first), _axes(rows, places)])
    whole = [
        _joined(table, common[0], _axes(table, batch, first), rest[0]),
        _joined(rows, common[1], moved[0], rest[1]),
        *(_joined(i, c, m) for i, c, m in zip(indices, common[2:], moved[1:], strict=True)),
    ]
    to.emit(command(whole[0], tuple(whole[2:]), whole[1], len(common[0].dims)))


def _axes(view: View, begin: int, end: int | None = None) -> View:
    return replace(view, dims=view.dims[begin:end], strides=view.strides[begin:end])


def _merged(views: Sequence[View]) -> list[View]:
    """``collapse``, and no axis for a single element."""
    if math.prod(views[0].dims) == 1:
        return [replace(view, dims=(), strides=()) for view in views]
    return collapse(views)


def _joined(view: View, *parts: View) -> View:
    dims = tuple(d for part in parts for d in part.dims)
    return replace(view, dims=dims, strides=tuple(s for part in parts for s in part.strides))
