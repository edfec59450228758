"""What the tests of generated C share: capture, make, and the two compilers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

from acalsim_backend import ACALSimCompiler
from acalsim_backend.ir import ACALSimIR

GCC = "riscv64-unknown-elf-"
needs_gcc = pytest.mark.skipif(shutil.which(GCC + "gcc") is None, reason="apt-get install gcc-riscv64-unknown-elf")
compilers = pytest.mark.parametrize("cross", ["", pytest.param(GCC, marks=needs_gcc)], ids=["zig", "gcc"])


def capture(model: nn.Module, *inputs: torch.Tensor) -> ACALSimIR:
    """The IR of a model for inference, as ``graph_0``."""
    with torch.no_grad():
        return ACALSimCompiler().compile(torch.fx.symbolic_trace(model.eval()), list(inputs), "graph_0")


def make(folder: Path, *arguments: str, cross: str = "", path: str | None = None) -> str:
    """Run make in a folder, with zig unless ``cross`` is the prefix of a gcc; ``path`` replaces PATH. What it said."""
    environment = {k: v for k, v in os.environ.items() if k != "CROSS_COMPILE"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1] / "src")
    environment |= {"CROSS_COMPILE": cross} if cross else {}
    environment |= {"PATH": path} if path else {}
    done = subprocess.run(
        [shutil.which("make") or "make", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said
