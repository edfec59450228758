"""Runs an IR operation with PyTorch: for constants while compiling, and for HOST commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from acalsim_backend.ir import ACALSimOp


def overload(target: str) -> torch._ops.OpOverload:
    """The ATen overload named "aten.add.Tensor" (or one of another namespace)."""
    namespace, name, variant = target.split(".")
    found = getattr(getattr(getattr(torch.ops, namespace), name), variant)
    assert isinstance(found, torch._ops.OpOverload)
    return found


def evaluate(op: ACALSimOp, tensors: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """Call the operation's ATen overload; returns its results, of which ``op.results`` are used.

    ``tensors`` maps the names in ``op.inputs`` to values.
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
            value = [value.get(i) for i in range(max(value) + 1)]
        value = _restored(value)
        if argument.kwarg_only:
            if value is not None:
                kwargs[argument.name] = value
        else:
            args.append(value)
    result = target(*args, **kwargs)
    if result is None:
        return []
    return [result] if isinstance(result, torch.Tensor) else list(result)


def is_random(op: ACALSimOp) -> bool:
    """Whether two calls may differ."""
    return torch.Tag.nondeterministic_seeded in overload(op.target).tags


def _restored(value: Any) -> Any:
    """Names that the capture made of dtypes and memory formats, as the objects that ATen takes."""
    if isinstance(value, str):
        known = getattr(torch, value, None)
        return known if isinstance(known, (torch.dtype, torch.memory_format)) else value
    return list(value) if isinstance(value, tuple) else value
