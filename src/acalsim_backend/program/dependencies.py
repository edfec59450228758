"""Which commands must wait for which: overlapping byte ranges, transitively reduced.

Both steps are linear in the commands while these touch few pieces of memory and wait for commands near by.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from acalsim_backend.program.commands import Command
from acalsim_backend.program.enums import Opcode
from acalsim_backend.program.intervals import IntervalMap
from acalsim_backend.program.layout import Role
from acalsim_backend.program.program import Tensor, TensorKind

ARENA = -1
_BLOCK = 4096
"""Ancestors that a bit set tells apart: 512 bytes for each command of a pass."""


class Access(NamedTuple):
    """Bytes of a tensor that a command touches: ``[low, high)`` of a memory, the ARENA or the tensor by its id."""

    tensor: int
    memory: int
    low: int
    high: int
    write: bool


class _Readers(NamedTuple):
    """A list that pieces of memory share where they share history."""

    last: int
    before: _Readers | None


class _Piece(NamedTuple):
    """Who wrote some bytes last, and who has read them since; -1 is nobody."""

    writer: int
    readers: _Readers | None


def accesses(command: Command, tensors: Sequence[Tensor]) -> list[Access]:
    """Every byte range that a command reads or writes, reads first; views without elements touch none."""
    reads: list[Access] = []
    writes: list[Access] = []
    for _, role, _, view in command.operands():
        low, high = view.extent
        if low < high:
            tensor = tensors[view.tensor]
            memory, offset = (ARENA, tensor.offset) if tensor.kind is TensorKind.ARENA else (tensor.id, 0)
            write = role is Role.OUT
            (writes if write else reads).append(Access(tensor.id, memory, offset + low, offset + high, write))
    return reads + writes


def conflicts(commands: Sequence[Command], touched: Sequence[Sequence[Access]]) -> list[list[int]]:
    """For each command the latest ones before it, ascending, whose order against it matters (RAW, WAR, WAW, BARRIER).

    ``touched`` are the ``accesses`` of each command. Earlier commands matter as well, but these lead to them: any order
    that keeps the pairs returned keeps all.
    """
    written = {a.memory for own in touched for a in own if a.write}  # nobody waits for what was only read
    memories: defaultdict[int, IntervalMap[_Piece]] = defaultdict(lambda: IntervalMap(_Piece(-1, None)))
    ends: set[int] = set()  # commands that nobody waits for, since the last barrier
    barrier = -1
    result: list[list[int]] = []
    for i, command in enumerate(commands):
        earlier: set[int] = set()
        if command.opcode is Opcode.BARRIER:
            earlier, ends, barrier = ends, set(), i
            memories.clear()
        else:
            for access in touched[i]:
                if access.memory in written:
                    (_write if access.write else _read)(memories[access.memory], access, i, earlier)
            earlier -= {i, -1}
            if not earlier and barrier >= 0:
                earlier = {barrier}
            ends -= earlier
        ends.add(i)
        result.append(sorted(earlier))
    return result


def _read(memory: IntervalMap[_Piece], access: Access, reader: int, earlier: set[int]) -> None:
    pieces = memory.values
    for at in range(*memory.cut(access.low, access.high)):
        writer, readers = pieces[at]
        earlier.add(writer)
        pieces[at] = _Piece(writer, _Readers(reader, readers))


def _write(memory: IntervalMap[_Piece], access: Access, writer: int, earlier: set[int]) -> None:
    seen: set[int] = set()
    for previous, readers in memory.within(access.low, access.high):
        if readers is None:
            earlier.add(previous)  # otherwise its readers wait for it
        while readers is not None and id(readers) not in seen:
            seen.add(id(readers))
            earlier.add(readers.last)
            readers = readers.before
    memory.assign(access.low, access.high, _Piece(writer, None))


def indirect(edges: Sequence[Sequence[int]], asked: Sequence[Sequence[int]]) -> list[set[int]]:
    """For each command those of ``asked`` to which two or more ``edges`` in a row lead back.

    ``edges`` and ``asked`` hold numbers of earlier commands. Ancestors are bit sets of a block of commands at a time,
    and a block is followed up to the last command that asks for one of it.
    """
    until = {j // _BLOCK: i for i, some in enumerate(asked) for j in some}
    found: list[set[int]] = [set() for _ in edges]
    for block, last in until.items():
        start, stop = block * _BLOCK, (block + 1) * _BLOCK
        ancestors: list[int] = []
        for i in range(start, last + 1):
            near = far = 0
            for j in edges[i]:
                if j >= start:
                    far |= ancestors[j - start]
                    if j < stop:
                        near |= 1 << j - start
            found[i].update(j for j in asked[i] if start <= j < stop and far >> j - start & 1)
            ancestors.append(near | far)
    return found


def dependencies(commands: Sequence[Command], tensors: Sequence[Tensor]) -> list[tuple[int, ...]]:
    """For each command those that it has to wait for: the transitive reduction of ``conflicts``."""
    earlier = conflicts(commands, [accesses(command, tensors) for command in commands])
    implied = indirect(earlier, [found[:-1] for found in earlier])
    return [tuple(j for j in found if j not in through) for found, through in zip(earlier, implied, strict=True)]
