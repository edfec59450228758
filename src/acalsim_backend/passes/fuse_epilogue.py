"""fuse_epilogue: a bias and an activation that follow a product or convolution become part of it.

``mm -> view -> add -> view -> gelu`` fuses as well as ``mm -> add -> gelu``: what is fused keeps shape and dtype, so
it commutes with the reshapes on the way. The result has the name of the last value taken in, for that is what it holds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops import operator_of
from acalsim_backend.ops.matmul import accumulates_exactly, has_bias, is_matmul
from acalsim_backend.ops.views import Reshape
from acalsim_backend.passes.rewrite import Rewriter
from acalsim_backend.passes.target import Target
from acalsim_backend.program.enums import Activation, Opcode

_ACTIVATIONS = {
    ACALSimOpType.RELU: Activation.RELU,
    ACALSimOpType.SIGMOID: Activation.SIGMOID,
    ACALSimOpType.TANH: Activation.TANH,
}


@dataclass(frozen=True)
class FuseEpilogue:
    """The value before a fused step must have no other user."""

    name: str = "fuse_epilogue"
    after: tuple[str, ...] = ("fold_batch_norm", "hoist")

    def apply(self, ir: ACALSimIR, target: Target) -> ACALSimIR:
        users, escaping = ir.users(), ir.escaping()
        available = {n for n, t in ir.tensors.items() if t.is_input or t.is_param or n in ir.constants}
        available.update(ir.prepared)
        names: dict[str, str] = {}  # what users of a value that was taken in read instead
        results: dict[str, str] = {}  # the last value that was taken in, by the first
        gone: set[int] = set()
        to = Rewriter(ir)
        for op in ir.ops:
            if id(op) in gone:
                continue
            op = op.rename(names)
            if is_matmul(op) or op.op_type is ACALSimOpType.CONV2D:
                end = op.outputs[0]  # last value of the chain, by its name before renaming
                while end not in escaping and len(users[end]) == 1:
                    (user,) = users[end]
                    if isinstance(operator_of(user), Reshape):
                        end = user.outputs[0]
                        continue
                    fused = _with_bias(op, user, end, ir, available) or _with_activation(op, user, ir, target)
                    if fused is None or not to.accepts(fused):
                        break
                    op = replace(fused, covers=fused.covers + user.covers)
                    gone.add(id(user))
                    names[user.outputs[0]] = names.get(end, end)
                    end = results[op.outputs[0]] = user.outputs[0]
            available.update(op.outputs)
            to.keep(op)
        return _renamed(to.finish(), names, results)


def _with_bias(op: ACALSimOp, user: ACALSimOp, end: str, ir: ACALSimIR, available: set[str]) -> ACALSimOp | None:
    """``op`` with ``end + bias`` taken in, if ``user`` is that and the bias runs along the last dim alone."""
    if user.op_type is not ACALSimOpType.ADD or user.attrs.get("alpha", 1) != 1 or len(user.inputs) != 2:
        return None
    if not is_matmul(op) or has_bias(op) or op.attrs.get("activation") or not accumulates_exactly(op, ir):
        return None
    bias = user.inputs[1 - user.inputs.index(end)]
    product, value, result = ir.tensors[op.outputs[0]], ir.tensors[end], ir.tensors[user.outputs[0]]
    columns = product.shape[-1]
    same = ir.tensors[bias].dtype == product.dtype == result.dtype and value.shape == result.shape
    along_columns = ir.tensors[bias].shape == (columns,) and result.shape[-1:] == (columns,)
    contracts = all(ir.tensors[n].numel for n in op.inputs)
    if not (same and along_columns and contracts and bias in available):
        return None
    return replace(op, inputs=[*op.inputs, bias], roles=[*op.roles, "bias"])


def _with_activation(op: ACALSimOp, user: ACALSimOp, ir: ACALSimIR, target: Target) -> ACALSimOp | None:
    if user.op_type is ACALSimOpType.GELU:
        activation = Activation.GELU_TANH if user.attrs.get("approximate") == "tanh" else Activation.GELU
    elif user.op_type in _ACTIVATIONS:
        activation = _ACTIVATIONS[user.op_type]
    else:
        return None
    if ir.tensors[user.outputs[0]].dtype != ir.tensors[op.outputs[0]].dtype:
        return None  # the sigmoid of integers is a float
    opcode = Opcode.GEMM if is_matmul(op) else Opcode.CONV2D
    if op.attrs.get("activation") or not target.fuses(opcode, activation):
        return None
    return replace(op, attrs={**op.attrs, "activation": activation.name})


def _renamed(ir: ACALSimIR, names: dict[str, str], results: dict[str, str]) -> ACALSimIR:
    """The IR after fusing: values taken in read as ``names`` says, then the products called what they hold now."""

    def final(name: str) -> str:
        name = names.get(name, name)
        return results.get(name, name)

    outputs = [final(n) for n in ir.output_names]
    mutations = [(n, final(v)) for n, v in ir.mutations]
    kept = {results.get(n, n): t for n, t in ir.tensors.items() if n not in names}
    tensors = {n: replace(t, name=n, is_output=t.is_output or n in outputs) for n, t in kept.items()}
    ops = [replace(op.rename(results), outputs=[results.get(n, n) for n in op.outputs]) for op in ir.ops]
    return replace(ir, ops=ops, output_names=outputs, mutations=mutations, tensors=tensors)
