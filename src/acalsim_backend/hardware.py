"""The hardware file: what the machine is, in frozen dataclasses read from TOML.

A file states ``schema = 1``, a ``name`` and only what differs from its ``base`` (a preset or a path relative to it).
Every field carries its unit and meaning, which ``acalsim hw show`` prints as comments.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from acalsim_backend.errors import HardwareError, UnknownNameError, UsageError
from acalsim_backend.files import check_schema, read_text, read_toml
from acalsim_backend.program.enums import ACTIVATIONS, COMMAND_KINDS

SCHEMA = 1
PRESET_FOLDER = Path(__file__).parent / "hardware"
_HOROWITZ = "Horowitz, ISSCC 2014"


def _f(
    default: Any, unit: str, doc: str, low: float | None = None, high: float | None = None, source: str = "assumed"
) -> Any:
    """A field with its unit, meaning and inclusive bounds, and what its default rests on; of a tuple all its names."""
    metadata = {"unit": unit, "doc": doc, "low": low, "high": high, "source": source, "known": default}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class CpuConfig:
    """The RISC-V host core."""

    frequency_mhz: int = _f(1000, "MHz", "clock of the RISC-V core", 1, 100_000)
    cycles_per_instruction: float = _f(1.0, "cycles", "average per retired instruction", 0.01, 1000)
    isa: Literal["rv64gc", "rv64gcv"] = _f("rv64gc", "name", "instruction set; rv64gcv has vectors, on machine qemu")


@dataclass(frozen=True)
class AcceleratorConfig:
    """Command processor and what the accelerator can execute."""

    frequency_mhz: int = _f(1000, "MHz", "clock of the device; every reported cycle is one of these", 1, 100_000)
    ops: tuple[str, ...] = _f(COMMAND_KINDS, "names", "commands the accelerator executes; the rest runs on the CPU")
    activations: tuple[str, ...] = _f(ACTIVATIONS, "names", "activations fused into gemm and conv2d")
    cores: int = _f(1, "count", "cores, each with its arrays, vector unit and scratchpad", 1, 64)
    launch_cycles: int = _f(100, "cycles", "fetch and decode of one command", 0, 1_000_000)
    echo_cycles: int = _f(10, "cycles", "from a word in DATA_IN to the same word in DATA_OUT", 0, 1_000_000)
    mmio_latency_cycles: int = _f(20, "cycles", "device time of one register access without CPU_TIME", 0, 1_000_000)


@dataclass(frozen=True)
class ArrayConfig:
    """Systolic arrays of one core."""

    count: int = _f(1, "count", "arrays per core", 1, 64)
    rows: int = _f(16, "PEs", "rows of one array", 1, 4096)
    cols: int = _f(16, "PEs", "columns of one array", 1, 4096)
    dataflow: Literal["ws", "os", "is", "any"] = _f(
        "ws", "name", "weight-, output- or input-stationary, or any: the mapper chooses for each command"
    )
    overlap: Literal["none", "double_buffered"] = _f(
        "double_buffered", "name", "whether the next tile's operands are loaded behind compute"
    )


@dataclass(frozen=True)
class VectorConfig:
    """Vector unit of one core."""

    lanes: int = _f(16, "lanes", "elements that start per cycle", 1, 65536)
    arithmetic_cycles: int = _f(
        1, "cycles", "between groups of lanes: add, multiply, compare, select, convert", 1, 1000
    )
    arithmetic_latency_cycles: int = _f(4, "cycles", "from the operands of such an operation to its result", 1, 10_000)
    divide_cycles: int = _f(4, "cycles", "between groups of lanes: divide, reciprocal", 1, 1000)
    divide_latency_cycles: int = _f(16, "cycles", "from the operands of such an operation to its result", 1, 10_000)
    root_cycles: int = _f(4, "cycles", "between groups of lanes: sqrt, rsqrt", 1, 1000)
    root_latency_cycles: int = _f(16, "cycles", "from the operands of such an operation to its result", 1, 10_000)
    exponential_cycles: int = _f(4, "cycles", "between groups of lanes: exp, log", 1, 1000)
    exponential_latency_cycles: int = _f(
        12, "cycles", "from the operands of such an operation to its result", 1, 10_000
    )
    transcendental_cycles: int = _f(
        4, "cycles", "between groups of lanes: tanh, sigmoid, erf, gelu, pow, sin, cos", 1, 1000
    )
    transcendental_latency_cycles: int = _f(
        16, "cycles", "from the operands of such an operation to its result", 1, 10_000
    )
    fused_rows: bool = _f(True, "true or false", "softmax and norm keep rows on chip instead of one DRAM pass a step")


@dataclass(frozen=True)
class ScratchpadConfig:
    """On-chip memory of one core."""

    size_kib: int = _f(256, "KiB", "operand tiles", 1, 1 << 20)
    accumulator_kib: int = _f(64, "KiB", "partial sums", 1, 1 << 20)
    banks: int = _f(4, "count", "banks, each written by the DMA or read by a unit, not both at once", 1, 1024)
    bank_bytes: int = _f(64, "bytes", "what a bank gives or takes in a cycle", 1, 65536)


@dataclass(frozen=True)
class DmaConfig:
    """DMA engines of one core."""

    channels: int = _f(2, "count", "transfers that run at the same time", 1, 64)
    outstanding: int = _f(16, "bursts", "bursts in flight per core and memory channel", 1, 4096)
    burst_bytes: int = _f(64, "bytes", "smallest transfer", 8, 4096)


@dataclass(frozen=True)
class DramConfig:
    """Main memory, shared by the RISC-V core and the accelerator."""

    size_mib: int = _f(65536, "MiB", "guest RAM; the host's memory is taken as it is used", 65, 1 << 24)
    preset: Literal["simple", "ideal", "DDR4-2400", "LPDDR5-6400", "HBM2"] = _f(
        "simple", "name", "latency and bandwidth alone, no limits at all, or a DRAM standard simulated per burst"
    )
    channels: int = _f(1, "count", "channels of the DRAM standard (HBM2: pseudo-channels)", 1, 1024)
    interleave_bytes: int = _f(256, "bytes", "neighbouring bytes on one channel", 32, 1 << 20)
    page: Literal["open", "closed"] = _f("open", "name", "whether rows stay open after a run of accesses")
    refresh: Literal["all_bank", "per_bank", "none"] = _f("all_bank", "name", "refresh of the DRAM standard")
    latency_ns: float = _f(
        60.0, "ns", "simple: request to first data; DRAM standards: added to the DRAM's own", 0, 100_000
    )
    bandwidth_gbytes_per_s: float = _f(
        25.6, "10^9 bytes/s", "peak of all channels; a DRAM standard's clock follows from it", 0.001, 1_000_000
    )


@dataclass(frozen=True)
class InterconnectConfig:
    """Link between one core and main memory."""

    bandwidth_gbytes_per_s: float = _f(0.0, "10^9 bytes/s", "of each core's link; 0: never the limit", 0, 1_000_000)
    latency_ns: float = _f(0.0, "ns", "added to every transfer", 0, 100_000)


@dataclass(frozen=True)
class EnergyConfig:
    """Energy of one action; together with the counts of a run they give its energy.

    The defaults' main source is M. Horowitz, "Computing's energy problem", ISSCC 2014 (45 nm, 0.9 V).
    """

    mac_i8_pj: float = _f(0.3, "pJ", "multiply-accumulate of 8-bit integers", 0, 1e6, f"{_HOROWITZ}: 0.2 and 0.1")
    mac_i16_pj: float = _f(1.6, "pJ", "of 16-bit integers", 0, 1e6, "assumed: half of 32 bits")
    mac_i32_pj: float = _f(3.2, "pJ", "of 32-bit integers", 0, 1e6, f"{_HOROWITZ}: 3.1 and 0.1")
    mac_f16_pj: float = _f(2.0, "pJ", "of f16 or bf16 into f32", 0, 1e6, f"{_HOROWITZ}: 1.1 and 0.9")
    mac_f32_pj: float = _f(4.6, "pJ", "of f32", 0, 1e6, f"{_HOROWITZ}: 3.7 and 0.9")
    mac_f64_pj: float = _f(18.4, "pJ", "of f64 and 64-bit integers", 0, 1e6, "assumed: 4 times f32")
    vector_op_pj: float = _f(0.9, "pJ", "one vector operation on one element", 0, 1e6, f"{_HOROWITZ}: f32 add")
    scratchpad_byte_pj: float = _f(2.5, "pJ", "byte of the scratchpad", 0, 1e6, f"{_HOROWITZ}: 32 KiB, 20 per 64 bits")
    accumulator_byte_pj: float = _f(
        1.25, "pJ", "byte of the accumulator", 0, 1e6, f"{_HOROWITZ}: 8 KiB, 10 per 64 bits"
    )
    dram_byte_pj: float = _f(32.0, "pJ", "byte moved from or to DRAM", 0, 1e6, "assumed: 4 pJ per bit for LPDDR5")
    static_pj_per_cycle: float = _f(50.0, "pJ", "leakage and clock in one device cycle", 0, 1e9)


@dataclass(frozen=True)
class HardwareConfig:
    """A complete machine description. ``name`` and ``base`` are text; ``devices`` counts identical accelerators."""

    name: str = _f("edge", "name", "shown in reports")
    devices: int = _f(1, "count", "identical accelerators, which take turns", 1, 16)
    cpu: CpuConfig = field(default_factory=CpuConfig)
    accelerator: AcceleratorConfig = field(default_factory=AcceleratorConfig)
    array: ArrayConfig = field(default_factory=ArrayConfig)
    vector: VectorConfig = field(default_factory=VectorConfig)
    scratchpad: ScratchpadConfig = field(default_factory=ScratchpadConfig)
    dma: DmaConfig = field(default_factory=DmaConfig)
    dram: DramConfig = field(default_factory=DramConfig)
    interconnect: InterconnectConfig = field(default_factory=InterconnectConfig)
    energy: EnergyConfig = field(default_factory=EnergyConfig)

    @classmethod
    def load(cls, source: str | Path | HardwareConfig, overrides: Mapping[str, str] | None = None) -> HardwareConfig:
        """Read a preset by name or a file by path and apply ``{"array.rows": "32"}``-style overrides.

        Raises:
            UsageError: something else.
            UnknownNameError: neither a preset nor a file; the nearest presets are named.
            HardwareError: the file does not parse or a value is wrong; names file, line and key.
        """
        if not isinstance(source, HardwareConfig | str | os.PathLike):
            raise UsageError(f"hardware is {source!r}, expected the name of a preset, a file or a HardwareConfig")
        config = source if isinstance(source, HardwareConfig) else _build(_read(source, ()))
        return config.override(overrides) if overrides else config

    def override(self, overrides: Mapping[str, str]) -> HardwareConfig:
        """A copy with dotted keys replaced; values are TOML, bare words count as strings."""
        values: dict[str, dict[str, _Entry]] = {}
        for key, text in overrides.items():
            section, _, name = key.rpartition(".")
            values.setdefault(section, {})[name] = _Entry(_parse_value(text), f"--set {key}={text}")
        return _build(values, self)

    def to_toml(self, sources: Mapping[str, str] | None = None) -> str:
        """The whole description as a valid hardware file; comments give units, meanings and :func:`provenance`."""
        sources = sources or {}
        lines = [f"schema = {SCHEMA}"]
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if not dataclasses.is_dataclass(value):
                lines.append(_toml_line(f, value, sources.get(f.name)))
        for f in dataclasses.fields(self):
            section = getattr(self, f.name)
            if dataclasses.is_dataclass(section):
                lines += ["", f"[{f.name}]"]
                lines += [
                    _toml_line(g, getattr(section, g.name), sources.get(f"{f.name}.{g.name}"))
                    for g in dataclasses.fields(section)
                ]
        return "\n".join(lines) + "\n"

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-adds that all arrays of one accelerator can begin in a cycle."""
        return self.accelerator.cores * self.array.count * self.array.rows * self.array.cols

    def cpu_to_device_cycles(self, instructions: int) -> int:
        """Retired instructions as accelerator cycles: exact ratio, rounded up."""
        ratio = self._device_cycles_per_instruction
        return -(-instructions * ratio.numerator // ratio.denominator)

    @functools.cached_property
    def _device_cycles_per_instruction(self) -> Fraction:
        cycles = Fraction(str(self.cpu.cycles_per_instruction))
        return cycles * self.accelerator.frequency_mhz / self.cpu.frequency_mhz


def presets() -> dict[str, Path]:
    """Names and files of the hardware descriptions that come with the package."""
    return {path.stem: path for path in sorted(PRESET_FOLDER.glob("*.toml"))}


def provenance(source: str | Path, overrides: Iterable[str] = ()) -> dict[str, str]:
    """What every value of a hardware file rests on, by dotted key: a reference, "assumed" or "calibrated".

    It is what the comment after the value says behind the unit, in the file that states it last; for values that no
    file states, the source of the default. ``overrides`` are the keys that were changed on the command line.

    Raises:
        UnknownNameError, HardwareError: as :meth:`HardwareConfig.load`.
    """
    start = HardwareConfig()
    found: dict[str, str] = {}
    for f in dataclasses.fields(start):
        value = getattr(start, f.name)
        if dataclasses.is_dataclass(value):
            found.update({f"{f.name}.{g.name}": g.metadata["source"] for g in dataclasses.fields(value)})
        elif f.name != "name":
            found[f.name] = f.metadata["source"]
    for section, entries in _read(source, ()).items():
        for key, entry in entries.items():
            full = f"{section}.{key}" if section else key
            if full in found:
                found[full] = entry.source or f"stated in {Path(entry.place.rpartition(':')[0]).name}"
    return found | dict.fromkeys(overrides, "--set")


def header(source: str | Path) -> str:
    """The comment lines with which a hardware file begins: what it is, and its references."""
    lines = read_text(_find(source)).splitlines(keepends=True)
    return "".join(itertools.takewhile(lambda line: line.startswith("#"), lines))


@dataclass(frozen=True)
class _Entry:
    value: Any
    place: str  # "FILE:LINE" or the command-line option
    source: str = ""


def _read(source: str | Path, seen: tuple[Path, ...]) -> dict[str, dict[str, _Entry]]:
    """Sections of a file over those of its base; the top level is section ``""``."""
    path = _find(source)
    if path in seen:
        chain = " -> ".join(str(p) for p in (*seen, path))
        raise HardwareError(f"{path}: base leads back to itself ({chain}); remove one of the base lines")
    document, text = read_toml(path)
    lines, rows = _line_numbers(text), text.split("\n")

    def entry(section: str, key: str, value: Any) -> _Entry:
        line = lines.get((section, key), 1)
        return _Entry(value, f"{path}:{line}", _source(rows[line - 1]) if rows else "")

    check_schema(document, SCHEMA, entry("", "schema", None).place)
    merged: dict[str, dict[str, _Entry]] = {}
    if "base" in document:
        merged = _read_base(entry("", "base", document["base"]), (*seen, path))
    for key, value in document.items():
        if key in ("schema", "base"):
            continue
        if isinstance(value, dict):
            section = merged.setdefault(key, {})
            section.update({k: entry(key, k, v) for k, v in value.items()})
            if not value:
                section.setdefault("", entry("", key, None))
        else:
            merged.setdefault("", {})[key] = entry("", key, value)
    if seen == () and "name" not in document:
        merged.setdefault("", {})["name"] = _Entry(path.stem, str(path))
    return merged


def _read_base(entry: _Entry, seen: tuple[Path, ...]) -> dict[str, dict[str, _Entry]]:
    base = entry.value
    if not isinstance(base, str):
        raise HardwareError(f"{entry.place}: base is {base!r}, expected a preset or a path")
    try:
        return _read(base if base in presets() else seen[-1].parent / base, seen)
    except UnknownNameError:
        raise HardwareError(f"{entry.place}: base: {UnknownNameError('hardware', base, presets())}") from None


def _find(source: str | Path) -> Path:
    known = presets()
    if str(source) in known:
        return known[str(source)]
    path = Path(source)
    if os.path.lexists(path):
        return path if path.is_symlink() and not path.exists() else path.resolve()
    if path.suffix == ".toml":
        raise HardwareError(f"{path}: no such hardware file; presets are {', '.join(known)}")
    raise UnknownNameError("hardware", str(source), known)


def _line_numbers(text: str) -> dict[tuple[str, str], int]:
    """Line of every key, by section; TOML parsers do not keep it."""
    lines: dict[tuple[str, str], int] = {}
    section = ""
    for number, line in enumerate(text.split("\n"), 1):
        if header := re.match(r"\s*\[{1,2}\s*([\w.-]+)\s*\]", line):
            section = header[1]
            lines.setdefault(("", section), number)
        elif key := re.match(r"\s*([\w.-]+)\s*=", line):
            name = key[1]
            inside, _, last = name.rpartition(".")
            lines.setdefault((inside or section, last), number)
    return lines


def _source(line: str) -> str:
    """What the comment of a line "key = value  # unit: source" says behind the unit."""
    comment = re.match(r"""\s*[\w.-]+\s*=(?:[^"'#]|"[^"]*"|'[^']*')*#\s*(.*)""", line)
    return comment[1].partition(": ")[2].strip() if comment else ""


def _build(values: Mapping[str, Mapping[str, _Entry]], start: HardwareConfig | None = None) -> HardwareConfig:
    start = start or HardwareConfig()
    sections = {f.name: getattr(start, f.name) for f in dataclasses.fields(start)}
    changes: dict[str, Any] = {}
    for section, entries in values.items():
        if section == "":
            changes.update(_checked(HardwareConfig, "", entries))
            continue
        if section not in sections or not dataclasses.is_dataclass(sections[section]):
            place = next(iter(entries.values())).place
            if section in sections:
                raise HardwareError(f"{place}: {section} is a table, expected a value, as in {section} = ...")
            known = [name for name, value in sections.items() if dataclasses.is_dataclass(value)]
            raise HardwareError(f"{place}: {UnknownNameError('section', section, known)}")
        current = sections[section]
        changes[section] = dataclasses.replace(current, **_checked(type(current), section, entries))
    return dataclasses.replace(start, **changes)


def _checked(cls: type, section: str, entries: Mapping[str, _Entry]) -> dict[str, Any]:
    fields = {f.name: f for f in dataclasses.fields(cls) if "unit" in f.metadata}
    hints = _hints(cls)
    checked: dict[str, Any] = {}
    for key, entry in entries.items():
        full = f"{section}.{key}" if section else key
        if cls is HardwareConfig and dataclasses.is_dataclass(_hints(cls).get(key)):
            got = "an array of tables, [[...]]" if _is_tables(entry.value) else repr(entry.value)
            raise HardwareError(f"{entry.place}: {key} is {got}, expected a table, which begins with [{key}]")
        if key not in fields:
            known = [f"{section}.{name}" if section else name for name in fields]
            raise HardwareError(f"{entry.place}: {UnknownNameError('key', full, known)}")
        checked[key] = _check(entry, full, hints[key], fields[key].metadata)
    return checked


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _check(entry: _Entry, key: str, hint: Any, metadata: Mapping[str, Any]) -> Any:
    value, where = entry.value, f"{entry.place}: {key}"
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise HardwareError(f"{where} is {value!r}, expected one of {', '.join(get_args(hint))}")
        return value
    if get_origin(hint) is tuple:
        return _check_names(value, where, metadata["known"])
    wanted = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}[hint]
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        raise HardwareError(f"{where} is {value!r}, expected {wanted}")
    if hint is str and not value.isprintable():  # nor is what a command line has in another encoding than UTF-8
        raise HardwareError(f"{where} is {value!r}, expected printable text in UTF-8")
    low, high = metadata["low"], metadata["high"]
    if low is not None and not low <= value <= high:
        raise HardwareError(f"{where} is {value}, expected {low} to {high} {metadata['unit']}")
    return value


def _check_names(value: Any, where: str, known: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise HardwareError(f"{where} is {value!r}, expected a list of names from {', '.join(known)}")
    for name in value:
        if name not in known:
            raise HardwareError(f"{where}: {UnknownNameError('name', name, known)}")
    return tuple(value)


def _parse_value(text: str) -> Any:
    try:
        document = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return document["value"] if len(document) == 1 else text  # more than one line


def _toml_line(f: dataclasses.Field[Any], value: Any, source: str | None) -> str:
    rests_on = f" | {_escaped(source)}" if source else ""  # which may be named after a file
    return f"{f.name} = {_toml_value(value)}  # {f.metadata['unit']}: {f.metadata['doc']}{rests_on}"


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + _escaped(value.replace("\\", "\\\\").replace('"', '\\"')) + '"'
    if isinstance(value, Iterable):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    return repr(value)


def _escaped(text: str) -> str:
    """The text without the control characters that TOML admits nowhere."""
    return re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\u{ord(found[0]):04x}", text)
