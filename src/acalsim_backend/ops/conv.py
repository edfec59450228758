"""2-D convolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar

from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops.base import Operator, Signature, pair
from acalsim_backend.ops.lowering import Lowering
from acalsim_backend.ops.matmul import activation_of
from acalsim_backend.program.commands import Conv2d
from acalsim_backend.program.view import View


class Convolution(Operator):
    """aten.convolution, not transposed, over two spatial dims (one is lifted to two)."""

    op_type = ACALSimOpType.CONV2D
    targets = ("aten.convolution.default",)
    at_one_element: ClassVar[Mapping[str, int]] = MappingProxyType({"groups": 1})

    def unsupported(self, op: ACALSimOp, ir: ACALSimIR) -> str | None:
        if op.attrs["transposed"]:
            return "transposed convolution has no command"
        rank = len(ir.tensors[op.inputs[0]].shape)
        return None if rank in (3, 4) else f"convolution over {rank - 2} spatial dims has no command"

    def infer(self, op: ACALSimOp, ir: ACALSimIR) -> Signature | None:
        if op.attrs["transposed"]:
            return None
        x, w = (ir.tensors[n] for n in op.inputs[:2])
        size = []
        for i, (extent, kernel) in enumerate(zip(x.shape[2:], w.shape[2:], strict=True)):
            stride, pad, dilation = (op.attrs[k][i % len(op.attrs[k])] for k in ("stride", "padding", "dilation"))
            size.append((extent + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1)
        channels = w.shape[0] if x.shape[1] else 0  # as PyTorch has it, which then adds no bias either
        return [((x.shape[0], channels, *size), x.dtype)]

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        weight = ir.tensors[op.inputs[1]]
        return 2 * ir.tensors[op.outputs[0]].numel * weight.numel // max(weight.shape[0], 1)

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        x, weight = (to.view(n) for n in op.inputs[:2])
        out = to.define(op.outputs[0])
        bias = op.input("bias")
        one_d = len(x.dims) == 3
        stride, padding, dilation = (
            (1 if k != "padding" else 0, int(op.attrs[k][0])) if one_d else pair(op.attrs[k])
            for k in ("stride", "padding", "dilation")
        )
        to.emit(
            Conv2d(
                x=_lifted(x) if one_d else x,
                weight=_lifted(weight) if one_d else weight,
                out=_lifted(out) if one_d else out,
                bias=to.view(bias) if bias else None,
                stride=stride,
                padding=padding,
                dilation=dilation,
                groups=op.attrs["groups"],
                activation=activation_of(op),
            )
        )


def _lifted(view: View) -> View:
    """[N, C, L] as [N, C, 1, L]."""
    return replace(view, dims=(*view.dims[:2], 1, view.dims[2]), strides=(*view.strides[:2], 0, view.strides[2]))
