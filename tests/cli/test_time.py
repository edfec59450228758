"""`acalsim time`: does it show the engine's cycles for a layer, at once and without PyTorch?"""

from __future__ import annotations

import io
import json
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cli_support import Command

from acalsim_backend.cli.terminal import Display
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.layers import Progress, make_layers, time_layers


def test_are_array_cycles_the_closed_form_of_a_weight_stationary_array(process: Command) -> None:
    arguments = ("time", "gemm", "512", "256", "128", "--dataflow", "ws", "--json", "-")
    run = process(*arguments, without=("torch", "numpy"))
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    (row,) = document["layers"]
    folds, per_fold = (128 // 16) * (256 // 16), 2 * 16 + 16 + 512 - 2  # K/R, N/C; 2R + C + M - 2
    assert row["array_cycles"] == folds * per_fold - 1
    assert document["total_cycles"] == row["cycles"]
    assert sum(row["stall"].values()) == row["cycles"]


@pytest.mark.parametrize("columns", [80, 160])
def test_does_the_table_keep_every_digit(acalsim: Command, columns: int) -> None:
    run = acalsim("time", "attention", "4", "128", "64", columns=columns)
    assert (run.returncode, run.stderr) == (0, "")
    assert max(map(len, run.stdout.splitlines())) <= columns
    rows = json.loads(acalsim("time", "attention", "4", "128", "64", "--json", "-").stdout)["layers"]
    for row in rows:
        assert row["name"] in run.stdout
        assert f" {row['cycles']:,} " in run.stdout


def test_does_a_row_say_what_limited_it(acalsim: Command) -> None:
    document = json.loads(acalsim("time", "elementwise", "1000000", "--json", "-").stdout)
    (row,) = document["layers"]
    roofline = row["roofline"]
    assert (roofline["bound"], row["dataflow"], row["array_cycles"]) == ("memory", None, None)
    assert roofline["intensity"] == pytest.approx(1 / 12)  # one addition for two operands and a result of 4 bytes
    assert roofline["fraction"] == pytest.approx(row["dram_gbytes_per_s"] / 51.2)
    assert roofline["achieved_gops"] / roofline["attainable_gops"] == pytest.approx(roofline["fraction"])
    assert 0.9 < row["row_hit_rate"] <= 1
    channels = document["channels"]
    assert len(channels) == 4
    assert sum(c["bytes_read"] for c in channels) == pytest.approx(row["dram_bytes_read"], rel=1e-3)
    assert sum(c["gbytes_per_s"] for c in channels) == pytest.approx(row["dram_gbytes_per_s"], rel=1e-3)
    assert all(0 < c["row_hit_rate"] <= 1 for c in channels)


def test_is_a_large_product_bound_by_compute(acalsim: Command) -> None:
    (row,) = json.loads(acalsim("time", "gemm", "1024", "1024", "1024", "--json", "-").stdout)["layers"]
    assert row["roofline"]["bound"] == "compute"
    assert row["roofline"]["fraction"] == pytest.approx(row["utilization"])
    assert row["dataflow"] in ("ws", "os", "is")


def test_does_a_topology_file_give_a_row_per_layer(acalsim: Command, tmp_path: Path) -> None:
    (tmp_path / "net.csv").write_text("Layer, M, N, K,\nfirst, 32, 16, 8,\nsecond, 64, 64, 64,\n")
    run = acalsim("time", "--topology", "net.csv", "--json", "out.json")
    assert run.returncode == 0, run.stderr
    assert "first" in run.stdout
    assert [row["name"] for row in json.loads((tmp_path / "out.json").read_text())["layers"]] == ["first", "second"]


def test_does_the_dataflow_change_the_cycles(acalsim: Command) -> None:
    cycles = {
        flow: json.loads(acalsim("time", "gemm", "64", "64", "512", "--dataflow", flow, "--json", "-").stdout)["layers"]
        for flow in ("ws", "os")
    }
    assert cycles["ws"][0]["array_cycles"] != cycles["os"][0]["array_cycles"]


BIG = ("--set", "dram.size_mib=12000000")


@pytest.mark.parametrize("arguments", [("gemm", *["1000000"] * 3), ("gemm", "100000", "100000", "1"),
                                       ("elementwise", "99999999999"), ("softmax", "1000000", "1000000")])  # fmt: skip
def test_does_a_run_of_years_say_so_and_end_on_ctrl_c(
    start: Callable[..., subprocess.Popen[bytes]], arguments: Sequence[str]
) -> None:
    child = start("time", *arguments, *BIG)
    assert child.stderr
    estimate, progress = (child.stderr.readline().decode() for _ in range(2))
    assert estimate.startswith("estimate: about ")
    assert progress.startswith(f"{arguments[0]}: ")
    assert progress.rstrip().endswith(" left")
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=300)
    assert (child.returncode, out) == (130, b"")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("terminal", [True, False])
def test_does_the_display_show_the_estimate_once_and_where_it_is(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    now, stream = 0.0, _Terminal() if terminal else io.StringIO()
    with Display(stream, lambda: now) as display:
        for i in range(1000):
            now = i * 0.1
            display(Progress("gemm", i / 1000, 1000 * i, 999_400))
    text = stream.getvalue()
    assert text.count("estimate: about 999,000 cycles") == 1
    if terminal:
        bars = [part for part in text.split("\r\x1b[2K") if part.startswith("[")]
        assert len(bars) > 300
        assert any(bar.startswith("[##########----------] gemm: 50.") for bar in bars)
        assert all(len(bar) < 100 for bar in bars)
        assert text.endswith("\r\x1b[2K")
    else:
        assert "\r" not in text
        assert "gemm: 1.0% simulated, 10,000 cycles, about 99 s left\n" in text
        assert len(text.splitlines()) in (10, 11)


def test_does_a_quick_or_a_quiet_run_show_no_progress(acalsim: Command, process: Command) -> None:
    assert acalsim("time", "gemm", "64", "64", "64").stderr == ""
    assert process("--quiet", "time", "gemm", "2500", "2500", "2500").stderr == ""


def test_does_the_progress_of_several_layers_add_up() -> None:
    layers = [make_layers("gemm", [n] * 3)[0] for n in (1200, 300, 1201)]
    told: list[Progress] = []
    document = time_layers(layers, HardwareConfig.load("edge"), told.append)
    assert {progress.layer for progress in told} == {"gemm"}
    assert [p.fraction for p in told] == sorted(p.fraction for p in told)
    assert [p.cycles for p in told] == sorted(p.cycles for p in told)
    assert told[-1].estimate == pytest.approx(document["total_cycles"], rel=0.1)
    assert max(p.fraction for p in told) > 0.5


def test_does_a_layer_beyond_guest_ram_name_the_size_that_holds_it(acalsim: Command) -> None:
    run = acalsim("time", "gemm", "20000", "20000", "100", "--set", "dram.size_mib=1024")
    assert (run.returncode, run.stdout) == (3, "")
    assert (
        "gemm: its tensors need 1,606 MiB of guest RAM, dram.size_mib is 1,024; add --set dram.size_mib=" in run.stderr
    )
    remedy = run.stderr.partition("add ")[2].partition(" (")[0].split()
    assert acalsim("time", "gemm", "20000", "20000", "100", *remedy).returncode == 0


@pytest.mark.parametrize("bandwidth", ["0.001", "0.01", "0.05", "0.1", "1"])
@pytest.mark.parametrize("hw", ["edge", "gemmini", "cloud4", "tpuv3"])
def test_is_a_bandwidth_served_or_refused(acalsim: Command, hw: str, bandwidth: str) -> None:
    run = acalsim("time", "gemm", "64", "64", "64", "--hw", hw, "--set", f"dram.bandwidth_gbytes_per_s={bandwidth}")
    if run.returncode:
        assert run.returncode == 3
        assert "raise dram.bandwidth_gbytes_per_s, or set dram.refresh to none" in run.stderr
        assert float(bandwidth) < 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["gem", "1", "2", "3"], 2, "unknown layer 'gem': did you mean gemm"),
        (["gemm", "1", "2"], 2, "gemm takes 3 sizes (M N K), got 2"),
        ([], 2, "nothing to time: name one of gemm"),
        (["gemm", "1", "2", "3", "--stride", "2"], 2, "gemm has no option --stride"),
        (["gemm", "1", "2", "3", "--dtype", "f31"], 2, "unknown dtype 'f31': did you mean f32"),
        (["--topology", "absent.csv"], 3, "absent.csv: cannot be read"),
        (["gemm", "1", "2", "3", "--hw", "egde"], 2, "unknown hardware 'egde': did you mean edge"),
        (["gemm", "0", "2", "3"], 2, "gemm: sizes must be at least 1, got 0 2 3"),
        (["gemm", "--", "-1", "2", "3"], 2, "gemm: sizes must be at least 1, got -1 2 3"),
        (["gemm", "9" * 30, "2", "3"], 2, "need addresses of 104 bits, of which there are 63"),
        (["elementwise", str(2**63)], 2, "need addresses of 67 bits, of which there are 63"),
        (["attention", "1", "1000000", "1"], 3, "add --set dram.size_mib="),
        (
            ["conv", "1", "1", "4194304", "4194304", "1", "2097152", "2097152", "--dtype", "i8", *BIG],
            3,
            "may be at most",
        ),
        (
            ["conv", "1", "1", "2000000", "2000000", "1", "1000000", "1000000", "--dtype", "i8", *BIG],
            3,
            "multiply-accumulates, which 64 bits cannot count",
        ),
        (["conv", "1", "1", "8", "8", "1", "3", "3", "--stride", "9" * 20], 2, "expected at most 2147483647"),
        (["conv", "1", "1", "8", "8", "1", "3", "3", "--pad", "2147483647"], 2, "need addresses of 67 bits"),
        (["gemm", "8", "8", "8", "--set", "dram.interleave_bytes=33"], 3, "not a multiple of the burst of 32"),
    ],
)
def test_is_a_mistake_named_with_its_remedy(
    acalsim: Command, arguments: Sequence[str], code: int, message: str
) -> None:
    run = acalsim("time", *arguments)
    assert (run.returncode, run.stdout) == (code, "")
    assert message in run.stderr
    assert len(run.stderr.splitlines()) == 1
