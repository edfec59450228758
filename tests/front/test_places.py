"""Do reads and writes at computed places, taken apart, give what PyTorch gives?

Their parts have rows in tests/ops/test_operators.py; here the parts run in PyTorch.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from acalsim_backend import ACALSimBackend
from acalsim_backend.errors import IndexOutOfRangeError
from acalsim_backend.front.decompositions import decomposition_table

aten = torch.ops.aten


def check(overload: Any, *args: Any, **kwargs: Any) -> None:
    got, expected = decomposition_table()[overload](*args, **kwargs), overload(*args, **kwargs)
    torch.testing.assert_close(got, expected, equal_nan=True)


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("skipped", [-1, 1])
@pytest.mark.parametrize("mode", range(3))
@pytest.mark.parametrize("starts", [[0, 2, 5], [0, 0, 3, 6, 6], [0, 4]])
def test_do_bags_have_their_rows(mode: int, starts: list[int], skipped: int, ends: bool) -> None:
    """Some bags are empty, or hold only rows to leave out."""
    weight, rows = torch.randn(4, 3), torch.tensor([1, 3, 1, 0, 2, 1])
    options = (rows, torch.tensor([*starts, 6][: None if ends else -1]), False, mode, False, None, ends, skipped)
    got = decomposition_table()[aten._embedding_bag.default](weight, *options)
    expected = aten._embedding_bag.default(weight, *options)
    torch.testing.assert_close(got[0], expected[0])
    assert got[0].shape == expected[0].shape
    if mode == 1:
        torch.testing.assert_close(got[2], expected[2])
    if mode == 2:
        torch.testing.assert_close(got[3], expected[3])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_are_rows_of_bags_weighted(dtype: torch.dtype) -> None:
    weight, rows, shares = torch.randn(4, 3).to(dtype), torch.tensor([1, 3, 1, 0]), torch.rand(4).to(dtype)
    options = (rows, torch.tensor([0, 3]), False, 0, False, shares)
    got = decomposition_table()[aten._embedding_bag_forward_only.default](weight, *options)
    torch.testing.assert_close(got[0], aten._embedding_bag_forward_only.default(weight, *options)[0])


def test_are_weighted_rows_of_half_types_rounded_once() -> None:
    weight, shares = torch.full((1, 1), 1.0009765625).half(), torch.tensor([1.0009765625, -1]).half()
    options = (torch.tensor([0, 0]), torch.tensor([0]), False, 0, False, shares)
    got = decomposition_table()[aten._embedding_bag.default](weight, *options)[0]
    assert got.item() == aten._embedding_bag.default(weight, *options)[0].item() != 0.0009765625


def test_is_a_maximum_of_a_bag_nan_where_its_first_row_is() -> None:
    weight = torch.tensor([[torch.nan, 1], [2, torch.nan], [3, -torch.inf]])
    options = (torch.tensor([0, 1, 2, 1, 0, 2, 2, 0]), torch.tensor([0, 3, 6]), False, 2)
    for skipped in (-1, 0):
        got = decomposition_table()[aten._embedding_bag.default](weight, *options, False, None, False, skipped)
        expected = aten._embedding_bag.default(weight, *options, False, None, False, skipped)
        torch.testing.assert_close(got[0], expected[0], equal_nan=True)
        torch.testing.assert_close(got[3], expected[3])


@pytest.mark.parametrize("shape", [(3, 4), (4,), (3, 1), ()])
def test_are_elements_put_where_the_mask_is_set(shape: tuple[int, ...]) -> None:
    mask = torch.rand(shape) > 0.5
    check(aten.masked_scatter.default, torch.randn(3, 4), mask, torch.randn(5, 3))


def test_is_a_source_with_too_few_elements_for_its_mask_refused() -> None:
    compiled = torch.compile(torch.masked_scatter, backend=ACALSimBackend(mode="simulate"))
    x, mask = torch.zeros(5), torch.tensor([True, False, True, True, False])
    assert compiled(x, mask, torch.ones(3)).tolist() == [1, 0, 1, 1, 0]
    with pytest.raises(IndexOutOfRangeError, match="index 2 is out of range"):
        compiled(x, mask, torch.ones(2))


@pytest.mark.parametrize("lengths", [[2, 1], [2, 4]])
def test_are_lengths_refused_that_are_not_those_of_all_rows(lengths: list[int]) -> None:
    compiled = torch.compile(torch.segment_reduce, backend=ACALSimBackend(mode="simulate"))
    rows = torch.ones(5)
    assert compiled(rows, "sum", lengths=torch.tensor([2, 3])).tolist() == [2, 3]
    with pytest.raises(IndexOutOfRangeError, match="out of range"):
        compiled(rows, "sum", lengths=torch.tensor(lengths))


@pytest.mark.parametrize(("bins", "low", "high"), [(8, 0, 7), (3, -1, 1), (10, 0.1, 0.4)])
def test_are_elements_counted_as_in_a_histogram(bins: int, low: float, high: float) -> None:
    check(aten.histc.default, torch.randint(-1, 9, (50,)).float(), bins, low, high)
    check(aten.histc.default, torch.linspace(-1, 1, 101), bins, low, high)
    check(aten.histc.default, torch.tensor([torch.nan, torch.inf, low, high]), bins, low, high)


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("interpolation", [0, 1])
@pytest.mark.parametrize("padding", range(3))
@pytest.mark.parametrize("corners", [False, True])
def test_are_samples_at_places_that_are_no_numbers_eagers(
    rank: int, interpolation: int, padding: int, corners: bool
) -> None:
    x, grid = torch.randn(1, 2, *(3, 4, 5)[:rank]), torch.rand(1, *(5, 3, 2)[:rank], rank)
    far = grid.view(-1)[::3]
    far.copy_(torch.tensor([torch.nan, torch.inf, -torch.inf, 1e9, -1e9]).repeat(8)[: len(far)])
    overload = {2: aten.grid_sampler_2d.default, 3: aten.grid_sampler_3d.default}[rank]
    check(overload, x, grid, interpolation, padding, corners)
