"""The trace's counters: do they say no more than what moved, and no faster than the DRAM can?"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acalsim_backend import HardwareConfig, simulate
from acalsim_backend.report import trace

TRANSFERS = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(1, 3000), st.integers(1, 100_000)), min_size=1, max_size=40
)


def total_bytes(samples: list[tuple[float, float]]) -> float:
    """The integral of a counter in GB/s over times in microseconds."""
    return sum(value * 1000 * (after - at) for (at, value), (after, _) in itertools.pairwise(samples))


@pytest.mark.parametrize("preset", ["edge", "tpuv3", "cloud4"])
def test_is_the_bandwidth_below_the_drams_and_its_integral_the_bytes_moved(preset: str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(333, 517), torch.nn.GELU(), torch.nn.Linear(517, 129))
    _, report = simulate(model, torch.randn(67, 333), hardware=preset)
    events = list(trace.events(report))
    samples = [(e["ts"], e["args"]["value"]) for e in events if e["ph"] == "C" and e["name"] == "DRAM GB/s"]
    assert max(value for _, value in samples) <= HardwareConfig.load(preset).dram.bandwidth_gbytes_per_s + 1e-3
    moved = sum(row.bytes_read + row.bytes_written for row in report.ops if row.placement == "accelerator")
    assert total_bytes(samples) == pytest.approx(moved, rel=1e-4)
    ends = [e["ts"] + e["dur"] for e in events if e["ph"] == "X" and e["cat"] == "dma"]
    step = samples[1][0] - samples[0][0]
    assert samples[-1][0] <= max(ends) + 2 * step  # moved when the engine says, not later


@given(TRANSFERS, st.floats(0.5, 1000))
def test_does_a_counter_keep_every_byte_whatever_the_transfers(drawn: Any, peak: float) -> None:
    moved = [(begin, begin + length, nbytes) for begin, length, nbytes in drawn]
    samples = list(trace._bandwidth(moved, peak, 1000))
    assert all(value <= peak * (1 + 1e-9) for _, value in samples)
    total = sum(nbytes for _, _, nbytes in moved)
    assert total_bytes([(at / 1000, value) for at, value in samples]) == pytest.approx(total)


@given(TRANSFERS)
def test_are_bytes_spread_evenly_where_nothing_hinders(drawn: Any) -> None:
    """Of transfers one after the other each has its own mean bandwidth in every step inside it."""
    moved, at = [], 0
    for _, length, nbytes in drawn:
        moved.append((at, at + length, nbytes))
        at += length
    samples = list(trace._bandwidth(moved, float("inf"), 1000))
    step = samples[1][0] - samples[0][0]
    for begin, end, nbytes in moved:
        inside = [value for time, value in samples if begin <= time and time + step <= end]
        assert inside == pytest.approx([nbytes / (end - begin)] * len(inside))
