"""Which commands must wait for which: overlapping byte ranges, transitively reduced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from acalsim_backend.program.abi import Opcode, View
from acalsim_backend.program.commands import Command
from acalsim_backend.program.program import Tensor, TensorKind


@dataclass(frozen=True)
class Access:
    """Bytes that a command touches: ``[low, high)`` of a memory (the arena, or one tensor)."""

    memory: int  # -1: the arena; else a tensor id
    low: int
    high: int
    write: bool

    def conflicts(self, other: Access) -> bool:
        """Whether the order of two accesses matters: same bytes, at least one write."""
        overlap = self.memory == other.memory and self.low < other.high and other.low < self.high
        return overlap and (self.write or other.write)


def accesses(command: Command, tensors: Sequence[Tensor]) -> list[Access]:
    """Every byte range that a command reads or writes."""

    def access(view: View, write: bool) -> Access:
        tensor = tensors[view.tensor]
        low, high = view.extent
        if tensor.kind is TensorKind.ARENA:
            return Access(-1, tensor.offset + low, tensor.offset + high, write)
        return Access(view.tensor, low, high, write)

    return [access(v, False) for v in command.reads()] + [access(v, True) for v in command.writes()]


def conflicts(commands: Sequence[Command], tensors: Sequence[Tensor]) -> list[list[int]]:
    """For each command the earlier ones whose order against it matters (RAW, WAR, WAW, BARRIER), ascending."""
    touched: dict[int, list[tuple[int, Access]]] = {}
    barrier: int | None = None
    result: list[list[int]] = []
    for i, command in enumerate(commands):
        if command.opcode is Opcode.BARRIER:
            result.append(list(range(i)))
            barrier = i
            continue
        own = accesses(command, tensors)
        earlier = {j for a in own for j, b in touched.get(a.memory, ()) if a.conflicts(b)}
        if barrier is not None:
            earlier.add(barrier)
        for a in own:
            touched.setdefault(a.memory, []).append((i, a))
        result.append(sorted(earlier))
    return result


def dependencies(commands: Sequence[Command], tensors: Sequence[Tensor]) -> list[tuple[int, ...]]:
    """The transitive reduction of ``conflicts``."""
    before: list[int] = []  # bit set of all commands that are ordered before each one
    result: list[tuple[int, ...]] = []
    for earlier in conflicts(commands, tensors):
        kept: list[int] = []
        reached = 0
        for j in reversed(earlier):
            if not reached >> j & 1:
                kept.append(j)
                reached |= before[j] | 1 << j
        before.append(reached)
        result.append(tuple(sorted(kept)))
    return result
