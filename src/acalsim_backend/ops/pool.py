"""Pooling over two spatial dims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar

from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops.base import Operator, dtype_of, pair
from acalsim_backend.ops.lowering import Lowering
from acalsim_backend.program.commands import Pool2d
from acalsim_backend.program.enums import DType, PoolMode
from acalsim_backend.program.view import View

_WINDOW_OF_ONE = MappingProxyType({"kernel_size": 1, "padding": 0})


def _batched(view: View) -> View:
    """[C, H, W] as [1, C, H, W]."""
    if len(view.dims) == 4:
        return view
    return replace(view, dims=(1, *view.dims), strides=(0, *view.strides))


class MaxPool2d(Operator):
    """max_pool2d_with_indices; the indices are computed only when somebody uses them."""

    op_type = ACALSimOpType.MAX_POOL2D
    targets = ("aten.max_pool2d_with_indices.default",)
    at_one_element: ClassVar[Mapping[str, int]] = _WINDOW_OF_ONE

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        kernel = pair(op.attrs["kernel_size"])
        return super().flops(op, ir) * kernel[0] * kernel[1]

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        value, indices = op.output(0), op.output(1)
        x = to.view(op.inputs[0])
        if value is None:
            assert indices is not None
            out = to.scratch(to.ir.tensors[indices].shape, x.dtype)
        else:
            out = to.define(value)
        kernel = pair(op.attrs["kernel_size"])
        to.emit(
            Pool2d(
                x=_batched(x),
                out=_batched(out),
                indices=_batched(to.define(indices)) if indices else None,
                kernel=kernel,
                stride=pair(op.attrs.get("stride") or kernel),
                padding=pair(op.attrs.get("padding", 0)),
                dilation=pair(op.attrs.get("dilation", 1)),
                mode=PoolMode.MAX,
            )
        )


class AvgPool2d(Operator):
    """avg_pool2d."""

    op_type = ACALSimOpType.AVG_POOL2D
    targets = ("aten.avg_pool2d.default",)
    at_one_element: ClassVar[Mapping[str, int]] = _WINDOW_OF_ONE

    def unsupported(self, op: ACALSimOp, ir: ACALSimIR) -> str | None:
        return None if dtype_of(op.inputs[0], ir).is_float else "the average of integers has no kernel"

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        kernel = pair(op.attrs["kernel_size"])
        return super().flops(op, ir) * kernel[0] * kernel[1]

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        kernel = pair(op.attrs["kernel_size"])
        to.emit(
            Pool2d(
                x=_batched(to.view(op.inputs[0])),
                out=_batched(to.define(op.outputs[0])),
                kernel=kernel,
                stride=pair(op.attrs.get("stride") or kernel),
                padding=pair(op.attrs.get("padding", 0)),
                divisor=op.attrs.get("divisor_override", 0),
                mode=PoolMode.AVG,
                count_include_pad=int(op.attrs.get("count_include_pad", True)),
            )
        )


class AdaptiveAvgPool2d(Operator):
    """_adaptive_avg_pool2d (PyTorch itself turns output size 1 into a mean)."""

    op_type = ACALSimOpType.ADAPTIVE_AVG_POOL2D
    targets = ("aten._adaptive_avg_pool2d.default",)
    at_one_element: ClassVar[Mapping[str, int]] = MappingProxyType({"output_size": 1})

    def unsupported(self, op: ACALSimOp, ir: ACALSimIR) -> str | None:
        return None if dtype_of(op.inputs[0], ir) is not DType.BOOL else "pooling of bool has no kernel"

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        return ir.tensors[op.inputs[0]].numel

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        x, out = _batched(to.view(op.inputs[0])), _batched(to.define(op.outputs[0]))
        to.emit(Pool2d(x=x, out=out, mode=PoolMode.ADAPTIVE_AVG))
