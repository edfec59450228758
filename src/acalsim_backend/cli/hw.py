"""``acalsim hw``: hardware files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acalsim_backend.cli import options, terminal
from acalsim_backend.cli.options import Overrides
from acalsim_backend.errors import AcalsimError

app = typer.Typer(help="List, show and check hardware files.", no_args_is_help=True)


@options.command(app, "list")
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
    terminal.print_table(terminal.stdout(), terminal.table(("preset", "arrays", "scratchpad", "DRAM", ""), rows))


@options.command(app, "show")
def hw_show(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Hardware preset or file.")] = "edge",
    set_: Overrides = None,
) -> None:
    """Print a complete hardware file, base included, with units, meanings and sources as comments."""
    from acalsim_backend.hardware import header, provenance

    overrides = options.overrides(set_ or ())
    hardware = options.load_hardware(name, overrides)
    typer.echo(header(name) + hardware.to_toml(provenance(name, overrides)), nl=False)


@options.command(app, "check")
def hw_check(
    paths: Annotated[list[Path], typer.Argument(parser=options.path, metavar="FILE...", help="Hardware files.")],
) -> None:
    """Check hardware files; the first mistake of each is named with its line."""
    from acalsim_backend.hardware import HardwareConfig

    failures: list[AcalsimError] = []
    for file in paths:
        try:
            hardware = HardwareConfig.load(file)
        except AcalsimError as error:
            failures.append(error)
            terminal.complain(error)
        else:
            typer.echo(f"{file}: good ({hardware.name})")
    if failures:
        raise typer.Exit(failures[0].exit_code)
