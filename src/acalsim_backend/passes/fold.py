"""fold_constants, inline_scalars: what depends on no argument is computed now, and one value everywhere is a scalar.

A value that is known while compiling is a dense constant or a *splat*: one number in every element, of which nothing is
stored, and which stays a FULL operation until its users take it as a scalar or need it in memory.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import torch

from acalsim_backend.ir import DTYPES, ACALSimIR, ACALSimOp, ACALSimOpType, TensorDesc
from acalsim_backend.ops import operator_of
from acalsim_backend.ops.evaluate import evaluate, is_pure
from acalsim_backend.ops.memory import full_value
from acalsim_backend.ops.vector import Pointwise
from acalsim_backend.passes.rewrite import Rewriter
from acalsim_backend.passes.target import Target
from acalsim_backend.tensors import with_strides

LARGEST = 1 << 24
"""Bytes of the largest tensor that an operation may read or write to be computed while compiling."""


@dataclass(frozen=True)
class Splat:
    """A tensor of one value, as its dtype holds it: a float for floating point, else an int."""

    value: float


Known = torch.Tensor | Splat


@dataclass(frozen=True)
class FoldConstants:
    """Runs first, while every operation still has its ATen target, so that a mask made of operators which have no
    command costs nothing at run time. Random and foreign operators stay, as does one that fails: it fails when run."""

    name: str = "fold_constants"
    after: tuple[str, ...] = ()

    def apply(self, ir: ACALSimIR, target: Target) -> ACALSimIR:
        known: dict[str, Known] = {n: _known(value) for n, value in ir.constants.items()}
        constants: dict[str, Any] = dict(ir.constants)
        needed = ir.escaping()
        readers = Counter(n for op in ir.ops for n in op.inputs)
        to = Rewriter(ir)
        for op in ir.ops:
            results = _computed(op, ir, known)
            known.update(zip(op.outputs, results or (), strict=results is not None))
            splat = results is not None and all(isinstance(value, Splat) for value in results)
            if results is None or (operator_of(op).is_view and not splat):  # a view costs nothing at run time
                needed.update(op.inputs)
                to.keep(op)
            else:
                for name, value in zip(op.outputs, results, strict=True):
                    if isinstance(value, Splat):
                        to.add(_full(op, name, value))
                    else:
                        constants[name] = value
            readers.subtract(op.inputs)
            for name in {n for n in op.inputs if not readers[n] and n not in needed and n not in ir.constants}:
                known.pop(name, None)
                constants.pop(name, None)
        folded = to.finish()
        made = {n: replace(ir.tensors[n], is_param=True) for n in constants if n not in ir.constants}
        return remove_dead(replace(folded, constants=constants, tensors=folded.tensors | made))


def _computed(op: ACALSimOp, ir: ACALSimIR, known: dict[str, Known]) -> list[Known] | None:
    """The values of ``op.outputs``, or None where they are not known or should not be computed now."""
    if op.op_type is ACALSimOpType.FULL:
        splat = _held(full_value(op), ir.tensors[op.outputs[0]])
        return None if splat is None else [splat]
    if not op.outputs or any(n not in known for n in op.inputs) or not is_pure(op):
        return None
    values = [known[n] for n in op.inputs]
    handler = operator_of(op)
    splats = {n: v.value for n, v in zip(op.inputs, values, strict=True) if isinstance(v, Splat)}
    if values and len(splats) == len(set(op.inputs)):
        if handler.is_view or op.op_type in (ACALSimOpType.COPY, ACALSimOpType.FLIP):
            return [values[0]] * len(op.outputs)
        if isinstance(handler, Pointwise):
            samples = {n: _sample(value, ir.tensors[n]) for n, value in splats.items()}
            found = _evaluated(op, samples)
            return None if found is None else [_number(found[0].reshape(-1)[0])]
    descs = [ir.tensors[n] for n in (*op.inputs, *op.outputs)]
    if any(d.numel * DTYPES[d.dtype].itemsize > LARGEST for d in descs):
        return None
    results = _evaluated(op, {n: _materialised(known[n], ir.tensors[n]) for n in op.inputs})
    if results is None:
        return None
    used = [results[i] for i in op.results]
    if [(tuple(r.shape), r.dtype) for r in used] != [(d.shape, _dtype(d)) for d in descs[len(op.inputs) :]]:
        return None
    return [_known(r) for r in used]


def _evaluated(op: ACALSimOp, values: dict[str, torch.Tensor]) -> list[torch.Tensor] | None:
    """The results of an operation now, or None if it fails."""
    try:
        return evaluate(op, values)
    except (RuntimeError, IndexError, ValueError):
        return None


def _full(op: ACALSimOp, name: str, value: Splat) -> ACALSimOp:
    return replace(
        op,
        op_type=ACALSimOpType.FULL,
        inputs=[],
        roles=[],
        outputs=[name],
        results=[0],
        attrs={"fill_value": value.value},
        target="aten.full.default",
        compute="",
    )


def _dtype(desc: TensorDesc) -> torch.dtype:
    return getattr(torch, desc.dtype)  # type: ignore[no-any-return]


def _number(element: torch.Tensor) -> Splat:
    value = element.item()
    return Splat(value if element.dtype.is_floating_point else int(value))


def _held(value: float, desc: TensorDesc) -> Splat | None:
    """The value as a tensor of this dtype holds it, None if PyTorch says that it does not."""
    try:
        return _number(torch.full((), value, dtype=_dtype(desc)))
    except RuntimeError:
        return None


def _known(value: torch.Tensor) -> Known:
    """A splat if every element has the same bits, else the value."""
    if value.numel() == 0:
        return value
    flat = value.reshape(-1, 1)
    for part in (flat[:64], flat):  # most differ soon
        bits = part.clone(memory_format=torch.contiguous_format).view(torch.uint8)
        if not bool((bits == bits[0]).all()):
            return value
    return _number(flat[0])


def _materialised(value: Known, desc: TensorDesc) -> torch.Tensor:
    """The value in memory as PyTorch lays it out."""
    if isinstance(value, Splat):
        value = torch.full((), value.value, dtype=_dtype(desc)).expand(desc.shape)
    return with_strides(value, desc.strides)


def _sample(value: float, desc: TensorDesc) -> torch.Tensor:
    """A small tensor that PyTorch's arithmetic treats like a splat: of its rank, and of one element only if it is."""
    shape = [1] * len(desc.shape)
    if desc.numel != 1:
        shape[-1] = 2
    return torch.full(shape, value, dtype=_dtype(desc))


@dataclass(frozen=True)
class InlineScalars:
    """A pointwise operation takes a splat as a scalar attribute where its result keeps its shape without it."""

    name: str = "inline_scalars"
    after: tuple[str, ...] = ("assign_host",)

    def apply(self, ir: ACALSimIR, target: Target) -> ACALSimIR:
        known = {n: _known(value) for n, value in ir.constants.items()}
        values = {n: v.value for n, v in known.items() if isinstance(v, Splat)}
        values |= {op.outputs[0]: full_value(op) for op in ir.ops if op.op_type is ACALSimOpType.FULL}
        to = Rewriter(ir)
        for op in ir.ops:
            if isinstance(operator_of(op), Pointwise):
                op = _with_scalars(op, values, to)
            to.keep(op)
        return remove_dead(to.finish())


def _with_scalars(op: ACALSimOp, values: dict[str, float], to: Rewriter) -> ACALSimOp:
    for name in dict.fromkeys(op.inputs):
        kept = [(n, r) for n, r in zip(op.inputs, op.roles, strict=True) if n != name]
        roles = [r for n, r in zip(op.inputs, op.roles, strict=True) if n == name]
        # PyTorch computes a scalar exponent in another way than a tensor of exponents
        if name not in values or not kept or "exponent" in roles:
            continue
        scalar = _as_operand(values[name], to.ir.tensors[name], op)
        candidate = replace(
            op,
            inputs=[n for n, _ in kept],
            roles=[r for _, r in kept],
            attrs={**op.attrs, **dict.fromkeys(roles, scalar)},
        )
        if to.accepts(candidate):
            op = candidate
    return op


def _as_operand(value: float, desc: TensorDesc, op: ACALSimOp) -> float:
    """The scalar that gives what the tensor gave: PyTorch converts tensors to the dtype in which it computes first, and
    treats those of one element like numbers."""
    if desc.numel == 1 or desc.dtype == "bool" or not op.compute:
        return value
    return _number(torch.full((), value, dtype=_dtype(desc)).to(getattr(torch, op.compute))).value


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
