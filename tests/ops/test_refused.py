"""What PyTorch refuses to compute: does a compiled function raise PyTorch's own error where eager does, only there?"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from acalsim_backend import ACALSimBackend
from acalsim_backend.errors import UnsupportedError

DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16,
    torch.int8, torch.uint8, torch.int32, torch.int64, torch.bool,
)  # fmt: skip
NUMBERS = (2, -1, 300, -5, 1.5, True)
Shapes = tuple[tuple[int, ...], ...]
Function = Callable[..., torch.Tensor]

UNARY = (
    "neg", "abs", "exp", "log", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "erf", "floor", "ceil", "relu", "sigmoid",
    "tanh", "logical_not", "bitwise_not",
)  # fmt: skip
BINARY = (
    "add", "sub", "mul", "div", "minimum", "maximum", "pow", "eq", "ne", "lt", "le", "gt", "ge",
    "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor",
)  # fmt: skip


def of_two(name: str) -> Function:
    return lambda x, y: getattr(torch, name)(x, y)


def with_number(name: str, number: float) -> Function:
    return lambda x: getattr(torch, name)(x, number)


def pointwise() -> Iterator[tuple[str, Function, Shapes]]:
    one, two, mixed = ((2, 3),), ((2, 3), (2, 3)), ((2, 3), ())
    for name in UNARY:
        yield name, getattr(torch, name), one
    yield "gelu", functional.gelu, one
    yield "gelu tanh", lambda x: functional.gelu(x, approximate="tanh"), one
    for name in BINARY:
        yield name, of_two(name), two
        yield f"{name} 0-d", of_two(name), mixed
    for number in NUMBERS:
        for name in ("add", "sub", "mul", "div", "pow", "eq", "gt", "bitwise_and"):
            yield f"{name} {number}", with_number(name, number), one
        yield f"{number} - x", lambda x, n=number: n - x, one
        yield f"{number} ** x", lambda x, n=number: n**x, one
        yield f"add alpha {number}", lambda x, y, n=number: torch.add(x, y, alpha=n), two
        yield f"sub alpha {number}", lambda x, y, n=number: torch.sub(x, y, alpha=n), two
        yield f"clamp {number}", lambda x, n=number: x.clamp(n), one
        yield f"clamp max {number}", lambda x, n=number: x.clamp(max=n), one
        yield f"pad {number}", lambda x, n=number: functional.pad(x, (1, 1), value=n), one
        yield f"full {number}", lambda x, n=number: torch.full_like(x, n), one
    yield "clamp tensor", lambda x, y: torch.clamp(x, y), two
    for name in ("silu", "softplus", "hardswish", "elu", "leaky_relu", "mish", "logsigmoid", "softsign", "relu6"):
        yield name, getattr(functional, name), one
    yield "lerp", lambda x, y: torch.lerp(x, y, 0.5), two
    yield "addcmul", lambda x, y: torch.addcmul(x, y, y), two
    yield "hardtanh", functional.hardtanh, one


def products() -> Iterator[tuple[str, Function, Shapes]]:
    matrix, batch = (3, 3), (2, 3, 3)
    yield "mm", torch.mm, (matrix, matrix)
    yield "bmm", torch.bmm, (batch, batch)
    yield "addmm bias", lambda a, b: torch.addmm(a, b, b), (matrix, matrix)
    yield "addmm factor", lambda a, b: torch.addmm(a, a, b), (matrix, matrix)
    yield "addmm scaled", lambda a: torch.addmm(a, a, a, alpha=1.5, beta=0.5), (matrix,)
    yield "baddbmm", lambda a, b: torch.baddbmm(a, b, b), (batch, batch)
    yield "linear", functional.linear, (matrix, matrix)
    yield "linear bias", lambda x, b: functional.linear(x, x, b), (matrix, (3,))
    yield "mv", torch.mv, (matrix, (3,))
    yield "conv1d", functional.conv1d, ((1, 1, 4), (1, 1, 2))
    yield "conv2d", lambda x, w: functional.conv2d(x, w, groups=2, padding=1), ((1, 2, 4, 4), (2, 1, 3, 3))
    yield "softmax", lambda x: x.softmax(0), (matrix,)
    yield "log_softmax", lambda x: x.log_softmax(1), (matrix,)
    yield "layer_norm", lambda x, w: functional.layer_norm(x, (3,), w), (matrix, (3,))
    yield "batch_norm", lambda x, w: functional.batch_norm(x, w, w), (matrix, (3,))
    yield "max_pool2d", lambda x: functional.max_pool2d(x, 2, padding=1), ((1, 1, 4, 4),)
    yield "avg_pool2d", lambda x: functional.avg_pool2d(x, 2), ((1, 1, 4, 4),)
    yield "adaptive_avg_pool2d", lambda x: functional.adaptive_avg_pool2d(x, 2), ((1, 1, 4, 4),)
    for name in ("sum", "mean", "amax", "amin", "any", "prod"):
        yield name, lambda x, n=name: getattr(x, n)(0), (matrix,)


CASES = {name: (function, shapes) for name, function, shapes in (*pointwise(), *products())}


def outcome(function: Function, arguments: tuple[torch.Tensor, ...]) -> torch.Tensor | Exception:
    try:
        return function(*arguments)
    except Exception as error:  # to be compared
        return error


@pytest.fixture(scope="module")
def backends() -> Iterator[dict[str, Any]]:
    logging.disable(logging.CRITICAL)  # PyTorch logs what its own trace refuses
    made = {place: ACALSimBackend("simulate", machine="native", place=place) for place in ("auto", "cpu")}
    yield made
    for backend in made.values():
        backend.close()
    logging.disable(logging.NOTSET)


@pytest.mark.filterwarnings("ignore")
@given(st.sampled_from(sorted(CASES)), st.tuples(*[st.sampled_from(DTYPES)] * 2), st.sampled_from(["auto", "cpu"]))
def test_is_refused_what_eager_refuses_and_nothing_else(backends: Any, case: Any, dtypes: Any, place: str) -> None:
    function, shapes = CASES[case]
    arguments = tuple(torch.ones(shape, dtype=dtype) for shape, dtype in zip(shapes, dtypes, strict=False))
    expected = outcome(function, arguments)
    torch._dynamo.reset()
    got = outcome(torch.compile(function, backend=backends[place]), arguments)
    if isinstance(expected, torch.Tensor):
        assert isinstance(got, torch.Tensor), got
        assert got.dtype is expected.dtype
        assert torch.allclose(got.double(), expected.double(), rtol=1e-2, equal_nan=True)
    else:
        # where the trace refuses it, PyTorch's own wrapper; else the error of the operator
        assert isinstance(got, (type(expected), torch._dynamo.exc.TorchRuntimeError)), got


REFUSED: dict[str, tuple[Function, tuple[torch.Tensor, ...]]] = {
    "clamp": (lambda x: x.clamp(-5, 300), (torch.tensor([1, 255], dtype=torch.uint8),)),
    "clamp of few": (lambda x: x.clamp(min=-200), (torch.tensor([1], dtype=torch.int8),)),
    "power": (lambda x: x**-1, (torch.tensor([1, 2]),)),
    "power of nothing": (lambda x: x**-1, (torch.empty(0, dtype=torch.int64),)),
    "difference": (lambda a, b: a - b, (torch.randn(2), torch.tensor([True, False]))),
    "relu": (lambda x: x.relu(), (torch.tensor([True]),)),
    "product": (lambda a, b: a @ b, (torch.randn(2, 2), torch.randn(2, 2).double())),
    "fill": (lambda x: torch.full_like(x, 300), (torch.ones(3, dtype=torch.int8),)),
    "fill by a mask": (lambda x: x.masked_fill(x > 0, 200), (torch.ones(3, dtype=torch.int8),)),
    "choice": (lambda x: torch.where(x > 0, x, 300), (torch.ones(3, dtype=torch.int8),)),
    "constant": (lambda x: x + torch.full((3,), 300, dtype=torch.int8), (torch.ones(3, dtype=torch.int8),)),
    "padding": (lambda x: functional.pad(x, (1, 1), value=300), (torch.ones(3, dtype=torch.int8),)),
    "product by a vector": (torch.mv, (torch.ones(2, 2), torch.ones(2).double())),
    "decomposed": (functional.silu, (torch.ones(3, dtype=torch.int8),)),
    "decomposed into a choice": (functional.softplus, (torch.ones(3, dtype=torch.int64),)),
    "interpolation": (lambda x: torch.lerp(x, x, 0.5), (torch.ones(3, dtype=torch.int32),)),
    "fused": (lambda x: ((x + 1).clamp(max=300) * 2).sum(), (torch.ones(3, dtype=torch.uint8),)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", ["auto", "cpu", "accelerator"])
@pytest.mark.parametrize("machine", ["native", "unicorn"])
@pytest.mark.parametrize("case", REFUSED)
def test_is_the_error_pytorchs_own(case: Any, machine: str, place: str) -> None:
    function, arguments = REFUSED[case]
    expected = outcome(function, arguments)
    assert isinstance(expected, RuntimeError)
    torch._dynamo.reset()
    backend = ACALSimBackend("simulate", machine=machine, place=place)
    with pytest.raises(type(expected), match=re.escape(str(expected).partition("\n")[0])):
        torch.compile(function, backend=backend)(*arguments)
    backend.close()


def test_does_a_graph_without_host_operations_say_what_pytorch_refuses() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: x**-1, backend=ACALSimBackend("simulate", fallback="error"))
    with pytest.raises(Exception, match=r"PyTorch refuses it: Integers to negative integer powers") as raised:
        compiled(torch.tensor([1, 2]))
    assert isinstance(getattr(raised.value, "inner_exception", raised.value), UnsupportedError)
