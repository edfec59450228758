"""Functions of single elements."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch


def _angle(x: torch.Tensor) -> Any:
    if x.is_complex():
        return NotImplemented
    value = x if x.is_floating_point() else x.to(torch.get_default_dtype())
    return torch.where(value.isnan(), value, torch.where(value < 0, math.pi, 0.0).to(value.dtype))


def _power_of_truths(x: torch.Tensor, exponent: Any) -> Any:
    """A bool to the power of a bool is a bool, of which PyTorch's fake tensors say that it is an int64."""
    if x.dtype is not torch.bool or not isinstance(exponent, bool):
        return NotImplemented
    return x.clone() if exponent else torch.ones_like(x)


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.angle.default: _angle,
    torch.ops.aten.pow.Tensor_Scalar: _power_of_truths,
    torch.ops.aten.special_modified_bessel_i0.default: torch.i0,
    torch.ops.aten.special_modified_bessel_i1.default: torch.special.i1,
}
