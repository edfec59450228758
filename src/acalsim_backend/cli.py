"""The command ``acalsim``.

Results go to stdout; progress, warnings and logs to stderr. ``EXIT_CODES`` lists the exit codes. torch and numpy are
imported by the commands that need them, after everything that can be checked without them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import inspect
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Self

import typer

from acalsim_backend import files
from acalsim_backend.errors import AcalsimError, HardwareError, InputError, MachineError, MissingToolError, UsageError
from acalsim_backend.text import UNLIMITED, table_width, user_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from acalsim_backend.hardware import HardwareConfig
    from acalsim_backend.report import RunReport
    from acalsim_backend.time_command import Layer

EXIT_DIFFERENT = 1
EXIT_BUG = 70
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_CLOSED = 128 + signal.SIGPIPE
EXIT_CODES = {
    0: "good",
    EXIT_DIFFERENT: "the model ran, and its outputs differ from eager PyTorch's",
    UsageError.exit_code: "a command line that cannot be understood, options and `--set` included",
    InputError.exit_code: "a model or a file that cannot be used, or a result that cannot be written",
    MissingToolError.exit_code: "something is not installed; the message has the line that installs it",
    MachineError.exit_code: "the guest or a device failed",
    EXIT_BUG: "a bug in acalsim",
    EXIT_INTERRUPTED: "Ctrl-C",
    EXIT_CLOSED: "whoever read the output closed it, as `head` does",
    128 + signal.SIGTERM: "`device serve` was ended by SIGTERM",
}

app = typer.Typer(
    name="acalsim",
    help="Run PyTorch models on a simulated RISC-V + accelerator machine.",
    epilog="Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in sorted(EXIT_CODES.items())) + ".",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
hw_app = typer.Typer(help="List, show and check hardware files.", no_args_is_help=True)
app.add_typer(hw_app, name="hw")
device_app = typer.Typer(help="Serve the devices to a simulator in another process.", no_args_is_help=True)
app.add_typer(device_app, name="device")


class Mode(enum.StrEnum):
    """What is done with the captured graph."""

    simulate = "simulate"
    compile = "compile"
    codegen = "codegen"
    trace = "trace"
    eager = "eager"


class Build(enum.StrEnum):
    """The form of the Program."""

    image = "image"
    c = "c"


class Protocol(enum.StrEnum):
    """How another process reaches the devices."""

    vfio_user = "vfio-user"
    mmio = "mmio"


class Installable(enum.StrEnum):
    """What `acalsim doctor` can set up."""

    qemu = "qemu"


class Place(enum.StrEnum):
    """Which processor the commands go to."""

    auto = "auto"
    cpu = "cpu"
    accelerator = "accelerator"


@dataclass
class _Settings:
    """What the global options say; they may stand before or after the command's name."""

    quiet: bool = False
    verbose: int = 0
    debug: bool = False

    def reset(self) -> None:
        self.quiet, self.verbose, self.debug = False, 0, False

    def merge(self, quiet: bool, verbose: int, debug: bool) -> None:
        self.quiet |= quiet
        self.verbose = max(self.verbose, verbose)
        self.debug |= debug


_settings = _Settings()


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"acalsim {version('acalsim_backend')}")
        raise typer.Exit


def _path(text: str) -> Path:
    """A path from the command line; an empty one would silently be the current folder."""
    if not text:
        raise typer.BadParameter("is empty, expected a path")
    return Path(text)


def _file_or_dash(text: str) -> str:
    return text if text == "-" else str(_path(text))


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
    typer.Option("--trace-mmio", parser=_path, metavar="FILE", help="qemu: write every register access there."),
]
Json = Annotated[
    str | None,
    typer.Option(
        "--json", parser=_file_or_dash, metavar="FILE|-", help="Write the report as JSON; - for stdout alone."
    ),
]
Seed = Annotated[int, typer.Option(min=-(2**63), max=2**64 - 1, metavar="N", help="Seed of random weights and inputs.")]


def _command(group: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command that takes the global options too."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(*, quiet: bool, verbose: int, debug: bool, **arguments: Any) -> None:
            _settings.merge(quiet, verbose, debug)
            _start_logging()
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


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    debug: Debug = False,
) -> None:
    _settings.merge(quiet, verbose, debug)


@_command(app)
def run(
    target: Annotated[str, typer.Argument(help="Built-in model (see `acalsim models`) or file.py:function.")],
    hw: Hardware = "edge",
    machine: Annotated[
        str, typer.Option(metavar="NAME", help="unicorn or qemu (with timing), or native (without).")
    ] = "unicorn",
    mode: Annotated[Mode, typer.Option(help="simulate, or show an earlier stage and run eagerly.")] = Mode.simulate,
    place: Annotated[Place, typer.Option(help="Processor that the commands go to.")] = Place.auto,
    set_: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", parser=_path, metavar="DIR", help="Folder for report.json and trace.json (Perfetto)."),
    ] = None,
    json: Json = None,
    seed: Seed = 0,
    cpu: Annotated[str | None, typer.Option(metavar="ISA", help="rv64gc or rv64gcv; short for --set cpu.isa.")] = None,
    gdb: Annotated[
        int | None, typer.Option("--gdb", metavar="PORT", help="qemu: stop at _start and wait for gdb.")
    ] = None,
    trace_mmio: TraceMmio = None,
    build: Annotated[
        Build, typer.Option(help="image for the generic firmware, or c: generate C, compile it, run that.")
    ] = Build.image,
) -> None:
    """Run a model, compare its outputs with PyTorch's and show the cycles of every operation."""
    from acalsim_backend.machine.base import check_machine
    from acalsim_backend.models import check_target

    if json is not None and mode is not Mode.simulate:
        raise UsageError(f"--json writes a report, and --mode {mode} makes none; use --mode simulate")
    check_target(target)
    hardware = _load_hardware(hw, _overrides(set_ or ()) | ({} if cpu is None else {"cpu.isa": cpu}))
    check_machine(machine)
    settings = _qemu_settings(machine, gdb, trace_mmio) | {"build": build.value}
    _check_places(out, json)
    if mode is not Mode.simulate:
        with _user_code():
            _run_stage(target, seed, hardware, mode, place, out)
        return
    with _user_code():
        report = _simulate(target, seed, hardware, machine, place, settings)
    _show(report, out, json)
    if not report.outputs.allclose:
        raise typer.Exit(EXIT_DIFFERENT)


@_command(app, "compile")
def compile_(
    target: Annotated[str, typer.Argument(help="Built-in model (see `acalsim models`) or file.py:function.")],
    out: Annotated[Path, typer.Option("--out", parser=_path, metavar="DIR", help="Folder for what is made.")],
    build: Annotated[
        Build, typer.Option(help="image: IR and Program, as text and as guest bytes; c: C sources, Makefile and ELF.")
    ] = Build.image,
    hw: Hardware = "edge",
    place: Annotated[Place, typer.Option(help="Processor that the commands go to.")] = Place.auto,
    set_: Overrides = None,
    seed: Seed = 0,
) -> None:
    """Compile a model without running it, and list the files."""
    from acalsim_backend.models import check_target

    check_target(target)
    hardware = _load_hardware(hw, _overrides(set_ or ()))
    _check_places(out)
    with _user_code(), _Progress(_settings.quiet) as progress:
        progress.stage("loading PyTorch")
        from acalsim_backend.backend import compile_model
        from acalsim_backend.models import load_target

        model, inputs = load_target(target, seed)
        progress.stage(f"compiling {target}")
        made = compile_model(model, inputs, out, build=build.value, hardware=hardware, place=place.value)
    for file in made:
        typer.echo(str(file))


@contextlib.contextmanager
def _user_code() -> Iterator[None]:
    """What runs a user's model, which must not end this process as if all were well."""
    try:
        yield
    except SystemExit as exit_:
        raise InputError(f"the model called sys.exit({exit_.code!r}){user_line(exit_)}") from exit_


def _qemu_settings(machine: str, gdb: int | None, trace_mmio: Path | None) -> dict[str, Any]:
    """The options of the machine qemu as arguments of the backend; it is also looked for, which costs little."""
    if machine != "qemu":
        for name, value in (("--gdb", gdb), ("--trace-mmio", trace_mmio)):
            if value is not None:
                raise UsageError(f"{name} is for --machine qemu, got --machine {machine}")
        return {}
    from acalsim_backend.machine.qemu import QemuConfig
    from acalsim_backend.machine.qemu_setup import find_qemu

    find_qemu()
    return {"qemu_config": QemuConfig(gdb_port=gdb, trace_mmio=trace_mmio)}


def _simulate(
    target: str, seed: int, hardware: HardwareConfig, machine: str, place: Place, settings: dict[str, Any]
) -> RunReport:
    """Load, run eagerly, run on the machine, compare."""
    with _Progress(_settings.quiet) as progress:
        progress.stage("loading PyTorch")
        import torch

        from acalsim_backend.backend import simulate
        from acalsim_backend.compare import compare, run_eagerly
        from acalsim_backend.models import load_target

        progress.stage(f"building {target}")
        model, inputs = load_target(target, seed)
        progress.stage("running eagerly")
        torch.manual_seed(seed)  # what draws random numbers on the host draws the same ones twice
        expected, seconds = run_eagerly(model, inputs)
        progress.stage(f"simulating on {machine}")
        torch.manual_seed(seed)
        outputs, report = simulate(model, inputs, hardware=hardware, machine=machine, place=place.value, **settings)
        progress.stage("comparing")
        return dataclasses.replace(
            report, model=target, outputs=compare(outputs, expected), wall_s={**report.wall_s, "eager": seconds}
        )


def _show(report: RunReport, out: Path | None, json: str | None) -> None:
    if json == "-":
        typer.echo(report.to_json(), nl=False)
    else:
        console = _stdout()
        console.print(f"{report.model} on {report.hardware}, machine {report.machine}", style="bold", soft_wrap=True)
        _print_table(console, report.rich_table(console.width))
        console.print(report.summary(), soft_wrap=True)
    if json not in (None, "-"):
        report.save(json)
    if out is not None:
        report.save(out / "report.json")
        written = "report.json"
        if report.cycles.total is not None:
            report.trace(out / "trace.json")
            written += " and trace.json (open it at ui.perfetto.dev)"
        _note(f"{out}: wrote {written}")


def _run_stage(target: str, seed: int, hardware: HardwareConfig, mode: Mode, place: Place, out: Path | None) -> None:
    """Modes that stop before the machine: what they print comes from the backend."""
    import torch

    from acalsim_backend.backend import ACALSimBackend
    from acalsim_backend.models import load_target

    model, inputs = load_target(target, seed)
    folder = None if out is None else str(out)
    backend = ACALSimBackend(mode.value, verbose=True, output_dir=folder, hardware=hardware, place=place.value)
    with torch.no_grad():
        torch.compile(model, backend=backend)(*inputs)
    if mode is Mode.eager:
        _note(f"{target} ran in PyTorch; nothing was captured")


def _overrides(settings: Iterable[str]) -> dict[str, str]:
    changes: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {setting}: expected KEY=VALUE, as in --set array.rows=32")
        changes[key.strip()] = value.strip()
    return changes


@_command(app)
def time(
    layer: Annotated[
        str | None,
        typer.Argument(
            help="gemm M N K, conv N C H W K R S, softmax ROWS COLS, layernorm ROWS COLS, "
            "attention HEADS SEQ DIM or elementwise N.",
        ),
    ] = None,
    sizes: Annotated[list[int] | None, typer.Argument(help="Its sizes.")] = None,
    topology: Annotated[
        Path | None, typer.Option(parser=_path, metavar="FILE.csv", help="Layers of a SCALE-Sim topology file instead.")
    ] = None,
    dtype: Annotated[str, typer.Option(metavar="NAME", help="Element type: f32, f16, bf16, i8, ...")] = "f32",
    stride: Annotated[int | None, typer.Option(min=1, help="conv: stride.")] = None,
    pad: Annotated[int | None, typer.Option(min=0, help="conv: padding.")] = None,
    groups: Annotated[int | None, typer.Option(min=1, help="conv: groups.")] = None,
    inputs: Annotated[int | None, typer.Option(min=1, help="elementwise: number of inputs.")] = None,
    dataflow: Annotated[str | None, typer.Option(metavar="ws|os|is|any", help="Dataflow of the arrays.")] = None,
    hw: Hardware = "edge",
    set_: Overrides = None,
    json: Json = None,
) -> None:
    """Show the accelerator's cycles for one layer or a topology file, without a model and without PyTorch."""
    import json as json_module

    from acalsim_backend.time_command import Display, make_layers, time_layers

    hardware = _load_hardware(hw, _overrides(set_ or ()) | ({} if dataflow is None else {"array.dataflow": dataflow}))
    given = {"stride": stride, "pad": pad, "groups": groups, "inputs": inputs}
    options = {name: value for name, value in given.items() if value is not None}
    layers = make_layers(layer, sizes or (), topology_file=topology, dtype=dtype, options=options)
    _check_sizes(layers, UsageError if topology is None else InputError)
    _check_places(None, json)
    if _settings.quiet:
        document = time_layers(layers, hardware)
    else:
        with Display() as display:
            document = time_layers(layers, hardware, display)
    text = json_module.dumps(document, indent=2, allow_nan=False)
    if json == "-":
        typer.echo(text)
        return
    console = _stdout()
    _print_table(console, _layer_table(document, wide=console.width >= 100))
    typer.echo(f"{document['total_cycles']:,} cycles on {hardware.name}{_channels(document, hardware)}")
    if json is not None:
        files.write(json, text + "\n")


def _check_sizes(layers: Iterable[Layer], error: type[AcalsimError]) -> None:
    """Refuse what no 64-bit address reaches."""
    for layer in layers:
        for name, command in zip(layer.names, layer.commands, strict=True):
            end = max(view.extent[1] for view in (*command.reads(), *command.writes()))
            if end >= 1 << 63:
                raise error(f"{name}: its operands need addresses of {end.bit_length()} bits, of which there are 63")


def _layer_table(document: dict[str, Any], *, wide: bool) -> Table:
    from acalsim_backend.text import percent, size

    rows = []
    for row in document["layers"]:
        most = max(row["stall"], key=row["stall"].get)
        rows.append(
            (
                row["name"],
                f"{row['cycles']:,}",
                "-" if row["array_cycles"] is None else f"{row['array_cycles']:,}",
                percent(row["utilization"], 1) if row["utilization"] else "-",
                *([size(row["dram_bytes_read"] + row["dram_bytes_written"])] if wide else []),
                f"{most} {percent(row['stall'][most], row['cycles'])}",
                _place(row["roofline"]),
                f"{row['energy_pj'] / 1e6:,.1f} µJ",
            )
        )
    array, moved = ("array cycles", ["DRAM"]) if wide else ("array", [])
    columns = ("layer", "cycles", array, "util", *moved, "most time", "bound", "energy")
    return _table(columns, rows)


def _place(roofline: dict[str, Any] | None) -> str:
    """How near a layer came to the bound that it meets first."""
    short = {"compute": "comp", "memory": "mem"}
    return "-" if roofline is None else f"{short[roofline['bound']]} {roofline['fraction']:.0%}"


def _channels(document: dict[str, Any], hardware: HardwareConfig) -> str:
    """A line on the memory's channels: bandwidth, row hits, and how evenly they were used."""
    channels, peak = document["channels"], hardware.dram.bandwidth_gbytes_per_s
    rates = [channel["gbytes_per_s"] for channel in channels]
    if not any(rates) or hardware.dram.preset == "ideal":
        return ""
    text = f"\nmemory {sum(rates):,.1f} of {peak:,.1f} GB/s ({sum(rates) / peak:.0%})"
    hits = [channel["row_hit_rate"] for channel in channels if channel["row_hit_rate"] is not None]
    if hits:
        text += f", row hits {_range(hits, '{:.0%}')}"
    if len(channels) > 1:
        text += f", {len(channels)} channels of {_range(rates, '{:,.1f}')} GB/s"
    return text


def _range(values: Sequence[float], form: str) -> str:
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} to {high}"


@_command(app)
def models() -> None:
    """List the built-in models."""
    from acalsim_backend.models import CATALOGUE

    rows = [
        (m.name, f"{m.parameters:,}", " ".join("x".join(map(str, i.shape)) for i in m.inputs), m.summary)
        for m in CATALOGUE.values()
    ]
    _print_table(_stdout(), _table(("model", "parameters", "inputs", ""), rows))


@_command(hw_app, "list")
def hw_list() -> None:
    """List the hardware presets."""
    from acalsim_backend.hardware import HardwareConfig, presets

    rows = []
    for name, path in presets().items():
        h = HardwareConfig.load(name)
        rows.append(
            (
                name,
                f"{h.array.count} x {h.array.rows}x{h.array.cols}",
                f"{h.scratchpad.size_kib} KiB",
                f"{h.dram.bandwidth_gbytes_per_s:g} GB/s",
                path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# "),
            )
        )
    _print_table(_stdout(), _table(("preset", "arrays", "scratchpad", "DRAM", ""), rows))


@_command(hw_app, "show")
def hw_show(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Hardware preset or file.")] = "edge",
    set_: Overrides = None,
) -> None:
    """Print a complete hardware file, base included, with units, meanings and sources as comments."""
    from acalsim_backend.hardware import header, provenance

    overrides = _overrides(set_ or ())
    hardware = _load_hardware(name, overrides)
    typer.echo(header(name) + hardware.to_toml(provenance(name, overrides)), nl=False)


@_command(hw_app, "check")
def hw_check(
    paths: Annotated[list[Path], typer.Argument(parser=_path, metavar="FILE...", help="Hardware files.")],
) -> None:
    """Check hardware files; the first mistake of each is named with its line."""
    from acalsim_backend.hardware import HardwareConfig

    failures: list[AcalsimError] = []
    for file in paths:
        try:
            hardware = HardwareConfig.load(file)
        except AcalsimError as error:
            failures.append(error)
            _complain(error)
        else:
            typer.echo(f"{file}: good ({hardware.name})")
    if failures:
        raise typer.Exit(failures[0].exit_code)


@_command(device_app)
def serve(
    socket: Annotated[Path, typer.Option("--socket", parser=_path, metavar="PATH", help="Unix socket to listen on.")],
    protocol: Annotated[
        Protocol, typer.Option(help="vfio-user for QEMU, mmio for test programs.")
    ] = Protocol.vfio_user,
    devices: Annotated[
        Path | None,
        typer.Option("--devices", parser=_path, metavar="FILE", help="Devices file: names, bases, hardware."),
    ] = None,
    hw: Hardware = "edge",
    set_: Overrides = None,
    trace_mmio: Annotated[
        Path | None,
        typer.Option("--trace-mmio", parser=_path, metavar="FILE", help="Write every register access there."),
    ] = None,
    ram: Annotated[
        Path | None,
        typer.Option("--ram", parser=_path, metavar="FILE", help="mmio: file that is guest RAM at 0x80000000."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End after the first client.")] = False,
) -> None:
    """Serve Echo and Compute devices to clients one after another; print their log and statistics."""
    from acalsim_backend.device_server import serve_devices

    serve_devices(
        socket,
        protocol.value,
        devices,
        _load_hardware(hw, _overrides(set_ or ())),
        trace_mmio=trace_mmio,
        ram=ram,
        once=once,
        write=lambda line: typer.echo(line),
        note=_note,
    )


@_command(app)
def doctor(
    install: Annotated[
        Installable | None, typer.Option("--install", metavar="qemu", help="Set up QEMU privately first.")
    ] = None,
) -> None:
    """Say what is installed, what is missing and how to get it."""
    from acalsim_backend import doctor as checks

    if install is Installable.qemu:
        from acalsim_backend.machine.qemu_setup import install_qemu
        from acalsim_backend.toolchain import cache_dir

        _note("setting up QEMU from Debian's packages")
        made = install_qemu(cache_dir(os.environ))
        _note(f"QEMU {'.'.join(map(str, made.version))}: {made.path}")
    console = _stdout()
    report = checks.diagnose(os.environ)
    console.print(checks.render(report))
    if any(check.required and not check.good for check in report):
        raise typer.Exit(4)


def _load_hardware(source: str, overrides: Mapping[str, str]) -> HardwareConfig:
    """The machine of ``--hw`` with the changes of ``--set``, whose mistakes are those of the command line."""
    from acalsim_backend.hardware import HardwareConfig

    hardware = HardwareConfig.load(source)
    try:
        return hardware.override(overrides)
    except HardwareError as error:
        raise UsageError(str(error)) from None


def _check_places(out: Path | None, json: str | None = None) -> None:
    """Refuse what could not be written after the run, before it."""
    if out is not None:
        files.make_folder(out)
    if json not in (None, "-"):
        files.check_writable(json)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table without frame. Numbers, in the named columns after the first, stay whole; texts give way."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for i, name in enumerate(columns):
        if name:
            width = max(len(name), *(len(row[i]) for row in rows))
            table.add_column(name, justify="right" if i else "left", no_wrap=True, min_width=width)
        else:
            table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _print_table(console: Console, table: Table) -> None:
    """Print a table with all its digits; a terminal that is too narrow for them wraps its lines."""
    console.width = max(console.width, table_width(table))
    console.print(table)


def _stdout() -> Console:
    """The terminal, or what has no width of its own: a pipe or a file, unless COLUMNS says how wide it is."""
    from rich.console import Console

    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return Console(highlight=False, markup=False, width=None if known else UNLIMITED)


class _Progress:
    """What is being done, on stderr, once that took ``DELAY`` seconds; nothing if quiet or not a terminal."""

    DELAY = 2.0

    def __init__(self, quiet: bool) -> None:
        self._enabled = not quiet and sys.stderr.isatty()
        self._stage = ""
        self._lock = threading.Lock()
        self._timer = threading.Timer(self.DELAY, self._start)
        self._timer.daemon = True
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        if self._enabled:
            self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with self._lock:
            self._enabled = False
            self._timer.cancel()
            if self._bar is not None:
                self._bar.stop()

    def stage(self, text: str) -> None:
        """Say what comes now."""
        with self._lock:
            self._stage = text
            if self._bar is not None:
                self._bar.update(self._bar.task_ids[0], description=text)

    def _start(self) -> None:
        with self._lock:
            if not self._enabled:
                return
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.add_task(self._stage, total=None)
            self._bar.start()


def _start_logging() -> None:
    levels = (logging.WARNING, logging.INFO, logging.DEBUG)
    logger = logging.getLogger("acalsim_backend")
    logger.setLevel(logging.ERROR if _settings.quiet else levels[min(_settings.verbose, 2)])
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger.handlers = [handler]
    logger.propagate = False
    warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """A warning without the line of code that gave it, which is not the user's."""
    _note(f"WARNING: {message}")


def _note(text: str) -> None:
    if not _settings.quiet:
        print(text, file=sys.stderr)


def _complain(message: object) -> None:
    print(f"acalsim: {message}", file=sys.stderr)


def main() -> NoReturn:
    """Entry point of the console script; turns exceptions into messages and exit codes."""
    _settings.reset()
    code: int | str | None = 0
    try:
        app(prog_name="acalsim")
    except SystemExit as exit_:
        code = EXIT_CLOSED if _is_closed(exit_) else exit_.code
    except Exception as error:
        code = _explain(error)
    if not _flushed():
        code = code or InputError.exit_code
    sys.exit(code)


def _explain(error: Exception) -> int:
    """Say what went wrong; returns the exit code."""
    inner = getattr(error, "inner_exception", None)  # torch wraps what a backend raises
    cause = inner if isinstance(inner, (AcalsimError, OSError)) else error
    if _settings.debug:
        traceback.print_exc()
    if isinstance(cause, AcalsimError):
        _complain(cause)
        return cause.exit_code
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("acalsim_backend"):
        package = error.name.partition(".")[0]
        _complain(f"{package} is not installed: pip install {package}; `acalsim doctor` lists all that is needed")
        return MissingToolError.exit_code
    if isinstance(cause, OSError) and cause.errno is not None:  # the system's answer, as on a full disk
        _complain(f"{cause.filename or 'the output'}: {cause.strerror}")
        return InputError.exit_code
    _complain(f"internal error: {type(error).__name__}: {error}")
    print("This is a bug in acalsim; run the same command with --debug and report it.", file=sys.stderr)
    return EXIT_BUG


def _is_closed(exit_: SystemExit) -> bool:
    """Whether typer or rich ended the process because nobody reads its output any more."""
    return isinstance(exit_.__context__, BrokenPipeError)


def _flushed() -> bool:
    """Bring the rest of the output out; what cannot be is dropped, so that the interpreter does not try again."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


if __name__ == "__main__":
    main()
