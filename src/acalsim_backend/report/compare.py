"""Outputs of the simulated machine against PyTorch's."""

from __future__ import annotations

import dataclasses
import enum
import time
import types
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from acalsim_backend.errors import InputError, one_line, user_line
from acalsim_backend.report.model import Outputs

TOLERANCE = {  # dtype: (relative, absolute); anything else has to be equal
    torch.float16: (1e-2, 1e-3),
    torch.bfloat16: (5e-2, 1e-2),
    torch.float32: (1e-4, 1e-5),
    torch.float64: (1e-9, 1e-12),
    torch.complex64: (1e-4, 1e-5),
    torch.complex128: (1e-9, 1e-12),
}

_OTHER = object()
"""Stands beside an output of another structure."""


def run_eagerly(model: torch.nn.Module, inputs: Sequence[Any]) -> tuple[Any, float]:
    """Outputs of ``model(*inputs)`` without gradients, and the seconds that the call took.

    Raises:
        InputError: the model itself fails.
    """
    with torch.no_grad():
        start = time.perf_counter()
        try:
            outputs = model(*inputs)
        except BrokenPipeError:
            raise  # whoever reads what the model prints is gone
        except (Exception, SystemExit) as error:
            raise InputError(
                f"{type(model).__name__} fails in PyTorch already: {type(error).__name__}: {one_line(error)}"
                f"{user_line(error)}"
            ) from error
        return outputs, time.perf_counter() - start


def compare(got: Any, expected: Any) -> Outputs:
    """Largest absolute difference and whether all leaves are close; NaN equals NaN.

    Containers and objects are compared by what they hold. Outputs of another structure, shape or dtype are not close,
    and their difference is None.

    Raises:
        InputError: an output of which nothing is known but its identity, as a generator.
    """
    largest, close = 0.0, True
    allowed: dict[str, None] = {}
    for a, b in _leaves(got, expected, "output", {}):
        if b is _OTHER:
            return Outputs(None, False)
        dtype = b.dtype if isinstance(b, torch.Tensor) else None
        if isinstance(b, (float, complex)) and isinstance(a, (int, float, complex)):
            dtype = torch.float32  # in which most were computed before item()
            a, b = torch.tensor(complex(a)), torch.tensor(complex(b))
        if dtype is None:
            close = close and bool(a == b)
            continue
        if a.shape != b.shape or a.dtype != b.dtype:
            return Outputs(None, False)
        x, y = _wide(a), _wide(b)
        same = (x == y) | (x.isnan() & y.isnan()) if b.dtype.is_floating_point or b.dtype.is_complex else a == b
        if dtype in TOLERANCE:
            rtol, atol = TOLERANCE[dtype]
            allowed[f"{rtol:g} of the value + {atol:g} ({str(dtype).removeprefix('torch.')})"] = None
            close = close and torch.allclose(x, y, rtol=rtol, atol=atol, equal_nan=True)
        else:
            close = close and bool(same.all())
        if b.numel():
            difference = (x - y).abs().masked_fill(same, 0.0)
            largest = max(largest, difference.nan_to_num(nan=float("inf")).max().item())
    return Outputs(largest, close, ", ".join(allowed) or None)


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


_PLAIN = (str, bytes, bytearray, int, float, complex, type(None), type(...), enum.Enum, type, slice, range,
          torch.dtype, torch.device, torch.layout, torch.memory_format)  # fmt: skip


Pairs = Iterator[tuple[Any, Any]]


def _leaves(got: Any, expected: Any, where: str, seen: dict[tuple[int, int], Any]) -> Pairs:
    """What two outputs hold, in pairs of dense tensors or of values that ``==`` compares; ``_OTHER`` beside what has
    another structure. ``seen`` has the pairs of objects that were taken apart, which may hold each other."""
    if isinstance(expected, torch.Tensor):
        yield from _tensors(got, expected, where, seen)
    elif isinstance(expected, _PLAIN):
        yield got, expected if isinstance(got, _PLAIN) else _OTHER
    elif isinstance(expected, (np.ndarray, np.generic)):
        yield from _arrays(got, expected)
    elif (id(got), id(expected)) not in seen:
        seen[id(got), id(expected)] = got, expected  # held, so that their ids stay theirs
        parts = _parts(expected)
        others = _parts(got) if type(got) is type(expected) else {"its type": None}
        if parts is None:
            yield from _by_equality(got, expected, where)
        elif others is None or others.keys() != parts.keys():
            yield got, _OTHER
        else:
            for key, value in parts.items():
                yield from _leaves(others[key], value, f"{where}{key}", seen)


def _tensors(got: Any, expected: torch.Tensor, where: str, seen: dict[tuple[int, int], Any]) -> Pairs:
    if not isinstance(got, torch.Tensor) or (got.layout, _kind(got)) != (expected.layout, _kind(expected)):
        yield got, _OTHER
    elif expected.is_nested:
        yield from _leaves(got.unbind(), expected.unbind(), where, seen)
    elif expected.is_meta:
        raise InputError(f"{where} is on the device meta, without values to compare; return it from the CPU")
    else:
        yield _dense(got), _dense(expected)


def _kind(tensor: torch.Tensor) -> tuple[bool, bool]:
    return tensor.is_nested, tensor.is_quantized


def _dense(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach()
    if tensor.is_quantized:
        return tensor.dequantize()
    return tensor if tensor.layout is torch.strided else tensor.to_dense()


def _arrays(got: Any, expected: Any) -> Pairs:
    """NumPy's arrays and numbers."""
    if type(got) is not type(expected) or got.dtype != expected.dtype or got.shape != expected.shape:
        yield got, _OTHER
        return
    try:
        yield torch.from_numpy(np.array(got)), torch.from_numpy(np.array(expected))
    except TypeError:  # texts and the like
        yield bool(np.array_equal(got, expected)), True


_CODE = (types.FunctionType, types.MethodType, types.ModuleType)


def _parts(value: Any) -> dict[str, Any] | None:
    """What a container or an object holds, by how one gets there; None if nothing is known of it."""
    if isinstance(value, Mapping):
        return {f"[{key!r}]": item for key, item in value.items()}
    if isinstance(value, (tuple, list, deque)):
        return {f"[{i}]": item for i, item in enumerate(value)}
    node = pytree.SUPPORTED_NODES.get(type(value))
    if node is not None:
        items, context = node.flatten_fn(value)
        return {f"[{i}]": item for i, item in enumerate(items)} | {" (its structure)": context}
    if dataclasses.is_dataclass(value):
        return {f".{field.name}": getattr(value, field.name) for field in dataclasses.fields(value)}
    if _has_equality(value):
        return None
    slots = (name for kind in type(value).__mro__ for name in _names(kind.__dict__.get("__slots__", ())))
    state = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    state |= getattr(value, "__dict__", {})
    return {f".{name}": item for name, item in state.items()} if state and not isinstance(value, _CODE) else None


def _names(slots: str | Sequence[str]) -> Sequence[str]:
    return (slots,) if isinstance(slots, str) else slots


def _has_equality(value: Any) -> bool:
    """Whether its type says what is equal to it."""
    return any("__eq__" in kind.__dict__ for kind in type(value).__mro__[:-1])


def _by_equality(got: Any, expected: Any, where: str) -> Pairs:
    """Two values that are compared by what their type says of ``==``."""
    if got is expected:
        return
    # of sets with tensors == says whether these are the same objects
    of_tensors = isinstance(expected, (set, frozenset)) and any(isinstance(item, torch.Tensor) for item in expected)
    if _has_equality(expected) and not of_tensors:
        try:
            yield bool(got == expected), True
        except (TypeError, ValueError, RuntimeError):
            pass
        else:
            return
    raise InputError(
        f"{where} is a {type(expected).__name__}, which cannot be compared with eager's; return tensors, numbers, "
        "texts, or containers and dataclasses of them"
    )
