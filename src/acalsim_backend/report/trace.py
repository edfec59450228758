"""A report as a Chrome trace, which opens in Perfetto.

One process for the CPU and one for each accelerator. An accelerator has a lane for each of its units, which shows what
the engine says that the unit did, lanes for its commands from start to end, and counters. The format is the Trace Event
Format of Chromium's about:tracing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acalsim_backend.report.model import OpRow, RunReport

_USE = struct.Struct("<4I4Q")  # unit, core, index, command; begin, end, busy, bytes
_CPU, _FIRST_DEVICE = 1, 2  # process ids
_COMMANDS = 0  # thread id of the first lane of commands; units have those from _UNITS on
_UNITS = 100
_BINS = 2048
"""Steps of a counter over a whole run."""


def events(report: RunReport) -> Iterator[dict[str, Any]]:
    """The trace's events; of a report that was read from a file, which has no units, those of the commands."""
    mhz = report.clock_mhz["accelerator"]
    devices = sorted({unit.device for unit in report.units} | {0})
    yield _named("process_name", _CPU, 0, f"CPU: {report.model} on {report.hardware}")
    yield _named("thread_name", _CPU, 0, "commands")
    for device in devices:
        name = "accelerator" if len(devices) == 1 else f"accelerator {device}"
        yield _named("process_name", _FIRST_DEVICE + device, 0, name)
    yield from _commands(report, mhz)
    for device in devices:
        yield from _device(report, device, mhz)


def _commands(report: RunReport, mhz: int) -> Iterator[dict[str, Any]]:
    ends: list[int] = []  # of the lanes of commands on accelerators, which overlap
    for i, row in enumerate(report.ops):
        if row.start_cycle is None or row.end_cycle is None:
            continue
        pid, tid = _CPU, 0
        if row.placement == "accelerator":
            pid = _FIRST_DEVICE
            tid = next((n for n, end in enumerate(ends) if end <= row.start_cycle), len(ends))
            if tid == len(ends):
                yield _named("thread_name", pid, _COMMANDS + tid, "commands")
                ends.append(0)
            ends[tid] = row.end_cycle
        yield _span(
            pid, _COMMANDS + tid, _title(row), row.placement, row.start_cycle, row.end_cycle, mhz, _facts(i, row)
        )


def _facts(index: int, row: OpRow) -> dict[str, Any]:
    facts: dict[str, Any] = {"row": index, "cycles": row.cycles, "flops": row.flops, "module": row.module}
    facts |= {"source": row.source, "bytes_read": row.bytes_read, "bytes_written": row.bytes_written}
    if row.device is None:
        return facts | {"instructions": row.instructions}
    return facts | {"utilization": row.utilization, "row_hit_rate": row.row_hit_rate, **row.device.to_dict()}


def _device(report: RunReport, device: int, mhz: int) -> Iterator[dict[str, Any]]:
    """Lanes and counters of one accelerator's units."""
    from acalsim_backend._engine import UNITS

    pid = _FIRST_DEVICE + device
    lanes: dict[tuple[int, int, int], int] = {}
    moved: list[tuple[int, int, int]] = []
    peak = 0.0
    flying: list[tuple[int, int]] = []
    for segment in report.units:
        if segment.device != device:
            continue
        peak = max(peak, segment.peak)
        for unit, core, index, command, begin, end, busy, nbytes in _USE.iter_unpack(segment.uses):
            begin, end = begin + segment.start_cycle, end + segment.start_cycle
            if (core, unit, index) not in lanes:
                lanes[core, unit, index] = tid = _UNITS + len(lanes)
                name = f"core {core} {UNITS[unit]}" + f" {index}" * (UNITS[unit] == "dma")
                order = {"sort_index": _UNITS + (core * 16 + unit) * 256 + index}
                yield _named("thread_name", pid, tid, name)
                yield {"ph": "M", "pid": pid, "tid": tid, "name": "thread_sort_index", "args": order}
            row = segment.first_row + command
            facts = {"row": row, "busy_cycles": busy} | ({"bytes": nbytes} if nbytes else {})
            tid = lanes[core, unit, index]
            yield _span(pid, tid, _title(report.ops[row]), UNITS[unit], begin, end, mhz, facts)
            if UNITS[unit] == "dma":
                moved.append((begin, end, nbytes))
                flying += [(begin, 1), (end, -1)]
    yield from _counter(pid, "DRAM GB/s", _bandwidth(moved, peak, mhz), mhz)
    yield from _counter(pid, "DMA transfers", _running_sum(flying), mhz)


def _bandwidth(moved: list[tuple[int, int, int]], peak: float, mhz: int) -> Iterator[tuple[int, float]]:
    """Mean 10^9 bytes/s of each of equal steps of time.

    Of a transfer is known when it began, when it was done, and its bytes. These are spread over its span as evenly as
    the DRAM can have moved them, ``peak`` bytes in a cycle for all transfers together: transfers queue for it, so that
    evenly spread ones would add up to more.
    """
    if not moved:
        return
    first, last = min(begin for begin, _, _ in moved), max(end for _, end, _ in moved)
    step = max(-(-(last - first) // _BINS), 1)
    waiting = sorted(moved, reverse=True)
    flying: list[_Flying] = []
    at = first
    while waiting or flying:
        until = at + step
        while waiting and waiting[-1][0] < until:
            flying.append(_Flying(*waiting.pop()))
        flying.sort(key=lambda transfer: transfer.end)  # who is done first was served first
        left = peak * step
        for transfer in flying:
            left -= transfer.move(at, until, left)
        yield at, (sum(transfer.moved for transfer in flying)) / step * mhz / 1000
        flying = [transfer for transfer in flying if transfer.left > 0]
        at = until
    yield at, 0.0


@dataclass
class _Flying:
    """A transfer: ``left`` of its bytes are to be moved, ``moved`` were in the latest step."""

    begin: int
    end: int
    left: float
    moved: float = 0.0

    def move(self, at: int, until: int, most: float) -> float:
        """Its share of a step, but ``most`` bytes at most."""
        share = 1.0
        if self.end > until:
            at = max(at, self.begin)
            share = (until - at) / (self.end - at)
        self.moved = min(self.left * share, most)
        # what arithmetic leaves of the last byte would take a step of its own
        self.left = 0.0 if self.left - self.moved < 1e-6 else self.left - self.moved
        return self.moved


def _running_sum(changes: list[tuple[int, int]]) -> Iterator[tuple[int, float]]:
    total = 0
    changes.sort()
    for i, (at, change) in enumerate(changes):
        total += change
        if i + 1 == len(changes) or changes[i + 1][0] != at:
            yield at, total


def _counter(pid: int, name: str, values: Iterable[tuple[int, float]], mhz: int) -> Iterator[dict[str, Any]]:
    for at, value in values:
        yield {"ph": "C", "pid": pid, "tid": 0, "name": name, "ts": at / mhz, "args": {"value": round(value, 4)}}


def _named(what: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "pid": pid, "tid": tid, "name": what, "args": {"name": name}}


def _span(
    pid: int, tid: int, name: str, category: str, begin: int, end: int, mhz: int, args: dict[str, Any]
) -> dict[str, Any]:
    times = {"ts": begin / mhz, "dur": (end - begin) / mhz}
    return {"ph": "X", "pid": pid, "tid": tid, "name": name, "cat": category, **times, "args": args}


def _title(row: OpRow) -> str:
    return "+".join(row.fused) or row.type
