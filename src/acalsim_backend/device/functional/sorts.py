"""SORT."""

from __future__ import annotations

import torch

from acalsim_backend.device.functional.operands import Operands, computes
from acalsim_backend.device.functional.task import Task
from acalsim_backend.program.commands import Sort
from acalsim_backend.program.enums import Opcode


@computes(Opcode.SORT)
def sort(command: Sort, operands: Operands) -> Task:
    """PyTorch's stable sort, of which the first k are kept; it needs no memory to work in."""
    x, axis, descending = operands.read(command.x), command.axis, bool(command.descending)
    views = (command.values, command.indices)
    outs = [None if view is None else operands.write(view) for view in views]

    def run() -> None:
        for out, result in zip(outs, torch.sort(x, dim=axis, descending=descending, stable=True), strict=True):
            if out is not None:
                out.copy_(result.narrow(axis, 0, out.shape[axis]))

    return run
