"""How many instructions a Program may retire before its run counts as an endless loop."""

from __future__ import annotations

from acalsim_backend.program.commands import Command, Conv2d, Gemm, Pool2d, Vector
from acalsim_backend.program.enums import Placement
from acalsim_backend.program.program import Program

_BASE = 100_000_000
_PER_COMMAND = 100_000
_PER_PRODUCT = 100  # a multiply-add of the slowest data types, conversions included
_PER_ELEMENT = 1_000  # the slowest function


def instruction_budget(program: Program) -> int:
    """A bound that no correct run reaches: far above what the kernels need, and in proportion to their work."""
    work = sum(_work(c) for c in program.commands if c.placement is Placement.CPU)
    return _BASE + _PER_COMMAND * len(program.commands) + work


def _work(command: Command) -> int:
    if isinstance(command, Gemm):
        return _PER_PRODUCT * command.out.numel * max(command.a.dims[-1], 1)
    if isinstance(command, Conv2d):
        return _PER_PRODUCT * command.out.numel * max(command.weight.numel // max(command.weight.dims[0], 1), 1)
    elements = max((v.numel for v in command.reads() + command.writes()), default=0)
    if isinstance(command, Pool2d):
        elements += command.out.numel * command.kernel[0] * command.kernel[1]
    steps = command.n_instructions if isinstance(command, Vector) else 1
    return _PER_ELEMENT * elements * steps
