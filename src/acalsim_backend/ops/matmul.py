"""Matrix products: MATMUL and GEMM, both one GEMM command."""

from __future__ import annotations

from dataclasses import replace

import torch

from acalsim_backend.ir import DTYPES, ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops.base import Operator, Signature, dtype_of
from acalsim_backend.ops.lowering import Lowering, broadcast, permuted, rounded, windowed
from acalsim_backend.program.commands import Gather, Gemm, Reduce, Vector, VectorInstruction
from acalsim_backend.program.enums import Activation, DType, ReduceOp, VectorOp
from acalsim_backend.program.view import View


def activation_of(op: ACALSimOp) -> Activation:
    """The activation that the fuse pass put on a GEMM or CONV2D."""
    return Activation[op.attrs.get("activation", "NONE")]


class Matmul(Operator):
    """self @ mat2 for 2-D matrices or batches of them: mm, bmm, and _int_mm (int8 factors, int32 result)."""

    op_type = ACALSimOpType.MATMUL
    targets: tuple[str, ...] = ("aten.mm.default", "aten.bmm.default", "aten._int_mm.default")
    left, right = "self", "mat2"

    def matrices(self, op: ACALSimOp) -> tuple[str, str]:
        """Names of the two factors."""
        a, b = op.input(self.left), op.input(self.right)
        assert a is not None
        assert b is not None
        return a, b

    def infer(self, op: ACALSimOp, ir: ACALSimIR) -> Signature:
        a, b = (ir.tensors[n] for n in self.matrices(op))
        return [((*a.shape[:-1], b.shape[-1]), ir.tensors[op.outputs[0]].dtype)]

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        a, _ = self.matrices(op)
        return 2 * ir.tensors[op.outputs[0]].numel * ir.tensors[a].shape[-1]

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        a, b = (to.view(n) for n in self.matrices(op))
        out = to.define(op.outputs[0])
        if out.numel and a.dims[-1] == 0:
            a, b = (to.zeros(v.dims[:-2] + d, v.dtype) for v, d in ((a, (a.dims[-2], 1)), (b, (1, b.dims[-1]))))
        beta = float(op.attrs.get("beta", 1))
        bias = op.input("bias") if beta else None  # which eager does not read then
        to.emit(
            Gemm(
                a=a,
                b=b,
                out=out,
                bias=broadcast(to.view(bias), out.dims) if bias else None,
                alpha=float(op.attrs.get("alpha", 1)),
                beta=beta,
                activation=activation_of(op),
            )
        )


class Gemm2d(Matmul):
    """beta * self + alpha * mat1 @ mat2: addmm, baddbmm. ``self`` becomes the role "bias"."""

    op_type = ACALSimOpType.GEMM
    targets = ("aten.addmm.default", "aten.baddbmm.default")

    def matrices(self, op: ACALSimOp) -> tuple[str, str]:
        a, b = op.input("mat1") or op.input("batch1"), op.input("mat2") or op.input("batch2")
        assert a is not None
        assert b is not None
        return a, b

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        super().lower(replace(op, roles=["bias" if r == "self" else r for r in op.roles]), to)

    def unsupported(self, op: ACALSimOp, ir: ACALSimIR) -> str | None:
        dtype = dtype_of(op.outputs[0], ir)
        scales = [op.attrs.get(name, 1) for name in ("alpha", "beta")]
        if not dtype.is_float and not set(scales) <= {0, 1}:
            return "alpha and beta of an integer product are real numbers in the GEMM command"
        if dtype is DType.F64 and any(rounded(scale, DType.F32) != scale for scale in scales):
            return "alpha and beta have single precision in the GEMM command"
        return None


class GroupedMatmul(Operator):
    """Rows of a matrix times that one of several matrices which is their group's: _grouped_mm(self, mat2, offs) and the
    one that transformers brings along.

    Group i ends before row ``offs[i]``, of which the Program knows nothing. Commands and their time never depend on
    data, so every matrix is multiplied by all rows, and each row takes the product of its own group.
    """

    op_type = ACALSimOpType.GROUPED_MATMUL
    targets = ("aten._grouped_mm.default", "transformers.grouped_mm_fallback.default")

    def unsupported(self, op: ACALSimOp, ir: ACALSimIR) -> str | None:
        ranks = [len(ir.tensors[name].shape) for name in op.inputs]
        if ranks != [2, 3, 1]:
            return f"groups of another kind than rows of a matrix: ranks {', '.join(map(str, ranks))}"
        types = {dtype_of(name, ir) for name in (*op.inputs[:2], *op.outputs)}
        return "a result of another element type than the factors" if len(types) > 1 else None

    def infer(self, op: ACALSimOp, ir: ACALSimIR) -> Signature | None:
        if self.unsupported(op, ir):
            return None
        a, b = (ir.tensors[n] for n in op.inputs[:2])
        return [((a.shape[0], b.shape[2]), a.dtype)]

    def flops(self, op: ACALSimOp, ir: ACALSimIR) -> int:
        return 2 * ir.tensors[op.outputs[0]].numel * ir.tensors[op.inputs[0]].shape[-1]

    def lower(self, op: ACALSimOp, to: Lowering) -> None:
        a, b, ends = (to.view(name) for name in op.inputs)
        out = to.define(op.outputs[0])
        (rows, columns), groups = out.dims, b.dims[0]
        if out.numel == 0:
            return
        # rows behind the last group are of one more, whose products are 0
        products = to.scratch((groups + 1, rows, columns), out.dtype)
        to.fill(windowed(products, 0, groups, 1, 1), 0)
        if groups and a.dims[1]:
            to.emit(Gemm(a=broadcast(a, (groups, *a.dims)), b=b, out=windowed(products, 0, 0, groups, 1)))
        else:
            to.fill(products, 0)
        group = _groups(ends, rows, to)
        to.emit(Gather(x=permuted(products, (1, 0, 2)), indices=(group,), out=out, n_indices=1, batch=1))


def _groups(ends: View, rows: int, to: Lowering) -> View:
    """The group of each row: how many groups end before it or at it."""
    dims = (ends.dims[0], rows)
    group = to.scratch((rows,), DType.I64)
    if ends.numel == 0:
        to.fill(group, 0)
        return group
    is_behind = to.scratch(dims, DType.I64)
    code = [
        VectorInstruction(VectorOp.LOAD, ends.dtype, 0, a=0),
        VectorInstruction(VectorOp.LOAD, DType.I64, 1, a=1),
        VectorInstruction(VectorOp.CAST, DType.I64, 2, a=0, src_dtype=ends.dtype),
        VectorInstruction(VectorOp.LE, DType.BOOL, 3, a=2, b=1, src_dtype=DType.I64),
        VectorInstruction(VectorOp.CAST, DType.I64, 4, a=3, src_dtype=DType.BOOL),
        VectorInstruction(VectorOp.STORE, DType.I64, 0, a=4),
    ]
    end = broadcast(replace(ends, dims=(dims[0], 1), strides=(ends.strides[0], 0)), dims)
    row = broadcast(to.constant(torch.arange(rows)), dims)
    to.emit(Vector.of([end, row], [is_behind], code))
    to.emit(Reduce(x=is_behind, out=replace(group, dims=(1, rows), strides=(rows, 1)), op=ReduceOp.SUM, axes=0b01))
    return group


def is_matmul(op: ACALSimOp) -> bool:
    """Whether the operation is a matrix product of either form."""
    return op.op_type in (ACALSimOpType.MATMUL, ACALSimOpType.GEMM)


def has_bias(op: ACALSimOp) -> bool:
    """Whether a product or convolution already adds something."""
    return "bias" in op.roles or (op.op_type is ACALSimOpType.GEMM and "self" in op.roles)


def accumulates_exactly(op: ACALSimOp, ir: ACALSimIR) -> bool:
    """Whether adding a bias before rounding to the result's dtype equals adding it after."""
    return DTYPES[ir.tensors[op.outputs[0]].dtype].itemsize >= 4 and dtype_of(op.outputs[0], ir).is_float
