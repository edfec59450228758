"""Operators that only look at memory differently: nothing is executed, unless a reshape needs dense memory."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops.base import Operator, Signature, normal_axis
from acalsim_backend.ops.lowering import Lowering, broadcast, permuted, reshape_strides, windowed, without
from acalsim_backend.program.view import View, contiguous_strides, overlaps


class _ViewOperator(Operator):
    is_view = True


class Reshape(_ViewOperator):
    """view, alias: the same elements in the same order."""

    op_type = ACALSimOpType.RESHAPE
    targets: tuple[str, ...] = (
        "aten.view.default",
        "aten._unsafe_view.default",
        "aten.reshape.default",
        "aten.alias.default",
        "aten.detach.default",
        "aten.lift_fresh_copy.default",
    )

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        source = to.view(op.inputs[0])
        dims = to.ir.tensors[op.outputs[0]].shape
        strides = reshape_strides(source, dims)
        if strides is None:
            source = to.dense(source)
            strides = contiguous_strides(dims)
        to.alias(op.outputs[0], replace(source, dims=dims, strides=strides))


class Squeeze(Reshape):
    """squeeze: without axes of length 1."""

    op_type = ACALSimOpType.SQUEEZE
    targets = ("aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims")


class Unsqueeze(Reshape):
    """unsqueeze(self, dim): with one more axis of length 1."""

    op_type = ACALSimOpType.UNSQUEEZE
    targets = ("aten.unsqueeze.default",)


class Flatten(Reshape):
    """flatten(self, start_dim, end_dim): several axes as one."""

    op_type = ACALSimOpType.FLATTEN
    targets = ("aten.flatten.using_ints",)


class Permute(_ViewOperator):
    """permute(self, dims)."""

    op_type = ACALSimOpType.PERMUTE
    targets: tuple[str, ...] = ("aten.permute.default",)

    def infer(self, op: ACALSimOp, ir: ACALSimIR) -> Signature:
        source = ir.tensors[op.inputs[0]]
        return [(tuple(source.shape[i] for i in _order(op, len(source.shape))), source.dtype)]

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        source = to.view(op.inputs[0])
        to.alias(op.outputs[0], permuted(source, _order(op, len(source.dims))))


class Transpose(Permute):
    """transpose(self, dim0, dim1), t."""

    op_type = ACALSimOpType.TRANSPOSE
    targets = ("aten.transpose.int", "aten.t.default")


def _order(op: ACALSimOp, rank: int) -> tuple[int, ...]:
    if "dims" in op.attrs:
        return tuple(normal_axis(d, rank) for d in op.attrs["dims"])
    order = list(range(rank))
    if rank > 1:
        a, b = normal_axis(op.attrs.get("dim0", 0), rank), normal_axis(op.attrs.get("dim1", 1), rank)
        order[a], order[b] = order[b], order[a]
    return tuple(order)


class Expand(_ViewOperator):
    """expand: broadcast by stride 0."""

    op_type = ACALSimOpType.EXPAND
    targets = ("aten.expand.default",)

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        to.alias(op.outputs[0], broadcast(to.view(op.inputs[0]), to.ir.tensors[op.outputs[0]].shape))


class Slice(_ViewOperator):
    """slice(self, dim, start, end, step)."""

    op_type = ACALSimOpType.SLICE
    targets = ("aten.slice.Tensor",)

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        to.alias(op.outputs[0], _sliced(to.view(op.inputs[0]), op, to.ir.tensors[op.outputs[0]].shape))


def _sliced(source: View, op: ACALSimOp, shape: tuple[int, ...]) -> View:
    """The slice of ``source``, of that shape, that the operation's dim, start and step name."""
    axis = normal_axis(op.attrs.get("dim", 0), len(source.dims))
    start, size = op.attrs.get("start", 0), source.dims[axis]
    start = min(max(start + size if start < 0 else start, 0), size)
    return windowed(source, axis, start if shape[axis] else 0, shape[axis], op.attrs.get("step", 1))


class _WindowScatter(Operator):
    """self with src in place of a window into it."""

    only_moves = True

    @abstractmethod
    def window(self, out: View, op: ACALSimOp, dims: tuple[int, ...]) -> View:
        """The window of ``out`` that has src's dims."""

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        out, source = to.define(op.outputs[0]), to.view(op.inputs[1])
        to.copy(to.view(op.inputs[0]), out)
        if source.numel:
            to.copy(source, self.window(out, op, source.dims))


class SliceScatter(_WindowScatter):
    """slice_scatter(self, src, dim, start, end, step): src in place of a slice."""

    op_type = ACALSimOpType.SLICE_SCATTER
    targets = ("aten.slice_scatter.default",)

    def window(self, out: View, op: ACALSimOp, dims: tuple[int, ...]) -> View:
        return _sliced(out, op, dims)


class DiagonalScatter(_WindowScatter):
    """diagonal_scatter(self, src, offset, dim1, dim2): src in place of a diagonal, which is its last axis."""

    op_type = ACALSimOpType.DIAGONAL_SCATTER
    targets = ("aten.diagonal_scatter.default",)

    def window(self, out: View, op: ACALSimOp, dims: tuple[int, ...]) -> View:
        return _diagonal(out, op, dims)


class Select(_ViewOperator):
    """select(self, dim, index)."""

    op_type = ACALSimOpType.SELECT
    targets = ("aten.select.int",)

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        source = to.view(op.inputs[0])
        axis = normal_axis(op.attrs["dim"], len(source.dims))
        index = normal_axis(op.attrs["index"], source.dims[axis])
        to.alias(op.outputs[0], without(windowed(source, axis, index, 1, 1), axis))


class Diagonal(_ViewOperator):
    """diagonal(self, offset, dim1, dim2): a step along two axes at once; it becomes the last axis."""

    op_type = ACALSimOpType.DIAGONAL
    targets = ("aten.diagonal.default",)

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        dims = to.ir.tensors[op.outputs[0]].shape
        to.alias(op.outputs[0], _diagonal(to.view(op.inputs[0]), op, dims))


def _diagonal(view: View, op: ACALSimOp, dims: tuple[int, ...]) -> View:
    """The diagonal, of these dims, that the operation's offset, dim1 and dim2 name."""
    rank, offset = len(view.dims), op.attrs.get("offset", 0)
    down, across = normal_axis(op.attrs.get("dim1", 0), rank), normal_axis(op.attrs.get("dim2", 1), rank)
    first = offset * view.strides[across] if offset > 0 else -offset * view.strides[down]
    kept = [i for i in range(rank) if i not in (down, across)]
    strides = (*(view.strides[i] for i in kept), view.strides[down] + view.strides[across])
    return replace(view, dims=dims, strides=strides, offset=view.offset + first * view.dtype.itemsize)


class Unfold(_ViewOperator):
    """unfold(self, dimension, size, step): windows along one axis, whose elements become the last axis."""

    op_type = ACALSimOpType.UNFOLD
    targets = ("aten.unfold.default",)

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        source, dims = to.view(op.inputs[0]), to.ir.tensors[op.outputs[0]].shape
        if not source.dims:
            to.alias(op.outputs[0], replace(source, dims=dims, strides=(1,)))
            return
        axis = normal_axis(op.attrs["dimension"], len(source.dims))
        starts = windowed(source, axis, 0, dims[axis], op.attrs["step"])
        to.alias(op.outputs[0], replace(starts, dims=dims, strides=(*starts.strides, source.strides[axis])))


class Flip(Operator):
    """flip(self, dims): negative strides. PyTorch has none, so that a result which the caller sees is copied."""

    op_type = ACALSimOpType.FLIP
    targets = ("aten.flip.default",)

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        view = to.view(op.inputs[0])
        for axis in {normal_axis(d, len(view.dims)) for d in op.attrs["dims"]} if view.dims else ():
            view = windowed(view, axis, max(view.dims[axis] - 1, 0), view.dims[axis], -1)
        if op.outputs[0] in to.escaping:
            to.copy(view, to.define(op.outputs[0]))
        else:
            to.alias(op.outputs[0], view)


class AsStrided(_ViewOperator):
    """as_strided(self, size, stride, storage_offset): a window into memory as PyTorch lays ``self`` out.

    The capture gives it the tensor that owns the memory, and counts ``storage_offset`` from its first element.
    """

    op_type = ACALSimOpType.AS_STRIDED
    targets = ("aten.as_strided.default",)

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        memory = _as_memory(op.inputs[0], to)
        to.alias(op.outputs[0], _strided(memory, op))


class AsStridedScatter(Operator):
    """as_strided_scatter(self, src, size, stride, storage_offset): a copy of ``self`` in which a window is ``src``.

    The copy is laid out like ``self``; what the window covers beside its elements is written and never read.
    """

    op_type = ACALSimOpType.AS_STRIDED_SCATTER
    targets = ("aten.as_strided_scatter.default",)

    def infer(self, op: ACALSimOp, ir: ACALSimIR) -> Signature:
        source = ir.tensors[op.inputs[0]]
        return [(source.shape, source.dtype)]

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        return 0

    def unsupported(self, op: ACALSimOp, ir: ACALSimIR) -> str | None:
        source = ir.tensors[op.inputs[0]]
        own = source.strides or contiguous_strides(source.shape)
        if overlaps(source.shape, own) or overlaps(op.attrs["size"], op.attrs["stride"]):
            return "elements that share memory cannot be written one by one"
        return None

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        source = to.view(op.inputs[0])
        own = replace(source, strides=to.ir.tensors[op.inputs[0]].strides or contiguous_strides(source.dims), offset=0)
        window = _strided(own, op)
        low = min(own.extent[0], window.extent[0])
        high = max(own.extent[1], window.extent[1])
        memory = to.scratch(((high - low) // source.dtype.itemsize,), source.dtype)
        result, target = (replace(v, tensor=memory.tensor, offset=v.offset - low) for v in (own, window))
        to.copy(source, result)
        if target.numel:
            to.copy(to.view(op.inputs[1]), target)
        to.alias(op.outputs[0], result)


def _as_memory(name: str, to: Lowering) -> View:
    """An IR tensor where its elements lie as in PyTorch's memory."""
    view = to.view(name)
    return to.laid_out(view, to.ir.tensors[name].strides or contiguous_strides(view.dims))


def _strided(memory: View, op: ACALSimOp) -> View:
    offset = memory.offset + op.attrs.get("storage_offset", 0) * memory.dtype.itemsize
    return replace(memory, dims=op.attrs["size"], strides=op.attrs["stride"], offset=offset)


class Split(_ViewOperator):
    """split_with_sizes, unbind-free: consecutive windows along one axis."""

    op_type = ACALSimOpType.SPLIT
    targets = ("aten.split_with_sizes.default", "aten.split.Tensor")

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        source = to.view(op.inputs[0])
        axis = normal_axis(op.attrs.get("dim", 0), len(source.dims))
        sizes = op.attrs.get("split_sizes")
        if sizes is None:
            step = op.attrs["split_size"]
            sizes = [min(step, source.dims[axis] - at) for at in range(0, source.dims[axis], step)]
        for result, name in zip(op.results, op.outputs, strict=True):
            to.alias(name, windowed(source, axis, sum(sizes[:result]), sizes[result], 1))
