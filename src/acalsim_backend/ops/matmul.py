"""Matrix products: MATMUL and GEMM, both one GEMM command."""

from __future__ import annotations

from dataclasses import replace

from acalsim_backend.ir import DTYPES, ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops.base import Operator, Signature, dtype_of
from acalsim_backend.ops.lowering import Lowering, broadcast, rounded
from acalsim_backend.program.commands import Gemm
from acalsim_backend.program.enums import Activation, DType


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


def is_matmul(op: ACALSimOp) -> bool:
    """Whether the operation is a matrix product of either form."""
    return op.op_type in (ACALSimOpType.MATMUL, ACALSimOpType.GEMM)


def has_bias(op: ACALSimOp) -> bool:
    """Whether a product or convolution already adds something."""
    return "bias" in op.roles or (op.op_type is ACALSimOpType.GEMM and "self" in op.roles)


def accumulates_exactly(op: ACALSimOp, ir: ACALSimIR) -> bool:
    """Whether adding a bias before rounding to the result's dtype equals adding it after."""
    return DTYPES[ir.tensors[op.outputs[0]].dtype].itemsize >= 4 and dtype_of(op.outputs[0], ir).is_float
