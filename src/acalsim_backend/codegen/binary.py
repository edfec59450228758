"""``python -m acalsim_backend.codegen.binary bin|dump ELF OUT``: what objcopy and objdump do, for builds with zig."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from acalsim_backend import files
from acalsim_backend.errors import AcalsimError, MissingToolError, UsageError

_EXECUTABLE, _OCCUPIES = 4, 2  # SHF_EXECINSTR, SHF_ALLOC


def to_bin(elf_path: Path) -> bytes:
    """Everything that is loaded, from the first byte of RAM that is used to the last that has a value."""
    from elftools.elf.elffile import ELFFile

    image = bytearray()
    with elf_path.open("rb") as file:
        sections = [
            (s["sh_addr"], s.data())
            for s in ELFFile(file).iter_sections()
            if s["sh_flags"] & _OCCUPIES and s["sh_type"] != "SHT_NOBITS" and s["sh_size"]
        ]
    base = min(address for address, _ in sections)
    for address, data in sorted(sections):
        image += bytes(address - base - len(image)) + data
    return bytes(image)


def to_dump(elf_path: Path) -> Iterator[str]:
    """Disassembly, function by function.

    Raises:
        MissingToolError: capstone is not installed.
    """
    try:
        import capstone
    except ImportError:
        raise MissingToolError("a disassembly needs capstone: pip install capstone") from None
    from elftools.elf.elffile import ELFFile

    decoder = capstone.Cs(capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV64 | capstone.CS_MODE_RISCVC)
    decoder.skipdata = True
    yield f"\n{elf_path.name}:     file format elf64-littleriscv\n"
    with elf_path.open("rb") as file:
        elf = ELFFile(file)
        names: dict[int, str] = {}
        table: Any = elf.get_section_by_name(".symtab")
        for symbol in table.iter_symbols() if table is not None else ():
            if symbol["st_info"]["type"] == "STT_FUNC":
                names[symbol["st_value"]] = symbol.name
        for section in elf.iter_sections():
            if not section["sh_flags"] & _EXECUTABLE or section["sh_type"] == "SHT_NOBITS":
                continue
            data = section.data()
            yield f"\nDisassembly of section {section.name}:"
            for address, size, mnemonic, operands in decoder.disasm_lite(data, section["sh_addr"]):
                if address in names:
                    yield f"\n{address:016x} <{names[address]}>:"
                at = address - section["sh_addr"]
                word = int.from_bytes(data[at : at + size], "little") if size in (2, 4) else 0
                yield f"    {address:8x}:\t{word:0{2 * size}x}\t{mnemonic}\t{operands}".rstrip()


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    try:
        match arguments:
            case ["bin", elf, out]:
                files.write(out, to_bin(Path(elf)))
            case ["dump", elf, out]:
                files.write(out, "\n".join(to_dump(Path(elf))) + "\n")
            case _:
                raise UsageError("expected: bin ELF OUT or dump ELF OUT")
    except AcalsimError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
