"""The command ``acalsim``.

Results go to stdout; progress, warnings and logs to stderr. Exit codes: 0 good, 1 outputs differ from eager, 2 usage,
3 bad input, 4 something is not installed, 5 guest or device fault, 70 a bug in this package, 130 Ctrl-C. torch and
numpy are imported by the commands that need them, after everything that can be checked without them.
"""

from __future__ import annotations

import enum
import logging
import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from acalsim_backend.errors import AcalsimError, InputError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from acalsim_backend.report import RunReport

EXIT_DIFFERENT = 1
EXIT_BUG = 70
MIN_WIDTH = 80  # narrower terminals wrap

app = typer.Typer(
    name="acalsim",
    help="Run PyTorch models on a simulated RISC-V + accelerator machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
hw_app = typer.Typer(help="List, show and check hardware files.", no_args_is_help=True)
app.add_typer(hw_app, name="hw")


class Mode(enum.StrEnum):
    """What is done with the captured graph."""

    simulate = "simulate"
    compile = "compile"
    trace = "trace"
    eager = "eager"


class Place(enum.StrEnum):
    """Which processor the commands go to."""

    auto = "auto"
    cpu = "cpu"
    accelerator = "accelerator"


class _Settings:
    """What the global options say; they may stand before or after the command's name."""

    debug = False
    quiet = False
    verbose = 0


def _set_debug(value: bool) -> None:
    _Settings.debug |= value


def _set_quiet(value: bool) -> None:
    _Settings.quiet |= value


def _set_verbose(value: int) -> None:
    _Settings.verbose = max(_Settings.verbose, value)


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"acalsim {version('acalsim_backend')}")
        raise typer.Exit


Debug = Annotated[bool, typer.Option("--debug", callback=_set_debug, help="Show the traceback of an error.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", callback=_set_quiet, help="No progress, no notes.")]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, callback=_set_verbose, help="Log more; -vv logs everything.")
]
Hardware = Annotated[str, typer.Option("--hw", metavar="NAME|FILE", help="Hardware preset or file.", show_default=True)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change the hardware of this run, as in array.rows=32; repeatable."),
]
Json = Annotated[str | None, typer.Option("--json", metavar="FILE|-", help="Write the report as JSON; - for stdout.")]


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    debug: Debug = False,
) -> None:
    pass


@app.command()
def run(
    target: Annotated[str, typer.Argument(help="Built-in model (see `acalsim models`) or file.py:function.")],
    hw: Hardware = "edge",
    machine: Annotated[str, typer.Option(metavar="NAME", help="unicorn (with timing) or native (without).")] = "unicorn",
    mode: Annotated[Mode, typer.Option(help="simulate, or stop after an earlier stage and run eagerly.")] = Mode.simulate,
    place: Annotated[Place, typer.Option(help="Processor that the commands go to.")] = Place.auto,
    set_: Overrides = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for report.json and trace.json (Perfetto).")
    ] = None,
    json: Json = None,
    seed: Annotated[int, typer.Option(help="Seed of random weights and inputs.")] = 0,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    debug: Debug = False,
) -> None:
    """Run a model, compare its outputs with PyTorch's and show the cycles of every operation."""
    from acalsim_backend import models
    from acalsim_backend.hardware import HardwareConfig
    from acalsim_backend.machine.base import check_machine

    _start_logging()
    if json == "-" and mode is not Mode.simulate:
        raise UsageError(f"--json needs a report, which --mode {mode} does not make; use --mode simulate")
    models.check_target(target)
    hardware = HardwareConfig.load(hw, _overrides(set_ or ()))
    check_machine(machine)
    if out is not None:
        _make_folder(out)
    if json not in (None, "-"):
        _check_writable(Path(json))

    raise NotImplementedError(hardware, place, seed)


def _overrides(settings: Iterable[str]) -> dict[str, str]:
    changes: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {setting}: expected KEY=VALUE, as in --set array.rows=32")
        changes[key.strip()] = value.strip()
    return changes


@app.command()
def models(
    quiet: Quiet = False,
    verbose: Verbose = 0,
    debug: Debug = False,
) -> None:
    """List the built-in models."""
    from rich import box
    from rich.table import Table

    from acalsim_backend.models import CATALOGUE

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("model", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("inputs", no_wrap=True)
    table.add_column("", overflow="fold")
    for model in CATALOGUE.values():
        shapes = " ".join("x".join(map(str, shape)) for shape in model.inputs)
        table.add_row(model.name, f"{model.parameters:,}", shapes, model.summary)
    _stdout().print(table)


@hw_app.command("list")
def hw_list(
    quiet: Quiet = False,
    verbose: Verbose = 0,
    debug: Debug = False,
) -> None:
    """List the hardware presets."""
    from rich import box
    from rich.table import Table

    from acalsim_backend.hardware import HardwareConfig, presets

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("preset", "arrays", "lanes", "scratchpad", "clock", "DRAM", ""):
        table.add_column(name, no_wrap=bool(name), justify="left" if name in ("preset", "") else "right")
    for name, path in presets().items():
        h = HardwareConfig.load(name)
        table.add_row(
            name,
            f"{h.array.count} x {h.array.rows}x{h.array.cols}",
            str(h.vector.lanes),
            f"{h.scratchpad.size_kib} KiB",
            f"{h.accelerator.frequency_mhz} MHz",
            f"{h.dram.bandwidth_gbytes_per_s:g} GB/s",
            path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# "),
        )
    _stdout().print(table)


@hw_app.command("show")
def hw_show(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Hardware preset or file.")] = "edge",
    set_: Overrides = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    debug: Debug = False,
) -> None:
    """Print a complete hardware file, base included, with units and meanings as comments."""
    from acalsim_backend.hardware import HardwareConfig

    typer.echo(HardwareConfig.load(name, _overrides(set_ or ())).to_toml(), nl=False)


@hw_app.command("check")
def hw_check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Hardware files.")],
    quiet: Quiet = False,
    verbose: Verbose = 0,
    debug: Debug = False,
) -> None:
    """Check hardware files; the first mistake of each is named with its line."""
    from acalsim_backend.hardware import HardwareConfig

    failures: list[AcalsimError] = []
    for file in files:
        try:
            hardware = HardwareConfig.load(file)
        except AcalsimError as error:
            failures.append(error)
            _complain(error)
        else:
            typer.echo(f"{file}: good ({hardware.name})")
    if failures:
        raise typer.Exit(failures[0].exit_code)


@app.command()
def doctor(
    quiet: Quiet = False,
    verbose: Verbose = 0,
    debug: Debug = False,
) -> None:
    """Say what is installed, what is missing and how to get it."""
    from acalsim_backend import doctor as checks

    console = _stdout()
    report = checks.diagnose(os.environ)
    console.print(checks.render(report))
    if any(check.required and not check.good for check in report):
        raise typer.Exit(4)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".acalsim-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"--out {folder}: cannot write there: {error.strerror}; choose another folder") from None


def _check_writable(file: Path) -> None:
    try:
        with file.open("a", encoding="utf-8"):
            pass
    except OSError as error:
        raise InputError(f"--json {file}: cannot write there: {error.strerror}; choose another file") from None


def _stdout() -> Console:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=False)
    if console.width < MIN_WIDTH:
        console.width = MIN_WIDTH
    return console


def _start_logging() -> None:
    level = logging.ERROR if _Settings.quiet else (logging.WARNING, logging.INFO, logging.DEBUG)[min(_Settings.verbose, 2)]
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger = logging.getLogger("acalsim_backend")
    logger.addHandler(handler)
    logger.setLevel(level)


def _complain(error: BaseException) -> None:
    print(f"acalsim: {error}", file=sys.stderr)


def main() -> NoReturn:
    """Entry point of the console script; turns exceptions into messages and exit codes."""
    try:
        app()
        code = 0
    except AcalsimError as error:
        if _Settings.debug:
            traceback.print_exc()
        else:
            _complain(error)
        code = error.exit_code
    except Exception as error:
        if _Settings.debug:
            traceback.print_exc()
        else:
            _complain(RuntimeError(f"internal error: {type(error).__name__}: {error}"))
            print("This is a bug in acalsim; run the same command with --debug and report the traceback.", file=sys.stderr)
        code = EXIT_BUG
    sys.exit(code)
