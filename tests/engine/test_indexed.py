"""What do gathers and scatters move, and what do they cost?"""

from __future__ import annotations

import pytest
from engine_support import run
from hypothesis import given
from hypothesis import strategies as st

from acalsim_backend.device.timing import Completion
from acalsim_backend.layers import Layer
from acalsim_backend.program.commands import Copy, Gather, Scatter
from acalsim_backend.program.enums import DType, ScatterOp
from acalsim_backend.program.view import View, contiguous_strides


def view(*dims: int, at: int, dtype: DType = DType.F32) -> View:
    return View(-1, dtype, dims, contiguous_strides(dims), at << 32)


def gather(rows: int, columns: int, count: int, **overrides: object) -> tuple[int, Completion]:
    index = view(count, at=2, dtype=DType.I64)
    command = Gather(view(rows, columns, at=1), (index,), view(count, columns, at=3), 1)
    cycles, (row,) = run("edge", Layer(("",), (command,)), **overrides)
    return cycles, row


def scatter(rows: int, columns: int, count: int, op: ScatterOp) -> Completion:
    index = view(count, at=2, dtype=DType.I64)
    command = Scatter(view(count, columns, at=3), (index,), view(rows, columns, at=1), 1, op=op)
    _, (row,) = run("edge", Layer(("",), (command,)))
    return row


@given(st.integers(10_000, 1 << 20), st.integers(16, 400), st.integers(1, 300))
def test_does_a_gather_from_a_large_table_move_its_rows_alone(rows: int, columns: int, count: int) -> None:
    _, row = gather(rows, columns, count)
    assert (row.bytes_read, row.bytes_written) == (4 * count * columns + 8 * count, 4 * count * columns)


@given(st.integers(1, 200), st.integers(1, 30), st.integers(1, 300))
def test_is_a_small_table_read_once_however_often_it_is_asked(rows: int, columns: int, repeats: int) -> None:
    count = rows * repeats
    _, row = gather(rows, columns, count, accelerator__cores=1)
    assert row.bytes_read == 4 * rows * columns + 8 * count
    assert row.bytes_written == 4 * count * columns


def test_do_rows_that_fall_anywhere_cost_more_than_a_copy_of_as_many() -> None:
    count, columns = 4096, 16
    scattered, _ = gather(1 << 22, columns, count)
    copy = Copy(view(count, columns, at=1), view(count, columns, at=3))
    dense, _ = run("edge", Layer(("",), (copy,)))
    assert scattered > 1.3 * dense


def test_are_wider_rows_cheaper_by_the_byte() -> None:
    narrow, _ = gather(1 << 20, 16, 4096)
    wide, _ = gather(1 << 14, 1024, 64)
    assert wide < narrow  # the same bytes


def test_does_a_gather_take_the_same_time_again() -> None:
    assert gather(1 << 20, 64, 500)[0] == gather(1 << 20, 64, 500)[0]


@pytest.mark.parametrize("op", list(ScatterOp))
def test_does_a_scatter_read_what_it_adds_to(op: ScatterOp) -> None:
    row = scatter(1 << 20, 64, 500, op)
    there = 0 if op is ScatterOp.SET else 4 * 500 * 64
    assert (row.bytes_read, row.bytes_written) == (there + 4 * 500 * 64 + 8 * 500, 4 * 500 * 64)


@pytest.mark.parametrize("op", [ScatterOp.SET, ScatterOp.ADD])
def test_does_a_small_table_come_and_go_once(op: ScatterOp) -> None:
    row = scatter(50, 16, 4000, op)
    assert (row.bytes_read, row.bytes_written) == (4 * 50 * 16 + 4 * 4000 * 16 + 8 * 4000, 4 * 50 * 16)


@given(
    st.integers(1, 3), st.integers(1, 40), st.integers(1, 5), st.integers(1, 40), st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 4, 64]),
)  # fmt: skip
def test_is_every_row_of_every_batch_moved_on_any_number_of_cores(
    batch: int, extent: int, rest: int, count: int, cores: int, scratchpad: int
) -> None:
    index = view(batch, count, at=2, dtype=DType.I32)
    command = Gather(view(batch, extent, rest, at=1), (index,), view(batch, count, rest, at=3), 1, batch=1)
    layer = Layer(("",), (command,))
    _, (row,) = run("edge", layer, accelerator__cores=cores, scratchpad__size_kib=scratchpad)
    assert row.bytes_written == 4 * batch * count * rest
    assert row.bytes_read >= 4 * batch * count
