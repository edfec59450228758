"""GEMM and CONV2D."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as nn
from torch import Tensor

from acalsim_backend.device.functional.elementwise import ACTIVATIONS
from acalsim_backend.device.functional.operands import Operands, computes, sequence, widest
from acalsim_backend.device.functional.task import Task
from acalsim_backend.device.functional.windows import windows
from acalsim_backend.program.commands import Conv2d, Gemm
from acalsim_backend.program.enums import Activation, Opcode


def _finish(value: Tensor, activation: Activation, out: Tensor) -> None:
    """Round to out's dtype (integers wrap around), then apply the activation."""
    if value.dtype != out.dtype:
        if value.is_floating_point() and not out.is_floating_point():
            value = value.to(torch.int64)
        value = value.to(out.dtype)
    if activation in ACTIVATIONS:
        ACTIVATIONS[activation](value, out=out)
    elif value is not out:
        out.copy_(value)


@computes(Opcode.GEMM)
def gemm(command: Gemm, operands: Operands) -> Task:
    """Straight into the output where all is of one data type, else by way of a wider one."""
    a, b, out = operands.read(command.a), operands.read(command.b), operands.write(command.out)
    bias = operands.read(command.bias) if command.bias else None
    alpha, beta, activation = command.alpha, command.beta, command.activation
    if out.is_floating_point() and len({t.dtype for t in (a, b, out, bias) if t is not None}) == 1:
        tasks = [_product(*operand, alpha, beta) for operand in _matrices(a, b, out, bias)]
        if activation in ACTIVATIONS:
            function = ACTIVATIONS[activation]
            tasks.append(lambda: function(out, out=out))
        return sequence(tasks)
    wide = widest(command.a, command.b)

    def run() -> None:  # what is times 0 is left out, be it infinite or NaN
        value = torch.matmul(a.to(wide), b.to(wide)) if alpha else torch.zeros(out.shape, dtype=wide)
        if alpha not in (0, 1):
            value = value * alpha
        if bias is not None and beta:
            value = value + (bias.to(wide) if beta == 1 else bias.to(wide) * beta)
        _finish(value, activation, out)

    return run


def _product(a: Tensor, b: Tensor, out: Tensor, bias: Tensor | None, alpha: float, beta: float) -> Task:
    """A product of matrices or of stacks of them, in one data type, straight into ``out``."""
    stacked = out.dim() == 3
    if bias is None and alpha == 1:
        multiply = torch.bmm if stacked else torch.mm
        return lambda: multiply(a, b, out=out)
    add: Callable[..., Tensor] = torch.baddbmm if stacked else torch.addmm
    start, scale = (out, 0.0) if bias is None else (bias, beta)
    return lambda: add(start, a, b, beta=scale, alpha=alpha, out=out)


def _matrices(
    a: Tensor, b: Tensor, out: Tensor, bias: Tensor | None
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
    """The batch split into as few products as strides allow: PyTorch takes one batch dimension and copies for more."""
    operands = [a, b, out] if bias is None else [a, b, out, bias]
    dims, strides = _merged_batch(operands, out)
    tall = _is_tall(operands, strides, dims)
    for index in itertools.product(*(range(d) for d in dims[:-1])):
        pa, pb, po, *pbias = (
            _matrix(t, s, dims, index, stack=t is not b if tall else None)
            for t, s in zip(operands, strides, strict=True)
        )
        yield pa, pb, po, pbias[0] if pbias else None


def _merged_batch(operands: Sequence[Tensor], out: Tensor) -> tuple[list[int], list[list[int]]]:
    """Batch dimensions, those merged that follow each other in every operand, and each operand's strides along them."""
    batch = [i for i in range(out.dim() - 2) if out.shape[i] > 1]
    dims = [out.shape[i] for i in batch]
    strides = [[t.stride(i) for i in batch] for t in operands]
    for i in reversed(range(len(dims) - 1)):
        if all(s[i] == s[i + 1] * dims[i + 1] for s in strides):
            dims[i : i + 2] = [dims[i] * dims[i + 1]]
            for s in strides:
                del s[i]
    return dims, strides


def _is_tall(operands: Sequence[Tensor], strides: Sequence[list[int]], dims: Sequence[int]) -> bool:
    """Whether the last batch dimension is one tall matrix: one ``b`` for all, the others' rows without a gap."""
    if not dims or strides[1][-1] != 0:
        return False
    others = [(t, s[-1]) for i, (t, s) in enumerate(zip(operands, strides, strict=True)) if i != 1]
    return all(step == t.stride(-2) * t.shape[-2] or t.shape[-2] == 1 for t, step in others)


def _matrix(t: Tensor, strides: list[int], dims: list[int], index: tuple[int, ...], stack: bool | None) -> Tensor:
    """The part of an operand at ``index``: with ``stack`` one tall matrix, without one matrix, None a batch of them."""
    first = t.storage_offset() + sum(i * step for i, step in zip(index, strides, strict=False))
    (rows, columns), (down, across) = t.shape[-2:], t.stride()[-2:]
    if stack:
        return torch.as_strided(t, (dims[-1] * rows, columns), (strides[-1] if rows == 1 else down, across), first)
    if dims and stack is None:
        return torch.as_strided(t, (dims[-1], rows, columns), (strides[-1], down, across), first)
    return torch.as_strided(t, (rows, columns), (down, across), first)


@computes(Opcode.CONV2D)
def conv2d(command: Conv2d, operands: Operands) -> Task:
    """PyTorch's convolution in the operands' data type, or in one that is wide enough for exact products.

    Half types are computed in f32: the kernels of PyTorch 2.13 (oneDNN) read beyond the input or give wrong values for
    some shapes.
    """
    x, weight, out = operands.read(command.x), operands.read(command.weight), operands.write(command.out)
    bias = operands.read(command.bias) if command.bias else None
    stride, dilation, groups, activation = command.stride, command.dilation, command.groups, command.activation
    padding: tuple[int, int] = command.padding
    kernel, size, result = weight.shape[2:], x.shape[2:], out.shape[2:]
    reach = [(result[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 for i in (0, 1)]
    edges: list[int] = []  # explicit padding where bottom and right differ from top and left
    if any((size[i] + 2 * padding[i] - reach[i]) not in range(stride[i]) for i in (0, 1)):
        used = [max(min(reach[i] - padding[i], size[i]), 0) for i in (0, 1)]
        x = x[:, :, : used[0], : used[1]]
        top, left = (min(padding[i], reach[i]) for i in (0, 1))
        edges = [left, reach[1] - left - used[1], top, reach[0] - top - used[0]]
        padding = (0, 0)
    same = len({t.dtype for t in (x, weight, out, bias) if t is not None}) == 1
    wide = out.dtype if same and out.is_floating_point() else widest(command.x, command.weight)
    wide = torch.float32 if wide in (torch.float16, torch.bfloat16) else wide

    def run() -> None:
        source, filters = x.to(wide), weight.to(wide)
        start = None if bias is None else bias.to(wide)
        if edges:
            source = nn.pad(source, edges)
        if wide is torch.int64:
            value = _integer_conv2d(source, filters, stride, padding, dilation, groups, (result[0], result[1]))
            value = value if start is None else value + start.view(-1, 1, 1)
        else:
            value = torch.conv2d(source, filters, start, stride, padding, dilation, groups)
        _finish(value, activation, out)

    return run


def _integer_conv2d(
    x: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    result: tuple[int, int],
) -> Tensor:
    """conv2d modulo 2^64, which PyTorch does not have."""
    n, k = x.shape[0], weight.shape[0]
    per_group, *kernel = weight.shape[1:]
    padded = nn.pad(x, (padding[1], padding[1], padding[0], padding[0])).contiguous()
    view = windows(padded, (kernel[0], kernel[1]), stride, dilation, result)  # [N, C, P, Q, R, S]
    columns = view.reshape(n, groups, per_group, *result, -1).permute(0, 1, 2, 5, 3, 4)
    columns = columns.reshape(n, groups, per_group * kernel[0] * kernel[1], -1)
    return torch.matmul(weight.reshape(groups, k // groups, -1), columns).reshape(n, k, *result)
