"""GATHER and SCATTER."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from acalsim_backend.device.functional.operands import Operands, computes
from acalsim_backend.device.functional.task import Task
from acalsim_backend.device.validate import CommandError
from acalsim_backend.program.commands import Gather, Scatter
from acalsim_backend.program.enums import Opcode, ScatterOp, Status

Places = Callable[[], tuple[Tensor, ...]]
"""Gives an index for each batch and indexed axis of the table, checked, from its start on."""

_REDUCTIONS = {ScatterOp.MUL: "prod", ScatterOp.MAX: "amax", ScatterOp.MIN: "amin"}


@computes(Opcode.GATHER)
def gather(command: Gather, operands: Operands) -> Task:
    """Rows of the table."""
    x, out = operands.read(command.x), operands.write(command.out)
    places = _places(command, x, operands)
    return lambda: out.copy_(x[places()])


@computes(Opcode.SCATTER)
def scatter(command: Scatter, operands: Operands) -> Task:
    """Rows into the table."""
    x, out = operands.read(command.x), operands.write(command.out, keep=True)
    places = _places(command, out, operands)
    if command.op in (ScatterOp.SET, ScatterOp.ADD):
        return lambda: out.index_put_(places(), x, accumulate=command.op is ScatterOp.ADD)
    reduction, depth = _REDUCTIONS[command.op], command.batch + command.n_indices

    def run() -> None:
        table = out.reshape(math.prod(out.shape[:depth]), -1)
        flat = torch.zeros((), dtype=torch.int64)
        for extent, place in zip(out.shape, places(), strict=False):
            flat = flat * extent + place
        index = flat.reshape(-1, 1).expand(-1, table.shape[1])
        table = table.scatter_reduce(0, index, x.reshape(index.shape), reduction)
        out.copy_(table.view(out.shape))

    return run


def _places(command: Gather | Scatter, table: Tensor, operands: Operands) -> Places:
    """Errors of what is returned: CommandError, INDEX with the first index that is outside its axis."""
    indices = [operands.read(view) for view in command.indices]
    dims, batch = command.indices[0].dims, command.batch
    extents = table.shape[batch : batch + len(indices)]
    behind = [torch.arange(dims[i]).reshape(-1, *[1] * (len(dims) - 1 - i)) for i in range(batch)]

    def places() -> tuple[Tensor, ...]:
        found = []
        for index, extent in zip(indices, extents, strict=True):
            place = index.to(torch.int64)
            if place.numel():
                low, high = (int(bound) for bound in torch.aminmax(place))
                if low < (-extent if command.wrap else 0) or high >= extent:
                    _refuse(indices, extents, bool(command.wrap))
                if low < 0:
                    place = torch.where(place < 0, place + extent, place)
            found.append(place)
        return (*behind, *found)

    return places


def _refuse(indices: Sequence[Tensor], extents: Sequence[int], wrap: bool) -> None:
    """Raise for the first index that is outside its axis, in row-major order of the places."""
    outside = torch.stack(
        [(i < (-e if wrap else 0)) | (i >= e) for i, e in zip(indices, extents, strict=True)], -1
    ).reshape(-1, len(indices))
    place, axis = (int(n) for n in outside.nonzero()[0])
    value, extent = int(indices[axis].reshape(-1)[place]), extents[axis]
    raise CommandError(Status.INDEX, f"index {value} into an axis of {extent}", value & (1 << 64) - 1)
