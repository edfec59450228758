"""The command, in this process (PyTorch is loaded once) or in one of its own, as users start it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cli_support import Command, Run

from acalsim_backend.cli.main import main


@pytest.fixture
def acalsim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """``acalsim(*arguments)`` in an empty folder, called in this process; ``columns`` None states no width."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("ACALSIM_CACHE_DIR", str(tmp_path / "cache"))

    def call(*arguments: str, columns: int | None = 100) -> Run:
        if columns is None:
            monkeypatch.delenv("COLUMNS", raising=False)
        else:
            monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys, "argv", ["acalsim", *arguments])
        monkeypatch.setattr(sys, "path", list(sys.path))
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main()
        if "torch" in sys.modules:
            sys.modules["torch"]._dynamo.reset()  # machines go with the graphs that were compiled for them
        out, err = capfd.readouterr()
        assert isinstance(exit_.value.code, int)
        return Run(["acalsim", *arguments], exit_.value.code, out, err)

    return call


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """``start(*arguments, stderr=..., without=...)``: a process; ``without`` cannot be imported."""

    def call(
        *arguments: str, stderr: int = subprocess.PIPE, without: Sequence[str] = (), folder: Path = tmp_path
    ) -> subprocess.Popen[bytes]:
        hide = f"import sys; sys.modules.update(dict.fromkeys({tuple(without)!r})); sys.argv[0] = 'acalsim'; "
        return subprocess.Popen(
            [sys.executable, "-c", f"{hide}from acalsim_backend.__main__ import main; main()", *arguments],
            cwd=folder,
            env={**os.environ, "NO_COLOR": "1", "ACALSIM_CACHE_DIR": str(tmp_path / "cache")},
            stdout=subprocess.PIPE,
            stderr=stderr,
        )

    return call


@pytest.fixture
def process(start: Callable[..., subprocess.Popen[bytes]]) -> Command:
    """``process(*arguments, without=...)``: the finished run of the command in its own process."""

    def call(*arguments: str, without: Sequence[str] = ()) -> Run:
        child = start(*arguments, without=without)
        out, err = child.communicate()
        return Run(["acalsim", *arguments], child.returncode, out.decode(), err.decode())

    return call
