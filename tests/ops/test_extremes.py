"""Values at the edge of what an element type holds: do all placements and machines give the same?"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional

from acalsim_backend import ACALSimBackend
from acalsim_backend.errors import InputError

EXTREMES = [math.inf, -math.inf, math.nan, 3e4, -3e4, 1e-30, 0.0, -0.0]
TOLERANCE = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("values", [EXTREMES * 3, [math.inf], [-math.inf], []], ids=len)
def test_is_gelu_the_same_wherever_it_runs(approximate: str, dtype: torch.dtype, values: Any) -> None:
    x = torch.tensor(values, dtype=dtype)
    expected = functional.gelu(x.double(), approximate=approximate).to(dtype)  # eager's scalar code, without its NaN
    for machine, place in (("native", "cpu"), ("native", "accelerator"), ("unicorn", "accelerator")):
        torch._dynamo.reset()
        backend = ACALSimBackend("simulate", machine=machine, place=place)
        got = torch.compile(lambda x: functional.gelu(x, approximate=approximate), backend=backend, dynamic=False)(x)
        torch.testing.assert_close(got, expected, rtol=TOLERANCE[dtype], atol=1e-6, equal_nan=True)
        backend.close()


def test_is_a_quantized_tensor_inside_a_graph_named_for_what_it_is() -> None:
    compiled = torch.compile(
        lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8).dequantize(), backend=ACALSimBackend("simulate")
    )
    message = r"quantize_per_tensor\.default returned a quantized tensor \(torch\.qint8\), which has no place"
    with pytest.raises(InputError, match=message):
        compiled(torch.randn(4))


@pytest.mark.parametrize("exponent", [True, False, 1, 2])
def test_has_a_power_of_truths_eagers_type(exponent: int) -> None:
    x = torch.tensor([True, False])
    got = torch.compile(lambda x: x**exponent, backend=ACALSimBackend(mode="simulate"), dynamic=False)(x)
    assert got.dtype is (x**exponent).dtype
    assert torch.equal(got, x**exponent)


EMPTY_PARTS = {
    "slice": lambda x: x[4:],
    "select": lambda x: x[-1],
    "split": lambda x: x.split(2)[-1],
    "narrow of a flip": lambda x: x.flip(0)[3:],
    "diagonal": lambda x: x.as_strided((2, 0), (1, 1), 0),
}


@pytest.mark.parametrize("name", EMPTY_PARTS)
@pytest.mark.parametrize("write", [True, False])
def test_may_parts_of_an_empty_tensor_be_read_and_written(name: str, write: bool) -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        part = EMPTY_PARTS[name](x)
        if write and name != "narrow of a flip":
            part += 1.0
        return torch.cumsum(part, 0) + x.sum()

    x = torch.empty(5, 0)
    assert torch.equal(torch.compile(program, backend=ACALSimBackend(mode="simulate"), dynamic=False)(x), program(x))
