"""SCAN."""

from __future__ import annotations

import torch

from acalsim_backend.device.functional.operands import Operands, computes
from acalsim_backend.device.functional.task import Task
from acalsim_backend.program.commands import Scan
from acalsim_backend.program.enums import Opcode, ScanOp

_SUMS = {ScanOp.SUM: torch.cumsum, ScanOp.PROD: torch.cumprod}


@computes(Opcode.SCAN)
def scan(command: Scan, operands: Operands) -> Task:
    """PyTorch's own, which accumulate in the types that the command states."""
    x, out, axis = operands.read(command.x), operands.write(command.out), command.axis
    if command.op in _SUMS:
        running = _SUMS[command.op]
        return lambda: running(x, axis, dtype=out.dtype, out=out)
    if command.op is ScanOp.LOGADDEXP:
        return lambda: out.copy_(torch.logcumsumexp(x.to(out.dtype), axis))
    extreme = torch.cummax if command.op is ScanOp.MAX else torch.cummin
    indices = operands.write(command.indices) if command.indices is not None else None

    def run() -> None:
        values, positions = extreme(x, axis)
        out.copy_(values)
        if indices is not None:
            indices.copy_(positions)

    return run
