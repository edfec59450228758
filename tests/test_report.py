"""Reports: does the JSON keep its schema, do the numbers follow from the run, and can people read the table?"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acalsim_backend._engine import UNITS, Completion
from acalsim_backend.errors import InputError
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.program.commands import Gemm, Softmax
from acalsim_backend.program.enums import DType, Placement
from acalsim_backend.program.program import Origin, Program, Tensor, TensorKind
from acalsim_backend.program.view import View
from acalsim_backend.report.model import Cycles, OpRow, Outputs, RunReport
from acalsim_backend.run import timeline
from acalsim_backend.run.timeline import UnitUses

SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "report.schema.json").read_text())


def view(tensor: int, *dims: int) -> View:
    strides = tuple(math.prod(dims[i + 1 :]) for i in range(len(dims)))
    return View(tensor, DType.F32, dims, strides)


def linear_softmax() -> Program:
    """x [8, 16] @ w [16, 32] + b on the accelerator, then softmax on the CPU."""
    shapes = {"x": (8, 16), "w": (16, 32), "b": (32,), "h": (8, 32), "y": (8, 32)}
    kinds = (TensorKind.INPUT, TensorKind.WEIGHT, TensorKind.WEIGHT, TensorKind.ARENA, TensorKind.OUTPUT)
    tensors = tuple(
        Tensor(i, name, kind, DType.F32, shape)
        for i, ((name, shape), kind) in enumerate(zip(shapes.items(), kinds, strict=True))
    )
    bias = View(2, DType.F32, (8, 32), (0, 1))
    return Program(
        name="graph_0",
        tensors=tensors,
        commands=(
            Gemm(view(0, 8, 16), view(1, 16, 32), view(3, 8, 32), bias, id=0, origin=(0, 2)),
            Softmax(view(3, 8, 32), view(4, 8, 32), id=1, placement=Placement.CPU, origin=(2, 1), deps=(0,)),
        ),
        inputs=(0,),
        outputs=(4,),
        origins=(
            Origin(0, "t_2 = MATMUL(input_0, param_1)", "MATMUL", "fc", "model.py:7", 2 * 8 * 16 * 32),
            Origin(1, "t_4 = ADD(t_2, param_3)", "ADD", "fc", "model.py:7", 8 * 32),
            Origin(2, "t_5 = SOFTMAX(t_4)", "SOFTMAX", "", "model.py:8", 5 * 8 * 32),
        ),
    )


def result(**changes: object) -> Any:
    """What a session returns for :func:`linear_softmax`: 1000 cycles of accelerator, then 4000 instructions."""
    gemm = SimpleNamespace(
        start_cycle=0,
        end_cycle=1000,
        cpu_instructions=0,
        completion=Completion(
            end=1000,
            macs=8 * 16 * 32,
            array_busy=150,
            bytes_read=2688,
            bytes_written=1024,
            vector_ops=256,
            stall={"array": 150, "dram": 850},
            bursts=60,
            row_hits=45,
            bank_conflict_cycles=7,
            dataflow="ws",
        ),
    )
    softmax = SimpleNamespace(
        start_cycle=1000,
        end_cycle=5000,
        cpu_instructions=4000,
        completion=None,
    )
    uses = struct.pack("<4I4Q", UNITS.index("array"), 0, 0, 0, 100, 250, 150, 0)
    uses += struct.pack("<4I4Q", UNITS.index("dma"), 0, 1, 0, 0, 100, 100, 2688)
    values = {
        "channels": (),
        "units": (UnitUses(0, 0, uses),),
        "timings": [gemm, softmax],
        "cycles_total": 5000,
        "cycles_cpu": 4000,
        "cycles_accelerator_busy": 1000,
        "instructions_retired": 4000,
        "memoised": False,
    }
    return SimpleNamespace(**values | changes)


@pytest.fixture
def report() -> RunReport:
    wall = {"simulate": 0.25, "eager": float("nan")}
    return RunReport.build(linear_softmax(), result(), HardwareConfig(), model="toy", machine="unicorn", wall_s=wall)


def test_has_every_command_a_row_that_names_what_it_covers(report: RunReport) -> None:
    gemm, softmax = report.ops
    assert (gemm.name, gemm.type, gemm.placement, gemm.fused) == ("t_4", "GEMM", "accelerator", ("MATMUL", "ADD"))
    assert (gemm.module, gemm.source, gemm.flops) == ("fc", "model.py:7", 2 * 8 * 16 * 32 + 8 * 32)
    assert (softmax.name, softmax.placement, softmax.fused) == ("t_5", "cpu", ("SOFTMAX",))
    assert report.cycles == Cycles(total=5000, cpu=4000, accelerator_busy=1000)


def test_does_a_row_say_what_limited_it(report: RunReport) -> None:
    gemm, softmax = report.ops
    assert gemm.device
    assert gemm.roofline
    assert {cause: cycles for cause, cycles in gemm.device.stall.items() if cycles} == {"array": 150, "dram": 850}
    assert (gemm.row_hit_rate, gemm.device.bank_conflict_cycles) == (0.75, 7)
    # 8192 operations and 3712 bytes in 1000 ns; arrays of 512 Gop/s, memory of 25.6 GB/s.
    assert gemm.roofline["bound"] == "memory"
    assert gemm.roofline["intensity"] == pytest.approx(8192 / 3712)
    assert gemm.roofline["attainable_gops"] == pytest.approx(8192 / 3712 * 25.6)
    assert gemm.roofline["achieved_gops"] == pytest.approx(8.192)
    assert gemm.roofline["fraction"] == pytest.approx(3712 / 25.6 / 1000)
    assert (softmax.device, softmax.roofline, softmax.row_hit_rate) == (None, None, None)


def test_is_utilization_the_share_of_array_peak_over_the_span(report: RunReport) -> None:
    assert report.ops[0].utilization == 8 * 16 * 32 / (1000 * 16 * 16)
    assert report.ops[1].utilization is None


def test_are_bytes_the_engines_on_the_accelerator_and_the_operands_elsewhere(report: RunReport) -> None:
    assert (report.ops[0].bytes_read, report.ops[0].bytes_written) == (2688, 1024)
    assert (report.ops[1].bytes_read, report.ops[1].bytes_written) == (8 * 32 * 4, 8 * 32 * 4)


def test_does_a_machine_without_timing_give_null_cycles() -> None:
    program = linear_softmax()
    run = result(instructions_retired=None, timings=timeline.untimed(program.commands), units=())
    untimed = RunReport.build(program, run, HardwareConfig(), model="toy", machine="native")
    values = untimed.to_dict()
    jsonschema.validate(values, SCHEMA)
    assert values["cycles"] == {"total": None, "cpu": None, "accelerator_busy": None}
    assert [(row["start_cycle"], row["end_cycle"], row["utilization"]) for row in values["ops"]] == [(None,) * 3] * 2
    assert values["ops"][0]["bytes_read"] == 4 * (8 * 16 + 16 * 32 + 32)
    assert "machine native has no timing" in untimed.table()
    with pytest.raises(InputError, match="no trace: machine native has no timing"):
        untimed.trace("trace.json")


def test_does_a_report_keep_its_schema_and_never_say_nan(report: RunReport) -> None:
    text = report.to_json()
    values = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the report"))
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(values, SCHEMA)
    assert values["wall_s"] == {"eager": None, "compile": None, "build": None, "simulate": 0.25}


def test_does_a_saved_report_load_as_it_was_and_ignore_what_it_does_not_know(report: RunReport, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    report = dataclasses.replace(report, wall_s={"simulate": 0.25}, outputs=Outputs(1e-6, True))
    report.save(path)
    assert RunReport.load(path) == report
    values = json.loads(path.read_text())
    values["from_the_future"] = values["ops"][0]["also"] = values["cycles"]["new"] = 1
    path.write_text(json.dumps(values))
    assert RunReport.load(path) == report


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as a report"),
        ("[]", "not a report of schema 2: it is a list"),
        ('{"schema": 1}', "not a report of schema 2: schema is 1"),
        ('{"schema": 2}', "not a report of schema 2: 'outputs'"),
    ],
)
def test_does_a_file_that_is_no_report_say_so(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(InputError, match=f"r.json: {message}"):
        RunReport.load(path)


def test_does_an_unwritable_place_name_the_remedy(report: RunReport, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"r\.json: cannot write there: Not a directory; choose another place"):
        report.save(tmp_path / "file" / "r.json")


@given(st.floats(), st.floats(allow_nan=True), st.booleans())
def test_is_every_number_in_the_json_finite(error: float, wall: float, allclose: bool) -> None:
    report = RunReport.build(
        linear_softmax(), result(), HardwareConfig(), model="toy", machine="unicorn", wall_s={"eager": wall}
    )
    values = dataclasses.replace(report, outputs=Outputs(error, allclose)).to_dict()
    json.dumps(values, allow_nan=False)
    assert values["outputs"]["max_abs_error"] == (error if math.isfinite(error) else None)


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_does_the_table_fit_and_keep_every_number(report: RunReport, width: int) -> None:
    big = dataclasses.replace(
        report.ops[0],
        fused=("CONV2D", "BATCH_NORM", "RELU", "ADD"),
        module="layer4.1.downsample.0",
        end_cycle=12_345_678,
        bytes_read=987_654_321,
    )
    ops = (big,) * 12 + report.ops
    report = dataclasses.replace(report, ops=ops, cycles=Cycles(123_456_789, 4000, 99_000_000))
    text = report.table(width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("12,345,678") == 12
    assert text.count("942 MiB") == 12
    assert "123,456,789" in text
    assert ("layer4.1.downsample.0" in text) == (width >= 100)
    assert ("model.py:7" in text) == (width >= 130)


def trace_of(report: RunReport, tmp_path: Path) -> tuple[list[Any], list[Any]]:
    """Spans (process, lane, name, begin, length) and counters (process, name, time, value) of a trace."""
    path = tmp_path / "trace.json"
    report.trace(path)
    events = json.loads(path.read_text())["traceEvents"]
    processes = {e["pid"]: e["args"]["name"].partition(":")[0] for e in events if e["name"] == "process_name"}
    lanes = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    spans = [
        (processes[e["pid"]], lanes[e["pid"], e["tid"]], e["name"], e["ts"], e["dur"]) for e in events if e["ph"] == "X"
    ]
    counters = [(processes[e["pid"]], e["name"], e["ts"], e["args"]["value"]) for e in events if e["ph"] == "C"]
    return spans, counters


def test_does_the_trace_show_what_units_did_and_commands_from_start_to_end(report: RunReport, tmp_path: Path) -> None:
    spans, counters = trace_of(report, tmp_path)
    assert spans == [  # microseconds at 1000 MHz
        ("accelerator", "commands", "MATMUL+ADD", 0.0, 1.0),
        ("CPU", "commands", "SOFTMAX", 1.0, 4.0),
        ("accelerator", "core 0 array", "MATMUL+ADD", 0.1, 0.15),
        ("accelerator", "core 0 dma 1", "MATMUL+ADD", 0.0, 0.1),
    ]
    bandwidth = [(at, value) for process, name, at, value in counters if name == "DRAM GB/s"]
    assert bandwidth[0] == (0.0, 26.88)
    assert bandwidth[-1] == (0.1, 0.0)
    assert [(at, value) for _, name, at, value in counters if name == "DMA transfers"] == [(0.0, 1), (0.1, 0)]


def test_are_units_of_a_second_graph_those_of_its_rows(report: RunReport, tmp_path: Path) -> None:
    second = dataclasses.replace(report, ops=(dataclasses.replace(report.ops[0], fused=("OTHER",)), report.ops[1]))
    spans, _ = trace_of(RunReport.concatenate([report, second]), tmp_path)
    assert [(name, begin) for _, lane, name, begin, _ in spans if lane == "core 0 array"] == [
        ("MATMUL+ADD", 0.1), ("OTHER", 5.1),
    ]  # fmt: skip


def test_do_overlapping_commands_have_lanes_of_their_own(report: RunReport, tmp_path: Path) -> None:
    gemm = report.ops[0]
    rows = tuple(dataclasses.replace(gemm, start_cycle=a, end_cycle=b) for a, b in ((0, 10), (5, 20), (10, 30)))
    path = tmp_path / "trace.json"
    dataclasses.replace(report, ops=rows, units=()).trace(path)
    spans = [e["tid"] for e in json.loads(path.read_text())["traceEvents"] if e["ph"] == "X"]
    assert spans == [0, 1, 0]


def test_do_runs_in_a_row_make_one_report(report: RunReport) -> None:
    joined = RunReport.concatenate([report, report])
    assert [(row.start_cycle, row.end_cycle) for row in joined.ops] == [
        (0, 1000), (1000, 5000), (5000, 6000), (6000, 10_000),
    ]  # fmt: skip
    assert joined.cycles == Cycles(10_000, 8000, 2000)
    assert (joined.model, joined.instructions_retired, joined.wall_s["simulate"]) == ("toy", 8000, 0.5)
    assert joined.wall_s["compile"] is None
    assert RunReport.concatenate([report]) is report


def test_is_a_fallback_named_below_the_table(report: RunReport) -> None:
    fallback = {"op": "aten.sort.default", "source": "model.py:9", "module": "", "share": 0.25}
    report = dataclasses.replace(report, fallbacks=(fallback,))
    jsonschema.validate(report.to_dict(), SCHEMA)
    assert "fallback      aten.sort.default (model.py:9) ran in PyTorch on the host" in report.table()


def test_are_unknown_cycles_none_not_zero() -> None:
    row = OpRow("t", "GEMM", "cpu", (), "", "", None, None, 0, 0, 0, None)
    assert row.cycles is None


@given(
    st.lists(
        st.tuples(st.integers(0, 2**62), st.integers(0, 2**50), st.text("ab.", max_size=60)), min_size=1, max_size=4
    ),
    st.integers(20, 200),
)
def test_does_a_table_keep_its_numbers_and_headers_at_any_width(rows: list[tuple[int, int, str]], width: int) -> None:
    ops = tuple(
        OpRow("t", "GEMM", "accelerator", ("MATMUL", "ADD"), module, f"{module}.py:7", 0, cycles, 1, moved, moved, 0.5)
        for cycles, moved, module in rows
    )
    total = sum(cycles for cycles, _, _ in rows)
    table = RunReport(
        "m", "edge", "unicorn", {"cpu": 1, "accelerator": 1}, {}, Outputs(), Cycles(total, 0, total), 0, ops
    )
    lines = table.table(width).splitlines()
    header = next(line for line in lines if "cycles" in line).split()
    assert {"#", "on", "cycles", "share", "util", "read", "written"} <= set(header)
    for index, (cycles, _, _) in enumerate(rows):
        (line,) = [line for line in lines if line.split()[:1] == [str(index)]]
        assert f" {cycles:,} " in line
