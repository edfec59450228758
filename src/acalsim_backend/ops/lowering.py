"""From IR to Commands: tensor table, views, and the emission of each operation."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from acalsim_backend.errors import UnsupportedError
from acalsim_backend.ir import DTYPES, ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops.base import operator_of
from acalsim_backend.program.commands import Command, Copy, Fill, Host
from acalsim_backend.program.enums import MAX_RANK, DType
from acalsim_backend.program.program import Origin, Tensor, TensorKind
from acalsim_backend.program.view import View, contiguous_strides, overlaps
from acalsim_backend.tensors import TORCH_DTYPES, raw_bytes


@dataclass(frozen=True)
class HostCallSite:
    """An operation for the host. Of operands whose rank no view has, its command gets the memory, and these are their
    dims and strides in it; None for others. Inputs come before outputs."""

    op: ACALSimOp
    layouts: tuple[tuple[tuple[int, ...], tuple[int, ...]] | None, ...]


@dataclass(frozen=True)
class Lowered:
    """Commands in order with everything they refer to; what the passes over commands work on."""

    name: str
    tensors: tuple[Tensor, ...]
    commands: tuple[Command, ...]
    origins: tuple[Origin, ...]
    names: dict[str, int]
    outputs: tuple[View, ...]
    """Where each output of the IR lies."""
    mutations: tuple[tuple[str, View], ...]
    host_calls: tuple[HostCallSite, ...]
    arena_size: int = 0
    arena_bound: int = 0
    """Liveness lower bound of ``arena_size``."""


class Lowering:
    """Collects commands while the operators of an IR are visited in order."""

    def __init__(self, ir: ACALSimIR, captured: Sequence[ACALSimOp]) -> None:
        self.ir = ir
        self.captured = captured
        self.tensors: list[Tensor] = []
        self.views: dict[str, View] = {}
        self.names: dict[str, int] = {}
        self.commands: list[Command] = []
        self.origins: list[Origin] = []
        self.host_calls: list[HostCallSite] = []
        self.escaping = _visible(ir)
        """Tensors whose memory the caller will see, directly or through a view."""
        self.users = ir.users()
        self._origin = (0, 0)
        for desc in ir.tensors.values():
            if desc.name in ir.constants:
                self._define(desc.name, TensorKind.CONSTANT, ir.constants[desc.name])
            elif desc.is_param:
                self._define(desc.name, TensorKind.WEIGHT)
            elif desc.is_input:
                self._define(desc.name, TensorKind.INPUT)
            elif desc.name in ir.prepared:
                self._define(desc.name, TensorKind.PREPARED)

    def run(self) -> Lowered:
        """Lower every operation of the IR."""
        for op in self.ir.ops:
            first = len(self.origins)
            covered = [self.captured[i] for i in op.covers]
            self.origins += [self._describe(c) for c in covered]
            self._origin = (first, len(covered))
            operator_of(op).lower(op, self)
        outputs = tuple(self.views[n] for n in self.ir.output_names)
        mutations = tuple((n, self.views[v]) for n, v in self.ir.mutations)
        for view in (*outputs, *(v for _, v in mutations)):
            tensor = self.tensors[view.tensor]
            if tensor.kind is TensorKind.ARENA:
                self.tensors[tensor.id] = replace(tensor, kind=TensorKind.OUTPUT)
        return Lowered(
            self.ir.name,
            tuple(self.tensors),
            tuple(self.commands),
            tuple(self.origins),
            self.names,
            outputs,
            mutations,
            tuple(self.host_calls),
        )

    def _describe(self, op: ACALSimOp) -> Origin:
        kind = op.target if op.op_type is ACALSimOpType.HOST else op.op_type.name
        return Origin(op.covers[0], str(op), kind, op.module, op.source, op.compute_cycles)

    def _define(self, name: str, kind: TensorKind, data: Any = None) -> View:
        desc = self.ir.tensors[name]
        dtype = DTYPES[desc.dtype]
        raw = None if data is None else raw_bytes(data).tobytes()
        self.tensors.append(Tensor(len(self.tensors), name, kind, dtype, desc.shape, data=raw))
        view = View(len(self.tensors) - 1, dtype, desc.shape, contiguous_strides(desc.shape))
        self.views[name] = view
        self.names[name] = view.tensor
        return view

    # --- what operators use ---

    def view(self, name: str) -> View:
        """Where an IR tensor lies."""
        return self.views[name]

    def define(self, name: str) -> View:
        """Give an IR tensor dense memory of its own."""
        return self._define(name, TensorKind.ARENA)

    def alias(self, name: str, view: View) -> None:
        """Let an IR tensor share memory; its dtype and shape follow from ``view``."""
        self.views[name] = view if view.numel else replace(view, offset=0)  # no element lies behind an empty tensor

    def scratch(self, dims: tuple[int, ...], dtype: DType) -> View:
        """Dense memory that no IR tensor names."""
        tensor = Tensor(len(self.tensors), f"s_{len(self.tensors)}", TensorKind.ARENA, dtype, dims)
        self.tensors.append(tensor)
        return View(tensor.id, dtype, dims, contiguous_strides(dims))

    def emit(self, command: Command) -> None:
        """Append a command that belongs to the operation being lowered; one with empty results alone is left out, but
        for the host's, which PyTorch may refuse."""
        if not isinstance(command, Host) and command.writes() and all(v.numel == 0 for v in command.writes()):
            return
        self.commands.append(replace(command, origin=self._origin))

    def copy(self, source: View, destination: View) -> None:
        """Emit a conversion or copy between views of equal dims and any rank."""
        for x, out in split_rank(collapse([source, destination])):
            self.emit(Copy(x=x, out=out))

    def fill(self, destination: View, value: float) -> None:
        """Emit a fill with one value."""
        for (out,) in split_rank(collapse([destination])):
            self.emit(Fill(out=out, value=immediate(value, destination.dtype)))

    def zeros(self, dims: tuple[int, ...], dtype: DType) -> View:
        """Zeros of any shape: one element, broadcast."""
        zero = self.scratch((), dtype)
        self.fill(zero, 0)
        return broadcast(zero, dims)

    def dense(self, view: View) -> View:
        """The view itself when it is dense row-major, else a copy that is."""
        if view.is_contiguous:
            return replace(view, strides=contiguous_strides(view.dims))
        copy = self.scratch(view.dims, view.dtype)
        self.copy(view, copy)
        return copy

    def laid_out(self, view: View, strides: tuple[int, ...]) -> View:
        """The elements of the view in memory with these strides, which must not be negative: the view itself where it
        has them. Elements that share memory by a stride of 0 must be equal, as they are in every view.

        Raises:
            UnsupportedError: elements would share memory in another way.
        """
        wanted = replace(view, strides=strides)
        if all(d == 1 or own == s for d, own, s in zip(view.dims, view.strides, strides, strict=True)):
            return wanted
        once = tuple(1 if s == 0 else d for d, s in zip(view.dims, strides, strict=True))
        if overlaps(once, strides):
            raise UnsupportedError(
                f"{self.ir.name}: a tensor of shape {view.dims} and strides {strides}, whose elements share memory, "
                "is needed as memory; pass a clone() of it"
            )
        low, high = replace(wanted, offset=0).extent
        memory = self.scratch(((high - low) // view.dtype.itemsize,), view.dtype)
        laid = replace(memory, dims=view.dims, strides=strides)
        self.copy(replace(view, dims=once), replace(laid, dims=once))
        return laid

    def as_pytorch(self, name: str) -> View:
        """An IR tensor in memory laid out as PyTorch has it, dense where PyTorch's elements share memory."""
        view, strides = self.view(name), self.ir.tensors[name].strides
        if strides is None or overlaps(view.dims, strides):
            return self.dense(view)
        return self.laid_out(view, strides)

    def constant(self, value: torch.Tensor) -> View:
        """Data that no IR tensor names."""
        dtype, dims = DTYPES[str(value.dtype).removeprefix("torch.")], tuple(value.shape)
        name = f"c_{len(self.tensors)}"
        data = raw_bytes(value).tobytes()
        self.tensors.append(Tensor(len(self.tensors), name, TensorKind.CONSTANT, dtype, dims, data=data))
        return View(len(self.tensors) - 1, dtype, dims, contiguous_strides(dims))

    def convert(self, view: View, dtype: DType) -> View:
        """The view itself when it has the dtype, else a converted dense copy."""
        if view.dtype is dtype:
            return view
        copy = self.scratch(view.dims, dtype)
        self.copy(view, copy)
        return copy


def _visible(ir: ACALSimIR) -> set[str]:
    visible = ir.escaping()
    for op in reversed(ir.ops):
        if operator_of(op).is_view and visible.intersection(op.outputs):
            visible.update(op.inputs)
    return visible


def immediate(value: float, dtype: DType) -> int:
    """Bits of a number as an element: an f64 for floating-point dtypes, an i64 (wrapped, truncated, a truth) else.

    Raises:
        UnsupportedError: infinity or NaN for an integer.
    """
    packed = struct.pack("<d", value) if dtype.is_float else struct.pack("<q", rounded(value, dtype))
    return int.from_bytes(packed, "little")


def rounded(value: float, dtype: DType) -> float:
    """The number that an element of ``dtype`` holds when ``value`` is put into it; errors as in ``immediate``."""
    if dtype is DType.BOOL:
        return bool(value)
    if dtype.is_float:
        return torch.tensor(value, dtype=torch.float64).to(TORCH_DTYPES[dtype]).item()
    if not math.isfinite(value):
        raise UnsupportedError(f"scalar {value} does not fit {dtype.name}; use a floating-point tensor")
    bits = 8 * dtype.itemsize
    low = 0 if dtype is DType.U8 else -1 << bits - 1
    return (int(value) - low) % (1 << bits) + low


def broadcast(view: View, dims: Sequence[int]) -> View:
    """The view over larger dims; new and size-1 dims get stride 0."""
    lead = len(dims) - len(view.dims)
    strides = [0] * lead
    for size, own, stride in zip(dims[lead:], view.dims, view.strides, strict=True):
        strides.append(stride if own == size and own != 1 else 0)
    return replace(view, dims=tuple(dims), strides=tuple(strides))


def permuted(view: View, order: Sequence[int]) -> View:
    """The view with its axes in another order."""
    return replace(view, dims=tuple(view.dims[i] for i in order), strides=tuple(view.strides[i] for i in order))


def windowed(view: View, axis: int, start: int, length: int, step: int) -> View:
    """Elements ``start``, ``start + step``, .. of one axis, ``length`` of them."""
    dims = (*view.dims[:axis], length, *view.dims[axis + 1 :])
    strides = (*view.strides[:axis], view.strides[axis] * step, *view.strides[axis + 1 :])
    offset = view.offset + start * view.strides[axis] * view.dtype.itemsize
    return replace(view, dims=dims, strides=strides, offset=offset)


def without(view: View, axis: int) -> View:
    """The view at the start of one axis."""
    return replace(
        view, dims=view.dims[:axis] + view.dims[axis + 1 :], strides=view.strides[:axis] + view.strides[axis + 1 :]
    )


def collapse(views: Sequence[View]) -> list[View]:
    """The same iteration space over fewer dims: size-1 dims go, neighbours that every view walks evenly merge."""
    dims = views[0].dims
    keep = [i for i, d in enumerate(dims) if d != 1]
    merged: list[int] = []
    steps: list[list[int]] = [[] for _ in views]
    for i in keep:
        own = [v.strides[i] for v in views]
        if merged and all(s[-1] == o * dims[i] for s, o in zip(steps, own, strict=True)):
            merged[-1] *= dims[i]
            for s, o in zip(steps, own, strict=True):
                s[-1] = o
        else:
            merged.append(dims[i])
            for s, o in zip(steps, own, strict=True):
                s.append(o)
    if not merged:
        merged = [1]
        steps = [[1] for _ in views]
    return [replace(v, dims=tuple(merged), strides=tuple(s)) for v, s in zip(views, steps, strict=True)]


def split_rank(views: Sequence[View], limit: int = MAX_RANK) -> list[list[View]]:
    """Views of rank at most ``limit`` that cover the same space, by unrolling the leading dims."""
    dims = views[0].dims
    if len(dims) <= limit:
        return [list(views)]
    parts: list[list[View]] = []
    for i in range(dims[0]):
        sliced = [
            replace(v, dims=dims[1:], strides=v.strides[1:], offset=v.offset + i * v.strides[0] * v.dtype.itemsize)
            for v in views
        ]
        parts += split_rank(sliced, limit)
    return parts


def reshape_strides(view: View, dims: tuple[int, ...]) -> tuple[int, ...] | None:
    """Strides with which ``dims`` walk the same elements in the same order, or None if a copy is needed."""
    if view.numel == 0 or view.is_contiguous:
        return contiguous_strides(dims)
    old = [(d, s) for d, s in zip(view.dims, view.strides, strict=True) if d != 1]
    strides: list[int] = []
    position = 0
    remaining, step = (1, 0)
    chunk: list[tuple[int, int]] = []
    for d in reversed(old):  # merge the old dims into evenly walked chunks, innermost first
        if chunk and d[1] == chunk[-1][0] * chunk[-1][1]:
            chunk[-1] = (chunk[-1][0] * d[0], chunk[-1][1])
        else:
            chunk.append(d)
    for size in reversed(dims):
        if size == 1:
            strides.append(0 if not strides else strides[-1])
            continue
        if remaining == 1:
            remaining, step = chunk[position]
            position += 1
        if remaining % size:
            return None
        strides.append(step)
        remaining //= size
        step *= size
    return tuple(reversed(strides))
