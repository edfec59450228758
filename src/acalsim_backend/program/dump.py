"""A Program as text, for people: tensors, then commands with operands, attributes and dependencies."""

from __future__ import annotations

from collections.abc import Iterator

from acalsim_backend.program.commands import Command, Vector, VectorInstruction
from acalsim_backend.program.program import Program
from acalsim_backend.program.view import View, contiguous_strides


def dump(program: Program) -> str:
    """The whole Program; its prepare Program follows, indented alike."""
    lines = list(_lines(program))
    if program.prepare is not None:
        lines += ["", *_lines(program.prepare.program)]
    return "\n".join(lines)


def _lines(program: Program) -> Iterator[str]:
    yield f"program {program.name}: {len(program.commands)} commands, arena {program.arena_size} bytes"
    for t in program.tensors:
        shape = "x".join(map(str, t.shape)) or "scalar"
        place = f" at {t.offset:#x}" if t.kind.value == "arena" else ""
        yield f"  %{t.id} {t.name}: {shape} {t.dtype.name.lower()} {t.kind.value}{place}"
    for command in program.commands:
        deps = f" after {', '.join(map(str, command.deps))}" if command.deps else ""
        yield f"{command.id}: {command.opcode.name} on {command.placement.name.lower()}{deps}"
        yield f"    # {program.describe(command)}"
        yield from (f"    {line}" for line in _details(command))
    names = [f"%{t}" for t in program.outputs]
    yield f"outputs {', '.join(names)}"


def _details(command: Command) -> Iterator[str]:
    for name, role, _, view in command.operands():
        yield f"{role.value} {name} = {_view(view)}"
    if isinstance(command, Vector):
        yield from (f"{i}: {_instruction(c)}" for i, c in enumerate(command.instructions))
        return
    values = [f"{name} = {getattr(value, 'name', value)}" for name, value in command.attributes()]
    if values:
        yield ", ".join(values)


def _view(view: View) -> str:
    text = f"%{view.tensor}[{', '.join(map(str, view.dims))}] {view.dtype.name.lower()}"
    if view.strides != contiguous_strides(view.dims):
        text += f" strides {list(view.strides)}"
    return text + (f" + {view.offset}" if view.offset else "")


def _instruction(code: VectorInstruction) -> str:
    name = f"{code.op.name.lower()}.{code.dtype.name.lower()}"
    return f"{name} dst={code.dst} a={code.a} b={code.b} c={code.c}" + (f" imm={code.imm:#x}" if code.imm else "")
