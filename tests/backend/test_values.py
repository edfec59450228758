"""Does a compiled function give eager's value, to the bit, where numbers, dtypes and special values meet?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F  # noqa: N812  # its name everywhere

from acalsim_backend.backend import ACALSimBackend

inf, nan = math.inf, math.nan
half, bf16 = torch.float16, torch.bfloat16
spread = torch.linspace(-3, 3, 256)


def h(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=half)


CASES: list[tuple[Callable[..., Any], torch.Tensor]] = [
    # numbers with half types: eager rounds some of them to the half type first, and others not
    (lambda x: x * 65536.0, h(0.01, 0)),
    (lambda x: x * 2e-8, h(6e4)),
    (lambda x: x * 0.1, spread.half()),
    (lambda x: x * 0.1, spread.bfloat16()),
    (lambda x: x / 3.3, spread.half()),
    (lambda x: 3.3 / x, spread.bfloat16()),
    (lambda x: x * torch.tensor(0.1), spread.half()),
    (lambda x: x + 0.1, spread.half()),
    (lambda x: x > 0.1, spread.half()),
    (lambda x: torch.where(x > 0, x, 0.1), spread.half()),
    (lambda x: torch.add(x, x, alpha=0.3), spread.half()),
    (lambda x: torch.add(x, x, alpha=0.3), spread.bfloat16()),
    # an empty sum still gets its bias and activation
    (lambda x: F.relu(F.linear(x, torch.zeros(2, 0), torch.tensor([-1.0, 1.0]))), torch.zeros(1, 0)),
    (lambda x: (x @ torch.zeros(0, 2)).sigmoid(), torch.zeros(1, 0)),
    (lambda x: torch.baddbmm(torch.ones(2, 1, 2), x, torch.zeros(2, 0, 2), beta=0.5), torch.zeros(2, 1, 0)),
    # powers that eager computes by other functions
    *((lambda x, e=e: x**e, torch.tensor([-inf, -0.0, 0.0, 2.0, inf, nan])) for e in (0.5, -0.5, 2, 3, -1, -2, 0, 1)),
    (lambda x: x**2, torch.arange(-5, 5)),
    (lambda x: x**0.5, torch.tensor([-inf, -0.0, 4.0], dtype=bf16)),
    # elements of bool
    (lambda x: torch.full_like(x, 0.5, dtype=torch.bool), torch.ones(3)),
    (lambda x: x.clone().fill_(0.5), torch.zeros(3, dtype=torch.bool)),
    (lambda x: torch.full((2,), 0.5, dtype=torch.bool) | x, torch.zeros(2, dtype=torch.bool)),
    (lambda x: x.masked_fill(~x, 0.5), torch.zeros(2, dtype=torch.bool)),
    # a single element
    (lambda x: F.softmax(x, 0), torch.tensor(nan)),
    (lambda x: F.softmax(x, 0), torch.tensor(inf)),
    (lambda x: F.log_softmax(x, 0), torch.tensor(-inf)),
    # the dtype of a reduction is that of its terms
    (lambda x: x.sum(dtype=torch.float32), torch.tensor([1e300, -1e300, 1.0], dtype=torch.float64)),
    (lambda x: x.sum(dtype=half), torch.tensor([7e4, -7e4, 1.0])),
    (lambda x: x.mean(dtype=half), torch.tensor([7e4, -7e4, 1.0])),
    (lambda x: x.sum(dtype=torch.float64), torch.tensor([1.0, 1e-9])),
    (lambda x: x.sum(dtype=torch.int64), torch.tensor([1.7, 2.7])),
    (lambda x: x.sum(dtype=torch.bool), torch.tensor([0.5, 0.0])),
    # the bounds of a clamp and the sign of zero
    (lambda x: torch.clamp(x, min=0), torch.tensor([-0.0, 0.0, nan])),
    (lambda x: torch.clamp(x, -1, 0), torch.tensor([-0.0, 0.0, nan])),
    (lambda x: F.relu6(x), torch.tensor([-0.0, 7.0])),
    (lambda x: torch.add(x, x, alpha=2), torch.ones(2, dtype=torch.bool)),
]


@pytest.fixture(scope="module", params=["auto", "cpu"])
def backend(request: pytest.FixtureRequest) -> ACALSimBackend:
    return ACALSimBackend(mode="simulate", place=request.param)


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_is_the_value_eagers_to_the_bit(backend: ACALSimBackend, case: tuple[Callable[..., Any], torch.Tensor]) -> None:
    torch._dynamo.reset()
    function, x = case
    with torch.no_grad():
        got, expected = torch.compile(function, backend=backend, dynamic=False)(x), function(x)
    assert got.dtype == expected.dtype
    assert torch.equal(got.isnan(), expected.isnan())
    got, expected = (v.nan_to_num(0.0, inf, -inf) for v in (got, expected))
    assert torch.equal(got, expected)
    if got.is_floating_point():
        assert torch.equal(got.signbit(), expected.signbit())


@pytest.mark.parametrize("masked", [False, True])
def test_is_attention_what_pytorchs_math_backend_gives(backend: ACALSimBackend, masked: bool) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 4, 8) for _ in range(3))
    q[0, 0, 1, 0] = nan
    mask = torch.ones(4, 4, dtype=torch.bool).tril() if masked else None

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    with torch.no_grad(), torch.nn.attention.sdpa_kernel([torch.nn.attention.SDPBackend.MATH]):
        expected = attention(q, k, v)
    with torch.no_grad():
        got = torch.compile(attention, backend=backend)(q, k, v)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6, equal_nan=True)
