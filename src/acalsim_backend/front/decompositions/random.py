"""Random numbers from few kinds of draws that depend on no values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def _contiguous(like: torch.Tensor) -> torch.Tensor:
    """Room for draws, whose order depends on its strides."""
    return torch.empty_like(like, memory_format=torch.contiguous_format)


def _normal(mean: Any, std: Any = 1.0, generator: Any = None) -> Any:
    """PyTorch's ``normal``: numbers drawn around 0, then scaled and moved."""
    if generator is not None:
        return NotImplemented
    if not isinstance(std, torch.Tensor):
        return torch.ops.aten.normal_functional(_contiguous(mean), 0, std) + mean
    like = std if not isinstance(mean, torch.Tensor) else torch.add(mean, std)
    return torch.ops.aten.normal_functional(_contiguous(like)) * std + mean


def _dropout_of_all(x: torch.Tensor, p: float, train: bool | None) -> Any:
    """Dropout with probability 1, for which eager draws nothing."""
    if p != 1 or train is False:
        return NotImplemented
    return x * 0.0, torch.zeros_like(x, dtype=torch.bool)


def _multinomial(x: torch.Tensor, num_samples: int, replacement: bool = False, generator: Any = None) -> Any:
    """PyTorch's ``multinomial`` where it divides by exponential numbers instead of searching in a running sum."""
    if generator is not None or (replacement and num_samples != 1):
        return NotImplemented
    keys = x / torch.ops.aten.exponential(torch.empty_like(x))
    if num_samples == 1:
        return keys.argmax(-1, keepdim=True)
    return keys.topk(num_samples).indices


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.normal.Tensor_float: _normal,
    torch.ops.aten.normal.float_Tensor: _normal,
    torch.ops.aten.normal.Tensor_Tensor: _normal,
    torch.ops.aten.multinomial.default: _multinomial,
    torch.ops.aten.native_dropout.default: _dropout_of_all,
}
