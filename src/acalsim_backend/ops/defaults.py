"""What an IR that was written by hand leaves unsaid, and whether PyTorch agrees with what it says."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch

from acalsim_backend.errors import InputError
from acalsim_backend.ir import DTYPES, ACALSimIR, ACALSimOp, ACALSimOpType, TensorDesc
from acalsim_backend.ops.by_hand import as_pytorch_has_it
from acalsim_backend.tensors import tensor_of


def complete(ir: ACALSimIR) -> ACALSimIR:
    """The IR with every operation complete, constants as tensors, inputs and outputs listed as the tensors are marked,
    and inputs as the arguments of a call; what is there stays as it is.

    What was written by hand is compared with what PyTorch makes of it; captured IR is PyTorch's already.

    Raises:
        InputError: a field of another kind than it has to be; a constant, a result or a mutation that does not fit its
            tensor; an operation that PyTorch refuses; inputs among arguments that lack them.
        ProgramError: a name that nothing defines, or two operations do.
    """
    if not ir.is_complete:
        ir = replace(
            ir,
            tensors={name: _described(name, desc, ir) for name, desc in ir.tensors.items()},
            ops=[part for op in ir.ops for part in _parts(_well_formed(op, ir), ir)],
        )
    ir = _with_interface(replace(ir, constants={n: _constant(n, value, ir) for n, value in ir.constants.items()}))
    if not ir.is_complete:
        _check_interface(ir)
    ir = replace(ir, ops=[_completed(op, i, ir) for i, op in enumerate(ir.ops)])
    ir.is_complete = True
    return ir


def check_values(ir: ACALSimIR) -> None:
    """Look for parameters that will have no value.

    Raises:
        InputError: there are some, all of them listed.
    """
    known = {*ir.constants, *ir.arguments, *ir.prepared}
    missing = [name for name, desc in ir.tensors.items() if desc.is_param and name not in known]
    if missing:
        raise InputError(
            f"{ir.name}: no values for the parameters {', '.join(missing)}: put them into constants, "
            "or their positions among the arguments into arguments"
        )


def _with_interface(ir: ACALSimIR) -> ACALSimIR:
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
    )


def _check_interface(ir: ACALSimIR) -> None:
    """Names, inputs, arguments and mutations."""
    marked = [name for name, desc in ir.tensors.items() if desc.is_input]
    if sorted(map(str, ir.input_names)) != sorted(marked):
        raise InputError(f"{ir.name}: input_names are {ir.input_names}, the tensors marked as inputs are {marked}")
    for name, position in ir.arguments.items():
        if name not in ir.tensors or not isinstance(position, int) or position < 0:
            raise InputError(f"{ir.name}: arguments has {name!r}: {position!r}, expected a tensor and its position")
    ir.verify()
    for written, value in ir.mutations:
        if written not in ir.arguments:
            raise InputError(f"{ir.name}: the mutation of {written!r}, expected one of {', '.join(ir.arguments)}")
        old, new = ir.tensors[written], ir.tensors[value]
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            raise InputError(f"{ir.name}: {old} cannot become {new}, expected the same shape and element type")


def _described(name: str, desc: TensorDesc, ir: ACALSimIR) -> TensorDesc:
    if desc.name != name:
        raise InputError(f"{ir.name}: tensor {desc.name!r} is entered as {name!r}")
    if not isinstance(desc.dtype, str) or desc.dtype not in DTYPES:
        raise InputError(f"{ir.name}: tensor {name} has dtype {desc.dtype!r}, expected one of {', '.join(DTYPES)}")
    shape = _extents(desc.shape, f"{ir.name}: tensor {name} has shape")
    strides = desc.strides if desc.strides is None else _extents(desc.strides, f"{ir.name}: tensor {name} has strides")
    if strides is not None and len(strides) != len(shape):
        raise InputError(f"{ir.name}: tensor {name} has strides {strides}, expected one for each of {shape}")
    return replace(desc, shape=shape, strides=strides)


def _extents(value: Iterable[Any], what: str) -> tuple[int, ...]:
    try:
        numbers = tuple(map(operator.index, value))
    except TypeError:
        numbers = (-1,)
    if any(number < 0 for number in numbers):
        raise InputError(f"{what} {value!r}, expected a tuple of integers of at least 0")
    return numbers


def _constant(name: str, value: Any, ir: ACALSimIR) -> torch.Tensor:
    tensor, desc = tensor_of(value, f"{ir.name}: constant {name}"), ir.tensors.get(name)
    got = (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
    if desc is None or got != (desc.shape, desc.dtype):
        described = "no tensor of that name" if desc is None else f"{desc.shape} {desc.dtype}"
        raise InputError(f"{ir.name}: constant {name} is {got[0]} {got[1]}, the tensor table has {described}")
    if desc.is_input:
        raise InputError(f"{ir.name}: constant {name} is marked as an input, whose value comes with each call")
    return tensor


def _well_formed(op: ACALSimOp, ir: ACALSimIR) -> ACALSimOp:
    """The operation with lists of names, as all that follows takes for granted."""
    rules: tuple[tuple[str, bool, str], ...] = (
        ("op_type", isinstance(op.op_type, ACALSimOpType), "a member of ACALSimOpType"),
        ("inputs", _is_list(op.inputs, str), "a list of names"),
        ("outputs", _is_list(op.outputs, str), "a list of names"),
        ("roles", _is_list(op.roles, str), "a list of names"),
        ("results", _is_list(op.results, int), "a list of positions"),
        ("attrs", isinstance(op.attrs, dict) and _is_list(list(op.attrs), str), "a dict of arguments by name"),
        ("target", isinstance(op.target, str), "the name of an ATen overload"),
        ("body", _is_list(op.body, ACALSimOp), "operations"),
    )
    for name, holds, expected in rules:
        if not holds:
            raise InputError(f"{ir.name}: operation {op.name}: {name} is {getattr(op, name)!r}, expected {expected}")
    return replace(
        op,
        inputs=list(op.inputs),
        outputs=list(op.outputs),
        roles=list(op.roles),
        results=list(op.results),
        body=tuple(_well_formed(inner, ir) for inner in op.body),
    )


def _is_list(value: object, kind: type) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, kind) for item in value)


def _parts(op: ACALSimOp, ir: ACALSimIR) -> list[ACALSimOp]:
    """The operation, or those of a group, which the passes will fuse again."""
    if op.op_type is not ACALSimOpType.VECTOR:
        return [replace(op, covers=())]
    if not op.body:
        raise InputError(f"{ir.name}: {op}: a VECTOR stands for the operations in its body, which is empty")
    return [part for inner in op.body for part in _parts(inner, ir)]


def _completed(op: ACALSimOp, index: int, ir: ACALSimIR) -> ACALSimOp:
    op = replace(op, covers=op.covers or (index,), results=op.results or list(range(len(op.outputs))))
    if ir.is_complete and (op.op_type is ACALSimOpType.VECTOR or (len(op.roles) == len(op.inputs) and op.target)):
        return op
    if op.op_type is ACALSimOpType.ALLOC:
        return as_pytorch_has_it(replace(op, op_type=ACALSimOpType.FULL, attrs={**op.attrs, "fill_value": 0}), ir)
    if op.op_type in (ACALSimOpType.NOP, ACALSimOpType.SYNC):
        if op.inputs or op.outputs:
            raise InputError(f"{ir.name}: {op}: {op.op_type.name} has no tensors")
        return op
    return as_pytorch_has_it(op, ir)
