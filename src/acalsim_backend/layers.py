"""Cycles of single layers and topology files: ABI commands straight to the engine, without a model and PyTorch."""

from __future__ import annotations

import csv
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from acalsim_backend.device.limits import roofline, row_hit_rate, total_channels, utilization
from acalsim_backend.device.registers import RAM_BASE, RESERVED_BYTES
from acalsim_backend.device.timing import Completion, Timing, energy_pj
from acalsim_backend.errors import InputError, UnknownNameError, UsageError
from acalsim_backend.hardware import DramConfig, HardwareConfig
from acalsim_backend.program.commands import Command, Conv2d, Gemm, Norm, Softmax, Vector, VectorInstruction
from acalsim_backend.program.enums import DType, VectorOp
from acalsim_backend.program.view import View, contiguous_strides
from acalsim_backend.report.text import rounded

DTYPES = {d.name.lower(): d for d in DType if d is not DType.BOOL}
MAX_OPTION = 2**31 - 1
MAX_MIB: int = next(f.metadata["high"] for f in dataclasses.fields(DramConfig) if f.name == "size_mib")


@dataclass(frozen=True)
class Layer:
    """Named commands that form one segment; ``names`` has one entry per command."""

    names: tuple[str, ...]
    commands: tuple[Command, ...]


class _Memory:
    """Hands out 64-byte-aligned views one after another, as the compiler's arena would."""

    def __init__(self, dtype: DType) -> None:
        self._dtype = dtype
        self._next = RAM_BASE + RESERVED_BYTES

    def view(self, *dims: int) -> View:
        view = View(-1, self._dtype, dims, contiguous_strides(dims), self._next)
        self._next += -(-view.nbytes // 64) * 64
        return view


def gemm(m: int, n: int, k: int, *, dtype: DType = DType.F32, name: str = "gemm") -> Layer:
    """[m, k] times [k, n]."""
    memory = _Memory(dtype)
    return Layer((name,), (Gemm(memory.view(m, k), memory.view(k, n), memory.view(m, n)),))


def conv(
    n: int,
    c: int,
    h: int,
    w: int,
    k: int,
    r: int,
    s: int,
    *,
    stride: int | tuple[int, int] = 1,
    pad: int = 0,
    groups: int = 1,
    output: tuple[int, int] | None = None,
    dtype: DType = DType.F32,
    name: str = "conv",
) -> Layer:
    """x [n, c, h, w] with k filters of r x s; the output size is PyTorch's, floor((h + 2 pad - r) / stride) + 1, unless
    it is given."""
    if groups < 1 or c % groups or k % groups:
        raise UsageError(f"--groups {groups} does not divide {c} input and {k} output channels")
    steps = stride if isinstance(stride, tuple) else (stride, stride)
    p, q = output or ((h + 2 * pad - r) // steps[0] + 1, (w + 2 * pad - s) // steps[1] + 1)
    if min(p, q) < 1:
        raise UsageError(f"{name}: a filter of {r} x {s} does not fit an input of {h} x {w} padded by {pad}")
    memory = _Memory(dtype)
    x, weight, out = memory.view(n, c, h, w), memory.view(k, c // groups, r, s), memory.view(n, k, p, q)
    return Layer((name,), (Conv2d(x, weight, out, stride=steps, padding=(pad, pad), groups=groups),))


def softmax(rows: int, columns: int, *, dtype: DType = DType.F32, name: str = "softmax") -> Layer:
    """Softmax of each row."""
    memory = _Memory(dtype)
    return Layer((name,), (Softmax(memory.view(rows, columns), memory.view(rows, columns)),))


def layernorm(rows: int, columns: int, *, dtype: DType = DType.F32, name: str = "layernorm") -> Layer:
    """Layer norm of each row, with weight and bias."""
    memory = _Memory(dtype)
    x, out = memory.view(rows, columns), memory.view(rows, columns)
    return Layer((name,), (Norm(x, out, memory.view(columns), memory.view(columns)),))


def attention(heads: int, seq: int, dim: int, *, dtype: DType = DType.F32, name: str = "attention") -> Layer:
    """softmax(q @ k^T / sqrt(dim)) @ v for each head."""
    memory = _Memory(dtype)
    q, k, v = (memory.view(heads, seq, dim) for _ in range(3))
    scores, weights, out = memory.view(heads, seq, seq), memory.view(heads, seq, seq), memory.view(heads, seq, dim)
    k_transposed = replace(k, dims=(heads, dim, seq), strides=(seq * dim, 1, dim))
    return Layer(
        (f"{name}.scores", f"{name}.softmax", f"{name}.values"),
        (
            Gemm(q, k_transposed, scores, alpha=1 / math.sqrt(dim), id=0),
            Softmax(scores, weights, id=1, deps=(0,)),
            Gemm(weights, v, out, id=2, deps=(1,)),
        ),
    )


def elementwise(n: int, *, inputs: int = 2, dtype: DType = DType.F32, name: str = "elementwise") -> Layer:
    """Sum of ``inputs`` dense tensors of n elements."""
    if not 1 <= inputs <= 8:
        raise UsageError(f"--inputs {inputs}, expected 1 to 8")
    memory = _Memory(dtype)
    code = [VectorInstruction(VectorOp.LOAD, dtype, i, i) for i in range(inputs)]
    code += [VectorInstruction(VectorOp.ADD, dtype, inputs, inputs if i > 1 else 0, i) for i in range(1, inputs)]
    code.append(VectorInstruction(VectorOp.STORE, dtype, 0, inputs if inputs > 1 else 0))
    return Layer((name,), (Vector.of([memory.view(n) for _ in range(inputs)], [memory.view(n)], code),))


def topology(path: str | Path, *, dtype: DType = DType.F32) -> list[Layer]:
    """Layers of a SCALE-Sim topology file, convolutions or GEMMs; the first line is its header.

    Convolutions are not padded and their output size is rounded up: ceil((in - filter + stride) / stride).

    Raises:
        InputError: the file cannot be read or a line is not a layer; names file and line.
    """
    path = Path(path)
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    layers: list[Layer] = []
    for number, line in enumerate(lines, 1):
        cells = [cell.strip() for cell in line]
        while cells and not cells[-1]:
            cells.pop()
        if number == 1 or not cells:
            continue
        name = cells[0]
        try:
            sizes = [int(cell) for cell in cells[1:] if ":" not in cell]  # "N:M" is the sparsity of newer files
        except ValueError:
            raise InputError(
                f"{path}:{number}: expected a layer name and whole numbers, got {', '.join(cells)}"
            ) from None
        if any(size < 1 for size in sizes):
            raise InputError(f"{path}:{number}: sizes must be at least 1, got {', '.join(cells[1:])}")
        if len(sizes) == 3:
            layers.append(gemm(*sizes, dtype=dtype, name=name))
        elif len(sizes) in (7, 8):
            h, w, r, s, c, k, stride = sizes[:7]
            stride_w = sizes[7] if len(sizes) == 8 else stride
            output = -(-(h - r + stride) // stride), -(-(w - s + stride_w) // stride_w)
            layers.append(conv(1, c, h, w, k, r, s, stride=(stride, stride_w), output=output, dtype=dtype, name=name))
        else:
            raise InputError(
                f"{path}:{number}: {len(sizes)} sizes, expected 3 (M, N, K) or 7 (input height and width, filter "
                "height and width, channels, filters, stride)"
            )
    if not layers:
        raise InputError(f"{path}: no layers; the first line is the header, each further line one layer")
    return layers


_KINDS: dict[str, tuple[Callable[..., Layer], tuple[str, ...], tuple[str, ...]]] = {
    "gemm": (gemm, ("M", "N", "K"), ()),
    "conv": (conv, ("N", "C", "H", "W", "K", "R", "S"), ("stride", "pad", "groups")),
    "softmax": (softmax, ("ROWS", "COLS"), ()),
    "layernorm": (layernorm, ("ROWS", "COLS"), ()),
    "attention": (attention, ("HEADS", "SEQ", "DIM"), ()),
    "elementwise": (elementwise, ("N",), ("inputs",)),
}


def make_layers(
    kind: str | None,
    sizes: Sequence[int] = (),
    *,
    topology_file: str | Path | None = None,
    dtype: str = "f32",
    options: Mapping[str, int] | None = None,
) -> list[Layer]:
    """Layers from what the command line says; ``options`` are stride, pad, groups and inputs as far as given.

    Raises:
        UsageError: an unknown kind, dtype or option, or the wrong number of sizes.
        InputError: the topology file is not one.
    """
    if dtype not in DTYPES:
        raise UnknownNameError("dtype", dtype, DTYPES)
    options = options or {}
    if topology_file is not None:
        if kind is not None:
            raise UsageError(f"{kind} and --topology were both given; choose one")
        return topology(topology_file, dtype=DTYPES[dtype])
    if kind is None:
        raise UsageError(f"nothing to time: name one of {', '.join(_KINDS)} with its sizes, or --topology FILE.csv")
    if kind not in _KINDS:
        raise UnknownNameError("layer", kind, _KINDS)
    make = _KINDS[kind][0]
    _check_layer(kind, sizes, options)
    return [make(*sizes, dtype=DTYPES[dtype], **options)]


def _check_layer(kind: str, sizes: Sequence[int], options: Mapping[str, int]) -> None:
    _, names, allowed = _KINDS[kind]
    if len(sizes) != len(names):
        raise UsageError(f"{kind} takes {len(names)} sizes ({' '.join(names)}), got {len(sizes)}")
    if any(size < 1 for size in sizes):
        raise UsageError(f"{kind}: sizes must be at least 1, got {' '.join(map(str, sizes))}")
    for option in options:
        if option not in allowed:
            raise UsageError(
                f"{kind} has no option --{option}" + (f"; it has --{', --'.join(allowed)}" if allowed else "")
            )
        if options[option] > MAX_OPTION:
            raise UsageError(f"--{option} {options[option]}, expected at most {MAX_OPTION}")


@dataclass(frozen=True)
class Progress:
    """How far a run is: at which layer, the ``fraction`` 0..1 of its work, and cycles simulated and expected in all."""

    layer: str
    fraction: float
    cycles: int
    estimate: float


@dataclass(frozen=True)
class _Part:
    """Turns the progress of one layer into that of the run: ``cycles`` simulated and ``done`` estimated before it."""

    report: Callable[[Progress], object]
    layer: str
    cycles: int
    done: float
    estimate: float
    whole: float

    def __call__(self, fraction: float, cycles: int) -> None:
        done = (self.done + fraction * self.estimate) / self.whole
        self.report(Progress(self.layer, done, self.cycles + cycles, self.whole))


def _estimate(layer: Layer, timing: Timing) -> float:
    try:
        return timing.estimate([command.encode() for command in layer.commands])
    except ValueError as error:
        raise InputError(f"{layer.names[0]}: {error}") from None


def _check_memory(layer: Layer, hardware: HardwareConfig, timing: Timing) -> None:
    """Every tensor lies in guest RAM, so that no address or count of bytes leaves 64 bits either."""
    end = max(view.extent[1] for command in layer.commands for _, _, _, view in command.operands())
    needed, present = -(-(end - RAM_BASE) >> 20), hardware.dram.size_mib
    if needed <= present:
        return
    text = f"{layer.names[0]}: its tensors need {needed:,} MiB of guest RAM, dram.size_mib is {present:,}"
    if needed > MAX_MIB:
        raise InputError(f"{text} and may be at most {MAX_MIB:,}; choose smaller sizes")
    cycles = rounded(_estimate(layer, timing))
    raise InputError(f"{text}; add --set dram.size_mib={needed} (the mapper estimates about {cycles} cycles then)")


def time_layers(
    layers: Iterable[Layer], hardware: HardwareConfig, report: Callable[[Progress], object] | None = None
) -> dict[str, Any]:
    """The JSON document of ``acalsim time``: one row per command, layers one after another.

    ``array_cycles`` is the closed form of the matrix product on the arrays as SCALE-Sim counts it for the dataflow that
    was chosen, both null where there is none; ``stall`` says where the cycles of the row went and sums to ``cycles``;
    ``utilization`` is 0..1 of array peak; ``roofline`` is described in :class:`Roofline`, ``channels`` are the memory's
    over the whole run. ``report`` hears some times a second how far it is.

    Raises:
        InputError: a layer does not fit guest RAM, or its smallest tile does not fit the accelerator.
    """
    start = time.perf_counter()
    timing = Timing(hardware)
    rows: list[dict[str, Any]] = []
    total = 0
    channels = []
    layers = list(layers)
    for layer in layers:
        _check_memory(layer, hardware, timing)
    estimates = [_estimate(layer, timing) if report else 0.0 for layer in layers]
    for i, layer in enumerate(layers):
        told = report and _Part(report, layer.names[0], total, sum(estimates[:i]), estimates[i], sum(estimates))
        try:
            segment = timing.segment([command.encode() for command in layer.commands], told)
        except ValueError as error:
            raise InputError(f"{layer.names[0]}: {error}") from None
        total += segment.cycles
        channels.append(segment.channels)
        by_id = {completion.id: completion for completion in segment.completions}
        rows += [_row(name, by_id[c.id], hardware) for name, c in zip(layer.names, layer.commands, strict=True)]
    return {
        "layers": rows,
        "total_cycles": total,
        "clock_mhz": hardware.accelerator.frequency_mhz,
        "channels": [channel.to_dict(total, hardware) for channel in total_channels(channels)],
        "wall_s": time.perf_counter() - start,
    }


def _row(name: str, completion: Completion, hardware: HardwareConfig) -> dict[str, Any]:
    cycles = completion.end - completion.start
    moved = completion.bytes_read + completion.bytes_written
    return {
        "name": name,
        "array_cycles": completion.array_cycles if completion.macs else None,
        "cycles": cycles,
        "stall": completion.stall,
        "utilization": utilization(completion, hardware),
        "dram_bytes_read": completion.bytes_read,
        "dram_bytes_written": completion.bytes_written,
        "energy_pj": energy_pj(completion, hardware),
        "dataflow": completion.dataflow or None,
        "bank_conflict_cycles": completion.bank_conflict_cycles,
        "dram_gbytes_per_s": moved * hardware.accelerator.frequency_mhz / 1000 / cycles if cycles else 0.0,
        "row_hit_rate": row_hit_rate(completion.row_hits, completion.bursts),
        "roofline": asdict(place) if (place := roofline(completion, hardware)) else None,
    }
