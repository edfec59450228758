"""Convolution over one, two or three spatial dims, plain and transposed, by the CONV2D command."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops.base import Operator, Signature, dtype_of
from acalsim_backend.ops.lowering import Lowering, permuted, reshape_strides, windowed, without
from acalsim_backend.ops.matmul import activation_of
from acalsim_backend.program.commands import Conv2d
from acalsim_backend.program.enums import DType
from acalsim_backend.program.view import View

_GEOMETRY = ("stride", "padding", "dilation", "output_padding")


class Convolution(Operator):
    """aten.convolution. Of three spatial dims, the taps along the first are further channels."""

    op_type = ACALSimOpType.CONV2D
    targets = ("aten.convolution.default",)
    at_one_element: ClassVar[Mapping[str, int]] = MappingProxyType({"groups": 1, "padding": 0, "output_padding": 0})

    def unsupported(self, op: ACALSimOp, ir: ACALSimIR) -> str | None:
        if dtype_of(op.outputs[0], ir) is DType.BOOL:
            return "convolution of truths has no kernel"
        rank = len(ir.tensors[op.inputs[0]].shape)
        return None if rank in (3, 4, 5) else f"convolution over {rank - 2} spatial dims has no command"

    def infer(self, op: ACALSimOp, ir: ACALSimIR) -> Signature | None:
        x, w = (ir.tensors[n] for n in op.inputs[:2])
        size = []
        for i, (extent, kernel) in enumerate(zip(x.shape[2:], w.shape[2:], strict=True)):
            stride, pad, dilation, more = (op.attrs[k][i % len(op.attrs[k])] for k in _GEOMETRY)
            if op.attrs["transposed"]:
                size.append((extent - 1) * stride - 2 * pad + dilation * (kernel - 1) + 1 + more)
            else:
                size.append((extent + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1)
        channels = w.shape[1] * op.attrs["groups"] if op.attrs["transposed"] else w.shape[0]
        return [((x.shape[0], channels if x.shape[1] else 0, *size), x.dtype)]  # PyTorch then adds no bias either

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        weight = ir.tensors[op.inputs[1]]
        moved = op.inputs[0] if op.attrs["transposed"] else op.outputs[0]
        return 2 * ir.tensors[moved].numel * weight.numel // max(weight.shape[0], 1)

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        bias, groups = op.input("bias"), op.attrs["groups"]
        x, weight, out = (_lifted(v) for v in (*(to.view(n) for n in op.inputs[:2]), to.define(op.outputs[0])))
        if out.numel == 0:
            return
        axes = _axes(op, len(to.ir.tensors[op.inputs[0]].shape) - 2)
        whole = Conv2d(
            x=x,
            weight=weight,
            out=out,
            bias=to.view(bias) if bias else None,
            groups=groups,
            activation=activation_of(op),
        )
        if op.attrs["transposed"]:
            _transposed(replace(whole, weight=_filters_first(weight, groups, to)), axes, to)
        else:
            _correlate(whole, axes, to)


@dataclass(frozen=True)
class _Axis:
    """Output p sees input ``p * stride - padding + tap * dilation``."""

    stride: int
    padding: int
    dilation: int


def _axes(op: ACALSimOp, rank: int) -> list[_Axis]:
    """Depth, height and width, of which ``rank`` are the operation's and the others neutral."""
    given = [tuple(map(int, op.attrs[name])) for name in _GEOMETRY[:3]]
    return [_Axis(1, 0, 1)] * (3 - rank) + [_Axis(*(v[i % len(v)] for v in given)) for i in range(rank)]


def _lifted(view: View) -> View:
    """[N, C, *spatial] as [N, C, D, H, W]."""
    more = 5 - len(view.dims)
    return replace(
        view,
        dims=(*view.dims[:2], *(1,) * more, *view.dims[2:]),
        strides=(*view.strides[:2], *(0,) * more, *view.strides[2:]),
    )


# --- transposed ---------------------------------------------------------------------------------------------------


def _filters_first(weight: View, groups: int, to: Lowering) -> View:
    """The weight [C, K / groups, T, R, S] of a transposed convolution as [K, C / groups, T, R, S]."""
    c, k, *kernel = weight.dims
    apart = replace(
        weight,
        dims=(groups, c // groups, k, *kernel),
        strides=(weight.strides[0] * (c // groups), *weight.strides),
    )
    turned = permuted(apart, (0, 2, 1, 3, 4, 5))
    dims = (groups * k, c // groups, *kernel)
    strides = reshape_strides(turned, dims)
    if strides is None:
        turned = to.dense(turned)
        strides = reshape_strides(turned, dims)
        assert strides is not None
    return replace(turned, dims=dims, strides=strides)


@dataclass(frozen=True)
class _Phase:
    """Every ``step``-th output from ``first`` on, ``count`` of them, and the taps that reach them: every ``every``-th
    from ``tap`` on, ``taps`` of them, in reverse. They are a correlation with ``axis``."""

    first: int
    step: int
    count: int
    tap: int
    every: int
    taps: int
    axis: _Axis


def _phases(kernel: int, size: int, axis: _Axis) -> Iterator[_Phase]:
    """The outputs of a transposed convolution along one axis, by which taps reach them.

    Input i reaches output ``i * stride - padding + tap * dilation``, so that outputs a stride apart share their taps.
    """
    common = math.gcd(axis.stride, axis.dilation)
    every, reach = axis.stride // common, axis.dilation // common
    for first in range(min(axis.stride, size)):
        count = -(-(size - first) // axis.stride)
        place = first + axis.padding
        tap = next((t for t in range(min(every, kernel)) if (place - t * axis.dilation) % axis.stride == 0), kernel)
        taps = -(-(kernel - tap) // every)
        newest = (place - tap * axis.dilation) // axis.stride
        yield _Phase(first, axis.stride, count, tap, every, taps, _Axis(1, (taps - 1) * reach - newest, reach))


def _transposed(whole: Conv2d, axes: Sequence[_Axis], to: Lowering) -> None:
    """One correlation for each phase of the strides, which multiplies by no zero that a stuffed input would have.

    ``whole`` has operands with three spatial dims, its weight has the filters first.
    """
    kernel, size = whole.weight.dims[2:], whole.out.dims[2:]
    for phases in itertools.product(*map(_phases, kernel, size, axes)):
        x, weight, out = whole.x, whole.weight, whole.out
        for i, phase in enumerate(phases, 2):
            out = windowed(out, i, phase.first, phase.count, phase.step)
            if phase.taps > 0:
                last = phase.tap + (phase.taps - 1) * phase.every
                weight = windowed(weight, i, last, phase.taps, -phase.every)
        if all(phase.taps > 0 and -phase.axis.padding < d for phase, d in zip(phases, x.dims[2:], strict=True)):
            part = replace(whole, x=x, weight=weight, out=out)
            _correlate(part, [phase.axis for phase in phases], to)
        else:
            _nothing(replace(whole, out=out), to)


def _nothing(part: Conv2d, to: Lowering) -> None:
    """Outputs that no tap reaches: the bias, through the activation."""
    n, k = part.out.dims[:2]
    x, weight = to.zeros((n, 1, 1, 1, 1), part.x.dtype), to.zeros((k, 1, 1, 1, 1), part.weight.dtype)
    _correlate(replace(part, x=x, weight=weight, groups=1), [_Axis(1, 0, 1)] * 3, to)


# --- three spatial dims on two ------------------------------------------------------------------------------------


def _correlate(whole: Conv2d, axes: Sequence[_Axis], to: Lowering) -> None:
    """The commands of a convolution whose operands have three spatial dims; a negative padding crops."""
    x, axes = _cropped(whole.x, axes)
    depth, *plane = axes
    x = _taps_as_channels(x, whole.weight.dims[2], whole.out.dims[2], depth, to)
    k, c, taps, *kernel = whole.weight.dims
    weight = whole.weight
    strides = reshape_strides(weight, (k, c * taps, *kernel))
    if strides is None:
        weight = to.dense(weight)
        strides = reshape_strides(weight, (k, c * taps, *kernel))
        assert strides is not None
    part = replace(
        whole,
        weight=replace(weight, dims=(k, c * taps, *kernel), strides=strides),
        stride=(plane[0].stride, plane[1].stride),
        padding=(plane[0].padding, plane[1].padding),
        dilation=(plane[0].dilation, plane[1].dilation),
    )
    for image, result in _batches(x, permuted(whole.out, (0, 2, 1, 3, 4))):
        to.emit(replace(part, x=image, out=result))


def _cropped(x: View, axes: Sequence[_Axis]) -> tuple[View, list[_Axis]]:
    found = []
    for i, axis in enumerate(axes, 2):
        skipped = max(-axis.padding, 0)
        x = windowed(x, i, skipped, x.dims[i] - skipped, 1)
        found.append(replace(axis, padding=axis.padding + skipped))
    return x, found


def _taps_as_channels(x: View, taps: int, count: int, axis: _Axis, to: Lowering) -> View:
    """x [N, C, D, H, W] as [N, count, C * taps, H, W]: for each output along the depth what its taps see.

    A view where strides allow it; else what lies in the padding is 0, the rest a copy of every tap.
    """
    n, c, depth, *plane = x.dims
    step, down = x.strides[2] * axis.stride, x.strides[2] * axis.dilation
    inside = axis.padding == 0 and (count - 1) * axis.stride + (taps - 1) * axis.dilation < depth
    seen = replace(
        x,
        dims=(n, count, c, taps, *plane),
        strides=(x.strides[0], step, x.strides[1], down, *x.strides[3:]),
    )
    merged = (n, count, c * taps, *plane)
    strides = _merged_channels(seen) if inside else None
    if strides is not None:
        return replace(x, dims=merged, strides=strides)
    copied = to.scratch(seen.dims, x.dtype)
    if not inside:
        to.fill(copied, 0)
    for tap in range(taps):
        # output p sees depth p * stride + shift, which is inside for first <= p < end
        shift = tap * axis.dilation - axis.padding
        first = min(max(-(shift // axis.stride), 0), count)
        end = max(min(-((shift - depth) // axis.stride), count), first)
        if end > first:
            source = windowed(x, 2, shift + first * axis.stride, end - first, axis.stride)
            target = windowed(windowed(copied, 1, first, end - first, 1), 3, tap, 1, 1)
            to.copy(permuted(source, (0, 2, 1, 3, 4)), without(target, 3))
    strides = _merged_channels(copied)
    assert strides is not None
    return replace(copied, dims=merged, strides=strides)


def _merged_channels(seen: View) -> tuple[int, ...] | None:
    """Strides of [N, P, C, T, H, W] as [N, P, C * T, H, W], if channels and taps are evenly spaced."""
    c, taps = seen.dims[2:4]
    (channel, tap), rest = seen.strides[2:4], seen.strides[4:]
    if c > 1 and taps > 1 and channel != taps * tap:
        return None
    return (*seen.strides[:2], channel if taps == 1 else tap, *rest)


def _batches(x: View, out: View) -> Iterator[tuple[View, View]]:
    """Images [N, C, H, W] of views [N, P, C, H, W], as few commands as their strides allow."""
    n, count = x.dims[:2]
    if n == 1 or count == 1 or all(v.strides[0] == count * v.strides[1] for v in (x, out)):
        x, out = (
            replace(v, dims=(n * count, *v.dims[2:]), strides=(v.strides[0 if count == 1 else 1], *v.strides[2:]))
            for v in (x, out)
        )
        yield x, out
        return
    for i in range(n):
        image, result = (without(windowed(v, 0, i, 1, 1), 0) for v in (x, out))
        yield image, result
