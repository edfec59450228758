"""``acalsim run``, ``compile`` and ``models``: whole models."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acalsim_backend import files
from acalsim_backend.choices import Build, Mode, Place
from acalsim_backend.cli import options, terminal
from acalsim_backend.cli.options import Hardware, Json, Overrides, Seed, TraceMmio
from acalsim_backend.errors import InputError, UsageError, user_line

if TYPE_CHECKING:
    import torch

    from acalsim_backend.hardware import HardwareConfig
    from acalsim_backend.report.model import RunReport

EXIT_DIFFERENT = 1

app = typer.Typer()


@options.command(app)
def run(
    target: Annotated[
        str, typer.Argument(help="Built-in model (see `acalsim models`), file.py:function or hf:config.json.")
    ],
    hw: Hardware = "edge",
    machine: Annotated[
        str, typer.Option(metavar="NAME", help="unicorn or qemu (with timing), or native (without).")
    ] = "unicorn",
    mode: Annotated[Mode, typer.Option(help="simulate, or show an earlier stage and run eagerly.")] = Mode.simulate,
    place: Annotated[Place, typer.Option(help="Processor that the commands go to.")] = Place.auto,
    set_: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", parser=options.path, metavar="DIR", help="Folder for report.json and trace.json (Perfetto)."
        ),
    ] = None,
    json: Json = None,
    seed: Seed = 0,
    cpu: Annotated[str | None, typer.Option(metavar="ISA", help="rv64gc or rv64gcv; short for --set cpu.isa.")] = None,
    gdb: Annotated[
        int | None, typer.Option("--gdb", metavar="PORT", help="qemu: stop at _start and wait for gdb.")
    ] = None,
    trace_mmio: TraceMmio = None,
    trace_memory: Annotated[
        Path | None,
        typer.Option(
            "--trace-memory",
            parser=options.output,
            metavar="FILE",
            help="Write the accelerator's memory accesses there, - for stdout.",
        ),
    ] = None,
    build: Annotated[
        Build, typer.Option(help="image for the generic firmware, or c: generate C, compile it, run that.")
    ] = Build.image,
) -> None:
    """Run a model, compare its outputs with PyTorch's and show the cycles of every operation."""
    from acalsim_backend.machine.base import check_machine
    from acalsim_backend.models import check_target

    if trace_memory is not None and (mode is not Mode.simulate or build is Build.c):
        raise UsageError("--trace-memory is for --mode simulate and --build image; leave it out")
    if json is not None and mode is not Mode.simulate:
        raise UsageError(f"--json writes a report, and --mode {mode} makes none; use --mode simulate")
    check_target(target)
    hardware = options.load_hardware(hw, options.overrides(set_ or ()) | ({} if cpu is None else {"cpu.isa": cpu}))
    check_machine(machine)
    settings = _qemu_settings(machine, gdb, trace_mmio) | {"build": build.value}
    options.check_places(out, json, trace_memory)
    if mode is not Mode.simulate:
        with _user_code():
            _run_stage(target, seed, hardware, mode, place, out)
        return
    with _user_code(), _whole_trace(trace_memory, settings):
        report = _simulate(target, seed, hardware, machine, place, settings)
    _show(report, out, json)
    if not report.outputs.allclose:
        raise typer.Exit(EXIT_DIFFERENT)


@options.command(app, "compile")
def compile_(
    target: Annotated[
        str, typer.Argument(help="Built-in model (see `acalsim models`), file.py:function or hf:config.json.")
    ],
    out: Annotated[Path, typer.Option("--out", parser=options.path, metavar="DIR", help="Folder for what is made.")],
    build: Annotated[
        Build, typer.Option(help="image: IR and Program, as text and as guest bytes; c: C sources, Makefile and ELF.")
    ] = Build.image,
    hw: Hardware = "edge",
    inline_kernels: Annotated[
        bool,
        typer.Option("--inline-kernels", help="With --build c: all on the CPU, products and arithmetic as loops."),
    ] = False,
    place: Annotated[Place, typer.Option(help="Processor that the commands go to.")] = Place.auto,
    set_: Overrides = None,
    seed: Seed = 0,
) -> None:
    """Compile a model without running it, and list the files."""
    from acalsim_backend.models import check_target

    check_target(target)
    if inline_kernels and build is not Build.c:
        raise UsageError(f"--inline-kernels is for --build c, got --build {build.value}")
    if inline_kernels and place is Place.accelerator:
        raise UsageError("--inline-kernels puts everything on the CPU, got --place accelerator")
    hardware = options.load_hardware(hw, options.overrides(set_ or ()))
    options.check_places(out)
    with _user_code(), terminal.Stages(terminal.settings.quiet) as progress:
        progress.stage("loading PyTorch")
        from acalsim_backend.api import compile_model
        from acalsim_backend.models import load_target

        model, inputs = load_target(target, seed)
        progress.stage(f"compiling {target}")
        made = compile_model(
            model,
            inputs,
            out,
            build=build.value,
            hardware=hardware,
            place=place.value,
            inline_kernels=inline_kernels,
        )
    for file in made:
        typer.echo(str(file))


@contextlib.contextmanager
def _user_code() -> Iterator[None]:
    """What runs a user's model, which must not end this process as if all were well."""
    try:
        yield
    except SystemExit as exit_:
        raise InputError(f"the model called sys.exit({exit_.code!r}){user_line(exit_)}") from exit_


@contextlib.contextmanager
def _whole_trace(path: Path | None, settings: dict[str, Any]) -> Iterator[None]:
    """Has the block trace memory elsewhere, and puts the trace in its place when the block has succeeded."""
    if path is None:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        settings["trace_memory"] = trace = Path(folder) / "trace"
        yield
        with files.replacing(path) as place, trace.open("rb") as source, place.open("wb") as target:
            shutil.copyfileobj(source, target)


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
    with terminal.Stages(terminal.settings.quiet) as progress:
        progress.stage("loading PyTorch")
        import torch

        from acalsim_backend.api import simulate
        from acalsim_backend.models import load_target
        from acalsim_backend.report.compare import compare, run_eagerly

        progress.stage(f"building {target}")
        model, inputs = load_target(target, seed)
        twin = _twin(target, seed, model, inputs)
        progress.stage("running eagerly")
        torch.manual_seed(seed)  # what draws random numbers on the host draws the same ones twice
        expected, seconds = run_eagerly(*twin)
        progress.stage(f"simulating on {machine}")
        torch.manual_seed(seed)
        outputs, report = simulate(model, inputs, hardware=hardware, machine=machine, place=place.value, **settings)
        progress.stage("comparing")
        return dataclasses.replace(
            report, model=target, outputs=compare(outputs, expected), wall_s={**report.wall_s, "eager": seconds}
        )


def _twin(
    target: str, seed: int, model: torch.nn.Module, inputs: tuple[Any, ...]
) -> tuple[torch.nn.Module, tuple[Any, ...]]:
    """A copy of the model and its inputs that shares with them nothing which a run may change: what is shared among
    them is shared among the copies. What cannot be copied is built once more.

    Raises:
        InputError: it is another one when it is built once more.
    """
    from acalsim_backend.models import load_target
    from acalsim_backend.report.compare import compare

    try:
        return copy.deepcopy((model, inputs))
    except Exception as error:  # noqa: BLE001  # whatever an object says when it is copied
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    terminal.note(f"{target} cannot be copied and is built twice, once for PyTorch ({reason})")
    built = load_target(target, seed)
    same = compare(_tensors(*built), _tensors(model, inputs))
    if not same.allclose or same.max_abs_error:
        raise InputError(
            f"{target}: cannot be copied ({reason}) and is another model when it is built once more, so there is "
            "nothing to compare with; let its function return an equal model each time, with no generator but PyTorch's"
        )
    return built


def _tensors(model: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[dict[str, Any], list[Any]]:
    """Parameters, buffers and what among the arguments is a tensor or holds some in plain containers."""
    import torch
    from torch.utils import _pytree as pytree

    leaves = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, torch.Tensor)]
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}, leaves


def _show(report: RunReport, out: Path | None, json: str | None) -> None:
    if json == "-":
        typer.echo(report.to_json(), nl=False)
    else:
        from acalsim_backend.report.table import rich_table

        console = terminal.stdout()
        console.print(f"{report.model} on {report.hardware}, machine {report.machine}", style="bold", soft_wrap=True)
        terminal.print_table(console, rich_table(report, console.width))
        console.print(report.summary(), soft_wrap=True)
    if json not in (None, "-"):
        report.save(json)
    if out is not None:
        files.make_folder(out)
        report.save(out / "report.json")
        written = "report.json"
        if report.cycles.total is not None:
            report.trace(out / "trace.json")
            written += " and trace.json (open it at ui.perfetto.dev)"
        terminal.note(f"{out}: wrote {written}")


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
        terminal.note(f"{target} ran in PyTorch; nothing was captured")


@options.command(app)
def models() -> None:
    """List the built-in models."""
    from acalsim_backend.models import CATALOGUE

    rows = [
        (m.name, f"{m.parameters:,}", " ".join("x".join(map(str, i.shape)) for i in m.inputs), m.summary)
        for m in CATALOGUE.values()
    ]
    terminal.print_table(terminal.stdout(), terminal.table(("model", "parameters", "inputs", ""), rows))
