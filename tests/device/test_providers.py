"""Do the two functional models agree on commands with drawn shapes, strides and data types?

Neither was written from the other: one calls PyTorch, the other is the firmware's C.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from command_cases import DTYPES, Case, Micro
from hypothesis import given, settings
from hypothesis import strategies as st
from support import Bench

from acalsim_backend.program.commands import (
    Conv2d,
    Copy,
    Fill,
    Gather,
    Gemm,
    Norm,
    Pool2d,
    Reduce,
    Scan,
    Scatter,
    Softmax,
    Sort,
)
from acalsim_backend.program.enums import Activation, DType, PoolMode, ReduceOp, ScanOp, ScatterOp, VectorOp
from acalsim_backend.program.view import View
from acalsim_backend.tensors import TORCH_DTYPES

FLOATS = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
INTEGERS = [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64]
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10, torch.bfloat16: 2e-2, torch.float16: 3e-3}

Draw = Callable[..., Any]


def _strided(draw: Draw, case: Case, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A tensor of that shape whose strides are anything PyTorch can make: permuted, sliced, broadcast."""
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 1, 1, 2])) for _ in shape]
    stored = [1 if draw(st.integers(0, 9)) == 0 else shape[i] * steps[i] for i in order]
    tensor = case.rand(*stored, dtype=dtype)
    back = tensor.permute([order.index(i) for i in range(len(shape))])
    for axis, (size, step) in enumerate(zip(shape, steps, strict=True)):
        if back.shape[axis] == 1:
            back = back.expand([size if i == axis else -1 for i in range(len(shape))])
        else:
            back = back[(slice(None),) * axis + (slice(None, None, step),)]
    return back


def _read(draw: Draw, case: Case, shape: tuple[int, ...], dtype: torch.dtype) -> View:
    view = case.read(_strided(draw, case, shape, dtype))
    if math.prod(shape) and draw(st.integers(0, 4)) == 0:  # backwards along one axis
        axis = draw(st.integers(0, len(shape) - 1)) if shape else 0
        if shape:
            offset = view.offset + view.strides[axis] * (shape[axis] - 1) * view.dtype.itemsize
            strides = tuple(-s if i == axis else s for i, s in enumerate(view.strides))
            return View(view.tensor, view.dtype, view.dims, strides, offset)
    return view


def _write(draw: Draw, case: Case, shape: tuple[int, ...], dtype: torch.dtype) -> View:
    return case.write(torch.zeros(shape, dtype=dtype), order=draw(st.permutations(range(len(shape)))))


def _agree(case: Case, tolerance: float = 0.0) -> None:
    """Run the case on both and compare."""
    results = []
    for functional in ("torch", "native"):
        bench = Bench(functional)
        blocks, commands = bench.lay_out(case)
        bench.submit(commands)
        assert bench.device.fault is None
        results.append({n: blocks[n].array[: case.tensors[n].nbytes].copy() for n in case.expected})
    for number, view in case.views.items():
        dtype = TORCH_DTYPES[view.dtype]
        by_torch, by_kernel = (torch.from_numpy(r[number]) for r in results)
        if by_torch.numel():
            by_torch, by_kernel = by_torch.view(dtype), by_kernel.view(dtype)
            torch.testing.assert_close(by_kernel, by_torch, rtol=tolerance, atol=tolerance, equal_nan=True)


def pair(values: list[int]) -> tuple[int, int]:
    first, second = values
    return first, second


sizes = st.integers(1, 6)


@given(st.data())
def test_gemm(data: st.DataObject) -> None:
    draw, case = data.draw, Case("gemm", data.draw(st.integers(0, 1000)))
    batch = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    m, n, k = draw(sizes), draw(st.integers(1, 40)), draw(st.integers(0, 40))
    dtype = draw(st.sampled_from(FLOATS + INTEGERS))
    out_dtype = dtype if dtype.is_floating_point else draw(st.sampled_from(INTEGERS))
    a, b = (_read(draw, case, (*batch, *shape), dtype) for shape in ((m, k), (k, n)))
    out = _write(draw, case, (*batch, m, n), out_dtype)
    bias = _read(draw, case, (*batch, m, n), out_dtype) if draw(st.booleans()) else None
    activation = draw(st.sampled_from([Activation.NONE, Activation.RELU]))
    case.commands.append(Gemm(a, b, out, bias, activation=activation))
    tolerance = TOLERANCE.get(out_dtype, 0.0)
    _agree(case, tolerance * max(k, 1) ** 0.5)


@given(st.data())
def test_conv2d(data: st.DataObject) -> None:
    draw, case = data.draw, Case("conv2d", data.draw(st.integers(0, 1000)))
    groups, per_group, per_group_out = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    n, h, w, p, q = (draw(st.integers(1, limit)) for limit in (2, 7, 7, 5, 5))
    dtype = draw(st.sampled_from([torch.float32, torch.float32, torch.bfloat16, torch.int8, torch.int64]))
    out_dtype = {torch.int8: torch.int32}.get(dtype, dtype)
    x = _read(draw, case, (n, groups * per_group, h, w), dtype)
    weight = _read(draw, case, (groups * per_group_out, per_group, *kernel), dtype)
    out = _write(draw, case, (n, groups * per_group_out, p, q), out_dtype)
    bias = _read(draw, case, (groups * per_group_out,), out_dtype) if draw(st.booleans()) else None
    case.commands.append(Conv2d(x, weight, out, bias, stride, padding, dilation, groups))
    _agree(case, TOLERANCE.get(dtype, 0.0) * 4)


_BINARY = [VectorOp.ADD, VectorOp.SUB, VectorOp.MUL, VectorOp.MIN, VectorOp.MAX]
_UNARY = [VectorOp.NEG, VectorOp.ABS, VectorOp.RELU]


@given(st.data())
@settings(max_examples=150)
def test_vector_programs_that_work_in_place(data: st.DataObject) -> None:
    """Drawn programs; outputs may share the memory of inputs, registers are used again, outputs stored twice."""
    draw, case = data.draw, Case("vector", data.draw(st.integers(0, 1000)))
    shape = (*draw(st.lists(st.integers(1, 4), max_size=2)), draw(st.sampled_from([1, 7, 300])))
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16, torch.int8, torch.int32]))
    micro = Micro()
    inputs = [_read(draw, case, shape, dtype) for _ in range(draw(st.integers(1, 3)))]
    free = [case.write(case.rand(*shape, dtype=dtype)) for _ in range(draw(st.integers(0, 2)))]
    for view in free:  # overwritten inputs
        case.values[view.tensor] = case.values.get(
            view.tensor, case.rand(view.numel, dtype=dtype).view(torch.uint8).numpy()
        )
    live = [micro.load(view) for view in inputs + free] + [micro.const(3, DTYPES[dtype])]
    for _ in range(draw(st.integers(0, 6))):
        if draw(st.booleans()):
            live.append(micro.op(draw(st.sampled_from(_BINARY)), *(draw(st.sampled_from(live)) for _ in range(2))))
        else:
            live.append(micro.op(draw(st.sampled_from(_UNARY)), draw(st.sampled_from(live))))
    fresh = [_write(draw, case, shape, dtype) for _ in range(draw(st.integers(0 if free else 1, 2)))]
    for view in draw(st.permutations(free + fresh)):
        micro.store(draw(st.sampled_from(live)), view)
    case.commands.append(micro.command())
    _agree(case, 0.0)


@given(st.data())
def test_vector_casts(data: st.DataObject) -> None:
    draw, case = data.draw, Case("cast", data.draw(st.integers(0, 1000)))
    source, target = (draw(st.sampled_from([*FLOATS, *INTEGERS, torch.bool])) for _ in range(2))
    micro = Micro()
    micro.store(
        micro.cast(micro.load(_read(draw, case, (4, 33), source)), DTYPES[target]), _write(draw, case, (4, 33), target)
    )
    case.commands.append(micro.command())
    case.commands.append(Copy(_read(draw, case, (5, 7), source), _write(draw, case, (5, 7), target)))
    _agree(case)


@given(st.data())
def test_reduce(data: st.DataObject) -> None:
    draw, case = data.draw, Case("reduce", data.draw(st.integers(0, 1000)))
    shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 40]), min_size=1, max_size=4)))
    op = draw(st.sampled_from(list(ReduceOp)))
    dtype = draw(st.sampled_from(FLOATS if op is ReduceOp.MEAN else FLOATS + INTEGERS))
    axes = draw(st.integers(0, 2 ** len(shape) - 1))
    result = tuple(1 if axes >> i & 1 else d for i, d in enumerate(shape))
    out_dtype = torch.int64 if op in (ReduceOp.SUM, ReduceOp.PROD) and not dtype.is_floating_point else dtype
    indices = None
    x, out = _read(draw, case, shape, dtype), _write(draw, case, result, out_dtype)
    if op in (ReduceOp.MAX, ReduceOp.MIN) and axes.bit_count() == 1 and dtype is torch.float64:
        indices = _write(draw, case, result, torch.int64)
    case.commands.append(Reduce(x, out, indices, op, axes))
    _agree(case, TOLERANCE.get(dtype, 0.0) * (16 if op in (ReduceOp.SUM, ReduceOp.PROD) else 1))


@given(st.data())
def test_rows(data: st.DataObject) -> None:
    draw, case = data.draw, Case("rows", data.draw(st.integers(0, 1000)))
    shape = (*draw(st.lists(st.integers(1, 4), max_size=3)), draw(st.sampled_from([2, 7, 300])))
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
    x, out = _read(draw, case, shape, dtype), _write(draw, case, shape, dtype)
    if draw(st.booleans()):
        case.commands.append(Softmax(x, out, draw(st.integers(0, 1))))
    else:
        weight, bias = (_read(draw, case, shape[-1:], dtype) if draw(st.booleans()) else None for _ in range(2))
        mean, rstd = (
            _write(draw, case, (*shape[:-1], 1), torch.float32) if draw(st.booleans()) else None for _ in range(2)
        )
        case.commands.append(Norm(x, out, weight, bias, mean, rstd, eps=1e-3))
    _agree(case, TOLERANCE[dtype] * 4)


@given(st.data())
def test_pool2d(data: st.DataObject) -> None:
    draw, case = data.draw, Case("pool2d", data.draw(st.integers(0, 1000)))
    mode = draw(st.sampled_from(list(PoolMode)))
    kernel, stride, padding, dilation, size, result = (list[int]() for _ in range(6))
    for _ in range(2):
        size.append(draw(st.integers(1, 8)))
        dilation.append(draw(st.integers(1, 2)) if mode is PoolMode.MAX else 1)
        kernel.append(draw(st.integers(1, 3)))
        reach = (kernel[-1] - 1) * dilation[-1]
        padding.append(draw(st.integers(0, reach)))
        stride.append(draw(st.integers(max(1, reach - size[-1] - 2 * padding[-1] + 1), 5)))
        result.append(draw(st.integers(1, (size[-1] + padding[-1] - 1) // stride[-1] + 1)))
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16]))
    planes = (draw(st.integers(1, 2)), draw(st.integers(1, 3)))
    x, out = _read(draw, case, (*planes, *size), dtype), _write(draw, case, (*planes, *result), dtype)
    divisor, include = draw(st.integers(0, 3)), draw(st.integers(0, 1))
    case.commands.append(
        Pool2d(x, out, None, pair(kernel), pair(stride), pair(padding), pair(dilation), divisor, mode, include)
    )
    _agree(case, TOLERANCE[dtype])


def _indexed(draw: Draw, case: Case) -> tuple[tuple[int, ...], tuple[int, ...], tuple[View, ...], int]:
    """Dims of a table and of its rows, indices that name no row twice, and how many axes lie before the indexed."""
    batch = tuple(draw(st.lists(st.integers(1, 3), max_size=1)))
    indexed = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=2)))
    rest = tuple(draw(st.lists(st.integers(0, 4), max_size=2)))
    total, count = math.prod(indexed), draw(st.integers(0, math.prod(indexed)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    flat = torch.stack([torch.randperm(total, generator=generator)[:count] for _ in range(math.prod(batch))])
    kind = draw(st.sampled_from([torch.int32, torch.int64]))
    places = [p.reshape(*batch, count).to(kind) for p in torch.unravel_index(flat, indexed)]
    return (*batch, *indexed, *rest), (*batch, count, *rest), tuple(map(case.read, places)), len(batch)


@given(st.data())
def test_gather(data: st.DataObject) -> None:
    draw, case = data.draw, Case("gather", data.draw(st.integers(0, 1000)))
    table, rows, indices, batch = _indexed(draw, case)
    dtype = draw(st.sampled_from([*FLOATS, *INTEGERS, torch.bool]))
    x, out = _read(draw, case, table, dtype), _write(draw, case, rows, dtype)
    case.commands.append(Gather(x, indices, out, len(indices), batch, draw(st.integers(0, 1))))
    _agree(case)


@given(st.data())
def test_scatter(data: st.DataObject) -> None:
    draw, case = data.draw, Case("scatter", data.draw(st.integers(0, 1000)))
    table, rows, indices, batch = _indexed(draw, case)
    op = draw(st.sampled_from(list(ScatterOp)))
    dtype = draw(st.sampled_from([*FLOATS, *INTEGERS] if op else [*FLOATS, *INTEGERS, torch.bool]))
    x, out = _read(draw, case, rows, dtype), _write(draw, case, table, dtype)
    case.commands.append(Copy(_read(draw, case, table, dtype), out))
    case.commands.append(Scatter(x, indices, out, len(indices), batch, op=op))
    _agree(case, TOLERANCE.get(dtype, 0.0))


@given(st.data())
def test_scan(data: st.DataObject) -> None:
    draw, case = data.draw, Case("scan", data.draw(st.integers(0, 1000)))
    shape = tuple(draw(st.lists(st.integers(0, 4), min_size=1, max_size=4)))
    op, axis = draw(st.sampled_from(list(ScanOp))), draw(st.integers(0, len(shape) - 1))
    extreme = op in (ScanOp.MAX, ScanOp.MIN)
    kinds = [*FLOATS, *INTEGERS, torch.bool] if extreme else [*FLOATS, *INTEGERS]
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16] if op is ScanOp.LOGADDEXP else kinds))
    x, out = _read(draw, case, shape, dtype), _write(draw, case, shape, dtype)
    indices = _write(draw, case, shape, torch.int64) if extreme and draw(st.booleans()) else None
    case.commands.append(Scan(x, out, indices, op, axis))
    _agree(case, TOLERANCE.get(dtype, 0.0))


@given(st.data())
def test_sort(data: st.DataObject) -> None:
    draw, case = data.draw, Case("sort", data.draw(st.integers(0, 1000)))
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    axis = draw(st.integers(0, len(shape) - 1))
    dtype = draw(st.sampled_from([*FLOATS, *INTEGERS, torch.bool]))
    x, work = _read(draw, case, tuple(shape), dtype), case.scratch(4 * shape[axis])
    shape[axis] = draw(st.integers(0, shape[axis]))
    values, indices = _write(draw, case, tuple(shape), dtype), _write(draw, case, tuple(shape), torch.int64)
    which = draw(st.sampled_from([(values, indices), (values, None), (None, indices)]))
    case.commands.append(Sort(x, work, *which, axis, draw(st.integers(0, 1))))
    _agree(case)


@given(st.data())
def test_fill(data: st.DataObject) -> None:
    draw, case = data.draw, Case("fill")
    dtype = draw(st.sampled_from([*FLOATS, *INTEGERS, torch.bool]))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    case.commands.append(
        Fill(_write(draw, case, shape, dtype), draw(st.sampled_from([0, 0x3FF8000000000000, 2**64 - 1])))
    )
    _agree(case)


def test_are_unknown_providers_named_with_the_nearest() -> None:
    with pytest.raises(Exception, match="did you mean torch"):
        Bench("torhc")


def test_dtypes_match() -> None:
    assert set(TORCH_DTYPES) == set(DType)


def test_is_a_convolution_of_half_types_right_where_pytorchs_is_not() -> None:
    """Width strided and dilated at once; compared with f32."""
    torch.manual_seed(0)
    for _ in range(40):
        case = Case("conv2d")
        x, weight = torch.randn(2, 2, 5, 6).to(torch.bfloat16), torch.randn(3, 2, 3, 2).to(torch.bfloat16)
        expected = torch.conv2d(x.float(), weight.float(), None, (1, 2), (1, 0), (1, 2)).to(torch.bfloat16)
        command = Conv2d(case.read(x), case.read(weight), case.write(expected), None, (1, 2), (1, 0), (1, 2), 1)
        case.commands.append(command)
        _agree(case, 0.08)
