"""Special functions and other operators that are taken apart: do they equal eager's on the machine alone?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from acalsim_backend.backend import ACALSimBackend

inf, nan = torch.inf, torch.nan
EDGES = torch.tensor([0.0, -0.0, inf, -inf, nan, 1, -1, -2, 0.5, 2, 5, 2.09, -2.09, 104, 1e-44, 1e-20, 1e20, -1e20])
GRID = torch.cat([torch.linspace(-30, 30, 601), torch.linspace(0, 1, 201), EDGES])
SPECIAL = torch.special


@pytest.fixture(scope="module")
def backend() -> Iterator[ACALSimBackend]:
    machine = ACALSimBackend(mode="simulate")
    yield machine
    machine.close()


def check(function: Callable[..., Any], backend: ACALSimBackend, *arguments: Tensor) -> None:
    torch._dynamo.reset()
    before = len(backend.reports)
    got, expected = torch.compile(function, backend=backend)(*arguments), function(*arguments)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5, equal_nan=True)
    reports = backend.reports[before:]
    assert reports
    assert [fallback["op"] for report in reports for fallback in report.fallbacks] == []


@pytest.mark.parametrize(
    "function",
    [
        SPECIAL.ndtri,
        SPECIAL.bessel_j0,
        SPECIAL.bessel_j1,
        SPECIAL.bessel_y0,
        SPECIAL.bessel_y1,
        SPECIAL.modified_bessel_k0,
        SPECIAL.modified_bessel_k1,
        SPECIAL.scaled_modified_bessel_k0,
        SPECIAL.scaled_modified_bessel_k1,
        SPECIAL.spherical_bessel_j0,
        SPECIAL.airy_ai,
    ],
    ids=lambda function: function.__name__,
)
def test_is_a_function_of_one_number_as_in_eager(function: Callable[[Tensor], Tensor], backend: ACALSimBackend) -> None:
    check(lambda x: function(x), backend, GRID)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7])
def test_is_polygamma_as_in_eager(n: int, backend: ACALSimBackend) -> None:
    check(lambda x: torch.polygamma(n, x), backend, GRID)


def test_is_zeta_as_in_eager(backend: ACALSimBackend) -> None:
    x = torch.tensor([0.5, 1, 1.5, 2, 3, 4, 9.5, 30, 151, 256, 1e20, inf, nan])
    q = torch.cat([torch.linspace(-6.1, 12, 60), EDGES, torch.tensor([-0.5, -1.5, -7.25])])
    check(
        lambda x, q: torch.special.zeta(x, q),
        backend,
        x[:, None].expand(-1, len(q)).clone(),
        q.expand(len(x), -1).clone(),
    )


@pytest.mark.parametrize("n", [3, 12])
@pytest.mark.parametrize(
    "function",
    [
        SPECIAL.chebyshev_polynomial_t,
        SPECIAL.chebyshev_polynomial_u,
        SPECIAL.chebyshev_polynomial_v,
        SPECIAL.chebyshev_polynomial_w,
        SPECIAL.shifted_chebyshev_polynomial_t,
        SPECIAL.shifted_chebyshev_polynomial_u,
        SPECIAL.shifted_chebyshev_polynomial_v,
        SPECIAL.shifted_chebyshev_polynomial_w,
        SPECIAL.hermite_polynomial_h,
        SPECIAL.hermite_polynomial_he,
        SPECIAL.laguerre_polynomial_l,
        SPECIAL.legendre_polynomial_p,
    ],
    ids=lambda function: function.__name__,
)
def test_is_a_polynomial_as_in_eager(
    function: Callable[[Tensor, int], Tensor], n: int, backend: ACALSimBackend
) -> None:
    x = torch.cat([torch.linspace(-3, 3, 301), EDGES[~EDGES.isnan()]])  # of which PyTorch's result is not defined
    check(lambda x: function(x, n), backend, x)


def test_are_hermite_polynomials_of_a_tensor_of_degrees_as_in_eager(backend: ACALSimBackend) -> None:
    n = torch.tensor([-2, 0, 1, 2, 3.7, 60, 128, 129, inf, nan])
    x = torch.cat([torch.linspace(-3, 3, 13), EDGES])
    x, n = (t.clone() for t in torch.broadcast_tensors(x[:, None], n))
    check(lambda x, n: SPECIAL.hermite_polynomial_he(x, n), backend, x, n)


def test_is_frexp_as_in_eager(backend: ACALSimBackend) -> None:
    check(lambda x: tuple(torch.frexp(x)), backend, torch.cat([GRID, torch.tensor([1e-45, -1e-39, 2.0**127])]))


@pytest.mark.parametrize("size", [2, 9])
def test_is_nonzero_static_as_in_eager(size: int, backend: ACALSimBackend) -> None:
    x = torch.tensor([[1, 0, 3], [0, -2, nan]])
    check(lambda x: torch.nonzero_static(x, size=size, fill_value=-7), backend, x)


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min"])
@pytest.mark.parametrize("initial", [None, 1.5])
def test_is_segment_reduce_as_in_eager(reduce: str, initial: float | None, backend: ACALSimBackend) -> None:
    lengths, offsets = torch.tensor([2, 0, 3]), torch.tensor([0, 2, 2, 5])
    data = torch.arange(10.0).view(5, 2) - 4
    check(lambda x, n: torch.segment_reduce(x, reduce, lengths=n, initial=initial), backend, data, lengths)
    check(lambda x, n: torch.segment_reduce(x, reduce, offsets=n, initial=initial), backend, data, offsets)
