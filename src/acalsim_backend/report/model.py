"""The report of one run: a row per Command, totals, and the three forms in which people read it.

``to_dict`` is JSON, schema 2 (``docs/report.schema.json``); ``table`` is text; ``trace`` opens in Perfetto. All cycles
are accelerator cycles. Values that a machine cannot know are None (null), never NaN.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from acalsim_backend import files
from acalsim_backend.device.limits import roofline, row_hit_rate, utilization
from acalsim_backend.errors import InputError

if TYPE_CHECKING:
    from acalsim_backend._engine import Completion
    from acalsim_backend.hardware import HardwareConfig
    from acalsim_backend.program.commands import Command
    from acalsim_backend.program.program import Program
    from acalsim_backend.run.result import RunResult
    from acalsim_backend.run.timeline import CommandTiming, UnitUses

SCHEMA = 2
_PACKAGES = ("acalsim_backend", "torch", "numpy", "unicorn", "ziglang")


@dataclass(frozen=True)
class Cycles:
    """Accelerator cycles from the first command to the last; None on a machine without timing."""

    total: int | None
    cpu: int | None
    accelerator_busy: int | None


@dataclass(frozen=True)
class Outputs:
    """How the outputs compare with PyTorch's; None where nobody compared or the difference is not a number.

    ``tolerance`` says how near counts as close, for every dtype that may differ.
    """

    max_abs_error: float | None = None
    allclose: bool | None = None
    tolerance: str | None = None


@dataclass(frozen=True)
class OpRow:
    """One Command.

    ``fused`` lists the types of the IR operations that it covers. ``bytes_read`` and ``bytes_written`` are what the
    accelerator moved from and to DRAM; on other processors, the distinct bytes of the operands. ``utilization`` is
    multiply-adds over what the arrays could have done in the row's span. ``roofline`` says how near the row came to
    which bound (see ``device/limits.py``), ``device`` is the engine's own record. All three are None off the
    accelerator.
    """

    name: str
    type: str
    placement: str
    fused: tuple[str, ...]
    module: str
    source: str
    start_cycle: int | None
    end_cycle: int | None
    flops: int
    bytes_read: int
    bytes_written: int
    utilization: float | None
    instructions: int | None = None
    roofline: Mapping[str, Any] | None = None
    device: Completion | None = None

    @property
    def cycles(self) -> int | None:
        """Length of the span; rows of the accelerator overlap, so that spans may add up to more than the total."""
        if self.start_cycle is None or self.end_cycle is None:
            return None
        return self.end_cycle - self.start_cycle

    @property
    def row_hit_rate(self) -> float | None:
        """Share of the DRAM bursts that found their row open; None where there are no rows."""
        return row_hit_rate(self.device.row_hits, self.device.bursts) if self.device is not None else None

    def shifted(self, cycles: int) -> OpRow:
        """The same row ``cycles`` later."""
        if self.start_cycle is None or self.end_cycle is None:
            return self
        return dataclasses.replace(self, start_cycle=self.start_cycle + cycles, end_cycle=self.end_cycle + cycles)


@dataclass(frozen=True)
class RunReport:
    """What happened in one run of a model; see the module's docstring."""

    model: str
    hardware: str
    machine: str
    clock_mhz: Mapping[str, int]
    versions: Mapping[str, str]
    outputs: Outputs
    cycles: Cycles
    instructions_retired: int | None
    ops: tuple[OpRow, ...]
    fallbacks: tuple[Mapping[str, Any], ...] = ()
    drawn: tuple[Mapping[str, Any], ...] = ()
    """Random tensors that PyTorch's generator drew for the run."""
    wall_s: Mapping[str, float | None] = field(default_factory=dict)
    memoised: bool = False
    channels: tuple[Mapping[str, Any], ...] = ()
    units: tuple[UnitUses, ...] = field(default=(), repr=False, compare=False)
    """What the units did, for the trace; not part of the JSON."""

    @classmethod
    def build(
        cls,
        program: Program,
        result: RunResult,
        hardware: HardwareConfig,
        *,
        model: str,
        machine: str,
        wall_s: Mapping[str, float | None] | None = None,
        fallbacks: Iterable[Mapping[str, Any]] = (),
        drawn: Iterable[Mapping[str, Any]] = (),
        rows: tuple[OpRow, ...] | None = None,
    ) -> Self:
        """The report of ``result``, which came from running ``program`` on ``hardware``.

        ``rows`` are those of a report of the same ``result.timings``.
        """
        timed = result.instructions_retired is not None
        if rows is None:
            rows = tuple(
                _row(program, command, timing, hardware, timed)
                for command, timing in zip(program.commands, result.timings, strict=True)
            )
        cycles = Cycles(result.cycles_total, result.cycles_cpu, result.cycles_accelerator_busy)
        return cls(
            model=model,
            hardware=hardware.name,
            machine=machine,
            clock_mhz={"cpu": hardware.cpu.frequency_mhz, "accelerator": hardware.accelerator.frequency_mhz},
            versions=_versions(),
            outputs=Outputs(),
            cycles=cycles if timed else Cycles(None, None, None),
            instructions_retired=result.instructions_retired,
            ops=rows,
            fallbacks=tuple(fallbacks),
            drawn=tuple(drawn),
            wall_s=dict.fromkeys(("eager", "compile", "build", "simulate")) | dict(wall_s or {}),
            memoised=result.memoised,
            channels=tuple(c.to_dict(result.cycles_accelerator_busy or 0, hardware) for c in result.channels),
            units=result.units,
        )

    @classmethod
    def of_nothing(cls, hardware: HardwareConfig, machine: str, fallbacks: Iterable[Mapping[str, Any]]) -> Self:
        """The report of a call in which nothing reached the machine: ``fallbacks`` say what ran instead."""
        clocks = {"cpu": hardware.cpu.frequency_mhz, "accelerator": hardware.accelerator.frequency_mhz}
        return cls(
            model="nothing captured",
            hardware=hardware.name,
            machine=machine,
            clock_mhz=clocks,
            versions=_versions(),
            outputs=Outputs(),
            cycles=Cycles(None, None, None),
            instructions_retired=None,
            ops=(),
            fallbacks=tuple(fallbacks),
            wall_s=dict.fromkeys(("eager", "compile", "build", "simulate")),
        )

    def with_fallbacks(self, more: Iterable[Mapping[str, Any]]) -> Self:
        """The report with further code that ran outside the machine."""
        return dataclasses.replace(self, fallbacks=(*self.fallbacks, *more))

    @classmethod
    def concatenate(cls, reports: Sequence[RunReport]) -> RunReport:
        """One report of runs that followed each other on one machine, as those of a model cut into several graphs.

        Rows keep their order and start where the run before them ended; a value that one of them lacks is None.
        """
        first, *others = reports
        if not others:
            return first
        ops: list[OpRow] = []
        units: list[UnitUses] = []
        start = 0
        for report in reports:
            units += (
                dataclasses.replace(u, start_cycle=u.start_cycle + start, first_row=u.first_row + len(ops))
                for u in report.units
            )
            ops += (row.shifted(start) for row in report.ops)
            start += report.cycles.total or 0
        return dataclasses.replace(
            first,
            model="+".join(dict.fromkeys(report.model for report in reports)),
            cycles=Cycles(*(_sum(getattr(r.cycles, f.name) for r in reports) for f in dataclasses.fields(Cycles))),
            instructions_retired=_sum(report.instructions_retired for report in reports),
            ops=tuple(ops),
            units=tuple(units),
            fallbacks=tuple(fallback for report in reports for fallback in report.fallbacks),
            drawn=tuple(draw for report in reports for draw in report.drawn),
            wall_s={name: _sum(report.wall_s.get(name) for report in reports) for name in first.wall_s},
            memoised=any(report.memoised for report in reports),
            channels=(),  # mean bandwidths of runs of different length
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values; every number is finite."""
        kept = (f.name for f in dataclasses.fields(self) if f.name != "units")
        values = _jsonable({"schema": SCHEMA} | {name: getattr(self, name) for name in kept})
        assert isinstance(values, dict)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`; unknown keys are ignored.

        Raises:
            InputError: another schema, or a key that is missing.
        """
        if not isinstance(values, Mapping) or values.get("schema") != SCHEMA:
            if not isinstance(values, Mapping):
                got = f"it is a {type(values).__name__}"
            else:
                got = f"schema is {values['schema']!r}" if "schema" in values else "schema is missing"
            raise InputError(f"not a report of schema {SCHEMA}: {got}")
        try:
            known = _known(cls, values)
            known["outputs"] = Outputs(**_known(Outputs, values["outputs"]))
            known["cycles"] = Cycles(**_known(Cycles, values["cycles"]))
            known["ops"] = tuple(map(_read_row, values["ops"]))
            known["fallbacks"] = tuple(values.get("fallbacks", ()))
            known["drawn"] = tuple(values.get("drawn", ()))
            known["channels"] = tuple(values.get("channels", ()))
            return cls(**known)
        except (KeyError, TypeError) as error:
            raise InputError(f"not a report of schema {SCHEMA}: {error}") from None

    def to_json(self) -> str:
        """The report as indented JSON text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"

    def save(self, path: str | Path) -> None:
        """Write the JSON file.

        Raises:
            InputError: the file cannot be written.
        """
        files.write(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a JSON file back.

        Raises:
            InputError: the file cannot be read or is no report.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read as a report: {error}") from None
        try:
            return cls.from_dict(values)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    def table(self, width: int = 120) -> str:
        """Rows and totals as plain text of ``width`` columns, or as many as the numbers need."""
        from acalsim_backend.report.table import plain

        return plain(self, width)

    def summary(self) -> str:
        """Totals and verdict in a few lines."""
        from acalsim_backend.report.table import summary

        return summary(self)

    def trace(self, path: str | Path) -> None:
        """Write a Chrome trace (JSON), which opens in Perfetto.

        Raises:
            InputError: the machine has no timing, or the file cannot be written.
        """
        from acalsim_backend.report.trace import events

        if self.cycles.total is None:
            raise InputError(f"no trace: machine {self.machine} has no timing; run on unicorn")
        document = {"displayTimeUnit": "ns", "traceEvents": list(events(self))}
        files.write(path, json.dumps(document, allow_nan=False))


def _row(program: Program, command: Command, timing: CommandTiming, hardware: HardwareConfig, timed: bool) -> OpRow:
    first, count = command.origin
    covered = program.origins[first : first + count]
    start, end = (timing.start_cycle, timing.end_cycle) if timed else (None, None)
    done = timing.completion
    place = None if done is None else roofline(done, hardware)
    return OpRow(
        name=covered[-1].text.partition(" = ")[0] if covered else f"command_{command.id}",
        type=command.opcode.name,
        placement=command.placement.name.lower(),
        fused=tuple(origin.type for origin in covered),
        module=next((o.module for o in covered if o.module), ""),
        source=next((o.source for o in covered if o.source), ""),
        start_cycle=start,
        end_cycle=end,
        flops=sum(o.flops for o in covered),
        bytes_read=done.bytes_read if done else sum(v.nbytes for v in command.reads()),
        bytes_written=done.bytes_written if done else sum(v.nbytes for v in command.writes()),
        utilization=utilization(done, hardware) if done else None,
        instructions=timing.cpu_instructions if timed and done is None else None,
        roofline=dict(vars(place)) if place else None,
        device=done,
    )


def _read_row(values: Mapping[str, Any]) -> OpRow:
    device = values.get("device")
    if device is not None:
        from acalsim_backend._engine import Completion

        device = Completion(**device)
    return OpRow(**_known(OpRow, values) | {"fused": tuple(values["fused"]), "device": device})


def _sum(values: Iterable[Any]) -> Any:
    """The sum, or None if one value is unknown."""
    known = list(values)
    return None if None in known else sum(known)


@functools.cache  # reading the metadata of installed packages takes milliseconds
def _versions() -> Mapping[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _known(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    names = {f.name for f in dataclasses.fields(cls)}
    return {name: value for name, value in values.items() if name in names}


def _jsonable(value: Any) -> Any:
    """Dataclasses, mappings and what has a ``to_dict`` as dicts, sequences as lists, NaN and infinities as None."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
