"""Order statistics, searches and histograms as sorts, gathers and scatters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

aten: Any = torch.ops.aten

Pair = tuple[Tensor, Tensor]


def _extent(x: Tensor, dim: int) -> int:
    return x.shape[dim] if x.dim() else 1


def _taken(values: Tensor, indices: Tensor, dim: int, place: Tensor, keepdim: bool) -> Pair:
    """What stands at one place of every row; ``place`` has the axis with size 1."""
    found = values.gather(dim, place), indices.gather(dim, place)
    return found if keepdim else (found[0].squeeze(dim), found[1].squeeze(dim))


def _scalar(x: Tensor) -> Pair:
    """A 0-d tensor's only element, and where it stands."""
    return x.clone(), torch.zeros((), dtype=torch.int64, device=x.device)


def kthvalue(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """The last of the k smallest, NaN being larger than all numbers."""
    if x.numel() == 0 or not 1 <= k <= _extent(x, dim):
        return NotImplemented
    if x.dim() == 0:
        return _scalar(x)
    values, indices = torch.topk(x, k, dim, largest=False)
    found = values.narrow(dim, k - 1, 1), indices.narrow(dim, k - 1, 1)
    return tuple((part if keepdim else part.squeeze(dim)).contiguous() for part in found)


def median_dim(x: Tensor, dim: int, keepdim: bool = False) -> Any:
    """The lower median of each row; where a row has NaN, its first."""
    if x.numel() == 0:
        return NotImplemented
    if x.dim() == 0:
        return _scalar(x)
    n = _extent(x, dim)
    values, indices = torch.sort(x, stable=True, dim=dim)
    numbers = torch.sum(x == x, dim, keepdim=True)
    return _taken(values, indices, dim, torch.where(numbers < n, numbers, (n - 1) // 2), keepdim)


def nanmedian_dim(x: Tensor, dim: int, keepdim: bool = False) -> Any:
    """The lower median of the numbers of each row; NaN where it has none."""
    if x.numel() == 0:
        return NotImplemented
    if x.dim() == 0:
        return _scalar(x)
    values, indices = torch.sort(x, stable=True, dim=dim)
    numbers = torch.sum(x == x, dim, keepdim=True)
    half = ((numbers - 1).clamp(min=0).to(torch.float64) * 0.5).to(torch.int64)  # exact and on the machine
    return _taken(values, indices, dim, half, keepdim)


def median(x: Tensor) -> Any:
    """Of all elements."""
    return NotImplemented if x.numel() == 0 else median_dim(x.reshape(-1), 0)[0]


def nanmedian(x: Tensor) -> Any:
    """Of all elements that are numbers."""
    return NotImplemented if x.numel() == 0 else nanmedian_dim(x.reshape(-1), 0)[0]


def mode(x: Tensor, dim: int = -1, keepdim: bool = False) -> Any:
    """The most frequent value of each row, the smallest of several, and the last place where it stands."""
    if x.numel() == 0:
        return NotImplemented
    if x.dim() == 0:
        return _scalar(x)
    n = _extent(x, dim)
    values, indices = torch.sort(x, stable=True, dim=dim)
    shape = [1] * x.dim()
    shape[dim] = n
    place = torch.arange(n, device=x.device).reshape(shape)
    begins = torch.cat([torch.ones_like(values.narrow(dim, 0, 1), dtype=torch.bool),
                        values.narrow(dim, 1, n - 1) != values.narrow(dim, 0, n - 1)], dim)  # fmt: skip
    first = torch.cummax(torch.where(begins, place, 0), dim)[0]
    return _taken(values, indices, dim, torch.argmax(place - first, dim, keepdim=True), keepdim)


def _searched(boundaries: Tensor, values: Tensor, right: bool, out_int32: bool) -> Tensor:
    """How many boundaries lie before each value: a binary search of as many rounds as the count has bits, each a
    gather and a comparison, for rounds of the logarithm cost less than comparisons with every boundary."""
    n = int(boundaries.shape[-1])
    place = torch.zeros(values.shape, dtype=torch.int64, device=values.device)
    for bit in reversed(range(n.bit_length())):
        further = place + (1 << bit)
        at = further.clamp(max=n) - 1
        shared = boundaries.dim() == 1
        probe = boundaries.index_select(0, at.reshape(-1)).reshape(at.shape) if shared else boundaries.gather(-1, at)
        beyond = probe > values if right else probe >= values
        place = torch.where((further <= n) & ~beyond, further, place)
    return place.to(torch.int32) if out_int32 else place


def searchsorted(
    boundaries: Tensor,
    values: Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """Rows of values in rows of boundaries, or all in one."""
    if sorter is not None:
        boundaries = boundaries.gather(-1, sorter)
    return _searched(boundaries, values, right or side == "right", out_int32)


def searchsorted_scalar(boundaries: Tensor, value: float, **options: Any) -> Tensor:
    """One number."""
    return searchsorted(boundaries, _number(value, boundaries), **options)


def bucketize(values: Tensor, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """searchsorted with its arguments the other way round."""
    return _searched(boundaries, values, right, out_int32)


def bucketize_scalar(value: float, boundaries: Tensor, **options: Any) -> Tensor:
    """One number."""
    return bucketize(_number(value, boundaries), boundaries, **options)


def _number(value: float, beside: Tensor) -> Tensor:
    return torch.scalar_tensor(value, dtype=torch.result_type(beside, value), device=beside.device)


def histc(x: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Any:  # noqa: A002  # PyTorch's names
    """Of a stated range: that of the elements PyTorch refuses where it is not finite, which only they can tell."""
    if not min < max or x.dtype not in (torch.float32, torch.float64):
        return NotImplemented
    x = x.reshape(-1)
    number = np.float32 if x.dtype is torch.float32 else np.float64
    low, width = number(min), number(max) - number(min)  # eager has the bounds in the element type
    place = ((x - float(low)) * bins / float(width)).to(torch.int64).clamp(0, bins - 1)
    inside = ((x >= min) & (x <= max)).to(x.dtype)
    return torch.zeros(bins, dtype=x.dtype, device=x.device).scatter_add(0, place, inside)


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    aten.kthvalue.default: kthvalue,
    aten.median.default: median,
    aten.median.dim: median_dim,
    aten.nanmedian.default: nanmedian,
    aten.nanmedian.dim: nanmedian_dim,
    aten.mode.default: mode,
    aten.searchsorted.Tensor: searchsorted,
    aten.searchsorted.Scalar: searchsorted_scalar,
    aten.bucketize.Tensor: bucketize,
    aten.bucketize.Scalar: bucketize_scalar,
    aten.histc.default: histc,
}
"""By operator overload."""
