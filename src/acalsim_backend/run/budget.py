"""How many instructions a Program may retire before its run counts as an endless loop."""

from __future__ import annotations

from acalsim_backend.program.enums import Placement
from acalsim_backend.program.program import Program

_BASE = 100_000_000
_PER_COMMAND = 100_000
_PER_PRODUCT = 100  # a multiply-add of the slowest data types, conversions included
_PER_ELEMENT = 1_000  # the slowest function


def instruction_budget(program: Program) -> int:
    """A bound that no correct run reaches: far above what the kernels need, and in proportion to their work."""
    on_cpu = [c for c in program.commands if c.placement is Placement.CPU]
    work = sum(_PER_ELEMENT * c.element_steps + _PER_PRODUCT * c.products for c in on_cpu)
    return _BASE + _PER_COMMAND * len(program.commands) + work
