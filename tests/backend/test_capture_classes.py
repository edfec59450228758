"""Does torch.compile give eager's values, shapes, dtypes and memory for what the capture must not take for granted?

Constants made inside the function, results and arguments whose elements share memory, operators that ask where the
elements lie, empty tensors, arguments that are None; without gradients, and with the outputs that a backward needs.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812  # its name everywhere

from acalsim_backend.backend import ACALSimBackend
from acalsim_backend.compiler import ACALSimCompiler
from acalsim_backend.errors import UnsupportedError
from acalsim_backend.front.trace import to_core_aten

pytestmark = pytest.mark.filterwarnings("ignore::acalsim_backend.backend.FallbackWarning")
nan, inf = math.nan, math.inf
x3, x23 = torch.randn(3), torch.arange(6.0).reshape(2, 3)
heads = torch.randn(1, 2, 5, 4)


@pytest.fixture(scope="module")
def backend() -> ACALSimBackend:
    return ACALSimBackend(mode="simulate")


def check(backend: ACALSimBackend, function: Callable[..., Any], args: tuple[Any, ...], *, grad: bool = False) -> None:
    """Compare results and what became of the arguments; strides too."""
    torch._dynamo.reset()

    def fresh() -> tuple[Any, ...]:
        if not grad:
            return args
        return tuple(a.detach().requires_grad_(a.is_floating_point()) for a in args)

    runs = len(backend.reports)
    with torch.set_grad_enabled(grad):
        expected = function(*fresh())
        got = torch.compile(function, backend=backend, fullgraph=True, dynamic=False)(*fresh())
    assert len(backend.reports) > runs
    if isinstance(expected, torch.Tensor):
        expected, got = (expected,), (got,)
    for want, value in zip(expected, got, strict=True):
        torch.testing.assert_close(value, want, rtol=1e-4, atol=1e-5, equal_nan=True)


def masked_attention(scores: torch.Tensor) -> torch.Tensor:
    """The mask of GPT-2; at length 1 it is one value, and must keep its rank."""
    length = scores.shape[-1]
    mask = torch.ones(length, length, dtype=torch.bool).tril().view(1, 1, length, length)
    return torch.where(mask, scores, torch.full([], -1e9)).softmax(-1)


CONSTANTS = [
    (lambda x: x + torch.ones(3) * 2, x3),
    (lambda x: x + torch.ones(5), torch.tensor(2.0)),
    (lambda x: torch.zeros_like(x).bool(), x3),
    (lambda x: torch.isfinite(x).to(torch.uint8), torch.arange(4)),
    (lambda x: torch.where(torch.ones(3, dtype=torch.bool), x, x + 1), x3),
    (lambda x: torch.where(torch.ones(4, 3, dtype=torch.bool), x, x + 1), x3),
    (lambda x: torch.logical_and(torch.ones(3, dtype=torch.bool), x), x3),
    (lambda x: torch.logical_xor(torch.ones(2, 3, dtype=torch.bool), x), x3),
    (lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), heads),
    (masked_attention, torch.randn(1, 2, 1, 1)),
    (masked_attention, torch.randn(1, 2, 3, 3)),
    (lambda x: x + torch.full((1, 1), 2.5), x3),
    (lambda x: (torch.arange(3) + torch.ones(2, 1, dtype=torch.long)) * x, x3),
    (lambda x: torch.ones(3) == x, torch.tensor(1.0)),
    (lambda x: x + torch.arange(3).bfloat16() + torch.ones(3).bfloat16(), x3.bfloat16()),
    (lambda x: torch.nanquantile(x, torch.tensor([0.5, 0.2]), dim=1), x23),
    (lambda x: (x > 0) & torch.full((3,), 0.5, dtype=torch.bool), x3),
    (lambda x: x.clone().fill_(nan), torch.ones(3, dtype=torch.bool)),
    (lambda x: torch.logical_and(x, x).fill_(inf) | (x > 0), x3),
    (lambda x: torch.pow(x, torch.full((3,), 0.5)), torch.tensor([-inf, -0.0, 4.0])),
]
SHARED = [
    (lambda x: (x + 1).expand(4, 1, 3), x3.view(1, 3)),
    (lambda x: torch.meshgrid(x, x[:1] + 1, indexing="ij"), x3),
    (lambda x: (x + 1).expand(3, 3).t(), x3),
    (lambda x: (x + 1).unfold(0, 2, 1), x3),
    (lambda x: torch.zeros(1).expand(3), x3),
    (lambda x: torch.as_strided(torch.tensor(0.1), (1,), (0,)).half(), x3),
    (lambda x: x.max().flip(0), x3),
    (lambda x: x.expand(2, 3).flip(0, 1), x3),
    (lambda x: x.sum().expand(2, 1), x3),
]
MEMORY = [
    (lambda x: torch.as_strided((x + 1).t(), (4,), (1,)), x23),
    (lambda x: torch.as_strided((x + 1)[:, ::2], (3,), (1,)), x23),
    (lambda x: torch.as_strided((x + 1)[1:], (2,), (1,)), x23),
    (lambda x: torch.as_strided(x, (2, 2), (1, 2)), torch.randn(3, 3)[1:]),
    (lambda x: torch.as_strided(x, (3,), (1,), 1), x23.t()),
    (lambda x: (torch.as_strided(x, (3,), (1,)) + 1, x * 2), torch.arange(18.0).as_strided((2, 3), (9, 3))),
    (lambda x: torch.as_strided(x + 1, (6,), (1,), 1), heads.contiguous(memory_format=torch.channels_last)),
    (lambda x: torch.as_strided((x + 1).split(1)[1], (3,), (1,)), x23),
    (lambda x: torch.as_strided(x, (2, 3), (0, 1)), x3.expand(4, 3)),
    (lambda x: (x + 1).t().view(torch.int32), x23),
]
EMPTY = [
    (lambda x: torch.linalg.inv(x), torch.zeros(0, 2, 2)),
    (lambda x: torch.linalg.det(x), torch.zeros(2, 0, 0)),
    (lambda x: x.cumsum(0), torch.zeros(0, 2)),
    (lambda x: F.conv2d(x, torch.ones(2, 0, 3, 3)), torch.randn(1, 0, 4, 4)),
    (lambda x: F.relu(F.conv1d(x, torch.ones(2, 0, 3), torch.ones(2))), torch.randn(1, 0, 4)),
    (lambda x: torch.div(x, 3.0, rounding_mode=None), x3),
    (lambda x: torch.div(x, x + 1, rounding_mode=None), x3),
    (lambda x: torch.div(x, x + 1, rounding_mode="floor"), x3),
    (lambda x: torch.sort(x, stable=None).values, x3),
]
CASES = [*CONSTANTS, *SHARED, *MEMORY, *EMPTY]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_is_a_reproducer_equal_to_eager(backend: ACALSimBackend, case: int) -> None:
    function, x = CASES[case]
    check(backend, function, (x,))


@pytest.mark.parametrize("case", [i for i, (_, x) in enumerate(CASES) if x.is_floating_point()])
def test_is_it_with_the_outputs_of_a_backward(backend: ACALSimBackend, case: int) -> None:
    function, x = CASES[case]
    check(backend, function, (x,), grad=True)


def test_is_as_strided_scatter_into_memory_as_eager_has_it(backend: ACALSimBackend) -> None:
    """Only without gradients: eager refuses it otherwise."""
    check(backend, lambda x: torch.as_strided_scatter((x + 1).t(), torch.zeros(3), (3,), (1,)), (x23,))
    check(backend, lambda x: torch.as_strided_scatter(x + 1, torch.zeros(2), (2,), (2,), 1), (x23,))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.float64])
def test_is_a_window_into_elements_of_another_type_as_eager_has_it(backend: ACALSimBackend, dtype: torch.dtype) -> None:
    def viewed(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        bits = (x + 0.5).view(dtype)
        return bits[:2, :1] * torch.as_strided(bits, (2, 1), (1, 1)), torch.as_strided(bits[1:], (1, 2), (1, 1), 2) * 1

    check(backend, viewed, (torch.randn(4, 4),))


WINDOWS: list[Callable[..., Any]] = [
    lambda y: torch.as_strided(y, (2,), (1,)),
    lambda y: torch.as_strided(y, (2, 1), (1, 0)),
    lambda y: y[:1, 1:],
    lambda y: y.t()[0],
    lambda y: y.reshape(-1)[2:4],
]
OTHERS: list[Callable[..., Any]] = [lambda w, y: w.detach(), lambda w, y: y, lambda w, y: w.reshape(-1)[:1]]


@pytest.mark.parametrize(
    ("window", "other", "grad"),
    [
        (window, other, grad)
        for i, window in enumerate(WINDOWS)
        for other in OTHERS
        for grad in (False, True)
        if not (grad and other is OTHERS[0] and i > 1)  # AOTAutograd asserts
    ],
)
def test_do_results_share_memory_that_was_written_through_a_window(
    backend: ACALSimBackend, window: Callable[..., Any], other: Callable[..., Any], grad: bool
) -> None:
    def written(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = x * 2
        part = window(y)
        result = other(part, y)
        part.mul_(3)
        return part, result

    torch._dynamo.reset()
    x = x23.clone().requires_grad_(grad)
    got, expected = torch.compile(written, backend=backend)(x), written(x)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)
        assert a.stride() == b.stride()
    assert got[0].untyped_storage().data_ptr() == got[1].untyped_storage().data_ptr()


def test_do_random_values_fill_memory_as_eager_does(backend: ACALSimBackend) -> None:
    def filled(x: torch.Tensor) -> torch.Tensor:
        return torch.rand_like(x.t() + 1)

    torch._dynamo.reset()
    compiled = torch.compile(filled, backend=backend, fullgraph=True)
    torch.manual_seed(1)
    expected = filled(x23)
    torch.manual_seed(1)
    torch.testing.assert_close(compiled(x23), expected)


def test_is_division_with_mode_none_a_division() -> None:
    ir = ACALSimCompiler().compile(to_core_aten(lambda x: torch.div(x, x, rounding_mode=None), (x3,)), [x3])
    assert [op.target for op in ir.ops] == ["aten.div.Tensor"]


def test_is_memory_that_the_machine_does_not_hold_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"reach memory beside the 2 elements .*pass the tensor that owns"):
        ACALSimCompiler().compile(to_core_aten(lambda x: torch.as_strided(x, (3,), (1,)), (x3[::2],)), [x3[::2]])


@pytest.mark.parametrize("traced", [True, False])
def test_may_a_chain_be_longer_than_the_stack_is_deep(traced: bool) -> None:
    graph = torch.fx.Graph()
    node = graph.placeholder("x")
    node.meta["val"] = x3
    for i in range(3000):
        node = graph.call_function(torch.ops.aten.relu.default, (node,))
        node.meta["val"] = x3
        if i == 0 and traced:
            node.meta["stack_trace"] = 'File "user.py", line 7, in f\n    y = x.relu()'
    graph.output((node,))
    ir = ACALSimCompiler().compile(torch.fx.GraphModule(torch.nn.Module(), graph), [x3])
    assert len(ir.ops) == 3000
    assert {op.source for op in ir.ops} == {"user.py:7" if traced else ""}


BINARY = (
    operator.add, operator.mul, operator.sub, torch.maximum, torch.eq, torch.logical_or,
    lambda a, b: torch.where(a > b, a, b), lambda a, b: torch.where(a.bool(), b, 2), lambda a, b: b / (a * a + 1),
)  # fmt: skip
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
MADE = (
    lambda shape, dtype: torch.ones(shape, dtype=dtype),
    lambda shape, dtype: torch.zeros(shape).to(dtype),
    lambda shape, dtype: torch.full(shape, 2.75, dtype=dtype),
    lambda shape, dtype: torch.arange(math.prod(shape)).view(shape).to(dtype),
    lambda shape, dtype: torch.ones((), dtype=dtype).expand(shape),
)


@st.composite
def broadcasts(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    shape = draw(st.lists(st.integers(0, 3), max_size=3))

    def part() -> tuple[int, ...]:
        own = shape[draw(st.integers(0, len(shape))) :]
        return tuple(1 if draw(st.booleans()) else d for d in own)

    return part(), part()


@settings(max_examples=20)
@given(broadcasts(), st.sampled_from(DTYPES), st.sampled_from(DTYPES), st.sampled_from(BINARY), st.sampled_from(MADE))
def test_does_a_constant_operand_broadcast_and_promote_as_in_eager(
    backend: ACALSimBackend,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    dtype: torch.dtype,
    other: torch.dtype,
    combine: Callable[..., Any],
    make: Callable[..., Any],
) -> None:
    x = torch.randn(shapes[0]).mul(3).to(dtype) if dtype is not torch.uint8 else torch.ones(shapes[0], dtype=dtype)
    if combine is operator.sub and torch.bool in (dtype, other):
        combine = operator.mul
    check(backend, lambda x: combine(x, make(shapes[1], other)), (x,))


@settings(max_examples=15)
@given(st.lists(st.sampled_from([1, 1, 2, 3]), min_size=1, max_size=4), st.data())
def test_has_a_broadcast_result_eagers_values_and_memory(
    backend: ACALSimBackend, shape: list[int], data: st.DataObject
) -> None:
    own = tuple(1 if data.draw(st.booleans()) else d for d in shape)
    order = data.draw(st.permutations(range(len(shape))))
    check(backend, lambda x: ((x + 1).expand(shape).permute(order), x.expand(shape)), (torch.randn(own),))


VIEWS = (
    lambda y: y,
    lambda y: y.t(),
    lambda y: y[1:],
    lambda y: y[:, ::2],
    lambda y: y[1],
    lambda y: y.unsqueeze(0).expand(2, 4, 6),
    lambda y: y.view(2, 2, 6).transpose(0, 2),
)


@settings(max_examples=15)
@given(st.sampled_from(VIEWS), st.lists(st.integers(1, 3), max_size=3), st.data())
def test_is_a_window_into_the_memory_of_a_view_eagers(
    backend: ACALSimBackend, view: Callable[..., Any], size: list[int], data: st.DataObject
) -> None:
    stride = [data.draw(st.integers(0, 3)) for _ in size]
    reach = sum((d - 1) * s for d, s in zip(size, stride, strict=True))
    offset = data.draw(st.one_of(st.none(), st.integers(0, 23 - reach)))
    if offset is None and view(torch.zeros(4, 6)).storage_offset() + reach > 23:
        offset = 0
    inside = data.draw(st.booleans())

    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.as_strided(view(x * 2) if inside else view(x), size, stride, offset) + 1

    check(backend, function, (torch.randn(4, 6),))
