"""Writes the generated parts of the documentation anew: ``make docs``.

``abi.md`` comes from the definitions in ``acalsim_backend.program``. In the other pages and the README, a line
``<!-- $ acalsim ... -->`` or ``<!-- $ python benchmarks/... -->`` says which command printed the fenced block below it:
it is run and the block replaced.
``--check`` writes nothing and fails if a page is out of date.
"""

from __future__ import annotations

import inspect
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

from acalsim_backend.device import registers
from acalsim_backend.program import commands, enums, image, layout

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"(<!-- \$ (?P<command>acalsim|python) (?P<arguments>.+?) -->\n```\w*\n)(?P<text>.*?)(?=^```$)",
    re.DOTALL | re.MULTILINE,
)


def abi_page() -> Iterator[str]:
    """The ABI as Markdown."""
    yield "# ABI of commands, registers and memory\n"
    yield f"Version {enums.ABI_VERSION}, little-endian; from `program/` and `device/registers.py` by `make docs`.\n"
    yield "## Command header\n"
    yield (
        "32 bytes: `u16 opcode, u16 version, u32 size, u32 id, u16 placement, u16 device, u32 origin_first, "
        "u16 origin_count, u16 n_deps, u32 dep_offset, u32 reserved`. `size` is a multiple of "
        f"{enums.ALIGNMENT}. The fields of the opcode follow, then the ids of the commands it depends on.\n"
    )
    yield "## Operand\n"
    yield (
        f"{layout.OPERAND_SIZE} bytes: `u64 addr, u8 dtype, u8 rank, u16 flags, i32 zero_point, "
        f"i64 dims[{enums.MAX_RANK}], "
        f"i64 strides[{enums.MAX_RANK}]`. Strides count elements and may be negative; 0 broadcasts. An operand that is "
        "all zero is absent.\n"
    )
    yield "## Commands\n"
    for opcode, cls in commands.COMMANDS.items():
        yield from _struct(f"{opcode.name} ({opcode.value})", cls)
    yield "## Other structs\n"
    for struct in (commands.VectorInstruction, image.ImageHeader, image.Relocation, image.Record, image.QueueEntry):
        yield from _struct(f"`{struct.c_name}`", struct)
    yield "## Enumerations\n"
    enumerations = (
        enums.DType,
        enums.Placement,
        enums.Activation,
        enums.VectorOp,
        enums.ReduceOp,
        enums.ScatterOp,
        enums.ScanOp,
        enums.PoolMode,
        enums.Status,
    )
    for enumeration in enumerations:
        yield f"### {enumeration.__name__}\n\n{inspect.cleandoc(enumeration.__doc__ or '')}\n"
        yield ", ".join(f"{member.value} {member.name}" for member in enumeration) + "\n"
    yield "## Registers\n\nOffsets from a device's base.\n"
    yield "| offset | register | bits |\n|---|---|---|"
    for register in registers.Register:
        yield f"| {register.value:02X} | {register.name} | {64 if register in registers.WIDE else 32} |"
    yield "\n## Memory map\n\n| address | what |\n|---|---|"
    places = (
        (registers.POWER_OFF, "power-off"),
        (registers.UART_BASE, "UART"),
        (registers.DEVICE_BASE, "Echo device"),
        (registers.DEVICE_BASE + registers.DEVICE_STRIDE, "Compute device; more follow at the same distance"),
        (registers.RAM_BASE, f"RAM; its first {registers.RESERVED_BYTES >> 20} MiB hold the firmware and its stack"),
    )
    yield from (f"| {address:#x} | {what} |" for address, what in places)


def _struct(title: str, cls: type[layout.Struct]) -> Iterator[str]:
    yield f"### {title}\n\n{inspect.cleandoc(cls.__doc__ or '')}\n"
    yield f"{cls.sizeof()} bytes.\n\n| offset | field | type |\n|---|---|---|"
    for field in cls.layout():
        if isinstance(field.kind, layout.Scalar):
            kind = field.enum.__name__ if field.enum and issubclass(field.enum, IntEnum) else field.kind.c
        elif isinstance(field.kind, layout.Operand):
            kind = f"operand, {field.kind.role.value}{', optional' if field.kind.optional else ''}"
        else:
            kind = field.kind.c_name
        yield f"| {field.offset} | {field.name}{f'[{field.length}]' if field.length else ''} | {kind} |"
    yield ""


def refreshed(page: str) -> str:
    """``page`` with the output of its commands as they print it now."""
    return BLOCK.sub(lambda match: match[1] + _run(match["command"], match["arguments"]), page)


def _run(program: str, arguments: str) -> str:
    command = [str(Path(sys.executable).with_name(program)), *shlex.split(arguments)]
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    output = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    return "\n".join(line.rstrip() for line in output.splitlines()).strip("\n") + "\n"


def main(arguments: list[str]) -> int:
    """Write or check all pages; the README's run is only written, its last digits may differ between computers."""
    check = "--check" in arguments
    pages = {ROOT / "docs" / "abi.md": "\n".join(abi_page()) + "\n"}
    for path in sorted((ROOT / "docs").glob("*.md")) + ([] if check else [ROOT / "README.md"]):
        pages.setdefault(path, refreshed(path.read_text(encoding="utf-8")))
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        print(f"{path.relative_to(ROOT)}: {'out of date; run make docs' if check else 'written'}")
        if not check:
            path.write_text(pages[path], encoding="utf-8")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
