"""Does the documentation say what is true, and do its examples run as written?"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

import acalsim_backend

ROOT = Path(__file__).parents[1]
QUICK_START = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]


@pytest.mark.parametrize("no_grad", [False, True])
def test_does_the_quick_start_run_as_written(tmp_path: Path, no_grad: bool) -> None:
    code = QUICK_START
    if no_grad:
        code = "import torch\nwith torch.no_grad():\n" + textwrap.indent(QUICK_START, "    ")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert run.returncode == 0, run.stderr
    assert re.search(r"^cycles +[\d,]+ ", run.stdout, re.MULTILINE)


def test_are_the_generated_pages_what_make_docs_writes() -> None:
    run = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/*.md")), ids=lambda p: p.name)
def test_do_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_does_make_list_exactly_its_targets() -> None:
    run = subprocess.run(["make", "--no-print-directory"], capture_output=True, text=True, cwd=ROOT, check=True)
    targets = [line.split()[1] for line in run.stdout.splitlines()]
    assert targets == [
        "help",
        "setup",
        "demo",
        "test",
        "test-all",
        "coverage",
        "sanitize",
        "fuzz",
        "fuzz-programs",
        "opinfo",
        "libm",
        "lint",
        "tidy",
        "format",
        "bench",
        "docs",
        "site",
        "clean",
    ]


def test_has_the_version_one_source() -> None:
    """That of pyproject.toml, which the installed distribution states."""
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    run = subprocess.run(
        [sys.executable, "-m", "acalsim_backend", "--version"], capture_output=True, text=True, check=True
    )
    assert run.stdout == f"acalsim {stated}\n"
    assert acalsim_backend.__version__ == stated


def test_do_the_models_of_the_readme_and_the_catalogue_agree() -> None:
    from acalsim_backend.models import CATALOGUE

    for name in re.findall(r"acalsim run (\w+)\b(?!\.)", (ROOT / "README.md").read_text()):
        assert name in CATALOGUE


WALK = re.findall(r"`([\w/]+\.(?:py|c|cpp))` `([\w.:]+)`", (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("file", "function"), WALK, ids=lambda part: part)
def test_does_every_hop_of_the_walk_exist(file: str, function: str) -> None:
    path = ROOT / file if file.startswith("engine/") else ROOT / "src" / "acalsim_backend" / file
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        owner, _, name = function.rpartition(".")
        assert not owner or re.search(rf"^class {owner}\b", text, re.MULTILINE)
        assert re.search(rf"^{'    ' if owner else ''}def {name}\(", text, re.MULTILINE)
    else:
        assert re.search(rf"^[\w ]*[\w>*] \**{function}\([^;]*\{{$", text, re.MULTILINE)


def test_has_the_walk_its_hops() -> None:
    assert len(WALK) == 30


NAMED = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (ROOT / "docs" / "documents.md").read_text(encoding="utf-8"))


def test_does_every_promise_name_a_test_that_exists() -> None:
    assert len(NAMED) > 25
    missing = [
        (file, name) for file, name in NAMED if f"\ndef {name}(" not in (ROOT / file).read_text(encoding="utf-8")
    ]
    assert missing == []


def test_is_a_command_in_six_files() -> None:
    """The example of docs/operators.md: nothing but these, and the operators made of it, knows of POOL2D."""
    page = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")
    command = page[page.index("`POOL2D` touches") :]
    named = set(re.findall(r"^(?:---|\+\+\+) [ab]/(\S+)", command, re.MULTILINE))
    sources = [
        p for folder in ("src", "engine") for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".c", ".h", ".cpp")
    ]
    knowing = {
        p.relative_to(ROOT).as_posix()
        for p in sources
        if "tests" not in p.parts and re.search(r"\b(POOL2D|[Pp]ool2d|acal_pool2d\w*)\b", p.read_text(encoding="utf-8"))
    }
    assert len(named) == 6
    assert knowing - {"src/acalsim_backend/ops/pool.py"} == named
