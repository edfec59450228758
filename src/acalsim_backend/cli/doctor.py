"""``acalsim doctor``: every part of the product, where it is, and the line that brings it."""

from __future__ import annotations

import enum
import importlib.metadata
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acalsim_backend.cli import options, terminal

if TYPE_CHECKING:
    from rich.console import RenderableType

app = typer.Typer()
PACKAGE = Path(__file__).parent.parent
REBUILD = "pip install --force-reinstall --no-deps acalsim_backend (in a checkout: make clean setup)"
LICENCES = (
    ("acalsim_backend", "Apache-2.0"),
    ("torch", "BSD-3-Clause"),
    ("numpy", "BSD-3-Clause"),
    ("unicorn", "GPL-2.0 (its core, whatever its metadata says); only the machine `unicorn` loads it"),
    ("ziglang", "MIT"),
)


@dataclass(frozen=True)
class Check:
    """One finding. ``fix`` is the line that installs what is missing; ``required`` means that runs need it."""

    name: str
    good: bool
    found: str
    fix: str = ""
    required: bool = True


def diagnose(environment: Mapping[str, str]) -> list[Check]:
    """All checks, in the order in which a stranger should read them. Nothing is imported but the engine."""
    return [
        _python(),
        *(_package(name, needed) for name, needed in (("torch", True), ("numpy", True), ("unicorn", True))),
        _package("ziglang", False, "builds generated C"),
        _engine(),
        _file("firmware", "firmware/acal_rv64gc.elf"),
        _file("kernels for the host", "firmware/libacal_kernels.so"),
        _file("unicorn hooks", "machine/libacal_unicorn.so"),
        _cache(environment),
        _qemu(environment),
        *_cross_compiler(environment),
    ]


def render(checks: list[Check]) -> RenderableType:
    """The checks and the licences as text for a terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        mark, style = ("ok", "green") if check.good else ("MISSING", "red") if check.required else ("absent", "yellow")
        table.add_row(Text(mark, style), check.name, check.found)
        if check.fix and not check.good:
            table.add_row("", "", f"to get it: {check.fix}")
    licences = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for package, licence in LICENCES:
        licences.add_row(package, licence)
    return Group(table, "", "Licences (docs/licences.md):", licences)


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check("python", sys.version_info >= (3, 11), version, "install Python 3.11 or newer")


def _package(name: str, required: bool, purpose: str = "") -> Check:
    note = f" ({purpose})" if purpose else ""
    try:
        return Check(name, True, importlib.metadata.version(name) + note, required=required)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, False, f"not installed{note}", f"pip install {name}", required)


def _engine() -> Check:
    found = importlib.util.find_spec("acalsim_backend._engine")
    if found is None or found.origin is None:
        return Check("engine", False, "the module acalsim_backend._engine was not built", REBUILD)
    try:
        importlib.import_module("acalsim_backend._engine")
    except ImportError as error:
        return Check("engine", False, f"{found.origin} does not load: {error}", REBUILD)
    return Check("engine", True, Path(found.origin).name)


def _file(name: str, relative: str) -> Check:
    path = PACKAGE / relative
    if path.is_file():
        return Check(name, True, f"{path.name}, {path.stat().st_size / 1024:.0f} KiB")
    return Check(name, False, f"{relative} was not built", REBUILD)


def _cache(environment: Mapping[str, str]) -> Check:
    from acalsim_backend.toolchain import cache_dir

    folder = cache_dir(environment)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = f"{folder}: {error.strerror}"
        return Check("cache folder", False, reason, "export ACALSIM_CACHE_DIR=<a folder that can be written>", False)
    return Check("cache folder", True, str(folder), required=False)


def _qemu(environment: Mapping[str, str]) -> Check:
    from acalsim_backend.errors import MissingToolError
    from acalsim_backend.machine.qemu_setup import INSTALL, find_qemu

    try:
        qemu = find_qemu(environment=environment)
    except MissingToolError as error:
        return Check("qemu", False, f"{error} (optional)", INSTALL, False)
    return Check("qemu", True, f"{'.'.join(map(str, qemu.version))}, {qemu.path}", required=False)


def _cross_compiler(environment: Mapping[str, str]) -> Iterator[Check]:
    prefix = environment.get("CROSS_COMPILE")
    if prefix is None:
        yield Check("CROSS_COMPILE", True, "not set: generated C is built with zig", required=False)
        return
    path = shutil.which(f"{prefix}gcc")
    fix = "apt-get install gcc-riscv64-unknown-elf, or unset CROSS_COMPILE to use zig"
    found = path or f"{prefix}gcc is not on the path"
    yield Check("CROSS_COMPILE", path is not None, found, fix, False)


class Installable(enum.StrEnum):
    """What `acalsim doctor` can set up."""

    qemu = "qemu"


@options.command(app)
def doctor(
    install: Annotated[
        Installable | None, typer.Option("--install", metavar="qemu", help="Set up QEMU privately first.")
    ] = None,
) -> None:
    """Say what is installed, what is missing and how to get it."""
    if install is Installable.qemu:
        from acalsim_backend.machine.qemu_setup import install_qemu
        from acalsim_backend.toolchain import cache_dir

        terminal.note("setting up QEMU from Debian's packages")
        made = install_qemu(cache_dir(os.environ))
        terminal.note(f"QEMU {'.'.join(map(str, made.version))}: {made.path}")
    console = terminal.stdout()
    report = diagnose(os.environ)
    console.print(render(report))
    if any(check.required and not check.good for check in report):
        raise typer.Exit(4)
