"""Do order statistics, searches and histograms equal eager on the machine alone: values, places, types and shapes?"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from acalsim_backend.backend import ACALSimBackend

DTYPES = (torch.float32, torch.bfloat16, torch.int16)
STATISTICS: dict[str, Callable[..., Any]] = {
    "kthvalue": lambda x: x.kthvalue(2, 1),
    "kthvalue_kept": lambda x: x.kthvalue(5, 0, keepdim=True),
    "median": torch.median,
    "median_dim": lambda x: x.median(1),
    "median_kept": lambda x: x.median(0, keepdim=True),
    "nanmedian": torch.nanmedian,
    "nanmedian_dim": lambda x: x.nanmedian(1),
    "mode": lambda x: torch.cat([x, x[:, 2:4]], 1).mode(1),
}


@pytest.fixture(scope="module")
def backend() -> Iterator[ACALSimBackend]:
    backend = ACALSimBackend("simulate", machine="native")
    yield backend
    backend.close()


def check(backend: ACALSimBackend, function: Callable[..., Any], *arguments: torch.Tensor) -> None:
    torch._dynamo.reset()
    expected = function(*arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a fallback is one
        got = torch.compile(function, backend=backend)(*arguments)
    torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True, check_stride=True)
    assert not backend.reports[-1].fallbacks


def different(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Elements in any order, no two equal: PyTorch says nothing of the places of equal ones."""
    generator = torch.Generator().manual_seed(0)
    return torch.randperm(math.prod(shape), generator=generator).reshape(shape).to(dtype)


@pytest.mark.parametrize("name", STATISTICS)
def test_do_order_statistics_equal_eager(backend: ACALSimBackend, name: str) -> None:
    for dtype in DTYPES:
        check(backend, STATISTICS[name], different(6, 7, dtype=dtype))


@pytest.mark.parametrize("name", [n for n in STATISTICS if n != "mode"])
def test_is_nan_where_eager_has_it(backend: ACALSimBackend, name: str) -> None:
    x = different(6, 7)
    x[2, 3] = x[2, 5] = x[4] = math.nan
    x = x if "kth" not in name else x[:, :4]
    values = lambda x: first if isinstance(first := STATISTICS[name](x), torch.Tensor) else first[0]  # noqa: E731
    check(backend, values, x)


def test_is_an_element_alone_its_own_statistic(backend: ACALSimBackend) -> None:
    x = torch.tensor(2.5)
    for function in (
        torch.median,
        torch.nanmedian,
        lambda x: x.median(0),
        lambda x: x.kthvalue(1),
        lambda x: x.mode(0),
    ):
        check(backend, function, x)


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("count", [0, 1, 7, 8])
def test_are_searches_eagers(backend: ACALSimBackend, count: int, right: bool) -> None:
    boundaries = torch.linspace(-2, 2, count)
    values = torch.cat([boundaries, torch.tensor([-5.0, -0.0, 0.3, 5.0, math.nan, math.inf, -math.inf])])
    for kind in (torch.float32, torch.float16):
        check(backend, lambda b, v: torch.searchsorted(b, v, right=right), boundaries.to(kind), values.to(kind))
    check(backend, lambda v, b: torch.bucketize(v, b, right=right, out_int32=True), values.reshape(1, -1), boundaries)
    check(backend, lambda b: torch.searchsorted(b, 0.25, right=right), boundaries)
    check(backend, lambda v, b: torch.bucketize(v, b, right=right), torch.tensor(1), boundaries)
    rows, order = boundaries.repeat(3, 1).flip(1), torch.arange(count).flip(0).repeat(3, 1)
    where = values.repeat(3, 1)
    check(backend, lambda b, v, s: torch.searchsorted(b, v, side="right", sorter=s), rows, where, order)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_is_a_histogram_eagers(backend: ACALSimBackend, dtype: torch.dtype) -> None:
    x = torch.cat([torch.linspace(-3, 3, 25), torch.tensor([1.0, 1.0, -1.0, 1.5])]).to(dtype).reshape(1, -1)
    check(backend, lambda x: torch.histc(x, 5, -1, 1), x)
    check(backend, lambda x: torch.histc(x, 1, 0, 9), x)
