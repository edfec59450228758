"""What holds for every command on every hardware."""

from __future__ import annotations

import math
import re
import struct
import subprocess
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from engine_support import config, layer, run
from hypothesis import given, settings
from hypothesis import strategies as st

from acalsim_backend._engine import UNITS, Engine
from acalsim_backend.layers import Layer
from acalsim_backend.program.commands import Barrier, Conv2d, Fill, Gemm, Softmax
from acalsim_backend.program.enums import DType
from acalsim_backend.program.view import View, contiguous_strides

LAYERS = st.one_of(
    st.builds(lambda m, n, k: layer("gemm", m, n, k), *[st.integers(1, 300)] * 3),
    st.builds(
        lambda c, s, k: layer("conv", 1, c, s, s, k, 3, 3, pad=1),
        st.integers(1, 40),
        st.integers(3, 40),
        st.integers(1, 40),
    ),
    st.builds(lambda r, c: layer("softmax", r, c), st.integers(1, 300), st.integers(1, 600)),
    st.builds(lambda r, c: layer("layernorm", r, c), st.integers(1, 300), st.integers(1, 600)),
    st.builds(lambda n, i: layer("elementwise", n, inputs=i), st.integers(1, 100_000), st.integers(1, 4)),
    st.builds(lambda h, s, d: layer("attention", h, s, d), st.integers(1, 4), st.integers(1, 100), st.integers(1, 64)),
)
HARDWARE = st.fixed_dictionaries(
    {
        "array__rows": st.sampled_from([4, 16, 32]),
        "array__cols": st.sampled_from([8, 16]),
        "array__count": st.sampled_from([1, 2]),
        "array__dataflow": st.sampled_from(["ws", "os", "is"]),
        "array__overlap": st.sampled_from(["none", "double_buffered"]),
        "vector__fused_rows": st.sampled_from(["true", "false"]),
        "scratchpad__size_kib": st.sampled_from([32, 128, 1024]),
        "scratchpad__accumulator_kib": st.sampled_from([16, 128]),
        "dma__channels": st.sampled_from([1, 2, 5]),
        "accelerator__cores": st.sampled_from([1, 2, 3]),
        "dram__preset": st.sampled_from(["simple", "ideal", "DDR4-2400", "LPDDR5-6400", "HBM2"]),
    }
)


@given(LAYERS, HARDWARE)
def test_do_stalls_sum_to_the_span_and_units_work_no_longer_than_time_passes(
    commands: Layer, hardware: dict[str, Any]
) -> None:
    cycles, rows = run("edge", commands, **hardware)
    assert len(rows) == len(commands.commands)
    for row in rows:
        assert sum(row.stall.values()) == row.end - row.start
        assert row.end <= cycles
    cores = hardware["accelerator__cores"]
    assert sum(r.array_busy for r in rows) <= cores * cycles
    assert sum(r.vector_busy for r in rows) <= cores * cycles
    assert (
        sum(r.macs for r in rows)
        <= cores * cycles * hardware["array__rows"] * hardware["array__cols"] * hardware["array__count"]
    )
    c = config("edge", **hardware)
    if hardware["dram__preset"] != "ideal":
        peak = c["memory.bytes_per_cycle.num"] / c["memory.bytes_per_cycle.den"]
        assert sum(r.bytes_read + r.bytes_written for r in rows) <= cycles * peak


@given(LAYERS, LAYERS, HARDWARE)
def test_do_cycles_not_depend_on_earlier_segments(first: Layer, second: Layer, hardware: dict[str, Any]) -> None:
    engine, fresh = Engine(config("edge", **hardware)), Engine(config("edge", **hardware))
    for command in first.commands:
        engine.submit(0, command.encode())
    now = engine.run() + 12345
    engine.completions()
    for command in second.commands:
        engine.submit(now, command.encode())
        fresh.submit(0, command.encode())
    assert engine.run() - now == fresh.run()
    assert [(c.id, c.start, c.end) for c in engine.completions()] == [
        (c.id, c.start, c.end) for c in fresh.completions()
    ]


@given(LAYERS, HARDWARE)
def test_does_stepping_from_event_to_event_give_the_same_cycles(commands: Layer, hardware: dict[str, Any]) -> None:
    engine, stepped = Engine(config("edge", **hardware)), Engine(config("edge", **hardware))
    for command in commands.commands:
        engine.submit(0, command.encode())
        stepped.submit(0, command.encode())
    end, now = engine.run(), 0
    while (due := stepped.next_event()) is not None:
        assert due >= now
        now = due
        stepped.advance(now)
    assert now == end
    assert [c.stall for c in engine.completions()] == [c.stall for c in stepped.completions()]


def test_are_cycles_the_same_in_another_process() -> None:
    code = "from engine_support import layer, run; print(run('tpuv3', layer('attention', 3, 200, 64))[0])"
    here, _ = run("tpuv3", layer("attention", 3, 200, 64))
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert outputs == {f"{here}\n"}


def view(n: int, at: int) -> View:
    return View(-1, DType.F32, (n, n), contiguous_strides((n, n)), at)


def test_do_independent_commands_overlap_and_dependent_ones_not() -> None:
    gemm = Gemm(view(256, 1 << 32), view(256, 2 << 32), view(256, 3 << 32), id=0)
    softmax = layer("softmax", 200, 256).commands[0]
    assert isinstance(softmax, Softmax)
    alone = sum(run("edge", Layer(("",), (c,)))[0] for c in (gemm, softmax))
    free = Softmax(softmax.x, softmax.out, id=1)
    bound = Softmax(softmax.x, softmax.out, id=1, deps=(0,))
    together, _ = run("edge", Layer(("", ""), (gemm, free)))
    chained, rows = run("edge", Layer(("", ""), (gemm, bound)))
    assert together < 0.95 * alone
    assert chained > together
    assert rows[1].start == rows[0].end


def test_does_a_barrier_wait_for_what_it_names() -> None:
    fill = Fill(view(100, 1 << 32), id=0)
    _, rows = run(
        "edge", Layer(("", "", ""), (fill, Barrier(id=1, deps=(0,)), Fill(view(100, 2 << 32), id=2, deps=(1,))))
    )
    by_id = {r.id: r for r in rows}
    assert by_id[0].end == by_id[1].start
    assert by_id[1].end == by_id[2].start


@given(LAYERS, HARDWARE)
def test_is_no_unit_used_twice_at_once(commands: Layer, hardware: dict[str, Any]) -> None:
    engine = Engine(config("edge", **hardware))
    for command in commands.commands:
        engine.submit(0, command.encode())
    engine.run()
    units, moved = defaultdict(list), 0
    for unit, core, index, _, begin, end, busy, nbytes in struct.iter_unpack("<4I4Q", engine.intervals()):
        assert busy == end - begin
        units[UNITS[unit], core, index].append((begin, end))
        moved += nbytes
    assert {unit for unit, _, _ in units} <= {"launch", "array", "vector", "dma"}
    for uses in units.values():
        uses.sort()
        assert all(end <= begin for (_, end), (begin, _) in pairwise(uses))
    rows = engine.completions()
    for unit, busy in (("array", "array_busy"), ("vector", "vector_busy")):
        recorded = sum(end - begin for (name, _, _), uses in units.items() if name == unit for begin, end in uses)
        assert recorded == sum(getattr(row, busy) for row in rows)
    assert moved == sum(row.bytes_read + row.bytes_written for row in rows)


def test_are_uses_bounded_and_their_sums_kept() -> None:
    commands = layer("gemm", 1024, 1024, 1024).commands
    engine = Engine(
        config("edge", array__rows=4, array__cols=4, scratchpad__size_kib=16, scratchpad__accumulator_kib=4)
    )
    for command in commands:
        engine.submit(0, command.encode())
    engine.run()
    (row,) = engine.completions()
    uses = list(struct.iter_unpack("<4I4Q", engine.intervals()))
    assert len(uses) <= 1 << 16
    assert sum(busy for unit, *_, busy, _ in uses if UNITS[unit] == "array") == row.array_busy
    assert sum(nbytes for *_, nbytes in uses) == row.bytes_read + row.bytes_written
    assert any(busy < end - begin for *_, begin, end, busy, _ in uses)


def cycles_with_mappings_of(
    layer: Layer, mappings: list[str], hardware: dict[str, Any], **changes: Any
) -> tuple[int, int]:
    """Cycles of a layer with given mappings, and the bytes that it stores."""
    engine = Engine(config("edge", **hardware | changes))
    commands = [command.encode() for command in layer.commands]
    for command, mapping in zip(commands, mappings, strict=True):
        engine.pin_mapping(command, mapping)
    for command in commands:
        engine.submit(0, command)
    return engine.run(), sum(row.bytes_written for row in engine.completions())


def mappings_of(layer: Layer, hardware: dict[str, Any]) -> list[str]:
    engine = Engine(config("edge", **hardware))
    return [engine.mapping(command.encode()) for command in layer.commands]


FASTER = st.sampled_from(["dram.bandwidth_gbytes_per_s", "vector.lanes", "scratchpad.size_kib"])


def change(hardware: dict[str, Any], what: str, factor: float) -> dict[str, Any]:
    """The override that multiplies one resource."""
    if what == "dram.bandwidth_gbytes_per_s":
        return {"dram__bandwidth_gbytes_per_s": 51.2 * factor}
    if what == "vector.lanes":
        return {"vector__lanes": 16 * factor}
    return {"scratchpad__size_kib": hardware["scratchpad__size_kib"] * factor}


@settings(max_examples=200)
@given(LAYERS, HARDWARE, FASTER, st.sampled_from([2, 3, 4]))
def test_is_more_of_a_resource_never_slower_on_one_core_with_the_mapping_fixed(
    layer: Layer, hardware: dict[str, Any], what: str, factor: float
) -> None:
    # More space lets loads go further ahead of stores, another order: what the space holds may be stored later.
    # Whole factors: a DRAM's nanoseconds are rounded up to its clocks, so that others may lengthen them.
    hardware = hardware | {"accelerator__cores": 1, "dram__refresh": "none"}
    mappings = mappings_of(layer, hardware)
    slow, written = cycles_with_mappings_of(layer, mappings, hardware)
    changes = change(hardware, what, factor)
    fast, _ = cycles_with_mappings_of(layer, mappings, hardware, **changes)
    later = 0.0
    if what == "scratchpad.size_kib":
        space = sum(changes.values()) * 1024
        later = largest_tile_cycles(layer, mappings, hardware) + min(space, written) / bytes_per_cycle(hardware)
    assert fast <= slow + later


def bytes_per_cycle(hardware: dict[str, Any]) -> float:
    """One core's part of the DRAM bandwidth."""
    c = config("edge", **hardware)
    return float(c["memory.bytes_per_cycle.num"] / c["memory.bytes_per_cycle.den"] / c["cores"])


def largest_tile_cycles(layer: Layer, mappings: list[str], hardware: dict[str, Any]) -> float:
    """Cycles in which the largest tile is loaded and stored at this hardware's bandwidth, and computed."""
    c = config("edge", **hardware)
    rate = bytes_per_cycle(hardware)
    worst = 0.0
    for command, mapping in zip(layer.commands, mappings, strict=True):
        sizes = [int(word) for word in re.findall(r"\d+", mapping.split(" keep")[0])]
        if mapping.startswith("rows"):
            rows, cols, depth = sizes
            taps = math.prod(command.weight.dims[2:]) if isinstance(command, Conv2d) else 1
            width = command.out.dims[-1] if isinstance(command, Conv2d) else 1
            m, k = rows * width, depth * taps
            moved = 4 * (m * depth * 4 + k * cols + m * cols)
            array = (m + 2 * c["array.rows"] + c["array.cols"]) * math.ceil(k / c["array.rows"])
            compute = array * math.ceil(cols / c["array.cols"]) + m * cols / c["vector.lanes"]
        else:
            elements = max(math.prod(int(n) for n in part.split(" ")[0].split("x")) for part in mapping.split("; "))
            moved, compute = 4 * 5 * elements, 20 * elements / c["vector.lanes"]
        worst = max(worst, moved / rate + compute)
    return worst + 200  # latencies of a load and a store


REFRESH = {"DDR4-2400": 350, "LPDDR5-6400": 280, "HBM2": 350}  # tRFC in cycles of 1 ns


@settings(max_examples=200, derandomize=True)  # the mapper is a heuristic: about one drawn case in 6,000 is over
@given(LAYERS, HARDWARE, FASTER, st.sampled_from([1.5, 2, 4]), st.sampled_from(["all_bank", "none"]))
def test_is_more_of_a_resource_hardly_ever_slower_when_the_mapper_is_free(
    layer: Layer, hardware: dict[str, Any], what: str, factor: float, refresh: str
) -> None:
    hardware = hardware | {"dram__refresh": refresh}
    faster = hardware | {key: int(value) for key, value in change(hardware, what, factor).items()}
    mappings = mappings_of(layer, hardware)
    slow, _ = cycles_with_mappings_of(layer, mappings, hardware)
    fast, _ = cycles_with_mappings_of(layer, mappings_of(layer, faster), faster)
    refreshed = REFRESH.get(hardware["dram__preset"], 0)
    assert fast <= 1.01 * slow + refreshed + largest_tile_cycles(layer, mappings, hardware)
