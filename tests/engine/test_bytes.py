"""Are the bytes that a command moves those of its operands and its tiling?"""

from __future__ import annotations

import pytest
from engine_support import config, layer, run
from hypothesis import given
from hypothesis import strategies as st

from acalsim_backend._engine import Engine
from acalsim_backend.layers import Layer
from acalsim_backend.program.commands import Copy, Gemm, Pool2d
from acalsim_backend.program.enums import DType
from acalsim_backend.program.view import View, contiguous_strides

BIG = {"scratchpad__size_kib": 1 << 15, "scratchpad__accumulator_kib": 1 << 15}


def view(*dims: int, at: int = 1 << 32, strides: tuple[int, ...] | None = None) -> View:
    return View(-1, DType.F32, dims, strides or contiguous_strides(dims), at)


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 200))
def test_does_a_gemm_that_fits_on_chip_move_each_byte_once(m: int, n: int, k: int) -> None:
    _, (row,) = run("edge", layer("gemm", m, n, k), **BIG)
    assert (row.bytes_read, row.bytes_written) == (4 * (m * k + k * n), 4 * m * n)
    assert row.macs == m * n * k


@given(st.integers(1, 3), st.integers(1, 8), st.integers(5, 20), st.integers(1, 20), st.sampled_from([1, 3, 5]))
def test_does_a_convolution_that_fits_on_chip_move_each_byte_once(n: int, c: int, size: int, k: int, taps: int) -> None:
    _, (row,) = run("edge", layer("conv", n, c, size, size, k, taps, taps, pad=taps // 2), **BIG)
    assert (row.bytes_read, row.bytes_written) == (4 * (n * c * size**2 + k * c * taps**2), 4 * n * k * size**2)
    assert row.macs == n * k * size**2 * c * taps**2


@given(
    st.tuples(*[st.integers(1, 200)] * 3),
    st.tuples(*[st.sampled_from([7, 16, 64])] * 3),
    st.sampled_from(["rows", "columns"]),
    st.sampled_from(["none", "panel", "all"]),
    st.sampled_from(["none", "all"]),
)
def test_does_a_gemm_move_the_bytes_that_its_tiling_needs(
    sizes: tuple[int, ...], tiles: tuple[int, ...], order: str, outer: str, inner: str
) -> None:
    (m, n, k), (rows, cols, depth) = sizes, tiles
    keep_a, keep_b = (outer, inner) if order == "rows" else (inner, outer)
    mapping = f"rows {rows} cols {cols} depth {depth}, {order} outer, a {keep_a}, b {keep_b}, ws"
    command = layer("gemm", m, n, k).commands[0].encode()
    engine = Engine(config("edge", **BIG))
    engine.pin_mapping(command, mapping)
    engine.submit(0, command)
    engine.run()
    (row,) = engine.completions()
    # An operand that is not kept is read again for every tile of the other operand's dimension.
    a = m * k * (1 if keep_a != "none" else -(-n // cols))
    b = k * n * (1 if keep_b != "none" else -(-m // rows))
    assert (row.bytes_read, row.bytes_written) == (4 * (a + b), 4 * m * n)


def test_is_a_broadcast_operand_read_once_in_a_batch() -> None:
    a, b, out = view(8, 50, 60), view(8, 60, 70, at=2 << 32, strides=(0, 70, 1)), view(8, 50, 70, at=3 << 32)
    _, (row,) = run("edge", Layer(("gemm",), (Gemm(a, b, out),)), **BIG)
    assert row.bytes_read == 4 * (8 * 50 * 60 + 60 * 70)


@pytest.mark.parametrize(("kind", "sizes", "read", "written"), [
    ("elementwise", (12345,), 2 * 4 * 12345, 4 * 12345),
    ("softmax", (33, 100), 4 * 3300, 4 * 3300),
    ("layernorm", (33, 100), 4 * (3300 + 200), 4 * 3300),
])  # fmt: skip
def test_does_a_row_or_element_command_move_each_byte_once(
    kind: str, sizes: tuple[int, ...], read: int, written: int
) -> None:
    _, (row,) = run("edge", layer(kind, *sizes))
    assert (row.bytes_read, row.bytes_written) == (read, written)


def test_do_unfused_rows_touch_memory_four_times_for_softmax_and_six_for_layer_norm() -> None:
    _, (softmax,) = run("edge", layer("softmax", 64, 512), vector__fused_rows="false")
    assert softmax.bytes_read + softmax.bytes_written == 4 * 4 * 64 * 512
    _, (norm,) = run("edge", layer("layernorm", 64, 512), vector__fused_rows="false")
    assert norm.bytes_read + norm.bytes_written == 6 * 4 * 64 * 512 + 2 * 4 * 512


def test_does_a_transposing_copy_move_each_byte_once() -> None:
    x, out = view(300, 200, strides=(1, 300)), view(300, 200, at=2 << 32)
    _, (row,) = run("edge", Layer(("copy",), (Copy(x, out),)))
    assert (row.bytes_read, row.bytes_written) == (4 * 60000, 4 * 60000)


def test_does_a_pool_that_fits_read_its_input_once() -> None:
    _, (row,) = run("edge", Layer(("pool",), (Pool2d(view(1, 4, 16, 16), view(1, 4, 8, 8, at=2 << 32), kernel=(2, 2),
                                                      stride=(2, 2)),)))  # fmt: skip
    assert (row.bytes_read, row.bytes_written) == (4 * 4 * 256, 4 * 4 * 64)
