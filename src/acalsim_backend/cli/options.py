"""Options that several commands take, and what is checked of them before anything is loaded."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acalsim_backend import files
from acalsim_backend.cli import terminal
from acalsim_backend.errors import HardwareError, UsageError

if TYPE_CHECKING:
    from acalsim_backend.hardware import HardwareConfig


def path(text: str) -> Path:
    """A path from the command line; an empty one would silently be the current folder."""
    if not text:
        raise typer.BadParameter("is empty, expected a path")
    return Path(text)


def output(text: str) -> Path:
    """As :func:`path`; ``-`` is stdout."""
    return Path("/dev/stdout") if text == "-" else path(text)


def _file_or_dash(text: str) -> str:
    return text if text == "-" else str(path(text))


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")]
Verbose = Annotated[int, typer.Option("--verbose", "-v", count=True, metavar="", help="Log more; -vv logs everything.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Hardware = Annotated[str, typer.Option("--hw", metavar="NAME|FILE", help="Hardware preset or file.", show_default=True)]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change the hardware of this run, as in array.rows=32; repeatable."
    ),
]
TraceMmio = Annotated[
    Path | None,
    typer.Option("--trace-mmio", parser=path, metavar="FILE", help="qemu: write every register access there."),
]
Json = Annotated[
    str | None,
    typer.Option(
        "--json", parser=_file_or_dash, metavar="FILE|-", help="Write the report as JSON; - for stdout alone."
    ),
]
Seed = Annotated[int, typer.Option(min=-(2**63), max=2**64 - 1, metavar="N", help="Seed of random weights and inputs.")]


def command(group: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command that takes the global options too."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(*, quiet: bool, verbose: int, debug: bool, **arguments: Any) -> None:
            terminal.settings.merge(quiet, verbose, debug)
            terminal.start_logging()
            function(**arguments)
            sys.stdout.flush()

        common = {"quiet": (False, Quiet), "verbose": (0, Verbose), "debug": (False, Debug)}
        signature = inspect.signature(function, eval_str=True)
        extra = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for key, (default, annotation) in common.items()
        ]
        command.__signature__ = signature.replace(  # type: ignore[attr-defined]  # what typer reads
            parameters=[*signature.parameters.values(), *extra]
        )
        group.command(name)(command)
        return function

    return register


def overrides(settings: Iterable[str]) -> dict[str, str]:
    """Keys and values of ``--set``."""
    changes: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {setting}: expected KEY=VALUE, as in --set array.rows=32")
        changes[key.strip()] = value.strip()
    return changes


def load_hardware(source: str, overrides: Mapping[str, str]) -> HardwareConfig:
    """The machine of ``--hw`` with the changes of ``--set``, whose mistakes are those of the command line."""
    from acalsim_backend.hardware import HardwareConfig

    hardware = HardwareConfig.load(source)
    try:
        return hardware.override(overrides)
    except HardwareError as error:
        raise UsageError(str(error)) from None


def check_places(out: Path | None, json: str | None = None, trace_memory: Path | None = None) -> None:
    """Refuse what could not be written after the run, before it.

    Raises:
        InputError: it could not.
        UsageError: two things would be written to one file.
    """
    if out is not None:
        files.check_folder(out)
    if json not in (None, "-"):
        files.check_writable(json)
    if trace_memory is not None:
        files.check_writable(trace_memory)
        if json is not None and trace_memory.resolve() == output(json).resolve():
            raise UsageError(f"--json and --trace-memory both name {json}; give each a file of its own")
