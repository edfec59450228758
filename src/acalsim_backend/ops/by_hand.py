"""An operation that was written by hand, as PyTorch has it: its overload, its arguments by name, its results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from acalsim_backend.errors import InputError
from acalsim_backend.ir import DTYPES, ACALSimIR, ACALSimOp, ACALSimOpType, TensorDesc
from acalsim_backend.ops.base import operator_of
from acalsim_backend.ops.evaluate import evaluate, overload
from acalsim_backend.ops.refusal import refusal
from acalsim_backend.program.view import contiguous_strides

_T = ACALSimOpType

_USUAL: dict[ACALSimOpType, dict[str, Any]] = {
    _T.CONV2D: {
        "stride": (1,), "padding": (0,), "dilation": (1,), "transposed": False, "output_padding": (0,), "groups": 1
    },
    _T.BATCH_NORM: {"training": False, "momentum": 0.1, "eps": 1e-5},
    _T.LAYER_NORM: {"eps": 1e-5},
    _T.SOFTMAX: {"half_to_float": False},
    _T.LOG_SOFTMAX: {"half_to_float": False},
    _T.TRANSPOSE: {"dim0": 0, "dim1": 1},
}  # fmt: skip
"""What PyTorch's own functions take for arguments that the overloads below them demand."""

_OF_RESULT: dict[ACALSimOpType, dict[str, str]] = {
    _T.RESHAPE: {"size": "shape", "shape": "shape"},
    _T.EXPAND: {"size": "shape"},
    _T.FULL: {"size": "shape", "dtype": "dtype"},
    _T.CAST: {"dtype": "dtype"},
}
"""Arguments that the result's tensor states: which of its fields each one is."""


_ONLY_WITH: dict[str, set[str]] = {"aten.hardtanh.default": {"min_val", "max_val"}}
"""Overloads whose defaults do more than nothing: meant only by an operation that gives one of these."""


class _MisfitError(Exception):
    """Why an overload is not the one that was meant; one that came further is nearer to it."""

    def __init__(self, stage: int, text: str) -> None:
        super().__init__(text)
        self.stage = stage


def as_pytorch_has_it(op: ACALSimOp, ir: ACALSimIR) -> ACALSimOp:
    """The operation with target, roles and attributes, by the first overload that gives the results that ``ir`` states.

    Raises:
        InputError: no overload takes these tensors and attributes, or PyTorch has other results.
    """
    misfits: list[_MisfitError] = []
    for target in _targets(op, ir):
        try:
            bound = _bound(replace(op, target=target), ir)
            _check_results(bound, ir)
        except _MisfitError as misfit:
            misfits.append(misfit)
        else:
            return _with_compute(bound, ir)
    furthest = max(misfit.stage for misfit in misfits)
    reasons = dict.fromkeys(str(misfit) for misfit in misfits if misfit.stage == furthest)
    raise InputError(f"{ir.name}: {op}: {'; '.join(reasons)}")


def _targets(op: ACALSimOp, ir: ACALSimIR) -> tuple[str, ...]:
    """The overloads that the operation may mean."""
    targets = operator_of(op).targets
    if not op.target and op.op_type is not _T.HOST:
        return tuple(t for t in targets if t not in _ONLY_WITH or _ONLY_WITH[t] & op.attrs.keys())
    if not op.target:
        raise InputError(f"{ir.name}: {op}: a HOST operation needs target=, the ATen operator that it runs")
    if op.op_type is not _T.HOST and op.target not in targets:
        raise InputError(f"{ir.name}: {op}: its target is {op.target!r}, expected one of {', '.join(targets)}")
    try:
        if overload(op.target)._schema.is_mutable:
            raise InputError(
                f"{ir.name}: {op}: {op.target} writes to its arguments, expected one that returns its result"
            )
    except (AttributeError, ValueError, TypeError, RuntimeError):
        raise InputError(
            f"{ir.name}: {op}: PyTorch has no operator {op.target!r}, expected a name like 'aten.add.Tensor'"
        ) from None
    return (op.target,)


def _bound(op: ACALSimOp, ir: ACALSimIR) -> ACALSimOp:
    """The operation with a role for each input and its attributes as ATen takes them."""
    arguments = {a.name: a for a in overload(op.target)._schema.arguments}
    roles = op.roles or _roles(op)
    played = dict.fromkeys(role.partition(".")[0] for role in roles)
    known = {*arguments, *(f"{name}.length" for name in played)}
    unknown = [name for name in (*played, *op.attrs) if name not in known]
    if unknown:
        raise _MisfitError(0, f"{op.target} has no {', '.join(unknown)}, only {', '.join(arguments)}")
    given = [*roles, *op.attrs]
    if len(set(given)) < len(given) or not op.attrs.keys().isdisjoint(played):
        raise _MisfitError(0, f"arguments are given twice: {', '.join(given)}")
    unsaid = {**_USUAL.get(op.op_type, {}), **_of_result(op, ir)}
    attrs = {name: value for name, value in unsaid.items() if name in arguments and name not in played} | op.attrs
    missing = [name for name, a in arguments.items() if _is_needed(a) and name not in played and name not in attrs]
    if missing:
        raise _MisfitError(0, f"{op.target} needs {', '.join(missing)}, got {', '.join(given) or 'nothing'}")
    plain = {name: _plain(value, name, arguments.get(name)) for name, value in attrs.items()}
    return replace(op, roles=list(roles), attrs=plain)


def _roles(op: ACALSimOp) -> list[str]:
    """The arguments that are tensors, in their order, without those that the attributes give."""
    roles: list[str] = []
    for argument in overload(op.target)._schema.arguments:
        left = len(op.inputs) - len(roles)
        if "List[" in str(argument.type) and "Tensor" in str(argument.type):
            roles += [f"{argument.name}.{i}" for i in range(left)]
        elif "Tensor" in str(argument.type) and left and argument.name not in op.attrs:
            roles.append(argument.name)
    if len(roles) != len(op.inputs):
        raise _MisfitError(0, f"{op.target} takes {len(roles)} tensors, got {len(op.inputs)} inputs")
    return roles


def _is_needed(argument: torch._C.Argument) -> bool:
    return not argument.has_default_value() and not str(argument.type).startswith("Optional[")


def _of_result(op: ACALSimOp, ir: ACALSimIR) -> dict[str, Any]:
    if not op.outputs:
        return {}
    return {name: getattr(ir.tensors[op.outputs[0]], field) for name, field in _OF_RESULT.get(op.op_type, {}).items()}


def _plain(value: Any, name: str, argument: torch._C.Argument | None) -> Any:
    """An attribute as captured IR has it: numbers of Python, tuples, names of dtypes; a list of one int as such."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return tuple(_plain(item, name, None) for item in value)
    if isinstance(value, (torch.dtype, torch.memory_format, torch.layout, torch.device)):
        return str(value).removeprefix("torch.")
    if value is not None and not isinstance(value, (bool, int, float, str)):
        raise _MisfitError(0, f"{name} is a {type(value).__name__}, expected a number, a text or a tuple of them")
    if argument is not None and isinstance(value, int) and "List[int]" in str(argument.type):
        return (value,) * (getattr(argument, "N", None) or 1)
    return value


def _check_results(op: ACALSimOp, ir: ACALSimIR) -> None:
    """Compare the outputs with what PyTorch says of tensors without values."""
    if not op.outputs and op.op_type is _T.HOST:
        return  # it is run for its effect, which is not ours to try
    if not op.outputs:
        raise _MisfitError(0, "it has no outputs")
    placed = {"device": "meta"} if any(a.name == "device" for a in overload(op.target)._schema.arguments) else {}
    try:
        results = evaluate(
            replace(op, attrs={**op.attrs, **placed}), {name: _meta(ir.tensors[name]) for name in op.inputs}
        )
    except NotImplementedError:
        return  # an operator that has to be run to know
    except Exception as error:  # noqa: BLE001  # whatever PyTorch says
        raise _MisfitError(1, f"{op.target}: PyTorch refuses it: {str(error).partition(chr(10))[0]}") from None
    for name, number in zip(op.outputs, op.results, strict=True):
        desc = ir.tensors[name]
        if number not in range(len(results)) or not isinstance(results[number], torch.Tensor):
            raise _MisfitError(2, f"{name} is its result {number}, PyTorch returns {len(results)}")
        expected = (tuple(results[number].shape), str(results[number].dtype).removeprefix("torch."))
        if (desc.shape, desc.dtype) != expected:
            raise _MisfitError(
                3, f"{name} is {desc.shape} {desc.dtype}, PyTorch's result is {expected[0]} {expected[1]}"
            )
    _check_window(op, ir)
    why = refusal(op, ir) if op.op_type is not _T.HOST else None
    if why is not None:
        raise _MisfitError(1, f"{op.target}: {why}")


def _check_window(op: ACALSimOp, ir: ACALSimIR) -> None:
    """PyTorch looks for the end of memory only where there is memory."""
    if op.op_type not in (_T.AS_STRIDED, _T.AS_STRIDED_SCATTER):
        return
    desc, size, stride = ir.tensors[op.inputs[0]], op.attrs["size"], op.attrs["stride"]
    first = op.attrs.get("storage_offset") or 0
    if 0 in size:
        return
    last, end = first + _reach(size, stride), _reach(desc.shape, _strides(desc)) if desc.numel else -1
    if first < 0 or last > end:
        raise _MisfitError(1, f"elements {first} to {last} of {op.inputs[0]}, whose memory has {end + 1}")


def _reach(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """The place of the last element, counted from the first."""
    return sum((d - 1) * step for d, step in zip(shape, strides, strict=True))


def _strides(desc: TensorDesc) -> tuple[int, ...]:
    return desc.strides if desc.strides is not None else contiguous_strides(desc.shape)


def _meta(desc: TensorDesc) -> torch.Tensor:
    return torch.empty_strided(desc.shape, _strides(desc), dtype=getattr(torch, desc.dtype), device="meta")


def _with_compute(op: ACALSimOp, ir: ACALSimIR) -> ACALSimOp:
    if not operator_of(op).promotes or op.compute in DTYPES:
        return op
    if op.compute:
        raise InputError(f"{ir.name}: {op}: compute is {op.compute!r}, expected one of {', '.join(DTYPES)}")
    return replace(op, compute=_promoted(op, ir))


def _promoted(op: ACALSimOp, ir: ACALSimIR) -> str:
    """The dtype to which PyTorch promotes the tensors and numbers."""
    operands = [_meta(ir.tensors[name]) for name in op.inputs]
    numbers = [op.attrs[key] for key in ("other", "exponent", "self") if isinstance(op.attrs.get(key), (int, float))]
    state = operands[0]
    for other in (*operands[1:], *numbers):
        rank = max(state.dim(), other.dim() if isinstance(other, torch.Tensor) else 0)
        state = torch.empty((1,) * rank, dtype=torch.result_type(state, other), device="meta")
    return str(state.dtype).removeprefix("torch.")
