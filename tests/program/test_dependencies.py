"""Do commands wait for exactly what touches the same bytes, and does finding out take linear time?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acalsim_backend.errors import ProgramError
from acalsim_backend.program import dependencies as module
from acalsim_backend.program.commands import Barrier, Command, Copy, Vector
from acalsim_backend.program.dependencies import accesses, conflicts, dependencies, indirect
from acalsim_backend.program.enums import DType, Opcode
from acalsim_backend.program.intervals import IntervalMap
from acalsim_backend.program.program import Program, Tensor, TensorKind
from acalsim_backend.program.verify import verify
from acalsim_backend.program.view import View

TENSORS = (
    *(Tensor(i, f"a{i}", TensorKind.ARENA, DType.U8, (64,), offset=32 * i) for i in range(4)),
    Tensor(4, "input", TensorKind.INPUT, DType.U8, (64,)),
    Tensor(5, "output", TensorKind.OUTPUT, DType.U8, (64,)),
)


@st.composite
def windows(draw: st.DrawFn, strides: tuple[int, ...] = (1, 1, 2, -1)) -> View:
    """Some bytes of a tensor: forwards or backwards, every second one, or none."""
    size, stride = draw(st.integers(0, 16)), draw(st.sampled_from(strides))
    reach = max(size - 1, 0) * abs(stride)
    low = draw(st.integers(0, 63 - reach))
    return View(draw(st.integers(0, 5)), DType.U8, (size,), (stride,), low + (reach if stride < 0 else 0))


@st.composite
def command_lists(draw: st.DrawFn) -> list[Command]:
    """Copies, sums of several windows into several, and barriers."""
    broadcast = windows((1, 2, -1, 0))
    commands: list[Command] = []
    for i in range(draw(st.integers(1, 14))):
        kind = draw(st.sampled_from(["copy"] * 4 + ["vector", "barrier"]))
        if kind == "barrier":
            commands.append(Barrier(id=i))
        elif kind == "copy":
            commands.append(Copy(x=draw(broadcast), out=draw(windows()), id=i))
        else:
            reads, writes = draw(st.lists(broadcast, max_size=3)), draw(st.lists(windows(), min_size=1, max_size=3))
            commands.append(replace(Vector.of(reads, writes, ()), id=i))
    return commands


def touched(command: Command, role: str) -> set[tuple[str, int]]:
    """Memories and bytes between the first and the last that the operands of one role reach, one by one."""
    found = set()
    for _, own, _, view in command.operands():
        if own.value == role and view.numel:
            tensor = TENSORS[view.tensor]
            reached = [view.offset + i * view.strides[0] for i in range(view.dims[0])]
            memory = "arena" if tensor.kind is TensorKind.ARENA else tensor.name
            found |= {(memory, tensor.offset + b) for b in range(min(reached), max(reached) + 1)}
    return found


def all_conflicts(commands: Sequence[Command]) -> set[tuple[int, int]]:
    """Every pair (earlier, later) whose order matters."""
    reads, writes = ([touched(c, role) for c in commands] for role in ("in", "out"))
    return {
        (i, j)
        for j, later in enumerate(commands)
        for i, earlier in enumerate(commands[:j])
        if Opcode.BARRIER in (earlier.opcode, later.opcode)
        or writes[i] & (reads[j] | writes[j])
        or reads[i] & writes[j]
    }


def closure(pairs: Iterable[tuple[int, int]], n: int) -> set[tuple[int, int]]:
    """Pairs that a path joins."""
    before: list[set[int]] = [set() for _ in range(n)]
    for i, j in sorted(pairs, key=lambda pair: pair[1]):
        before[j] |= before[i] | {i}
    return {(i, j) for j in range(n) for i in before[j]}


def pairs_of(lists: Iterable[Iterable[int]]) -> set[tuple[int, int]]:
    return {(i, j) for j, found in enumerate(lists) for i in found}


@given(command_lists())
@settings(max_examples=200)
def test_do_dependencies_order_exactly_what_touches_the_same_bytes(commands: Sequence[Command]) -> None:
    expected, n = all_conflicts(commands), len(commands)
    direct = pairs_of(conflicts(commands, [accesses(c, TENSORS) for c in commands]))
    assert direct <= expected
    assert closure(direct, n) == closure(expected, n)
    found = pairs_of(dependencies(commands, TENSORS))
    whole = closure(expected, n)
    reduced = {(i, j) for i, j in whole if not any((i, k) in whole and (k, j) in whole for k in range(n))}
    assert found == reduced


@given(st.data(), st.integers(1, 5))
def test_does_the_size_of_a_block_of_ancestors_not_matter(data: st.DataObject, block: int) -> None:
    n = data.draw(st.integers(1, 20))
    edges = [sorted(data.draw(st.sets(st.integers(0, i - 1), max_size=3))) if i else [] for i in range(n)]
    asked = [sorted(data.draw(st.sets(st.integers(0, i - 1), max_size=4))) if i else [] for i in range(n)]
    reached = closure(pairs_of(edges), n)
    expected = [{j for j in some if any((j, k) in reached for k in edges[i])} for i, some in enumerate(asked)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        assert indirect(edges, asked) == expected


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10), st.integers(0, 3)), max_size=30))
def test_does_an_interval_map_hold_what_an_array_of_bytes_holds(writes: list[tuple[int, int, int]]) -> None:
    pieces, array = IntervalMap(-1), [-1] * 50
    for low, size, value in writes:
        pieces.assign(low, low + size, value)
        array[low : low + size] = [value] * size
        changes = [0, *(i for i in range(1, 50) if array[i] != array[i - 1]), 50]
        expected = [array[a] for a, _ in pairwise(changes)]
        assert pieces.within(0, 50) == expected, "one piece for each run of equal bytes"


@given(command_lists(), st.data())
def test_does_the_verifier_find_every_order_that_is_missing(commands: Sequence[Command], data: st.DataObject) -> None:
    deps = [set(d) for d in dependencies(commands, TENSORS)]
    dropped = {(i, j) for i, j in pairs_of(deps) if data.draw(st.booleans())}
    ordered = tuple(
        replace(c, deps=tuple(sorted(i for i in deps[j] if (i, j) not in dropped))) for j, c in enumerate(commands)
    )
    left = closure(pairs_of(c.deps for c in ordered), len(ordered))
    missing = all_conflicts(ordered) - left
    program = Program("g", TENSORS, ordered, inputs=(4,), outputs=(5,), arena_size=160)
    complaints = ""
    try:
        verify(program)
    except ProgramError as error:
        complaints = str(error)
    named = {
        (i, j)
        for j in range(len(commands))
        for i in range(j)
        if f"command {j} touches bytes of command {i} but" in complaints
    }
    assert named <= missing
    assert bool(named) == bool(missing)
