"""The verifier: rules that every Program keeps, whoever made it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from acalsim_backend.errors import ProgramError
from acalsim_backend.program.dependencies import ARENA, Access, accesses, conflicts, indirect
from acalsim_backend.program.enums import MAX_RANK, Opcode
from acalsim_backend.program.intervals import IntervalMap
from acalsim_backend.program.layout import Role
from acalsim_backend.program.program import Program, Tensor, TensorKind
from acalsim_backend.program.view import View

_READ_ONLY = frozenset({TensorKind.WEIGHT, TensorKind.CONSTANT, TensorKind.PREPARED})
_MOST_DEPS = 0xFFFF  # what a command's header can count


def verify(program: Program) -> None:
    """Check tables, operands, dependencies and the memory plan.

    Raises:
        ProgramError: every broken rule, one line each, with the command and the IR operation it covers.
    """
    problems = [*_tables(program), *_operands(program)]
    if not problems:
        touched = [accesses(command, program.tensors) for command in program.commands]
        problems = [*_order(program, touched), *_clobbered(program, touched)]
    if problems:
        raise ProgramError(f"{program.name}: not a valid Program:\n" + "\n".join(f"  {p}" for p in problems))


def _tables(program: Program) -> Iterator[str]:
    for i, tensor in enumerate(program.tensors):
        if tensor.id != i:
            yield f"tensor {tensor.name} has id {tensor.id} at position {i}"
        if tensor.kind is TensorKind.ARENA and tensor.offset + tensor.nbytes > program.arena_size:
            end = tensor.offset + tensor.nbytes
            yield f"tensor {tensor.name} ends at byte {end} of an arena of {program.arena_size}"
        if tensor.kind is TensorKind.CONSTANT and (tensor.data is None or len(tensor.data) != tensor.nbytes):
            yield f"constant {tensor.name} has {len(tensor.data or b'')} bytes, expected {tensor.nbytes}"
    for kind, ids in (("input", program.inputs), ("output", program.outputs)):
        for t in ids:
            if not 0 <= t < len(program.tensors):
                yield f"{kind} {t} is not in the tensor table of {len(program.tensors)}"
    yield from _headers(program)


def _headers(program: Program) -> Iterator[str]:
    for i, command in enumerate(program.commands):
        if command.id != i:
            yield f"command {i} has id {command.id}"
        if sum(command.origin) > len(program.origins):
            yield f"command {i} covers origins {command.origin}, the table has {len(program.origins)}"
        if any(not 0 <= d < i for d in command.deps):
            yield f"command {i} depends on {command.deps}, expected ids below its own"
        if len(command.deps) > _MOST_DEPS:
            yield f"command {i} waits for {len(command.deps)} others, a command can name {_MOST_DEPS}"


def _operands(program: Program) -> Iterator[str]:
    for command in program.commands:
        lowest = 0 if command.opcode is Opcode.HOST else 1
        for name, role, _, view in command.operands():
            for problem in _operand(program.tensors, view, role, lowest):
                yield f"command {command.id} ({program.describe(command)}): {name} {problem}"


def _operand(tensors: Sequence[Tensor], view: View, role: Role, lowest: int) -> Iterator[str]:
    if not 0 <= view.tensor < len(tensors):
        yield f"refers to tensor {view.tensor} of {len(tensors)}"
        return
    tensor = tensors[view.tensor]
    if not lowest <= len(view.dims) <= MAX_RANK or len(view.strides) != len(view.dims):
        got = f"{len(view.dims)} dims and {len(view.strides)} strides"
        yield f"has {got}, expected {lowest} to {MAX_RANK}"
        return
    low, high = view.extent
    if low < 0 or high > tensor.nbytes:
        yield f"reaches bytes {low} to {high} of {tensor.name}, which has {tensor.nbytes}"
    if role is Role.OUT:
        if tensor.kind in _READ_ONLY:
            yield f"writes {tensor.name}, which is a {tensor.kind.value}"
        if 0 in view.strides and any(s == 0 and d > 1 for d, s in zip(view.dims, view.strides, strict=True)):
            yield "is written with stride 0"


def _order(program: Program, touched: Sequence[Sequence[Access]]) -> Iterator[str]:
    """Dependencies, followed transitively, must order every conflicting pair."""
    deps = [command.deps for command in program.commands]
    earlier = conflicts(program.commands, touched)
    others = [[j for j in found if j not in own] for found, own in zip(earlier, deps, strict=True)]
    for i, (asked, implied) in enumerate(zip(others, indirect(deps, others), strict=True)):
        for j in asked:
            if j not in implied:
                yield f"command {i} touches bytes of command {j} but does not depend on it"


def _clobbered(program: Program, touched: Sequence[Sequence[Access]]) -> Iterator[str]:
    """Nothing reads arena bytes that were last written for another tensor, or never."""
    owners = IntervalMap(-1)  # the tensor for which bytes were written last
    for command, own in zip(program.commands, touched, strict=True):
        for access in own:
            if access.memory != ARENA:
                continue
            if access.write:
                owners.assign(access.low, access.high, access.tensor)
                continue
            found = set(owners.within(access.low, access.high))
            what = f"command {command.id} reads {program.tensors[access.tensor].name}"
            if found == {-1}:
                yield f"{what} before anything wrote it"
            for owner in sorted(found - {-1, access.tensor}):
                yield f"{what} from arena bytes that {program.tensors[owner].name} has overwritten"
