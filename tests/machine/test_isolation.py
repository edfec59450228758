"""Does each machine need only what it says it needs?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
for name in {blocked}:
    sys.modules[name] = None  # importing it raises ImportError
sys.path.insert(0, {source!r})
import numpy as np
from acalsim_backend.hardware import DramConfig, HardwareConfig
from acalsim_backend.run.session import Session
from acalsim_backend.program.enums import DType, Placement
from acalsim_backend.program.view import View
from acalsim_backend.program.commands import Copy
from acalsim_backend.program.program import Program, Tensor, TensorKind
kinds = TensorKind.INPUT, TensorKind.OUTPUT
tensors = tuple(Tensor(i, f"t_{{i}}", kind, DType.F32, (4,)) for i, kind in enumerate(kinds))
a, b = (View(i, DType.F32, (4,), (1,)) for i in (0, 1))
program = Program("copy", tensors, (Copy(a, b, placement=Placement.ACCELERATOR),), (0,), (1,))
session = Session(HardwareConfig(dram=DramConfig(size_mib=80)), {machine!r})
x = np.arange(4, dtype=np.float32)
out = session.run(session.load(program), {{0: x}}).outputs[1].view(np.float32)
assert (out == x).all()
print("torch" in sys.modules, "unicorn" in sys.modules)
"""


def _run(machine: str, *blocked: str) -> subprocess.CompletedProcess[str]:
    source = str(Path(__file__).parents[2] / "src")
    code = PROGRAM.format(blocked=blocked, machine=machine, source=source)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_does_native_run_without_unicorn_torch_and_engine() -> None:
    result = _run("native", "unicorn", "torch", "acalsim_backend._engine", "elftools")
    assert result.stderr == ""


def test_does_unicorn_run_without_torch() -> None:
    pytest.importorskip("unicorn", reason="pip install unicorn")
    result = _run("unicorn", "torch", "elftools")
    assert result.stderr == ""


def test_does_native_import_neither_unicorn_nor_torch() -> None:
    assert _run("native").stdout.split() == ["False", "False"]


def test_does_unicorn_say_how_to_get_it() -> None:
    result = _run("unicorn", "unicorn")
    assert "MissingToolError: machine unicorn: " in result.stderr
    assert "pip install unicorn" in result.stderr
