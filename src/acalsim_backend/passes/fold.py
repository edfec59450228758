"""fold: constants are computed now, single values become scalars of their users, dead operations go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from acalsim_backend.ir import DTYPES, ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops import operator_of
from acalsim_backend.ops.evaluate import evaluate, is_random
from acalsim_backend.ops.lowering import rounded
from acalsim_backend.ops.memory import full_value
from acalsim_backend.ops.vector import Pointwise
from acalsim_backend.passes.target import Target


@dataclass(frozen=True)
class Fold:
    """FULL operations stay operations unless every user takes their value as a scalar."""

    name: str = "fold"

    def apply(self, ir: ACALSimIR, target: Target) -> ACALSimIR:
        ir = _evaluate_constants(ir)
        ir = _inline_scalars(ir)
        return remove_dead(ir)


def _evaluate_constants(ir: ACALSimIR) -> ACALSimIR:
    constants: dict[str, Any] = dict(ir.constants)
    tensors = dict(ir.tensors)
    ops: list[ACALSimOp] = []
    for op in ir.ops:
        known = all(n in constants for n in op.inputs) and op.target and op.op_type is not ACALSimOpType.FULL
        if not known or is_random(op):
            ops.append(op)
            continue
        results = evaluate(op, {n: constants[n] for n in op.inputs})
        for name, index in zip(op.outputs, op.results, strict=True):
            constants[name] = results[index].contiguous()
            tensors[name] = replace(tensors[name], is_param=True)
    return replace(ir, ops=ops, constants=constants, tensors=tensors)


def _inline_scalars(ir: ACALSimIR) -> ACALSimIR:
    values: dict[str, float] = {op.outputs[0]: full_value(op) for op in ir.ops if op.op_type is ACALSimOpType.FULL}
    values |= {n: c.item() for n, c in ir.constants.items() if c.numel() == 1 and not c.is_complex()}
    ops: list[ACALSimOp] = []
    for op in ir.ops:
        scalars = [n for n in op.inputs if n in values]
        if scalars and isinstance(operator_of(op), Pointwise) and _takes_scalars(op):
            kept = [(n, r) for n, r in zip(op.inputs, op.roles, strict=True) if n not in values]
            given = {
                r: rounded(values[n], DTYPES[ir.tensors[n].dtype])
                for n, r in zip(op.inputs, op.roles, strict=True)
                if n in values
            }
            op = replace(op, inputs=[n for n, _ in kept], roles=[r for _, r in kept], attrs={**op.attrs, **given})
        ops.append(op)
    return replace(ir, ops=ops)


def _takes_scalars(op: ACALSimOp) -> bool:
    return op.op_type not in (
        ACALSimOpType.LOGICAL_AND,
        ACALSimOpType.LOGICAL_OR,
        ACALSimOpType.LOGICAL_XOR,
        ACALSimOpType.LOGICAL_NOT,
        ACALSimOpType.WHERE,
    ) or all(r in ("self", "other") for r in op.roles if op.op_type is ACALSimOpType.WHERE and r != "condition")


def remove_dead(ir: ACALSimIR) -> ACALSimIR:
    """Without operations and tensors that nothing needs; inputs, parameters and operations without results stay."""
    needed = ir.escaping()
    ops: list[ACALSimOp] = []
    for op in reversed(ir.ops):
        if needed.intersection(op.outputs) or not op.outputs:
            ops.append(op)
            needed.update(op.inputs)
    ops.reverse()
    produced = {name for op in ops for name in op.outputs}
    kept = {
        n: t
        for n, t in ir.tensors.items()
        if n in produced or n in needed or n in ir.prepared or t.is_input or (t.is_param and n not in ir.constants)
    }
    constants = {n: c for n, c in ir.constants.items() if n in needed}
    return replace(ir, ops=ops, tensors=kept, constants=constants)
