"""Products and distances in the terms of matrix products."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def _addbmm(x: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """A sum of products is the product of the factors side by side; eager rounds half types after each of them."""
    if x.dtype in (torch.float16, torch.bfloat16) and batch1.shape[0]:
        for left, right in zip(batch1.unbind(), batch2.unbind(), strict=True):
            x, beta = torch.addmm(x, left, right, beta=beta, alpha=alpha), 1
        return x
    left, right = batch1.transpose(0, 1).flatten(1), batch2.flatten(0, 1)
    return torch.addmm(x, left, right, beta=beta, alpha=alpha)


def _addmv(x: Tensor, mat: Tensor, vec: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    column = x.unsqueeze(-1) if x.dim() else x.expand(1, 1)
    return torch.addmm(column, mat, vec.unsqueeze(-1), beta=beta, alpha=alpha).squeeze(-1)


def _scaled_apart(product: Callable[..., Tensor]) -> Callable[..., Any]:
    """beta * x + alpha * product, where the scales are no f32 numbers, as those of the product itself are."""

    def decomposed(x: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Any:
        if all(_is_exact(scale, x.dtype) for scale in (alpha, beta)):
            return NotImplemented
        if not x.dtype.is_floating_point:
            alpha, beta = int(alpha), int(beta)
        scaled = product(left, right) * alpha
        return scaled + x * beta if beta else scaled

    return decomposed


def _is_exact(scale: float, dtype: torch.dtype) -> bool:
    """Whether a product takes the number as it is."""
    if dtype is torch.float64:
        return ctypes.c_float(scale).value == scale
    return dtype.is_floating_point or scale in (0, 1)


def _trilinear(
    i1: Tensor, i2: Tensor, i3: Tensor, expand1: Sequence[int], expand2: Sequence[int], expand3: Sequence[int],
    sumdim: Sequence[int], unroll_dim: int = 1,
) -> Tensor:  # fmt: skip
    """The sum of ``i1 * i2 * i3`` over ``sumdim``; ``expand`` are the axes that each lacks."""
    rank = i1.dim() + len(expand1)
    axes = [[axis for axis in range(rank) if axis not in expand] for expand in (expand1, expand2, expand3)]
    kept = [axis for axis in range(rank) if axis not in sumdim]
    operands = [part for pair in zip((i1, i2, i3), axes, strict=True) for part in pair]
    return torch.einsum(*operands, kept)


def _pdist(x: Tensor, p: float = 2) -> Tensor:
    """Distances between each row and those behind it."""
    first, second = torch.triu_indices(x.shape[0], x.shape[0], 1, device=x.device).unbind()
    distance: Tensor = torch.linalg.vector_norm(x[first] - x[second], p, -1)
    return distance


def _distances(x: torch.Tensor, y: torch.Tensor, p: float, compute_mode: int | None) -> torch.Tensor:
    """cdist: the p-norm of every row of x less every row of y; many rows by a product, as eager does."""
    rows = x.shape[-2] > 25 or y.shape[-2] > 25
    if p == 2 and (compute_mode == 1 or (compute_mode in (None, 0) and rows)):
        return _euclidean(x, y)
    distance: torch.Tensor = torch.linalg.vector_norm(x.unsqueeze(-2) - y.unsqueeze(-3), p, -1)
    return distance


def _euclidean(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The root of |x|^2 - 2 x y + |y|^2, all of it one product."""
    x_size, y_size = (t.pow(2).sum(-1, keepdim=True) for t in (x, y))
    left = torch.cat([-2 * x, x_size, torch.ones_like(x_size)], -1)
    right = torch.cat([y, torch.ones_like(y_size), y_size], -1)
    return (left @ right.mT).clamp_min(0).sqrt()


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    aten.addbmm.default: _addbmm,
    aten.addmv.default: _addmv,
    aten.addmm.default: _scaled_apart(torch.mm),
    aten.baddbmm.default: _scaled_apart(torch.bmm),
    aten._trilinear.default: _trilinear,
    aten._cdist_forward.default: _distances,
    aten._pdist_forward.default: _pdist,
}
