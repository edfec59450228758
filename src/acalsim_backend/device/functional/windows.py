"""POOL2D."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as nn
from torch import Tensor

from acalsim_backend.device.functional.operands import Operands, computes
from acalsim_backend.device.functional.task import Task
from acalsim_backend.program.commands import Pool2d
from acalsim_backend.program.enums import Opcode, PoolMode

# Private in PyTorch's Python API, but the only names of these functions that take ``out``.
_max_pool2d: Callable[..., Any] = torch._C._nn.max_pool2d_with_indices
_avg_pool2d: Callable[..., Tensor] = torch._C._nn.avg_pool2d
_adaptive_avg_pool2d: Callable[..., Tensor] = torch._C._nn.adaptive_avg_pool2d


@computes(Opcode.POOL2D)
def pool2d(command: Pool2d, operands: Operands) -> Task:
    """Windows by PyTorch's pooling where it has such windows, else by a view of all of them."""
    x, out = operands.read(command.x), operands.write(command.out)
    if command.mode is PoolMode.ADAPTIVE_AVG:
        return _into(x, out, lambda target: _adaptive_avg_pool2d(x, out.shape[2:], out=target))
    ceil = _rounding(command)
    if command.mode is PoolMode.MAX:
        indices = operands.write(command.indices) if command.indices else None
        return _max_pool(command, x, out, indices, ceil)
    if ceil is None or command.dilation != (1, 1):
        return lambda: out.copy_(_mean_of_windows(command, x))
    k, s, p, divisor = command.kernel, command.stride, command.padding, command.divisor or None
    include = bool(command.count_include_pad)
    return _into(x, out, lambda target: _avg_pool2d(x, k, s, p, ceil, include, divisor, out=target))


def _into(x: Tensor, out: Tensor, function: Callable[[Tensor | None], Tensor]) -> Task:
    """Write straight into ``out`` where PyTorch's pooling can: it ignores the strides of its ``out``."""
    if x.dtype == out.dtype and x.is_contiguous() and out.is_contiguous():
        return lambda: function(out)
    return lambda: out.copy_(function(None))


def _rounding(command: Pool2d) -> bool | None:
    """PyTorch's ``ceil_mode`` that gives the output's size; None where it has no such pooling."""
    for ceil in (False, True):
        if all(_pooled_size(command, i, ceil) == command.out.dims[2 + i] for i in (0, 1)):
            return ceil if all(command.padding[i] <= command.kernel[i] // 2 for i in (0, 1)) else None
    return None


def _pooled_size(command: Pool2d, axis: int, ceil: bool) -> int:
    size, stride, padding = command.x.dims[2 + axis], command.stride[axis], command.padding[axis]
    span = size + 2 * padding - command.dilation[axis] * (command.kernel[axis] - 1) - 1
    count = (span + (stride - 1 if ceil else 0)) // stride + 1
    return count - 1 if ceil and (count - 1) * stride >= size + padding else count


def _max_pool(command: Pool2d, x: Tensor, out: Tensor, indices: Tensor | None, ceil: bool | None) -> Task:
    k, s, p, d = command.kernel, command.stride, command.padding, command.dilation
    if ceil is None:
        return lambda: _max_of_windows(command, x, out, indices)

    direct = out.is_contiguous() and x.is_contiguous() and (indices is None or indices.is_contiguous())

    def run() -> None:
        if direct:
            where = torch.empty(out.shape, dtype=torch.int64) if indices is None else indices
            _max_pool2d(x, k, s, p, d, ceil, out=(out, where))
            return
        value, position = _max_pool2d(x, k, s, p, d, ceil)
        out.copy_(value)
        if indices is not None:
            indices.copy_(position)

    return run


def _padded_windows(command: Pool2d, plane: Tensor, padding: tuple[int, int], value: float) -> Tensor:
    """Windows [N, C, P, Q, R, S] on ``plane``, which has ``value`` all around; the first starts at -padding."""
    edges: list[int] = []
    for i in (1, 0):
        reach = (command.out.dims[2 + i] - 1) * command.stride[i] + (command.kernel[i] - 1) * command.dilation[i] + 1
        edges += [padding[i], max(reach - padding[i] - plane.shape[2 + i], 0)]
    padded = nn.pad(plane, edges, value=value).contiguous()
    p, q = command.out.dims[2:]
    return windows(padded, command.kernel, command.stride, command.dilation, (p, q))


def _max_of_windows(command: Pool2d, x: Tensor, out: Tensor, indices: Tensor | None) -> None:
    lowest = float("-inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
    elements = _padded_windows(command, x, command.padding, lowest).flatten(-2)
    value, position = elements.max(-1)
    last_nan = elements.shape[-1] - 1 - elements.isnan().flip(-1).byte().argmax(-1)
    position = torch.where(value.isnan(), last_nan, position)
    out.copy_(value)
    if indices is not None:
        p, q = torch.arange(out.shape[2]).view(-1, 1), torch.arange(out.shape[3])
        row = p * command.stride[0] - command.padding[0] + position // command.kernel[1] * command.dilation[0]
        column = q * command.stride[1] - command.padding[1] + position % command.kernel[1] * command.dilation[1]
        indices.copy_(row * x.shape[3] + column)


def _mean_of_windows(command: Pool2d, x: Tensor) -> Tensor:
    wide = torch.float64 if x.dtype is torch.float64 else torch.float32
    total = _padded_windows(command, x.to(wide), command.padding, 0).sum((-2, -1))
    if command.divisor:
        return total / command.divisor
    (top, left), (h, w) = command.padding, x.shape[2:]
    if command.count_include_pad:  # all around the input, but not what windows reach beyond that
        counted = _padded_windows(command, torch.ones(1, 1, h + 2 * top, w + 2 * left, dtype=wide), (0, 0), 0)
    else:
        counted = _padded_windows(command, torch.ones(1, 1, h, w, dtype=wide), command.padding, 0)
    return total / counted.sum((-2, -1))


def windows(
    x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], result: tuple[int, int]
) -> Tensor:
    """All windows of x [N, C, H, W] as a view [N, C, P, Q, R, S]."""
    n, c, h, w = x.stride()
    strides = (n, c, h * stride[0], w * stride[1], h * dilation[0], w * dilation[1])
    return torch.as_strided(x, (*x.shape[:2], *result, *kernel), strides, x.storage_offset())
