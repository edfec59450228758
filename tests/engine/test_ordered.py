"""What do scans and sorts move, and what do they cost?"""

from __future__ import annotations

import pytest
from engine_support import run
from hypothesis import given
from hypothesis import strategies as st

from acalsim_backend.device.timing import Completion
from acalsim_backend.layers import Layer
from acalsim_backend.program.commands import Scan, Sort
from acalsim_backend.program.enums import DType, ScanOp
from acalsim_backend.program.view import View, contiguous_strides


def view(*dims: int, at: int, dtype: DType = DType.F32) -> View:
    return View(-1, dtype, dims, contiguous_strides(dims), at << 32)


def scan(*dims: int, axis: int, op: ScanOp = ScanOp.SUM, **overrides: object) -> tuple[int, Completion]:
    indices = view(*dims, at=3, dtype=DType.I64) if op in (ScanOp.MAX, ScanOp.MIN) else None
    command = Scan(view(*dims, at=1), view(*dims, at=2), indices, op, axis)
    cycles, (row,) = run("edge", Layer(("",), (command,)), **overrides)
    return cycles, row


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=3), st.data(), st.sampled_from(list(ScanOp)),
    st.sampled_from([1, 2, 4]), st.sampled_from([1, 64]),
)  # fmt: skip
def test_is_every_element_read_and_written_once(
    dims: list[int], data: st.DataObject, op: ScanOp, cores: int, scratchpad: int
) -> None:
    axis, elements = data.draw(st.integers(0, len(dims) - 1)), 1
    for size in dims:
        elements *= size
    _, row = scan(*dims, axis=axis, op=op, accelerator__cores=cores, scratchpad__size_kib=scratchpad)
    indices = 8 * elements if op in (ScanOp.MAX, ScanOp.MIN) else 0
    assert (row.bytes_read, row.bytes_written) == (4 * elements, 4 * elements + indices)


def test_is_one_long_row_no_faster_on_more_cores() -> None:
    alone, _ = scan(1 << 18, axis=0, dram__preset="ideal", accelerator__cores=1)
    together, _ = scan(1 << 18, axis=0, dram__preset="ideal", accelerator__cores=4)
    assert together >= alone


def test_do_rows_share_the_cores() -> None:
    alone, _ = scan(64, 1 << 12, axis=1, dram__preset="ideal", accelerator__cores=1)
    together, _ = scan(64, 1 << 12, axis=1, dram__preset="ideal", accelerator__cores=4)
    assert together < alone / 3


@pytest.mark.parametrize("op", list(ScanOp))
def test_does_a_row_alone_wait_for_each_group_of_lanes(op: ScanOp) -> None:
    """As many elements in many rows overlap; in one row, each group waits for the one before."""
    one, _ = scan(1, 1 << 16, axis=1, op=op, dram__preset="ideal", accelerator__cores=1)
    many, _ = scan(1 << 8, 1 << 8, axis=0, op=op, dram__preset="ideal", accelerator__cores=1)
    assert many < one


def sort(rows: int, columns: int, k: int, **overrides: object) -> tuple[int, Completion]:
    results = view(rows, k, at=3), view(rows, k, at=4, dtype=DType.I64)
    command = Sort(view(rows, columns, at=1), view(4 * columns, at=2, dtype=DType.I64), *results, axis=1)
    cycles, (row,) = run("edge", Layer(("",), (command,)), **overrides)
    return cycles, row


@given(st.integers(1, 40), st.integers(1, 300), st.data(), st.sampled_from([1, 2, 4]), st.sampled_from([16, 64]))
def test_is_a_row_that_fits_on_chip_read_and_written_once(
    rows: int, columns: int, data: st.DataObject, cores: int, scratchpad: int
) -> None:
    k = data.draw(st.integers(1, columns))
    _, row = sort(rows, columns, k, accelerator__cores=cores, scratchpad__size_kib=scratchpad)
    assert (row.bytes_read, row.bytes_written) == (4 * rows * columns, 12 * rows * k)


@pytest.mark.parametrize("cores", [1, 4])
def test_do_the_first_few_of_a_long_row_need_no_other_memory(cores: int) -> None:
    _, row = sort(3, 100_000, 50, accelerator__cores=cores, scratchpad__size_kib=16)
    assert (row.bytes_read, row.bytes_written) == (4 * 300_000, 12 * 150)


def test_is_a_long_row_sorted_in_runs_that_are_merged() -> None:
    """A run of 256 pairs fits on a chip of 16 KiB; 8 merges double it to 1 << 16."""
    n = 1 << 16
    _, row = sort(2, n, n, scratchpad__size_kib=16)
    assert (row.bytes_read, row.bytes_written) == (2 * n * (4 + 8 * 16), 2 * n * (7 * 16 + 16 + 12))


def test_does_a_sort_cost_a_pass_for_each_doubling() -> None:
    short, _ = sort(256, 64, 64, dram__preset="ideal")
    long, _ = sort(64, 256, 256, dram__preset="ideal")
    assert long == pytest.approx(short * 8 / 6, rel=0.1)
