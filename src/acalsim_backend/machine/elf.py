"""What a machine needs of the firmware's ELF: segments, symbols, and the C line of an address."""

from __future__ import annotations

import bisect
import functools
import itertools
import os
import struct
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from acalsim_backend.errors import MissingToolError

FIRMWARE = Path(__file__).parent.parent / "firmware" / "acal_rv64gc.elf"

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_PT_LOAD, _PF_W, _SHT_SYMTAB, _STT_FUNC = 1, 2, 2, 2


@dataclass(frozen=True)
class Segment:
    """A part of the image: ``data`` goes to ``address``, the rest of ``size`` bytes is zero."""

    address: int
    size: int
    data: bytes
    writable: bool


@dataclass(frozen=True)
class Location:
    """Where in the C sources an address is."""

    function: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.function} ({self.file}:{self.line})" if self.file else self.function


class Elf:
    """A little-endian ELF64 file.

    Raises:
        MissingToolError: there is no such file: the firmware has not been built.
    """

    def __init__(self, path: Path = FIRMWARE) -> None:
        try:
            self._data = path.read_bytes()
        except FileNotFoundError:
            raise MissingToolError(f"{path}: the firmware is not built; run `make setup`") from None
        self.path = path
        fields = _HEADER.unpack_from(self._data)
        if fields[0][:6] != b"\x7fELF\x02\x01":
            raise MissingToolError(f"{path}: not a little-endian ELF64 file; build the firmware anew with `make setup`")
        self.entry: int = fields[4]
        program_headers, self._section_headers = fields[5], fields[6]
        stride, count, self._section_stride, self._section_count = fields[9:13]
        self.segments = [self._segment(program_headers + i * stride) for i in range(count)]
        self.segments = [s for s in self.segments if s.size]
        self.symbols: dict[str, int] = {}
        self._functions: list[tuple[int, int, str]] = []
        self._read_symbols()

    def locate(self, address: int) -> Location | None:
        """Function, file and line of a code address; None if it is in no function."""
        for start, size, name in self._functions:
            if start <= address < start + size:
                return Location(name, *self._line(address))
        return None

    def _segment(self, at: int) -> Segment:
        kind, flags, offset, _, address, file_size, size, _ = _PROGRAM_HEADER.unpack_from(self._data, at)
        if kind != _PT_LOAD:
            return Segment(0, 0, b"", False)
        return Segment(address, size, self._data[offset : offset + file_size], bool(flags & _PF_W))

    def _read_symbols(self) -> None:
        sections = [
            _SECTION_HEADER.unpack_from(self._data, self._section_headers + i * self._section_stride)
            for i in range(self._section_count)
        ]
        for _, kind, _, _, offset, size, link, *_ in sections:
            if kind != _SHT_SYMTAB:
                continue
            names = sections[link][4]
            for name_at, info, _, _, value, length in _SYMBOL.iter_unpack(self._data[offset : offset + size]):
                start = names + name_at
                name = self._data[start : self._data.index(b"\0", start)].decode()
                self.symbols[name] = value
                if info & 15 == _STT_FUNC:
                    self._functions.append((value, length, name))

    def _line(self, address: int) -> tuple[str, int]:
        i = bisect.bisect(self._rows, address, key=lambda row: row[0]) - 1
        if i >= 0:
            _, end, file, line = self._rows[i]
            if address < end:
                return file, line
        return "", 0

    @functools.cached_property
    def _rows(self) -> list[tuple[int, int, str, int]]:
        """Rows (begin, end, file, line) of .debug_line by address, which only errors need."""
        from elftools.elf.elffile import ELFFile

        rows: list[tuple[int, int, str, int]] = []
        with self.path.open("rb") as stream:
            elf = ELFFile(stream)
            if not elf.has_dwarf_info():
                return []
            dwarf = elf.get_dwarf_info()
            for unit in dwarf.iter_CUs():
                program = dwarf.line_program_for_CU(unit)
                if program is None:
                    continue
                files = [PurePosixPath(os.fsdecode(entry.name)).name for entry in program.header.file_entry]
                first_file = 0 if program.header.version >= 5 else 1
                states = [entry.state for entry in program.get_entries() if entry.state is not None]
                line = 0
                for state, after in itertools.pairwise(states):
                    line = state.line or line  # 0: code that belongs to no line of its own
                    if state.address < after.address and not state.end_sequence:
                        rows.append((state.address, after.address, files[state.file - first_file], line))
        return sorted(rows)
