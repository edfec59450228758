"""Do output and interruption behave as people and pipelines expect of a command?"""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_support import Command

from acalsim_backend import layers
from acalsim_backend.errors import InputError

QUICK = [["hw", "list"], ["hw", "show"], ["models"], ["--help"], ["--version"], ["time", "gemm", "8", "8", "8"]]


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
