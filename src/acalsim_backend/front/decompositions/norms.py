"""Norms and statistics as arithmetic around the commands for layer norm and reductions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._prims_common import suggest_memory_format


def _group_norm(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    samples: int,
    channels: int,
    extent: int,
    groups: int,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Layer norm of rows that are groups, and the affine function of each channel; half types in f32 as eager does."""
    wide = torch.promote_types(x.dtype, torch.float32)
    row = channels // groups * extent
    rows = x.to(wide).reshape(samples * groups, row)
    value, mean, rstd = torch.ops.aten.native_layer_norm(rows, [row], None, None, eps)
    value = value.view(x.shape)
    per_channel = [1, channels] + [1] * (x.dim() - 2)
    if weight is not None:
        value = value * weight.to(wide).view(per_channel)
    if bias is not None:
        value = value + bias.to(wide).view(per_channel)
    mean, rstd = (t.view(samples, groups).to(x.dtype if weight is None else weight.dtype) for t in (mean, rstd))
    value = value.to(x.dtype).contiguous(memory_format=suggest_memory_format(x))
    return value, mean, rstd


def _batch_norm(x: torch.Tensor, *args: Any) -> Any:
    """In training form the operator that says that it writes to the running statistics; the other one is known."""
    *tensors, training, momentum, eps = args
    if not training:
        return NotImplemented
    weight, bias, mean, variance = tensors
    if mean is None:
        return torch.ops.aten._native_batch_norm_legit.no_stats(x, weight, bias, True, momentum, eps)
    return torch.ops.aten._native_batch_norm_legit(x, weight, bias, mean, variance, True, momentum, eps)


def _variance_and_mean(
    x: torch.Tensor, dim: Sequence[int] | None = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """In two passes, the mean of the squared distances from the mean; half types in f32 as eager does."""
    axes = tuple(range(x.dim())) if not dim else tuple(sorted(axis % x.dim() for axis in dim if x.dim()))
    count: Any = 1
    for axis in axes:
        count = count * x.shape[axis]
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    mean = wide.mean(axes, keepdim=True)
    distance = wide - mean
    free = torch.sym_max(count - (1 if correction is None else correction), 0)
    variance = (distance * distance).sum(axes, keepdim=keepdim) / free
    if not keepdim:
        mean = mean.reshape(variance.shape)
    return variance.to(x.dtype), mean.to(x.dtype)


def _variance(*args: Any, **kwargs: Any) -> torch.Tensor:
    return _variance_and_mean(*args, **kwargs)[0]


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.native_group_norm.default: _group_norm,
    torch.ops.aten.native_batch_norm.default: _batch_norm,
    torch.ops.aten.var.correction: _variance,
    torch.ops.aten.var_mean.correction: _variance_and_mean,
}
