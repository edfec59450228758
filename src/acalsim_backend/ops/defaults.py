"""What an operation that was written by hand leaves unsaid: its ATen target, the roles of its inputs, its results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from acalsim_backend.errors import InputError
from acalsim_backend.ir import ACALSimIR, ACALSimOp, ACALSimOpType
from acalsim_backend.ops.base import operator_of
from acalsim_backend.ops.evaluate import overload


def complete(ir: ACALSimIR) -> ACALSimIR:
    """The IR with every operation complete, constants as tensors, inputs and outputs listed as the tensors are marked,
    and inputs as the arguments of a call; what is there stays as it is.

    Raises:
        InputError: a constant of another shape or element type than its tensor; inputs among arguments that lack them.
        InputError: an operation without a target that is none of ATen's, or with more inputs than its target takes.
    """
    inputs = ir.input_names or [name for name, desc in ir.tensors.items() if desc.is_input]
    unplaced = [name for name in inputs if name not in ir.arguments]
    if unplaced and ir.arguments:
        raise InputError(
            f"{ir.name}: {', '.join(unplaced)}: inputs without a position in arguments, which names others"
        )
    return replace(
        ir,
        input_names=inputs,
        output_names=ir.output_names or [name for name, desc in ir.tensors.items() if desc.is_output],
        arguments=ir.arguments or {name: position for position, name in enumerate(inputs)},
        constants={name: _tensor(name, value, ir) for name, value in ir.constants.items()},
        ops=[_completed(op, i, ir) for i, op in enumerate(ir.ops)],
    )


def _tensor(name: str, value: Any, ir: ACALSimIR) -> torch.Tensor:
    tensor, desc = torch.as_tensor(value), ir.tensors.get(name)
    got = (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
    if desc is None or got != (desc.shape, desc.dtype):
        described = "no tensor of that name" if desc is None else f"{desc.shape} {desc.dtype}"
        raise InputError(f"{ir.name}: constant {name} is {got[0]} {got[1]}, the tensor table has {described}")
    return tensor


def _completed(op: ACALSimOp, index: int, ir: ACALSimIR) -> ACALSimOp:
    op = replace(op, covers=op.covers or (index,), results=op.results or list(range(len(op.outputs))))
    if op.op_type is ACALSimOpType.ALLOC:
        return replace(op, op_type=ACALSimOpType.FULL, target="aten.full.default", attrs={"fill_value": 0})
    if op.op_type in (ACALSimOpType.NOP, ACALSimOpType.SYNC):
        if op.inputs or op.outputs:
            raise InputError(f"{op}: {op.op_type.name} has no tensors")
        return op
    if op.op_type is ACALSimOpType.VECTOR or (len(op.roles) == len(op.inputs) and op.target):
        return op
    if op.op_type is ACALSimOpType.HOST and not op.target:
        raise InputError(f"{op}: a HOST operation needs target=, the ATen operator that it runs")
    operator = operator_of(op)
    target = op.target or _target(op, operator.targets)
    roles = op.roles if len(op.roles) == len(op.inputs) else _roles(op, target)
    op = replace(op, target=target, roles=roles)
    if operator.promotes and not op.compute:
        op = replace(op, compute=_promoted(op, ir))
    return op


def _target(op: ACALSimOp, targets: tuple[str, ...]) -> str:
    """The first overload of the operator that takes as many tensors."""
    for target in targets:
        most = _most_tensors(target)
        if most is None or len(op.inputs) <= most:
            return target
    raise InputError(f"{op}: {len(op.inputs)} inputs, none of {', '.join(targets)} takes so many")


def _most_tensors(target: str) -> int | None:
    """How many tensors an overload takes, None for a list of them."""
    arguments = overload(target)._schema.arguments
    if any("List[Tensor]" in str(a.type) or "List[Optional[Tensor]]" in str(a.type) for a in arguments):
        return None
    return sum("Tensor" in str(a.type) for a in arguments)


def _roles(op: ACALSimOp, target: str) -> list[str]:
    roles: list[str] = []
    for argument in overload(target)._schema.arguments:
        left = len(op.inputs) - len(roles)
        if "List[" in str(argument.type) and "Tensor" in str(argument.type):
            roles += [f"{argument.name}.{i}" for i in range(left)]
        elif "Tensor" in str(argument.type) and left and argument.name not in op.attrs:
            roles.append(argument.name)
    if len(roles) != len(op.inputs):
        raise InputError(f"{op}: {len(op.inputs)} inputs, {target} takes {len(roles)}")
    return roles


def _promoted(op: ACALSimOp, ir: ACALSimIR) -> str:
    """The dtype to which PyTorch promotes the tensors and numbers."""
    descs = [ir.tensors[name] for name in op.inputs]
    operands = [torch.empty(desc.shape, dtype=getattr(torch, desc.dtype), device="meta") for desc in descs]
    numbers = [op.attrs[key] for key in ("other", "exponent", "self") if isinstance(op.attrs.get(key), (int, float))]
    state = operands[0]
    for other in (*operands[1:], *numbers):
        rank = max(state.dim(), other.dim() if isinstance(other, torch.Tensor) else 0)
        state = torch.empty((1,) * rank, dtype=torch.result_type(state, other), device="meta")
    return str(state.dtype).removeprefix("torch.")
