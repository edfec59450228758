"""fold_batch_norm: inference batch norm becomes arithmetic on weights, inside a convolution where it can.

gamma * (x - mean) / sqrt(var + eps) + beta = x * scale + shift, and conv(x, w) * scale = conv(x, w * scale).
The arithmetic on weights alone is moved to the prepare Program by ``hoist``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType, TensorDesc
from acalsim_backend.passes.rewrite import Rewriter, depends_on_weights_alone
from acalsim_backend.passes.target import Target


@dataclass(frozen=True)
class FoldBatchNorm:
    """Only in f32 and f64: half types round between the steps, and the result must equal eager.

    A transposed convolution in groups keeps its own: no one axis of its weight has the filters.
    """

    name: str = "fold_batch_norm"
    after: tuple[str, ...] = ("assign_host",)

    def apply(self, ir: ACALSimIR, target: Target) -> ACALSimIR:
        static = depends_on_weights_alone(ir)
        users, producers, escaping = ir.users(), ir.producers(), ir.escaping()
        to = Rewriter(ir)
        for op in ir.ops:
            if op.op_type is not ACALSimOpType.BATCH_NORM or not _foldable(op, ir, static):
                to.keep(op)
                continue
            source = op.inputs[0]
            conv = producers.get(source)
            scale, shift = _scale_and_shift(op, to)
            if (
                conv is not None
                and conv.op_type is ACALSimOpType.CONV2D
                and not (conv.attrs["transposed"] and conv.attrs["groups"] > 1)
                and len(users[source]) == 1
                and source not in escaping
                and all(n in static for n in conv.inputs[1:])
            ):
                _into_convolution(conv, op, scale, shift, to)
            else:
                x, out = ir.tensors[source], ir.tensors[op.outputs[0]]
                scaled = to.binary("MUL", source, _channels(scale, x, to, op), x.shape, op)
                to.binary("ADD", scaled, _channels(shift, x, to, op), x.shape, op, result=out.name)
        return to.finish()


def _foldable(op: ACALSimOp, ir: ACALSimIR, static: set[str]) -> bool:
    tensors = [ir.tensors[n] for n in op.inputs]
    return (
        op.results == [0]
        and all(t.dtype == tensors[0].dtype for t in tensors)
        and tensors[0].dtype in ("float32", "float64")
        and len(tensors[0].shape) >= 2
        and all(n in static for n in op.inputs[1:])
    )


def _scale_and_shift(op: ACALSimOp, to: Rewriter) -> tuple[str, str]:
    tensors = dict(zip(op.roles, op.inputs, strict=True))
    mean, var = tensors["running_mean"], tensors["running_var"]
    weight, bias = op.input("weight"), op.input("bias")
    shape = to.ir.tensors[var].shape
    deviation = to.unary("SQRT", to.scalar("ADD", var, op.attrs["eps"], op), op)
    scale = to.binary("DIV", weight, deviation, shape, op) if weight else to.unary("RECIPROCAL", deviation, op)
    offset = to.binary("MUL", mean, scale, shape, op)
    shift = to.binary("SUB", bias, offset, shape, op) if bias else to.unary("NEG", offset, op)
    return scale, shift


def _channels(name: str, like: TensorDesc, to: Rewriter, op: ACALSimOp) -> str:
    """[C] as [C, 1, ...] so that it broadcasts over the dims after the channels."""
    shape = (*to.ir.tensors[name].shape, *(1,) * (len(like.shape) - 2))
    return to.reshape(name, shape, op)


def _into_convolution(conv: ACALSimOp, op: ACALSimOp, scale: str, shift: str, to: Rewriter) -> None:
    weight = to.ir.tensors[conv.inputs[1]]
    filters = 1 if conv.attrs["transposed"] else 0  # the axis that they are along
    column = to.reshape(scale, tuple(d if i == filters else 1 for i, d in enumerate(weight.shape)), op)
    folded = to.binary("MUL", weight.name, column, weight.shape, op)
    bias = conv.input("bias")
    if bias is not None:
        scaled = to.binary("MUL", bias, scale, to.ir.tensors[bias].shape, op)
        shift = to.binary("ADD", scaled, shift, to.ir.tensors[bias].shape, op)
    to.drop(conv)
    to.add(
        replace(
            conv,
            inputs=[conv.inputs[0], folded, shift],
            roles=["input", "weight", "bias"],
            outputs=[op.outputs[0]],
            covers=conv.covers + op.covers,
            target="",
        )
    )
