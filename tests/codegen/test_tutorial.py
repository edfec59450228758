"""Do the tutorial's commands, and the seed's examples, work as written?"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from codegen_support import GCC

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL)
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a block as a user with the package's environment active would."""
    environment = {k: v for k, v in os.environ.items() if k != "CROSS_COMPILE"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["PYTHONPATH"] = str(ROOT / "src")
    return subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the examples as they are in the repository."""
    ignored = shutil.ignore_patterns("output*", "__pycache__")
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=ignored)
    return tmp_path


def test_do_the_commands_of_the_tutorial_work_in_order(checkout: Path) -> None:
    assert len(BLOCKS) == 5
    for block in BLOCKS:
        if "CROSS_COMPILE" in block and shutil.which(GCC + "gcc") is None:
            continue  # test_codegen.py says how to install it
        run = shell(block, checkout)
        assert run.returncode == 0, f"{block}\n{run.stdout}{run.stderr}"
    folder = checkout / "examples" / "output_matmul"
    assert {p.name for p in folder.iterdir()} >= {
        f"graph_0{end}" for end in (".c", ".h", ".ld", ".elf", ".bin", ".dump")
    }


def test_does_the_example_print_the_ir_of_the_tutorial(checkout: Path) -> None:
    (text, *_) = re.findall(r"```text\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL)
    assert text in shell("python examples/matmul_demo.py", checkout).stdout


@pytest.mark.parametrize("name", EXAMPLES)
def test_does_each_example_run_and_write_its_folder(checkout: Path, name: str) -> None:
    run = shell(f"python examples/{name}", checkout)
    assert run.returncode == 0, run.stderr
    assert list((checkout / "examples").glob("output_*/*"))


QUICK_START = """
import torch
from acalsim_backend import ACALSimBackend

# Create your model
model = torch.nn.Sequential(
    torch.nn.Linear(16, 32),
    torch.nn.ReLU(),
    torch.nn.Linear(32, 10),
)

# Create the ACALSim backend
backend = ACALSimBackend(
    mode="codegen",    # Generate RISC-V code
    verbose=True,      # Print compilation info
    output_dir="./output",
)

# Compile the model
compiled_model = torch.compile(model, backend=backend)

# Run inference (also generates code)
x = torch.randn(4, 16)
output = compiled_model(x)
"""


def test_does_the_quick_start_with_codegen_work_as_written(tmp_path: Path) -> None:
    (tmp_path / "quick.py").write_text(QUICK_START)
    run = shell("python quick.py && ls output", tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.endswith(
        "Makefile\nacal\ngraph_0.c\ngraph_0.h\ngraph_0.ld\ngraph_0_weights.bin\ngraph_0_weights.c\n"
    ), run.stdout
