"""Does the mapper choose well, and can its choice be replaced?"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from engine_support import config, layer
from hypothesis import given
from hypothesis import strategies as st

from acalsim_backend._engine import Engine
from acalsim_backend.layers import Layer
from acalsim_backend.program.commands import Conv2d, Gemm

DATAFLOWS = ("ws", "os", "is")
SEEDS = range(400, 430)  # of shapes that had no part in making the mapper


def drawn(seed: int) -> tuple[str, Layer]:
    """A GEMM or convolution and a hardware; the same for the same seed."""
    draw = random.Random(seed)
    hardware = draw.choice(["edge", "gemmini", "cloud4"])
    scale = 4 if hardware == "cloud4" else 1
    if draw.random() < 0.6:
        return hardware, layer("gemm", *(scale * draw.choice([16, 50, 64, 100, 128, 200, 256]) for _ in range(3)))
    size = draw.choice([7, 14, 28, 56])
    channels, filters = scale * draw.choice([16, 32, 64]), scale * draw.choice([16, 40, 64])
    taps = draw.choice([1, 3])
    return hardware, layer("conv", 1, channels, size, size, filters, taps, taps, pad=taps // 2)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def even_cuts(extent: int, granule: int) -> list[int]:
    """Every size of a tile of whole granules that cuts the extent evenly, the largest first; thinned out beyond ten."""
    sizes = sorted({min(extent, ceil_div(ceil_div(extent, n), granule) * granule) for n in range(1, extent + 1)})[::-1]
    sizes = [size for size in sizes if size >= min(granule, extent)]
    return sizes if len(sizes) <= 14 else sizes[:10] + sizes[10 :: max(1, (len(sizes) - 10) // 4)]


def mappings(command: Gemm | Conv2d, c: dict[str, Any], dataflow: str) -> Iterator[tuple[int, list[str]]]:
    """All orders and choices of what stays on chip for each combination of even tile sizes, as text, each combination
    with a bound: the cycles for which the array is busy, and the product is nowhere faster."""
    rows, cols, arrays = c["array.rows"], c["array.cols"], c["array.count"]
    if isinstance(command, Gemm):
        m, k, n, per_row, per_depth = *command.a.dims, command.b.dims[1], 1, 1
    else:
        m, per_row = command.out.dims[2:]
        n, k, *taps = command.weight.dims
        per_depth = taps[0] * taps[1]
    wide = cols * arrays
    granules = {"ws": (1, wide, rows), "is": (wide, 1, rows), "os": (rows, wide, 1)}[dataflow]

    def busy(tile_rows: int, tile_cols: int, tile_depth: int) -> int:
        a, b, d = tile_rows * per_row, tile_cols, tile_depth * per_depth
        down, across, stream = {"ws": (d, b, a), "is": (d, a, b), "os": (a, b, d)}[dataflow]
        fold: int = max(stream, rows) if c["array.double_buffered"] else stream + rows + cols - 2
        return ceil_div(ceil_div(down, rows) * ceil_div(across, cols), arrays) * fold

    def tiles(extent: int, size: int) -> list[tuple[int, int]]:
        return [(extent // size, size)] + ([(1, extent % size)] if extent % size else [])

    sizes = product(
        even_cuts(m, max(1, granules[0] // per_row)),
        even_cuts(n, granules[1]),
        even_cuts(k, max(1, granules[2] // per_depth)),
    )
    for r, q, d in sizes:
        bound = sum(
            x * y * z * busy(a, b, e) for (x, a), (y, b), (z, e) in product(tiles(m, r), tiles(n, q), tiles(k, d))
        )
        texts = [
            f"rows {r} cols {q} depth {d}, {order} outer, a {a}, b {b}, {dataflow}"
            for order in ("rows", "columns")
            for a, b in product(("none", "panel", "all"), repeat=2)
            if (b if order == "rows" else a) != "panel"  # a panel belongs to the outer loop
        ]
        yield bound, texts


def best_cycles(hardware: str, command: Gemm | Conv2d) -> int:
    """Cycles of the best mapping, found by trying every one that its bound does not rule out."""
    c = {**config(hardware), "cores": 1}
    engine, raw = Engine(c), command.encode()
    engine.submit(0, raw)
    now = best = engine.run()
    dataflows = DATAFLOWS if c["array.dataflow"] == "any" else (c["array.dataflow"],)
    combinations = [item for dataflow in dataflows for item in mappings(command, c, dataflow)]
    for bound, texts in sorted(combinations):
        if bound >= best:
            break
        for text in texts:
            try:
                engine.pin_mapping(raw, text)
                engine.submit(now, raw)
            except ValueError:  # it does not fit on chip
                continue
            end = engine.run()
            best = min(best, end - now)
            now = end
    return best


@pytest.mark.parametrize("dataflow", [*DATAFLOWS, "any"])
def test_is_the_dataflow_what_the_hardware_allows(dataflow: str) -> None:
    engine = Engine(config("edge", array__dataflow=dataflow))
    chosen = set()
    for sizes in [(200, 16, 16), (16, 200, 16), (16, 16, 200)]:
        chosen.add(engine.mapping(layer("gemm", *sizes).commands[0].encode())[-2:])
    assert chosen == {dataflow} if dataflow != "any" else len(chosen) > 1


def test_does_a_pinned_mapping_take_the_place_of_the_choice() -> None:
    command = layer("gemm", 64, 64, 64).commands[0].encode()
    engine = Engine(config("edge"))
    chosen = engine.mapping(command)
    engine.submit(0, command)
    best = engine.run()
    pinned = "rows 16 cols 16 depth 16, rows outer, a none, b none, os"
    engine.pin_mapping(command, pinned)
    assert engine.mapping(command) == pinned != chosen
    engine.submit(best, command)
    assert engine.run() > 2 * best


@given(
    st.tuples(*[st.integers(1, 200)] * 3), st.tuples(*[st.integers(0, 1000)] * 3), st.sampled_from(["edge", "cloud4"])
)
def test_does_the_choice_depend_on_the_shape_alone_and_not_on_where_tensors_lie(
    sizes: tuple[int, ...], places: tuple[int, ...], hardware: str
) -> None:
    gemm = layer("gemm", *sizes).commands[0]
    moved = replace(
        gemm,
        **{
            name: replace(getattr(gemm, name), offset=((i + 2) << 32) + 4 * place)
            for i, (name, place) in enumerate(zip(("a", "b", "out"), places, strict=True))
        },
    )
    mappings = {Engine(config(hardware)).mapping(command.encode()) for command in (gemm, moved)}
    assert len(mappings) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows 16", "expected as in rows 64 cols 256 depth 128, rows outer, a none, b none, ws"),
        ("rows 0 cols 16 depth 16, rows outer, a none, b none, ws", "expected as in rows 64"),
        ("rows 16 cols 16 depth 16, rows outer, a some, b none, ws", "'some' is not one of its names"),
        ("rows 16 cols 16 depth 16, rows outer, a none, b none, xs", "'xs' is not one of its names"),
    ],
)
def test_is_a_text_that_is_no_mapping_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Engine(config("edge")).pin_mapping(layer("gemm", 64, 64, 64).commands[0].encode(), text)


@pytest.mark.parametrize("seeds", [SEEDS[i : i + 5] for i in range(0, 30, 5)], ids=lambda s: f"from {s.start}")
def test_is_the_choice_within_5_percent_of_an_exhaustive_search(seeds: range) -> None:
    for seed in seeds:
        hardware, drawn_layer = drawn(seed)
        command = drawn_layer.commands[0]
        assert isinstance(command, (Gemm, Conv2d))
        engine = Engine({**config(hardware), "cores": 1})
        engine.submit(0, command.encode())
        chosen, best = engine.run(), best_cycles(hardware, command)
        print(f"{seed} {hardware}: {chosen:,} cycles, best {best:,}, {chosen / best:.3f}")
        assert chosen <= 1.05 * best
