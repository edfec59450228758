"""Layer norm and batch norm (inference)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar

from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops.base import Operator, dtype_of
from acalsim_backend.ops.lowering import Lowering, broadcast, collapse, immediate, split_rank
from acalsim_backend.program.commands import Norm, Vector, VectorInstruction
from acalsim_backend.program.enums import DType, VectorOp
from acalsim_backend.program.view import View, contiguous_strides


class LayerNorm(Operator):
    """native_layer_norm(input, normalized_shape, weight, bias, eps) -> out, mean, rstd."""

    op_type = ACALSimOpType.LAYER_NORM
    targets = ("aten.native_layer_norm.default",)
    at_one_element: ClassVar[Mapping[str, int]] = MappingProxyType({"normalized_shape": 1})

    def unsupported(self, op: ACALSimOp, ir: ACALSimIR) -> str | None:
        return None if dtype_of(op.inputs[0], ir).is_float else "layer norm of integers has no kernel"

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        return 8 * super().flops(op, ir)

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        x = to.dense(to.view(op.inputs[0]))
        columns = 1
        for d in op.attrs["normalized_shape"]:
            columns *= d
        if x.numel == 0:
            for result, name in zip(op.results, op.outputs, strict=True):
                out = to.define(name)
                if out.numel:  # statistics over no columns
                    to.fill(out, 0.0 if result == 1 else float("nan"))
            return
        rows = x.numel // columns

        def matrix(view: View, width: int) -> View:
            return replace(view, dims=(rows, width), strides=contiguous_strides((rows, width)))

        def affine(role: str) -> View | None:
            name = op.input(role)
            if name is None:
                return None
            view = to.dense(to.view(name))
            return replace(view, dims=(columns,), strides=(1,))

        value, mean, rstd = op.output(0), op.output(1), op.output(2)
        out = to.define(value) if value else to.scratch(x.dims, x.dtype)
        to.emit(
            Norm(
                x=matrix(x, columns),
                out=matrix(out, columns),
                weight=affine("weight"),
                bias=affine("bias"),
                mean=matrix(to.define(mean), 1) if mean else None,
                rstd=matrix(to.define(rstd), 1) if rstd else None,
                eps=float(op.attrs["eps"]),
            )
        )


class BatchNorm(Operator):
    """_native_batch_norm_legit_no_training, native_batch_norm(training=False) -> out and two empty tensors.

    The fuse pass folds it into a convolution or splits it into weight-only arithmetic and one pointwise operation;
    what is left is lowered here with the statistics read in place.
    """

    op_type = ACALSimOpType.BATCH_NORM
    targets = ("aten._native_batch_norm_legit_no_training.default", "aten.native_batch_norm.default")

    def unsupported(self, op: ACALSimOp, ir: ACALSimIR) -> str | None:
        if op.attrs.get("training"):
            return "batch norm in training mode has no kernel; call model.eval() first"
        return None if dtype_of(op.inputs[0], ir).is_float else "batch norm of integers has no kernel"

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        return 2 * super().flops(op, ir)

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        for name, result in zip(op.outputs, op.results, strict=True):
            if result != 0:
                to.define(name)
        value = op.output(0)
        if value is None:
            return
        x, out = to.view(op.inputs[0]), to.define(value)
        per_channel = (1, x.dims[1], *(1,) * (len(x.dims) - 2)) if len(x.dims) > 1 else x.dims

        def channel(role: str) -> View | None:
            name = op.input(role)
            if name is None:
                return None
            view = to.view(name)
            strides = tuple(view.strides[0] if i == 1 else 0 for i in range(len(per_channel)))
            return broadcast(replace(view, dims=per_channel, strides=strides), x.dims)

        roles = ("running_mean", "running_var", "weight", "bias")
        given = [(role, view) for role in roles if (view := channel(role)) is not None]
        inputs = [x, *(view for _, view in given)]
        code = _batch_norm_program([role for role, _ in given], [v.dtype for v in inputs], op.attrs["eps"], out.dtype)
        for views in split_rank(collapse([out, *inputs])):
            to.emit(Vector.of(views[1:], views[:1], code))


def _batch_norm_program(roles: list[str], dtypes: list[DType], eps: float, out: DType) -> list[VectorInstruction]:
    """(x - mean) / sqrt(var + eps) * weight + bias; half types compute in f32 as eager does."""
    wide = DType.F64 if out is DType.F64 else DType.F32
    code = [VectorInstruction(VectorOp.LOAD, dtype, i, a=i) for i, dtype in enumerate(dtypes)]
    for i, dtype in enumerate(dtypes):
        if dtype is not wide:
            code.append(VectorInstruction(VectorOp.CAST, wide, i, a=i, src_dtype=dtype))
    at = {role: i + 1 for i, role in enumerate(roles)}
    scratch = len(dtypes)

    def step(op: VectorOp, dst: int, a: int, b: int = 0) -> None:
        code.append(VectorInstruction(op, wide, dst, a, b, src_dtype=wide))

    step(VectorOp.SUB, 0, 0, at["running_mean"])
    code.append(VectorInstruction(VectorOp.CONST, wide, scratch, imm=immediate(eps, wide)))
    step(VectorOp.ADD, scratch, at["running_var"], scratch)
    step(VectorOp.SQRT, scratch, scratch)
    step(VectorOp.RECIPROCAL, scratch, scratch)
    step(VectorOp.MUL, 0, 0, scratch)
    if "weight" in at:
        step(VectorOp.MUL, 0, 0, at["weight"])
    if "bias" in at:
        step(VectorOp.ADD, 0, 0, at["bias"])
    if wide is not out:
        code.append(VectorInstruction(VectorOp.CAST, out, 0, a=0, src_dtype=wide))
    code.append(VectorInstruction(VectorOp.STORE, out, 0, a=0))
    return code
