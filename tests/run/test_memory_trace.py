"""Does the trace of memory name the bytes that the operations move, when they move, where they lie?"""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from acalsim_backend import ACALSimBackend, simulate
from acalsim_backend.errors import AcalsimError, UsageError
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.report.model import RunReport
from acalsim_backend.run.memory_trace import COLUMNS


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


class Net(nn.Module):
    """Layers of equal shape, whose segments are timed once, and a view that makes short pieces."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.softmax(self.first(x), -1)
        z: torch.Tensor = self.second(y)
        return z[:, ::2].contiguous()


class Pair(nn.Module):
    """Two products that do not depend on each other."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.first(x), self.second(x)


def traced(tmp_path: Path, **options: Any) -> tuple[list[dict[str, str]], RunReport]:
    with torch.no_grad():
        _, report = simulate(Net().eval(), torch.randn(48, 64), trace_memory=tmp_path / "m.tsv", **options)
    return rows(tmp_path / "m.tsv"), report


@pytest.mark.parametrize("machine", ["unicorn", "qemu"])
@pytest.mark.parametrize("hardware", ["edge", "cloud4", "gemmini"])
def test_are_the_bytes_of_each_operation_those_of_the_report(tmp_path: Path, hardware: str, machine: str) -> None:
    if machine == "qemu":
        from qemu_support import require_qemu

        require_qemu()
    found, report = traced(tmp_path, hardware=hardware, machine=machine)
    assert tuple(found[0]) == COLUMNS
    assert report.ops
    for number, row in enumerate(report.ops):
        if row.device is None or row.start_cycle is None or row.end_cycle is None:
            continue
        own = [r for r in found if int(r["command"]) == number]
        for access, moved in (("R", row.device.bytes_read), ("W", row.device.bytes_written)):
            assert sum(int(r["bytes"]) for r in own if r["access"] == access) == moved
        assert len({r["operation"] for r in own}) == 1
        assert all(row.start_cycle <= int(r["begin"]) < int(r["end"]) <= row.end_cycle for r in own)


def test_do_addresses_follow_from_where_tensors_lie(tmp_path: Path) -> None:
    """What one operation writes, and only that, the next one reads; pieces lie in RAM and no store overlaps another."""
    found, _ = traced(tmp_path)
    written: dict[str, set[int]] = {}
    for r in found:
        if r["access"] == "W":
            span = set(range(int(r["address"], 16), int(r["address"], 16) + int(r["bytes"])))
            assert not written.setdefault(r["command"], set()) & span
            written[r["command"]] |= span
            assert min(span) >= 0x8000_0000
    for before, after in (("0", "1"), ("1", "2")):
        read = {int(r["address"], 16) for r in found if r["command"] == after and r["access"] == "R"}
        assert written[before] & read


def test_have_equal_segments_addresses_of_their_own(tmp_path: Path) -> None:
    """The second call's segment is known, and its input lies elsewhere."""
    linear = nn.Linear(32, 32).eval()
    backend = ACALSimBackend(mode="simulate", trace_memory=tmp_path / "m.tsv")
    with torch.no_grad():
        torch.compile(linear, backend=backend)(torch.randn(32, 32))
        other = nn.Linear(32, 32).eval()
        torch.compile(other, backend=backend)(torch.randn(32, 32))
    backend.close()
    first, second = ([r for r in rows(tmp_path / "m.tsv") if r["run"] == run] for run in ("0", "1"))
    plain = [[(r["begin"], r["end"], r["bytes"], r["access"]) for r in run] for run in (first, second)]
    assert plain[0] == plain[1]
    assert {r["address"] for r in first} != {r["address"] for r in second}


def test_does_tracing_change_no_cycle(tmp_path: Path) -> None:
    _, report = traced(tmp_path)
    torch.manual_seed(0)
    torch._dynamo.reset()
    with torch.no_grad():
        _, plain = simulate(Net().eval(), torch.randn(48, 64))
    assert report.cycles == plain.cycles
    assert [r.end_cycle for r in report.ops] == [r.end_cycle for r in plain.ops]
    assert all(not unit.accesses for unit in report.units)  # a report that is kept does not hold them


@pytest.mark.parametrize(
    "options", [{"mode": "compile"}, {"mode": "simulate", "build": "c"}, {"mode": "simulate", "machine": "native"}]
)
def test_is_a_trace_refused_where_there_is_none(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="trace"):
        ACALSimBackend(trace_memory=tmp_path / "m.tsv", **options)


def test_is_a_place_that_cannot_be_written_named(tmp_path: Path) -> None:
    with pytest.raises(AcalsimError, match=r"m.tsv: cannot write there: .*; choose another file"):
        ACALSimBackend(mode="simulate", trace_memory=tmp_path / "missing" / "m.tsv")


def test_is_the_trace_of_several_accelerators_told_apart(tmp_path: Path) -> None:
    hardware = dataclasses.replace(HardwareConfig.load("edge"), devices=2)
    with torch.no_grad():
        simulate(Pair().eval(), torch.randn(64, 64), hardware=hardware, trace_memory=tmp_path / "m.tsv")
    assert {r["device"] for r in rows(tmp_path / "m.tsv")} == {"0", "1"}
