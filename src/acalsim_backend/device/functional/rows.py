"""REDUCE, SOFTMAX and NORM."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from acalsim_backend.device.functional.operands import Operands, computes, widest
from acalsim_backend.device.functional.task import Task
from acalsim_backend.program.commands import Norm, Reduce, Softmax
from acalsim_backend.program.enums import Opcode, ReduceOp


@computes(Opcode.REDUCE)
def reduce(command: Reduce, operands: Operands) -> Task:
    """Sums and means in a data type that is wide enough."""
    x, out = operands.read(command.x), operands.write(command.out)
    axes = [i for i in range(x.dim()) if command.axes >> i & 1]
    if command.indices is not None:
        indices = operands.write(command.indices)
        extreme = torch.max if command.op is ReduceOp.MAX else torch.min
        return lambda: extreme(x, axes[0], keepdim=True, out=(out, indices))
    if not axes:
        return lambda: out.copy_(x)
    if command.op in (ReduceOp.SUM, ReduceOp.MEAN):
        function = torch.sum if command.op is ReduceOp.SUM else torch.mean
        if x.dtype == out.dtype:
            return lambda: function(x, axes, keepdim=True, out=out)
        wide = widest(command.x, command.out) if x.is_floating_point() else torch.int64
        return lambda: out.copy_(function(x, axes, keepdim=True, dtype=wide))
    if command.op is ReduceOp.PROD:
        wide = widest(command.x, command.out) if x.is_floating_point() else torch.int64
        flat = x.movedim(axes, tuple(range(-len(axes), 0))).flatten(-len(axes))
        return lambda: out.copy_(flat.prod(-1, dtype=wide).reshape(out.shape))
    bound = torch.amax if command.op is ReduceOp.MAX else torch.amin
    return lambda: bound(x, axes, keepdim=True, out=out)


@computes(Opcode.SOFTMAX)
def softmax(command: Softmax, operands: Operands) -> Task:
    """Along the last axis."""
    x, out = operands.read(command.x), operands.write(command.out)
    function: Callable[..., Tensor] = torch.log_softmax if command.log else torch.softmax
    if x.dtype == out.dtype:
        return lambda: function(x, -1, out=out)
    wide = widest(command.x, command.out)
    return lambda: out.copy_(function(x.to(wide), -1))


@computes(Opcode.NORM)
def norm(command: Norm, operands: Operands) -> Task:
    """Layer norm along the last axis, with its statistics where they are asked for."""
    x, out = operands.read(command.x), operands.write(command.out)
    weight, bias = (operands.read(v) if v else None for v in (command.weight, command.bias))
    statistics = [operands.write(v) if v else None for v in (command.mean, command.rstd)]
    shape, eps = x.shape[-1:], command.eps
    same = len({v.dtype for v in (command.x, command.weight, command.bias) if v is not None}) == 1
    wide = x.dtype if same else widest(*command.reads())

    def run() -> None:
        w, b = (None if t is None else t.to(wide) for t in (weight, bias))
        value, *measured = torch.native_layer_norm(x.to(wide), shape, w, b, eps)
        out.copy_(value)
        for target, statistic in zip(statistics, measured, strict=True):
            if target is not None:
                target.copy_(statistic)

    return run
