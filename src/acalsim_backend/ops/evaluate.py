"""Runs an IR operation with PyTorch: for constants while compiling, and for HOST commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from acalsim_backend.errors import UnsupportedError
from acalsim_backend.ir import ACALSimOp

PYTORCHS = ("aten", "prims")
"""Namespaces of operators that are PyTorch's own."""


def overload(target: str) -> torch._ops.OpOverload:
    """The ATen overload named "aten.add.Tensor" (or one of another namespace)."""
    namespace, name, variant = target.split(".")
    found = getattr(getattr(getattr(torch.ops, namespace), name), variant)
    if not isinstance(found, torch._ops.OpOverload):
        raise UnsupportedError(f"{target} is a {type(found).__name__}, expected an operator overload")
    return found


def evaluate(op: ACALSimOp, tensors: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """Call the operation's ATen overload; returns its results, of which ``op.results`` are used.

    ``tensors`` maps the names in ``op.inputs`` to values. Gradient and autocast modes of the caller do not matter.
    """
    target = overload(op.target)
    bound: dict[str, Any] = {}
    for name, role in zip(op.inputs, op.roles, strict=True):
        parameter, _, index = role.partition(".")
        if index:
            bound.setdefault(parameter, {})[int(index)] = tensors[name]
        else:
            bound[parameter] = tensors[name]
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for argument in target._schema.arguments:
        default = argument.default_value if argument.has_default_value() else None
        value = bound.get(argument.name, op.attrs.get(argument.name, default))
        if isinstance(value, dict):
            value = [value.get(i) for i in range(op.attrs.get(f"{argument.name}.length", max(value) + 1))]
        value = _restored(value, argument)
        if argument.kwarg_only:
            if argument.name in bound or argument.name in op.attrs or not argument.has_default_value():
                kwargs[argument.name] = value
        else:
            args.append(value)
    with torch.no_grad(), torch._C._DisableAutocast():
        result = target(*args, **kwargs)
    if result is None:
        return []
    return [result] if isinstance(result, torch.Tensor) else list(result)


def divides_by_zero(error: Exception) -> bool:
    """Whether PyTorch's error is about the values that integers were divided by."""
    return "ZeroDivisionError" in str(error)


def is_pytorchs(op: ACALSimOp) -> bool:
    """Whether the operator is PyTorch's own."""
    return op.target.partition(".")[0] in PYTORCHS


def is_pure(op: ACALSimOp) -> bool:
    """Whether two calls give the same and do nothing else; of operators that are not PyTorch's own nothing is known."""
    return is_pytorchs(op) and torch.Tag.nondeterministic_seeded not in overload(op.target).tags


def _restored(value: Any, argument: torch._C.Argument) -> Any:
    """Names that the capture made of dtypes, layouts and the like, as the objects that ATen takes."""
    kind = str(argument.real_type)
    if isinstance(value, str) and "Device" in kind:
        return torch.device(value)
    if isinstance(value, str) and "str" not in kind:
        known = getattr(torch, value, None)
        return known if isinstance(known, (torch.dtype, torch.memory_format, torch.layout)) else value
    return list(value) if isinstance(value, tuple) else value
