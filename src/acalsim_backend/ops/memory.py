"""Operators that make memory: copies, concatenation, padding, constant fills."""

from __future__ import annotations

from dataclasses import replace

import torch

from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops.base import Operator, Signature, normal_axis
from acalsim_backend.ops.lowering import Lowering


class Clone(Operator):
    """clone, contiguous: a dense copy. It is free where the caller will never see it and
    nothing is gained by it: of dense memory, and for a single user, which reads the strided memory itself."""

    op_type = ACALSimOpType.COPY
    targets = ("aten.clone.default",)

    def infer(self, op: ACALSimOp, ir: ACALSimIR) -> Signature:
        source = ir.tensors[op.inputs[0]]
        return [(source.shape, source.dtype)]

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        return 0

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        source = to.view(op.inputs[0])
        if op.outputs[0] not in to.escaping and (source.is_contiguous or len(to.users[op.outputs[0]]) == 1):
            to.alias(op.outputs[0], source)
        else:
            to.copy(source, to.define(op.outputs[0]))


class Cat(Operator):
    """cat(tensors, dim): one copy per part."""

    op_type = ACALSimOpType.CAT
    targets = ("aten.cat.default",)

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        return 0

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        out = to.define(op.outputs[0])
        axis = normal_axis(op.attrs.get("dim", 0), len(out.dims))
        at = 0
        for name in op.inputs:
            part = to.view(name)
            if part.dims == (0,):
                continue  # ATen's legacy empty tensor, which fits anything
            offset = out.offset + at * out.strides[axis] * out.dtype.itemsize
            if part.numel:
                to.copy(part, replace(out, dims=part.dims, offset=offset))
            at += part.dims[axis]


class Repeat(Operator):
    """repeat(self, repeats): copies of self along each axis, of which ``repeats`` may have more in front."""

    op_type = ACALSimOpType.REPEAT
    targets = ("aten.repeat.default",)
    only_moves = True

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        return 0

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        x, out, repeats = to.view(op.inputs[0]), to.define(op.outputs[0]), op.attrs["repeats"]
        lead = len(repeats) - len(x.dims)
        extents, steps = (*(1,) * lead, *x.dims), (*(0,) * lead, *x.strides)
        dims = tuple(n for pair in zip(repeats, extents, strict=True) for n in pair)
        source = tuple(n for step in steps for n in (0, step))
        places = tuple(n for extent, step in zip(extents, out.strides, strict=True) for n in (extent * step, step))
        if out.numel:
            to.copy(replace(x, dims=dims, strides=source), replace(out, dims=dims, strides=places))


class Pad(Operator):
    """constant_pad_nd(self, pad, value): a fill and a copy into its interior; negative padding crops."""

    op_type = ACALSimOpType.PAD
    targets = ("aten.constant_pad_nd.default",)

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        return 0

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        source, out = to.view(op.inputs[0]), to.define(op.outputs[0])
        pads = op.attrs["pad"]
        x, interior = source, out
        for i in range(len(pads) // 2):
            axis = len(source.dims) - 1 - i
            before, after = pads[2 * i], pads[2 * i + 1]
            length = source.dims[axis] + min(before, 0) + min(after, 0)
            x, interior = (
                replace(
                    view,
                    dims=(*view.dims[:axis], length, *view.dims[axis + 1 :]),
                    offset=view.offset + skip * view.strides[axis] * view.dtype.itemsize,
                )
                for view, skip in ((x, max(-before, 0)), (interior, max(before, 0)))
            )
        to.fill(out, op.attrs.get("value", 0))
        if x.numel:
            to.copy(x, interior)


class Full(Operator):
    """full, full_like, zeros, ones, scalar_tensor: one value everywhere. Pointwise users take it as a scalar."""

    op_type = ACALSimOpType.FULL
    targets = ("aten.full.default", "aten.full_like.default", "aten.scalar_tensor.default")

    def unsupported(self, op: ACALSimOp, ir: ACALSimIR) -> str | None:
        try:
            torch.full((), full_value(op), dtype=getattr(torch, ir.tensors[op.outputs[0]].dtype), device="cpu")
        except RuntimeError as error:  # a number that the element type does not hold
            return f"PyTorch refuses it: {error}"
        return None

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        return 0

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        to.fill(to.define(op.outputs[0]), full_value(op))


def full_value(op: ACALSimOp) -> float:
    """The value of a FULL operation."""
    value = op.attrs["s" if "s" in op.attrs else "fill_value"]
    return float(value) if isinstance(value, float) else int(value)
