"""Do output and interruption behave as people and pipelines expect of a command?"""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_support import Command

import acalsim_backend
from acalsim_backend import layers
from acalsim_backend.errors import InputError

QUICK = [["hw", "list"], ["hw", "show"], ["models"], ["--help"], ["--version"], ["time", "gemm", "8", "8", "8"]]


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes without coverage, which imports modules of its own and writes files as they end."""
    for name in [name for name in os.environ if name.startswith("COVERAGE_PROCESS")]:
        monkeypatch.delenv(name)


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "acalsim_backend", *arguments]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, **options)


@pytest.mark.parametrize("arguments", QUICK, ids=" ".join)
def test_is_a_full_disk_one_clear_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = run(*arguments, stdout=full)
    assert done.returncode == 3
    assert done.stderr == "acalsim: the output: No space left on device\n"


@pytest.mark.parametrize("arguments", QUICK, ids=" ".join)
def test_is_a_closed_pipe_exit_code_141_and_silent(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run(*arguments, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_does_a_result_that_does_not_fit_leave_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    done = run(
        *("time", "gemm", "8", "8", "8", "--json", "r.json"), cwd=tmp_path, stdout=subprocess.DEVNULL, preexec_fn=limit
    )
    assert done.returncode == 3
    assert done.stderr == "acalsim: r.json: cannot write there: File too large; choose another place\n"
    assert list(tmp_path.iterdir()) == []


def test_is_no_file_made_before_there_is_a_result(
    acalsim: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        assert list(tmp_path.iterdir()) == []
        raise InputError("no result")

    monkeypatch.setattr(layers, "time_layers", fail)
    assert acalsim("time", "gemm", "8", "8", "8", "--json", "r.json").returncode == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["run", "model.py:fails"], ["compile", "model.py:fails"]], ids=" ".join)
def test_is_no_folder_made_before_there_is_a_result(acalsim: Command, tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "model.py").write_text("def fails(): raise ValueError\n")
    assert acalsim(*arguments, "--out", "a/b").returncode == 3
    assert not (tmp_path / "a").exists()


def test_may_json_go_where_no_file_is(tmp_path: Path) -> None:
    assert run("time", "gemm", "8", "8", "8", "--json", "/dev/null", stdout=subprocess.DEVNULL).returncode == 0
    assert Path("/dev/null").is_char_device()


INTERRUPTED = """
import os, signal, sys
import acalsim_backend.__main__ as start

class Interrupt:
    left = int(sys.argv.pop(1))

    def find_spec(self, name, path=None, target=None):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
start.main()
"""


@pytest.mark.parametrize("imports", [1, 2, 5, 20, 60, 120, 180, 240])
def test_is_ctrl_c_quiet_from_the_first_import_on(imports: int) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(imports), "time", "gemm", "8", "8", "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    ("arguments", "headers"),
    [
        (["hw", "list"], "preset arrays scratchpad DRAM"),
        (["models"], "model parameters inputs"),
        (["time", "gemm", "2048", "2048", "2048"], "layer cycles array cycles util DRAM most time bound energy"),
    ],
)
@pytest.mark.parametrize("columns", [None, 20, 79, 100])
def test_is_nothing_cut_off_at_any_width(
    acalsim: Command, arguments: list[str], headers: str, columns: int | None
) -> None:
    narrow, wide = acalsim(*arguments, columns=columns).stdout, acalsim(*arguments, columns=1000).stdout
    assert " ".join(wide.split()).startswith(headers)
    if columns is None:
        assert narrow == wide
    numbers = set(re.findall(r"[\d,.]*\d[\d,.]*", wide))
    if columns is not None and columns < 100:
        numbers -= {n for line in wide.splitlines() for n in re.findall(r"([\d,.]*\d[\d,.]*) [KMG]iB", line)}  # DRAM
    assert numbers - set(re.findall(r"[\d,.]*\d[\d,.]*", narrow)) == set()


def test_does_a_report_to_the_output_stand_behind_what_was_printed_before(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    with log.open("a") as output:
        assert run("time", "gemm", "8", "8", "8", "--json", "/dev/stdout", stdout=output).returncode == 0
        output.write("after\n")
    lines = log.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "cycles on edge" in log.read_text()
    assert '"total_cycles"' in log.read_text()


def without(*closed: int) -> Callable[[], None]:
    """For ``preexec_fn``: standard streams that the process does not have, as a shell's ``>&-`` starts it."""

    def close() -> None:
        for number in closed:
            os.close(number)

    return close


@pytest.mark.parametrize("arguments", QUICK, ids=" ".join)
def test_is_an_output_that_does_not_exist_one_clear_line(arguments: list[str]) -> None:
    done = run(*arguments, stdout=None, preexec_fn=without(1))
    assert done.returncode == 3
    assert done.stderr == "acalsim: the output: Bad file descriptor\n"


@pytest.mark.parametrize("arguments", [*QUICK, ["run", "matmul"]], ids=" ".join)
@pytest.mark.parametrize("closed", [(2,), (0, 2), (0,)])
def test_does_a_command_need_stdout_alone(arguments: list[str], closed: str) -> None:
    wanted = run(*arguments, stdout=subprocess.PIPE)
    done = run(*arguments, stdout=subprocess.PIPE, preexec_fn=without(*closed))
    assert (done.returncode, done.stdout) == (0, wanted.stdout)


MISTAKES = [
    (["run", "nope"], 2),
    (["run", "--nope"], 2),
    (["hw", "check", "absent.toml"], 3),
    (["--debug", "run", "nope"], 2),
]


@pytest.mark.parametrize(("arguments", "code"), MISTAKES)
@pytest.mark.parametrize("place", ["/dev/full", "closed", "no reader"])
def test_is_an_error_that_nobody_hears_told_by_its_code_alone(
    arguments: list[str], code: int, place: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "acalsim_backend", *arguments]
    if place == "closed":
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False, preexec_fn=without(2), cwd=tmp_path)
    else:
        reader, writer = os.pipe()
        os.close(reader)
        target = writer if place == "no reader" else os.open(place, os.O_WRONLY)
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=target, check=False, cwd=tmp_path)
        os.close(writer)
    assert (done.returncode, done.stdout) == (code, b"")


PRINTING = """
import torch
print("imported", flush={flush})
def target():
    print("built", flush={flush})
    return (lambda x: (print("called", flush={flush}), x + 1)[1]), torch.ones(2)
"""


@pytest.mark.parametrize("flush", [True, False])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_is_a_reader_that_left_told_from_a_model_that_fails(tmp_path: Path, flush: Any, unbuffered: Any) -> None:
    (tmp_path / "model.py").write_text(PRINTING.format(flush=flush))
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = run("-q", "run", "model.py:target", stdout=writer, cwd=tmp_path, env=environment)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


EARLY = """
import os, signal, sys

class Interrupt:
    left = int(sys.argv.pop(1))

    def __call__(self, frame, event, argument):
        self.left -= 1
        if self.left == 0:
            sys.setprofile(None)
            os.kill(os.getpid(), signal.SIGINT)

interrupt = Interrupt()
from acalsim_backend.__main__ import main
sys.setprofile(interrupt)
main()
"""


@pytest.mark.parametrize("calls", [2, 3, 4, 6, 9, 14, 30, 100, 1000, 10_000, 50_000, 100_000, 200_000])
def test_is_ctrl_c_quiet_from_the_first_call_to_the_last(calls: int) -> None:
    command = [sys.executable, "-c", EARLY, str(calls), "hw", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode in (130, 0)  # 0 where all was done before
    assert done.returncode == 130 or done.stdout


def test_is_typing_not_loaded_before_ctrl_c_is_quiet() -> None:
    """It takes longer than everything else that the package itself imports."""
    source = Path(acalsim_backend.__file__).parents[1]
    code = f"import sys; sys.path.insert(0, {str(source)!r}); import acalsim_backend; print('typing' in sys.modules)"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


SEVERAL_LINES = """
import torch
def raises(): raise ValueError("one\\ntwo\\n\\nthree")
def fails():
    def model(x): raise ValueError("one\\ntwo")
    return model, torch.ones(2)
"""


@pytest.mark.parametrize("target", ["raises", "fails"])
def test_is_a_message_of_several_lines_one(acalsim: Command, tmp_path: Path, target: str) -> None:
    (tmp_path / "bad.py").write_text(SEVERAL_LINES)
    done = acalsim("run", f"bad.py:{target}")
    assert done.returncode == 3
    assert "ValueError: one; two" in done.stderr
    assert len(done.stderr.splitlines()) == 1
