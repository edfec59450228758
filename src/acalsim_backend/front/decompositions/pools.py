"""Pooling in the terms of what there is a command for: windows over two spatial dims.

A window over three dims is one over the plane and then one over the depth; adaptive windows of one size are ordinary
ones, others are read by a table of the places in each.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

Ints = Sequence[int]
Pooled = tuple[Tensor, Tensor]


def _triple(value: Ints) -> tuple[int, int, int]:
    items = tuple(value) * (3 if len(value) == 1 else 1)
    return items[0], items[1], items[2]


def _accumulated(x: Tensor) -> Tensor:
    """In the type that sums are taken in, so that they are rounded once."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _avg_pool2d(
    x: Tensor,
    kernel_size: Ints,
    stride: Ints = (),
    padding: Ints = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """Of integers by way of f64, whose fraction is dropped as eager's division does."""
    if x.dtype.is_floating_point:
        return NotImplemented
    options = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return aten.avg_pool2d(x.double(), *options).to(x.dtype)


def _avg_pool3d(
    x: Tensor,
    kernel_size: Ints,
    stride: Ints = (),
    padding: Ints = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    if not x.dtype.is_floating_point:
        return NotImplemented  # two divisions would be two roundings
    kernel, pad = _triple(kernel_size), _triple(padding)
    step = _triple(stride) if stride else kernel
    planes = aten.avg_pool2d(
        _accumulated(x).flatten(0, -4), kernel[1:], step[1:], pad[1:], ceil_mode, count_include_pad,
        None if divisor_override is None else 1,
    )  # fmt: skip
    lines = aten.avg_pool2d(
        planes.flatten(-2), (kernel[0], 1), (step[0], 1), (pad[0], 0), ceil_mode, count_include_pad, divisor_override
    )
    return lines.unflatten(-1, planes.shape[-2:]).unflatten(0, x.shape[:-3]).to(x.dtype)


def _max_pool3d(
    x: Tensor,
    kernel_size: Ints,
    stride: Ints = (),
    padding: Ints = (0,),
    dilation: Ints = (1,),
    ceil_mode: bool = False,
) -> Pooled:
    """Of equal elements the first in the plane, then the first along the depth: the first of all."""
    kernel, pad, apart = _triple(kernel_size), _triple(padding), _triple(dilation)
    step = _triple(stride) if stride else kernel
    depth, height, width = x.shape[-3:]
    planes, in_plane = aten.max_pool2d_with_indices(
        x.flatten(0, -4), kernel[1:], step[1:], pad[1:], apart[1:], ceil_mode
    )
    lines, along = aten.max_pool2d_with_indices(
        planes.flatten(-2), (kernel[0], 1), (step[0], 1), (pad[0], 0), (apart[0], 1), ceil_mode
    )
    before = torch.arange(depth, device=x.device).view(-1, 1, 1) * (height * width)
    indices = (in_plane + before).flatten(1).gather(1, along.flatten(1)).view_as(along)
    shaped = (t.unflatten(-1, planes.shape[-2:]).unflatten(0, x.shape[:-3]) for t in (lines, indices))
    return next(shaped), next(shaped)


def _adaptive_avg_pool3d(x: Tensor, output_size: Ints) -> Tensor:
    """A mean of means, for all windows of a row are equally long."""
    depth, *plane = _triple(output_size)
    planes = aten._adaptive_avg_pool2d(_accumulated(x).flatten(0, -4), plane)
    lines = aten._adaptive_avg_pool2d(planes.flatten(-2), (depth, plane[0] * plane[1])).unflatten(-1, plane)
    result: Tensor = lines.unflatten(0, x.shape[:-3]).to(x.dtype)
    return result


def _adaptive_max_pool(rank: int, x: Tensor, output_size: Ints) -> Any:
    sizes = tuple(output_size) * (rank if len(output_size) == 1 else 1)
    extents = x.shape[-rank:]
    if 0 in sizes or 0 in x.shape:
        return NotImplemented
    if all(n % size == 0 for n, size in zip(extents, sizes, strict=True)):
        kernel = [n // size for n, size in zip(extents, sizes, strict=True)]
        pool = aten.max_pool2d_with_indices if rank == 2 else aten.max_pool3d_with_indices
        return pool(x, kernel, kernel)
    places = functools.reduce(operator.add, _places(extents, sizes, x.device))
    places = places.reshape(*sizes, -1)
    elements = x.flatten(-rank)[..., places]
    value, which = elements.max(-1)
    last_nan = elements.shape[-1] - 1 - (elements != elements).flip(-1).byte().argmax(-1)
    which = torch.where(value == value, which, last_nan)
    return value, places.expand(*value.shape, -1).gather(-1, which.unsqueeze(-1)).squeeze(-1)


def _places(extents: Ints, sizes: Ints, device: torch.device) -> list[Tensor]:
    """Along each axis, what its places add to a flat index: [1, size, 1, .., length, 1]. Shorter windows end with
    their last place more than once."""
    rank, step, found = len(sizes), 1, []
    for axis in reversed(range(rank)):
        n, size = extents[axis], sizes[axis]
        number = torch.arange(size, device=device)
        first, end = number * n // size, ((number + 1) * n + size - 1) // size
        length = max((i + 1) * n // size + ((i + 1) * n % size > 0) - i * n // size for i in range(size))
        places = torch.minimum(first[:, None] + torch.arange(length, device=device), end[:, None] - 1) * step
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = size, length
        found.append(places.view(shape))
        step *= n
    return found


def _spread(rank: int, grad_output: Tensor, x: Tensor, *options: Any) -> Tensor:
    """The gradient of a maximum: to where it stood, which is the last of the arguments."""
    indices = options[-1]
    flat = torch.zeros_like(x, memory_format=torch.contiguous_format).flatten(-rank)
    return flat.scatter_add(-1, indices.flatten(-rank), grad_output.flatten(-rank)).view(x.shape)


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    aten.avg_pool2d.default: _avg_pool2d,
    aten.avg_pool3d.default: _avg_pool3d,
    aten.max_pool3d_with_indices.default: _max_pool3d,
    aten._adaptive_avg_pool3d.default: _adaptive_avg_pool3d,
    aten.adaptive_max_pool2d.default: functools.partial(_adaptive_max_pool, 2),
    aten.adaptive_max_pool3d.default: functools.partial(_adaptive_max_pool, 3),
    aten.max_pool2d_with_indices_backward.default: functools.partial(_spread, 2),
    aten.max_pool3d_with_indices_backward.default: functools.partial(_spread, 3),
    aten.adaptive_max_pool2d_backward.default: functools.partial(_spread, 2),
    aten.adaptive_max_pool3d_backward.default: functools.partial(_spread, 3),
}
