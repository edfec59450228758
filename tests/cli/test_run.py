"""`acalsim run`: are outputs, numbers and files what they should be, on the right stream?"""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
from cli_support import Command

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text())

TARGETS = """
import time
import torch

class Tiny(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x @ x.T)

def tiny():
    return Tiny(), (torch.randn(4, 6),)

def single_tensor():
    return Tiny(), torch.randn(4, 6)

class Named(torch.nn.Module):
    def forward(self, x, *, other, mode="sum"):
        y = x @ other
        return y.sum() if mode == "sum" else y

def listed(): return Tiny(), [torch.randn(4, 6)]
def named(): return Named(), {"x": torch.randn(4, 6), "other": torch.randn(6, 3)}
def both(): return Named(), (torch.randn(4, 6),), {"mode": "no", "other": torch.randn(6, 3)}
def function(): return (lambda x, y: torch.relu(x @ y)), (torch.randn(4, 6), torch.randn(6, 3))
def texts(): return (lambda mode, pair: pair["a"] @ pair["b"]), ("x", {"a": torch.randn(4, 6), "b": torch.randn(6, 3)})

class Forgetful(torch.nn.Module):
    calls = 0
    def forward(self, x):
        Forgetful.calls += 1
        return x * Forgetful.calls

def differs():
    return Forgetful(), (torch.ones(3),)

class Unsupported(torch.nn.Module):
    def forward(self, x):
        return torch.linalg.qr(torch.dropout(x, 0.5, True)).R + torch.linalg.svdvals(x).sum()

def unsupported():
    return Unsupported(), (torch.randn(4, 6),)

class Nothing(torch.nn.Module):
    def forward(self, x):
        return x

def nothing():
    return Nothing(), (torch.ones(2),)

class Meta(torch.nn.Module):
    def forward(self, x):
        return (x + 1).to("meta")

def meta():
    return Meta(), (torch.ones(2),)

def large():
    return Tiny(), (torch.randn(4096, 4096),)

def slow():
    time.sleep(120)

def minutes():
    return Tiny(), (torch.randn(2048, 2048),)
"""


@pytest.fixture
def targets(tmp_path: Path) -> Path:
    path = tmp_path / "targets.py"
    path.write_text(TARGETS)
    return path


@pytest.mark.parametrize("place", ["auto", "cpu", "accelerator"])
def test_does_a_built_in_model_run_and_equal_eager(acalsim: Command, place: str) -> None:
    run = acalsim("run", "mlp", "--place", place, "--json", "-")
    assert (run.returncode, run.stderr) == (0, "")
    report = json.loads(run.stdout)  # nothing but JSON on stdout
    jsonschema.validate(report, SCHEMA)
    assert report["model"] == "mlp"
    assert report["outputs"]["allclose"] is True
    assert report["fallbacks"] == []
    assert report["cycles"]["total"] > 0
    wanted = {"cpu": {"cpu"}, "accelerator": {"accelerator"}, "auto": {"accelerator"}}[place]
    assert {row["placement"] for row in report["ops"]} == wanted


def test_does_a_run_write_its_files_and_say_so_on_stderr(acalsim: Command, tmp_path: Path, targets: Path) -> None:
    run = acalsim("run", "targets.py:tiny", "--out", "a/b", "--json", "r.json")
    assert run.returncode == 0
    assert run.stderr == "a/b: wrote report.json and trace.json (open it at ui.perfetto.dev)\n"
    report = json.loads((tmp_path / "r.json").read_text())
    jsonschema.validate(report, SCHEMA)
    assert report == json.loads((tmp_path / "a/b/report.json").read_text())
    assert report["model"] == "targets.py:tiny"
    assert "traceEvents" in json.loads((tmp_path / "a/b/trace.json").read_text())
    assert not list((tmp_path / "a/b").glob(".*"))


@pytest.mark.parametrize("columns", [80, 160])
def test_is_the_table_legible_at_every_width(acalsim: Command, columns: int) -> None:
    run = acalsim("run", "attention", columns=columns)
    assert (run.returncode, run.stderr) == (0, "")
    assert max(map(len, run.stdout.splitlines())) <= columns
    assert "outputs       equal to eager, largest absolute difference" in run.stdout
    assert "  within      0.0001 of the value + 1e-05 (float32)" in run.stdout
    assert ("module" in run.stdout) == (columns > 80)


@pytest.mark.parametrize("target", ["single_tensor", "listed", "named", "both", "function", "texts"])
def test_is_what_a_target_returns_called_as_python_would(acalsim: Command, targets: Path, target: str) -> None:
    run = acalsim("run", f"targets.py:{target}", "--json", "-")
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert report["outputs"]["allclose"]
    assert "MATMUL" in report["ops"][0]["fused"] or "GEMM" in report["ops"][0]["type"]


@pytest.mark.parametrize("place", ["-", "/dev/stdout"])
@pytest.mark.parametrize("output", ["pipe", "file"])
def test_can_a_trace_of_memory_go_where_the_output_goes(
    process: Command, targets: Path, tmp_path: Path, place: str, output: str
) -> None:
    command = ["run", f"{targets}:tiny", "-q", "--trace-memory"]
    process(*command, str(tmp_path / "trace"))
    trace = (tmp_path / "trace").read_text()
    assert trace.count("MATMUL") > 1
    if output == "pipe":
        text = process(*command, place).stdout
    else:
        with (tmp_path / "out").open("w") as file:
            subprocess.run([sys.executable, "-m", "acalsim_backend", *command, place], stdout=file, check=True)
        text = (tmp_path / "out").read_text()
    assert text.startswith(trace)
    assert "equal to eager" in text


def test_does_a_run_that_fails_leave_the_trace_that_was_there(acalsim: Command, targets: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text("mine")
    done = acalsim("run", f"{targets}:large", "--trace-memory", str(trace), "--set", "dram.size_mib=65")
    assert done.returncode == 3
    assert "65" in done.stderr
    assert trace.read_text() == "mine"


def test_are_two_things_for_one_file_refused(acalsim: Command, targets: Path, tmp_path: Path) -> None:
    place = str(tmp_path / "x")
    done = acalsim("run", f"{targets}:tiny", "--trace-memory", place, "--json", place)
    assert done.returncode == 2
    assert "--json and --trace-memory both name" in done.stderr


def test_is_a_model_without_operations_refused_by_compile_and_run(
    acalsim: Command, targets: Path, tmp_path: Path
) -> None:
    for command in (["run"], ["compile", "--out", str(tmp_path / "o")], ["compile", "--build", "c", "--out", "o"]):
        done = acalsim(command[0], f"{targets}:nothing", *command[1:])
        assert done.returncode == 3
        assert "Nothing: nothing was captured" in done.stderr


def test_is_a_result_on_the_device_meta_refused_by_name(acalsim: Command, targets: Path) -> None:
    done = acalsim("run", f"{targets}:meta")
    assert done.returncode == 3
    assert "output is on the device meta, without values to compare" in done.stderr


def test_is_a_difference_from_eager_exit_code_1(acalsim: Command, targets: Path) -> None:
    run = acalsim("run", "targets.py:differs")
    assert run.returncode == 1
    assert "DIFFERENT from eager, largest absolute difference" in run.stdout


def test_is_a_fallback_loud_and_right(acalsim: Command, targets: Path) -> None:
    run = acalsim("run", "targets.py:unsupported", columns=80)
    assert run.returncode == 0, run.stdout
    warned = re.findall(r"^WARNING: (\S+) .*ran in PyTorch on the host", run.stderr, re.MULTILINE)
    named = re.findall(r"^fallback +(\S+) ", run.stdout, re.MULTILINE)
    assert warned
    assert warned == named
    assert "Warning:" not in run.stderr


def test_are_cycles_the_same_twice_and_on_two_seeds(acalsim: Command) -> None:
    runs = [json.loads(acalsim("run", "attention", "--json", "-", "--seed", seed).stdout) for seed in ("0", "0", "1")]
    assert runs[0]["outputs"]["allclose"]
    assert len({json.dumps([run["cycles"], run["instructions_retired"], run["ops"]]) for run in runs}) == 1


def test_does_hardware_without_the_op_send_it_to_the_cpu_and_cost_cycles(acalsim: Command) -> None:
    edge, gemm_only = (
        json.loads(acalsim("run", "attention", "--hw", hw, "--json", "-").stdout) for hw in ("edge", "gemm_only")
    )
    assert gemm_only["outputs"]["allclose"]
    assert {row["type"] for row in gemm_only["ops"] if row["placement"] == "accelerator"} == {"GEMM"}
    assert any(row["placement"] == "cpu" for row in gemm_only["ops"])
    assert gemm_only["cycles"]["total"] > edge["cycles"]["total"]


def test_does_set_change_the_hardware_of_the_run(acalsim: Command) -> None:
    quick, slow = (
        json.loads(acalsim("run", "mlp", "--json", "-", "--set", f"accelerator.launch_cycles={cycles}").stdout)
        for cycles in (0, 5000)
    )
    assert slow["cycles"]["total"] - quick["cycles"]["total"] >= 5000


def test_does_native_run_without_unicorn_and_without_cycles(process: Command) -> None:
    run = process("run", "mlp", "--machine", "native", "--json", "-", "--out", "o", without=("unicorn",))
    assert run.returncode == 0
    assert run.stderr == "o: wrote report.json\n"
    report = json.loads(run.stdout)
    jsonschema.validate(report, SCHEMA)
    assert report["outputs"]["allclose"]
    assert report["cycles"] == {"total": None, "cpu": None, "accelerator_busy": None}


@pytest.mark.parametrize(("mode", "words"), [("compile", "=== ACALSim IR:"), ("trace", "placeholder"), ("eager", "")])
def test_do_earlier_stages_print_what_they_made(acalsim: Command, mode: str, words: str) -> None:
    run = acalsim("run", "matmul", "--mode", mode)
    assert run.returncode == 0, run.stderr
    assert words in run.stdout


def test_does_quiet_keep_stderr_empty(acalsim: Command, targets: Path) -> None:
    run = acalsim("-q", "run", "targets.py:tiny", "--out", "o")
    assert (run.returncode, run.stderr) == (0, "")


def interrupted(start: Callable[..., subprocess.Popen[bytes]], *arguments: str, stage: bytes, after: float) -> bytes:
    """Send Ctrl-C ``after`` seconds from when the terminal shows ``stage``; returns what the terminal had shown."""
    leader, follower = pty.openpty()
    process = start(*arguments, stderr=follower)
    os.close(follower)
    seen = b""
    while stage not in seen:
        seen += os.read(leader, 4096)
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate()
    os.close(leader)
    assert process.returncode == 130
    assert stdout == b""
    return seen


def test_is_progress_shown_on_a_terminal_after_two_seconds_and_does_ctrl_c_exit_130(
    start: Callable[..., subprocess.Popen[bytes]], targets: Path
) -> None:
    shown = interrupted(start, "run", "targets.py:slow", stage=b"building targets.py:slow", after=0)
    assert b"Traceback" not in shown


def test_does_ctrl_c_end_a_simulation_that_is_in_the_emulator(
    start: Callable[..., subprocess.Popen[bytes]], targets: Path
) -> None:
    interrupted(start, "run", "targets.py:minutes", "--place", "cpu", stage=b"simulating on unicorn", after=5)


def test_is_the_exit_quiet(process: Command) -> None:
    """Nothing that is torn down at the end of the process complains."""
    run = process("run", "mlp", "--json", "-")
    assert (run.returncode, run.stderr) == (0, "")
    assert json.loads(run.stdout)["outputs"]["allclose"]
