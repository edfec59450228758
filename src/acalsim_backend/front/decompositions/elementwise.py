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
    return torch.where(value.isnan(), value, torch.where(value < 0, torch.full_like(value, math.pi), 0.0))


def _power_of_truths(x: torch.Tensor, exponent: Any) -> Any:
    """A bool to the power of a bool is a bool, of which PyTorch's fake tensors say that it is an int64."""
    if x.dtype is not torch.bool or not isinstance(exponent, bool):
        return NotImplemented
    return x.clone() if exponent else torch.ones_like(x)


def _frexp(x: torch.Tensor) -> Any:
    """By exact products with powers of two, the largest first. Of zero, infinity and NaN the exponent is 0."""
    if x.dtype is not torch.float32:
        return NotImplemented
    size = torch.abs(x)
    is_small = size < 2.0**-126
    size = torch.where(is_small, size * 2.0**25, size)
    exponent = torch.where(is_small, -24, 1)
    for bits in (64, 32, 16, 8, 4, 2, 1):
        is_high, is_low = size >= 2.0**bits, size < 2.0 ** (1 - bits)
        size = torch.where(is_high, size * 2.0**-bits, torch.where(is_low, size * 2.0**bits, size))
        exponent = exponent + torch.where(is_high, bits, torch.where(is_low, -bits, 0))
    size = size * 0.5
    is_other = (x == 0) | torch.isinf(x) | torch.isnan(x)
    mantissa = torch.where(is_other, x, torch.where(x < 0, -size, size))
    return mantissa, torch.where(is_other, 0, exponent).to(torch.int32)


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.angle.default: _angle,
    torch.ops.aten.frexp.Tensor: _frexp,
    torch.ops.aten.pow.Tensor_Scalar: _power_of_truths,
    torch.ops.aten.special_modified_bessel_i0.default: torch.i0,
    torch.ops.aten.special_modified_bessel_i1.default: torch.special.i1,
}
