"""``acalsim time``: layers and topology files, without a model and without PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acalsim_backend import files
from acalsim_backend.cli import options, terminal
from acalsim_backend.cli.options import Hardware, Json, Overrides
from acalsim_backend.errors import AcalsimError, InputError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from acalsim_backend.hardware import HardwareConfig
    from acalsim_backend.layers import Layer

app = typer.Typer()


@options.command(app)
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
        Path | None,
        typer.Option(parser=options.path, metavar="FILE.csv", help="Layers of a SCALE-Sim topology file instead."),
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

    from acalsim_backend.layers import make_layers, time_layers

    changes = options.overrides(set_ or ()) | ({} if dataflow is None else {"array.dataflow": dataflow})
    hardware = options.load_hardware(hw, changes)
    given = {"stride": stride, "pad": pad, "groups": groups, "inputs": inputs}
    parameters = {name: value for name, value in given.items() if value is not None}
    layers = make_layers(layer, sizes or (), topology_file=topology, dtype=dtype, options=parameters)
    _check_sizes(layers, UsageError if topology is None else InputError)
    options.check_places(None, json)
    if terminal.settings.quiet:
        document = time_layers(layers, hardware)
    else:
        with terminal.Display() as display:
            document = time_layers(layers, hardware, display)
    text = json_module.dumps(document, indent=2, allow_nan=False)
    if json == "-":
        typer.echo(text)
        return
    console = terminal.stdout()
    terminal.print_table(console, _layer_table(document, wide=console.width >= 100))
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
    from acalsim_backend.report.text import percent, size

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
    return terminal.table(columns, rows)


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
