"""Do the kernels compute what PyTorch computes, beyond one block of everything that they split into blocks?

Small shapes with all kinds of strides are compared in ``tests/device/test_providers.py``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as nn
from command_cases import DTYPES, Case, Micro, elementwise
from hypothesis import given
from hypothesis import strategies as st
from kernel_bench import KernelBench

from acalsim_backend.program.commands import Conv2d, Copy, Fill, Gemm, Norm, Pool2d, Reduce, Softmax
from acalsim_backend.program.enums import Activation, DType, PoolMode, ReduceOp, VectorClass, VectorOp
from acalsim_backend.program.view import View

FLOATS = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
BENCH = KernelBench()  # hypothesis runs a test many times within one call: not a fixture


def agree(got: torch.Tensor, expected: torch.Tensor, **tolerance: Any) -> None:
    torch.testing.assert_close(got, expected, equal_nan=True, **tolerance)


# --- GEMM ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 255, 257, 600])
@pytest.mark.parametrize(("m", "n"), [(1, 300), (3, 257), (300, 1), (301, 2), (129, 261), (5, 9), (130, 3)])
@pytest.mark.parametrize("transposed", [False, True])
def test_gemm_across_blocks(bench: KernelBench, m: int, n: int, k: int, transposed: bool) -> None:
    case = Case(f"gemm {m} {n} {k}", rtol=1e-4, atol=1e-4)
    a, bias = case.rand(m, k), case.rand(n)
    b = case.rand(n, k).t() if transposed else case.rand(k, n)
    expected = nn.relu(a.double() @ b.double() + bias).float()
    views = case.read(a), case.read(b), case.write(expected), case.read(bias.expand(m, n))
    case.commands.append(Gemm(*views, activation=Activation.RELU))
    bench.check(case)


def test_gemm_sums_long_rows_as_well_as_pytorch(bench: KernelBench) -> None:
    case = Case("long rows")
    a, b = case.rand(4, 20000), case.rand(20000, 4)
    exact = a.double() @ b.double()
    case.commands.append(Gemm(case.read(a), case.read(b), case.write(a @ b)))
    assert (bench.result(case) - exact).abs().max() <= 2 * (a @ b - exact).abs().max() + 1e-4


@pytest.mark.parametrize(
    ("dtype", "activation"),
    [(d, a) for d in FLOATS for a in Activation if d is not torch.float64 or a <= Activation.RELU],
)
def test_gemm_rounds_before_the_activation(bench: KernelBench, dtype: torch.dtype, activation: Activation) -> None:
    functions: dict[Activation, Callable[..., torch.Tensor]] = {
        Activation.NONE: lambda x: x,
        Activation.RELU: nn.relu,
        Activation.GELU: UNARY[VectorOp.GELU],
        Activation.GELU_TANH: lambda x: nn.gelu(x, approximate="tanh"),
        Activation.SIGMOID: torch.sigmoid,
        Activation.TANH: torch.tanh,
    }
    case = Case("activation")
    a = case.rand(7, 1, dtype=dtype) * 3
    b = torch.ones(1, 9, dtype=dtype)  # so that the product is exact and rounding is all there is
    case.commands.append(
        Gemm(case.read(a), case.read(b), case.write(functions[activation](a @ b)), activation=activation)
    )
    tolerance = 0.0 if activation in (Activation.NONE, Activation.RELU) else torch.finfo(dtype).eps * 4
    agree(bench.result(case), functions[activation](a @ b), rtol=tolerance, atol=tolerance)


def test_gemm_ignores_a_bias_times_zero(bench: KernelBench) -> None:
    case = Case("beta 0")
    a, b, bias = case.rand(3, 4), case.rand(4, 5), torch.full((3, 5), float("nan"))
    case.commands.append(Gemm(case.read(a), case.read(b), case.write(a @ b), case.read(bias), beta=0.0))
    bench.check(case)


def test_gemm_accumulates_bytes_in_32_bits(bench: KernelBench) -> None:
    case = Case("i8 to i64")
    a, b = torch.full((1, 140000), -128, dtype=torch.int8), torch.full((140000, 1), -128, dtype=torch.int8)
    total = 140000 * 128 * 128  # leaves 32 bits
    expected = torch.tensor([[total]]).to(torch.int32).to(torch.int64)
    case.commands.append(Gemm(case.read(a), case.read(b), case.write(expected)))
    bench.check(case)


# --- CONV2D -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    ("channels", "filters", "size", "kernel", "options"),
    [
        (3, 130, 23, 7, {"stride": 2, "padding": 3}),
        (33, 5, 18, 3, {"padding": 1}),
        (64, 64, 9, 3, {"padding": 2, "dilation": 2}),
        (70, 24, 17, 1, {}),
        (12, 12, 20, 3, {"padding": 1, "groups": 12}),
        (12, 24, 31, 5, {"padding": 2, "groups": 12, "stride": 3}),
        (8, 4, 300, 1, {"stride": 2}),
        (2, 2, 200, 3, {"padding": 1, "groups": 2}),  # more rows than one band of the narrow kernel holds
        (40, 3, 13, 3, {"padding": 3, "dilation": 2}),
        (2, 2, 40, 17, {"groups": 2}),  # more taps than the narrow kernel takes
    ],
)
def test_conv2d_across_blocks(
    bench: KernelBench, dtype: torch.dtype, channels: int, filters: int, size: int, kernel: int, options: dict[str, Any]
) -> None:
    case = Case("conv", rtol=2e-2 if dtype is torch.bfloat16 else 1e-4, atol=1e-4)
    x = case.rand(1, channels, size, size, dtype=dtype)
    w = case.rand(filters, channels // options.get("groups", 1), kernel, kernel, dtype=dtype)
    bias = case.rand(filters, dtype=dtype)
    expected = nn.conv2d(x.double(), w.double(), bias.double(), **options).to(dtype)
    views = case.read(x), case.read(w), case.write(expected), case.read(bias)
    pairs: dict[str, Any] = {k: v if k == "groups" else (v, v) for k, v in options.items()}
    case.commands.append(Conv2d(*views, **pairs))
    bench.check(case)


def test_conv2d_of_channels_last(bench: KernelBench) -> None:
    case = Case("channels last", rtol=1e-4, atol=1e-4)
    x, w = case.rand(2, 6, 6, 5).permute(0, 3, 1, 2), case.rand(4, 3, 3, 5).permute(0, 3, 1, 2)
    expected = nn.conv2d(x, w, padding=1)
    case.commands.append(Conv2d(case.read(x), case.read(w), case.write(expected, order=(0, 2, 3, 1)), padding=(1, 1)))
    bench.check(case)


# --- VECTOR -------------------------------------------------------------------------------------------------------


def in_double(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The function of f32, without the errors that PyTorch's own versions in single precision have."""
    return lambda *values: function(*(v.double() if v.is_floating_point() else v for v in values)).to(values[0].dtype)


UNARY: dict[VectorOp, Callable[..., torch.Tensor]] = {
    VectorOp.NEG: torch.neg,
    VectorOp.ABS: torch.abs,
    VectorOp.RELU: nn.relu,
    VectorOp.EXP: torch.exp,
    VectorOp.LOG: torch.log,
    VectorOp.SQRT: torch.sqrt,
    VectorOp.RSQRT: torch.rsqrt,
    VectorOp.RECIPROCAL: torch.reciprocal,
    VectorOp.TANH: torch.tanh,
    VectorOp.SIGMOID: torch.sigmoid,
    VectorOp.ERF: torch.erf,
    VectorOp.GELU: lambda x: nn.gelu(x.double()).to(x.dtype),  # PyTorch's own loses digits in 1 + erf
    VectorOp.GELU_TANH: lambda x: nn.gelu(x, approximate="tanh"),
    VectorOp.SIN: torch.sin,
    VectorOp.COS: torch.cos,
    VectorOp.FLOOR: torch.floor,
    VectorOp.CEIL: torch.ceil,
    VectorOp.TRUNC: torch.trunc,
    VectorOp.ROUND: torch.round,
    VectorOp.EXP2: in_double(torch.exp2),
    VectorOp.EXPM1: in_double(torch.expm1),
    VectorOp.LOG2: in_double(torch.log2),
    VectorOp.LOG10: in_double(torch.log10),
    VectorOp.LOG1P: in_double(torch.log1p),
    VectorOp.TAN: in_double(torch.tan),
    VectorOp.ASIN: in_double(torch.asin),
    VectorOp.ACOS: in_double(torch.acos),
    VectorOp.ATAN: in_double(torch.atan),
    VectorOp.SINH: in_double(torch.sinh),
    VectorOp.COSH: in_double(torch.cosh),
    VectorOp.ASINH: in_double(torch.asinh),
    VectorOp.ACOSH: in_double(torch.acosh),
    VectorOp.ATANH: in_double(torch.atanh),
    VectorOp.ERFC: in_double(torch.erfc),
    VectorOp.ERFCX: in_double(torch.special.erfcx),
    VectorOp.ERFINV: in_double(torch.erfinv),
    VectorOp.LGAMMA: in_double(torch.lgamma),
    VectorOp.DIGAMMA: in_double(torch.digamma),
    VectorOp.I0: in_double(torch.i0),
    VectorOp.I0E: in_double(torch.special.i0e),
    VectorOp.I1: in_double(torch.special.i1),
    VectorOp.I1E: in_double(torch.special.i1e),
}
SINGLE_ONLY = {op for op in VectorOp if op.cost in (VectorClass.EXPONENTIAL, VectorClass.TRANSCENDENTAL)}
SINGLE_ONLY |= {VectorOp.HYPOT}
BINARY: dict[VectorOp, Callable[..., torch.Tensor]] = {
    VectorOp.ADD: torch.add,
    VectorOp.SUB: torch.sub,
    VectorOp.MUL: torch.mul,
    VectorOp.DIV: torch.div,
    VectorOp.MIN: torch.minimum,
    VectorOp.MAX: torch.maximum,
    VectorOp.POW: torch.pow,
    VectorOp.FMOD: in_double(torch.fmod),  # in single precision PyTorch has NaN where the quotient is too large
    VectorOp.REMAINDER: in_double(torch.remainder),
    VectorOp.FLOOR_DIVIDE: torch.floor_divide,
    VectorOp.COPYSIGN: torch.copysign,
    VectorOp.ATAN2: in_double(torch.atan2),
    VectorOp.HYPOT: in_double(torch.hypot),
}
DIVISIONS = {VectorOp.FMOD, VectorOp.REMAINDER, VectorOp.FLOOR_DIVIDE, VectorOp.TRUNC_DIVIDE}
COMPARISONS = {
    VectorOp.EQ: torch.eq,
    VectorOp.NE: torch.ne,
    VectorOp.LT: torch.lt,
    VectorOp.LE: torch.le,
    VectorOp.GT: torch.gt,
    VectorOp.GE: torch.ge,
}
BITWISE = {VectorOp.AND: torch.bitwise_and, VectorOp.OR: torch.bitwise_or, VectorOp.XOR: torch.bitwise_xor}
SHIFTS = {VectorOp.SHIFT_LEFT: torch.bitwise_left_shift, VectorOp.SHIFT_RIGHT: torch.bitwise_right_shift}
INTEGER_FUNCTIONS: dict[VectorOp, Callable[..., torch.Tensor]] = {
    **{op: function for op, function in BINARY.items() if op.takes(DType.I64)},
    **BITWISE,
    **SHIFTS,
    VectorOp.GCD: torch.gcd,
    VectorOp.TRUNC_DIVIDE: lambda x, y: torch.div(x, y, rounding_mode="trunc"),
    **{op: UNARY[op] for op in (VectorOp.NEG, VectorOp.ABS, VectorOp.RELU)},
    VectorOp.NOT: torch.bitwise_not,
}
SPECIAL = [
    0.0,
    -0.0,
    0.5,
    -0.5,
    1.0,
    -1.0,
    2.5,
    -2.5,
    1e-42,
    -1e-42,
    100.0,
    -100.0,
    -1e6,
    float("inf"),
    -float("inf"),
    float("nan"),
]


def special(case: Case, dtype: torch.dtype, n: int = 700) -> torch.Tensor:
    """Random values with the special ones among them; longer than two blocks."""
    values = case.rand(n, dtype=dtype) * (3 if dtype.is_floating_point else 1)
    if dtype.is_floating_point:
        values[: len(SPECIAL)] = torch.tensor(SPECIAL, dtype=torch.float64).to(dtype)
    return values


def in_their_dtypes(ops: Iterable[VectorOp]) -> list[Any]:
    """Operations with the floating point dtypes that the kernels have them in."""
    pairs = itertools.product(ops, FLOATS)
    return [
        pytest.param(op, dtype, id=f"{op.name}-{dtype}")
        for op, dtype in pairs
        if dtype is not torch.float64 or op not in SINGLE_ONLY
    ]


def tolerance(dtype: torch.dtype) -> dict[str, float]:
    eps = torch.finfo(dtype).eps if dtype.is_floating_point else 0.0
    return {"rtol": 4 * eps, "atol": 2 * min(eps, 1e-6)}


@pytest.mark.parametrize(("op", "dtype"), in_their_dtypes(UNARY))
def test_vector_functions(bench: KernelBench, op: VectorOp, dtype: torch.dtype) -> None:
    case = Case(op.name)
    x = special(case, dtype)
    expected = UNARY[op](x)
    elementwise(case, op, x, expected=expected)
    agree(bench.result(case), expected, **tolerance(dtype))


@pytest.mark.parametrize(("op", "dtype"), in_their_dtypes(BINARY))
def test_vector_arithmetic(bench: KernelBench, op: VectorOp, dtype: torch.dtype) -> None:
    case = Case(op.name)
    x = special(case, dtype)
    y = x.roll(3)
    expected = BINARY[op](x, y)
    elementwise(case, op, x, y, expected=expected)
    agree(bench.result(case), expected, **tolerance(dtype))


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("op", INTEGER_FUNCTIONS, ids=lambda op: op.name)
def test_vector_integers(bench: KernelBench, op: VectorOp, dtype: torch.dtype) -> None:
    case = Case(op.name)
    x, y = case.rand(300, dtype=dtype), case.rand(300, dtype=dtype)
    y = y.abs() % 9 if op is VectorOp.POW else y
    y = torch.where(y == 0, 7, y) if op in DIVISIONS else y
    function = INTEGER_FUNCTIONS[op]
    arguments = (x, y)[: op.arity]
    expected = function(*arguments)
    elementwise(case, op, *arguments, expected=expected)
    agree(bench.result(case), expected)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
@pytest.mark.parametrize("op", COMPARISONS, ids=lambda op: op.name)
def test_vector_comparisons(bench: KernelBench, op: VectorOp, dtype: torch.dtype) -> None:
    case = Case(op.name)
    x = special(case, dtype)
    y = torch.where(torch.arange(len(x)) % 3 == 0, x, x.roll(1))
    elementwise(case, op, x, y, expected=COMPARISONS[op](x, y))
    bench.check(case)


def test_vector_logic_on_booleans(bench: KernelBench) -> None:
    for op, function in BITWISE.items():
        case = Case(op.name)
        a, b = case.rand(300, dtype=torch.bool), case.rand(300, dtype=torch.bool)
        elementwise(case, op, a, b, expected=function(a, b))
        bench.check(case)
    case = Case("not")
    a = case.rand(300, dtype=torch.bool)
    elementwise(case, VectorOp.NOT, a, expected=~a)
    bench.check(case)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, torch.bool])
def test_vector_where(bench: KernelBench, dtype: torch.dtype) -> None:
    case = Case("where")
    condition, a, b = case.rand(600, dtype=torch.bool), case.rand(600, dtype=dtype), case.rand(600, dtype=dtype)
    elementwise(case, VectorOp.WHERE, condition, a, b, expected=torch.where(condition, a, b))
    bench.check(case)


def test_vector_power_of_integers_with_negative_exponents(bench: KernelBench) -> None:
    case = Case("pow")
    base = torch.tensor([1, 1, -1, -1, 2, -7, 0])
    elementwise(
        case,
        VectorOp.POW,
        base,
        torch.tensor([-1, -2, -1, -2, -1, -3, -1]),
        expected=torch.tensor([1, 1, -1, 1, 0, 0, 0]),
    )
    bench.check(case)


@pytest.mark.parametrize("op", DIVISIONS, ids=lambda op: op.name)
def test_integers_divided_by_zero_are_an_error(bench: KernelBench, op: VectorOp) -> None:
    case = Case("division")
    elementwise(case, op, torch.tensor([1, 2, 3]), torch.tensor([1, 0, 3]), expected=torch.zeros(3, dtype=torch.int64))
    with pytest.raises(AssertionError, match="DIVISION"):
        bench.result(case)


def test_quotients_of_the_smallest_integer(bench: KernelBench) -> None:
    x, y = torch.tensor([-(1 << 63), -7]), torch.tensor([-1, -1])
    zero, quotient = torch.zeros_like(x), torch.tensor([-(1 << 63), 7])
    for op in DIVISIONS:
        case = Case("quotient")
        expected = quotient if op in (VectorOp.FLOOR_DIVIDE, VectorOp.TRUNC_DIVIDE) else zero
        elementwise(case, op, x, y, expected=expected)
        bench.check(case)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_remainders_of_far_apart_numbers(bench: KernelBench, dtype: torch.dtype) -> None:
    case, limits = Case("far"), torch.finfo(dtype)
    values = torch.tensor([limits.max, -limits.max, limits.smallest_normal, 1e-42, 3.7, -1e20, 5e-324, 1.0]).to(dtype)
    x, y = values.repeat_interleave(len(values)), values.repeat(len(values))
    elementwise(case, VectorOp.FMOD, x, y, expected=in_double(torch.fmod)(x, y))
    elementwise(case, VectorOp.NEXTAFTER, x, y, expected=torch.nextafter(x, y))
    bench.check(case)


def test_vector_rows_that_are_broadcast(bench: KernelBench) -> None:
    for shape in ((5, 700), (700, 5), (3, 7, 49), (64, 1)):
        case = Case(f"rows {shape}")
        x, row, column = case.rand(*shape), case.rand(shape[-1]), case.rand(*shape[:-1], 1)
        micro = Micro()
        registers = [micro.load(case.read(t.expand(shape))) for t in (x, row, column)]
        value = micro.op(VectorOp.MUL, micro.op(VectorOp.ADD, registers[0], registers[1]), registers[2])
        micro.store(value, case.write((x + row) * column))
        case.commands.append(micro.command())
        bench.check(case)


def test_vector_works_in_place(bench: KernelBench) -> None:
    case = Case("in place")
    x = case.rand(1000)
    view = case.write(nn.relu(x * x))
    case.values[view.tensor] = x.view(torch.uint8).numpy()
    micro = Micro()
    r = micro.load(view)
    micro.store(micro.op(VectorOp.RELU, micro.op(VectorOp.MUL, r, r)), view)
    case.commands.append(micro.command())
    bench.check(case)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_half_survives_the_way_to_f32_and_back(bench: KernelBench, dtype: torch.dtype) -> None:
    x = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype)
    case = Case("widen")
    case.commands.append(Copy(case.read(x), case.write(x.float())))
    wide = bench.result(case)
    agree(wide, x.float(), rtol=0, atol=0)
    case = Case("narrow")
    case.commands.append(Copy(case.read(wide), case.write(x)))
    agree(bench.result(case), x, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_f32_is_rounded_to_the_nearest_even_half(bench: KernelBench, dtype: torch.dtype) -> None:
    halves = torch.arange(0, 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype).float()
    halves = halves[halves.isfinite()]
    between = (halves[:-1].double() + halves[1:].double()).div(2).float()  # ties
    x = torch.cat([between, torch.nextafter(between, torch.tensor(0.0)), torch.nextafter(between, torch.tensor(1e38))])
    x = torch.cat([x, -x, torch.tensor([65504.0, 65519.9, 65520.0, 1e38, 1e-45, 2e-8, 3e-8])])
    case = Case("round")
    case.commands.append(Copy(case.read(x), case.write(x.to(dtype))))
    agree(bench.result(case), x.to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("source", [torch.float32, torch.float64])
def test_float_to_integer_casts_truncate(bench: KernelBench, source: torch.dtype) -> None:
    x = torch.tensor([0.0, -0.9, 0.9, 1.5, -1.5, 126.9, -127.9, 3e4, -3e4, 2e9, -2e9], dtype=source)
    for target in (torch.int32, torch.int64, torch.bool):
        case = Case(f"cast {target}")
        case.commands.append(Copy(case.read(x), case.write(x.to(target))))
        bench.check(case)
    case = Case("huge")
    huge = torch.tensor([9e18, -9e18, float("nan"), float("inf"), 1e30], dtype=source)
    case.commands.append(Copy(case.read(huge), case.write(huge.to(torch.int64))))
    low = torch.iinfo(torch.int64).min
    expected = torch.tensor([int(huge[0]), int(huge[1]), low, low, low])
    agree(bench.result(case), expected)


# --- REDUCE -------------------------------------------------------------------------------------------------------


def reduction(case: Case, op: ReduceOp, x: torch.Tensor, axes: tuple[int, ...], expected: torch.Tensor) -> None:
    case.commands.append(Reduce(case.read(x), case.write(expected), op=op, axes=sum(1 << a for a in axes)))


def product(x: torch.Tensor, dim: tuple[int, ...], keepdim: bool) -> torch.Tensor:
    """Over several axes, of numbers so near to 1 that it stays finite."""
    for axis in dim:
        x = x.prod(axis, keepdim=keepdim)
    return x


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1), (2,), (0, 2), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_reduce_across_blocks(bench: KernelBench, axes: tuple[int, ...], dtype: torch.dtype) -> None:
    case = Case("reduce")
    x = case.rand(3, 300, 5, dtype=dtype)
    x[1, 7, 3] = float("nan")
    for op, function in (
        (ReduceOp.SUM, torch.sum),
        (ReduceOp.MEAN, torch.mean),
        (ReduceOp.MAX, torch.amax),
        (ReduceOp.MIN, torch.amin),
        (ReduceOp.PROD, product),
    ):
        expected = function(x.double(), dim=axes, keepdim=True).to(dtype)
        case = Case("reduce")
        reduction(case, op, x, axes, expected)
        agree(bench.result(case), expected, rtol=1.5 * torch.finfo(dtype).eps, atol=1e-6)


def test_sums_are_as_exact_as_pytorch(bench: KernelBench) -> None:
    case = Case("sum")
    x = torch.rand(1 << 20) + 0.1
    reduction(case, ReduceOp.SUM, x, (0,), x.sum(0, keepdim=True))
    exact = x.double().sum()
    assert abs(bench.result(case).item() - exact) <= abs(x.sum().item() - exact) + exact * 1e-7


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int32])
def test_reduce_gives_the_first_of_equal_extremes(bench: KernelBench, axis: int, dtype: torch.dtype) -> None:
    for op in (ReduceOp.MAX, ReduceOp.MIN):
        case = Case("first")
        x = torch.randint(0, 4, (300, 40), generator=case.rng).to(dtype)
        if dtype.is_floating_point:
            x[9, 9] = x[9, 20] = x[200, 9] = float("nan")
        numpy_like = x.nan_to_num(nan=99.0 if op is ReduceOp.MAX else -99.0) if dtype.is_floating_point else x
        extreme = numpy_like.amax(axis, True) if op is ReduceOp.MAX else numpy_like.amin(axis, True)
        positions = (numpy_like == extreme).int().argmax(axis, keepdim=True)  # the first True
        values = x.gather(axis, positions)
        out, indices = case.write(values), case.write(positions)
        case.commands.append(Reduce(case.read(x), out, indices, op, 1 << axis))
        bench.check(case)


def test_reduce_of_nothing(bench: KernelBench) -> None:
    x = torch.zeros(3, 0)
    for op, value in ((ReduceOp.SUM, 0.0), (ReduceOp.MEAN, float("nan")), (ReduceOp.PROD, 1.0)):
        case = Case("nothing")
        reduction(case, op, x, (1,), torch.full((3, 1), value))
        bench.check(case)


# --- rows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("log", [0, 1])
@pytest.mark.parametrize("columns", [1, 255, 700])
def test_softmax_rows(bench: KernelBench, dtype: torch.dtype, log: int, columns: int) -> None:
    case = Case("softmax")
    x = case.rand(6, columns, dtype=dtype) * 10
    x[1] += 1000.0
    x[2, : columns // 2] = -float("inf")
    x[3] = -float("inf")
    x[4, 0] = float("nan")
    x[5, 0] = float("inf")
    function = torch.log_softmax if log else torch.softmax
    expected = function(x, -1)
    case.commands.append(Softmax(case.read(x), case.write(expected), log))
    agree(bench.result(case), expected, rtol=8 * torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("columns", [1, 257, 1024])
def test_norm_is_stable_far_from_zero(bench: KernelBench, dtype: torch.dtype, columns: int) -> None:
    case = Case("norm")
    x = (case.rand(5, columns, dtype=torch.float64) + 100.0).to(dtype)
    weight, bias = case.rand(columns, dtype=dtype), case.rand(columns, dtype=dtype)
    eps = 2.0**-16  # the same in f32 and f64
    expected = nn.layer_norm(x.double(), (columns,), weight.double(), bias.double(), eps).to(dtype)
    case.commands.append(Norm(case.read(x), case.write(expected), case.read(weight), case.read(bias), eps=eps))
    agree(bench.result(case), expected, rtol=8 * torch.finfo(dtype).eps, atol=max(8 * torch.finfo(dtype).eps, 1e-12))


# --- POOL2D -------------------------------------------------------------------------------------------------------


def test_max_pool_wider_than_a_block_with_nan_and_indices(bench: KernelBench) -> None:
    case = Case("pool")
    x = case.rand(1, 2, 9, 600)
    x[0, 0, 4, 300] = float("nan")
    x[0, 1] = -float("inf")
    expected, indices = nn.max_pool2d(x, 3, 2, 1, return_indices=True)
    out, at = case.write(expected), case.write(indices)
    case.commands.append(Pool2d(case.read(x), out, at, (3, 3), (2, 2), (1, 1), (1, 1), 0, PoolMode.MAX))
    bench.check(case)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20), st.integers(1, 20))
def test_adaptive_windows(height: int, width: int, rows: int, columns: int) -> None:
    case = Case("adaptive")
    x = case.rand(1, 2, height, width)
    expected = nn.adaptive_avg_pool2d(x, (rows, columns))
    case.commands.append(Pool2d(case.read(x), case.write(expected), mode=PoolMode.ADAPTIVE_AVG))
    BENCH.check(case)


# --- COPY, FILL ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, torch.bool])
def test_copy_between_every_pair_of_dtypes(bench: KernelBench, dtype: torch.dtype) -> None:
    for target in [*FLOATS, *INTEGERS, torch.bool]:
        case = Case(f"{dtype} to {target}")
        x = case.rand(3, 300, dtype=dtype).t()
        if dtype.is_floating_point and not target.is_floating_point:
            x = x.abs() * 10
        case.commands.append(Copy(case.read(x), case.write(x.to(target))))
        bench.check(case)


def test_copy_keeps_the_bits_of_a_nan(bench: KernelBench) -> None:
    case = Case("payload")
    bits = torch.tensor([0x7FA00001, -0x00500000, 0x7FC12345], dtype=torch.int32)
    x = bits.view(torch.float32)
    case.commands.append(Copy(case.read(x), case.write(x)))
    assert torch.equal(bench.result(case).view(torch.int32), bits)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_fill_leaves_the_gaps_alone(bench: KernelBench, dtype: torch.dtype) -> None:
    case = Case("fill")
    expected = torch.zeros(20, 30, dtype=dtype)
    expected[::2, ::3] = 3
    whole = case.write(expected)
    part = View(whole.tensor, DTYPES[dtype], (10, 10), (60, 3))
    value = 0x4008000000000000 if dtype.is_floating_point else 3
    case.commands += [Fill(whole), Fill(part, value)]
    bench.check(case)


def test_dtypes_are_those_of_the_abi() -> None:
    assert {DTYPES[t] for t in [*FLOATS, *INTEGERS, torch.bool]} == set(DType)
