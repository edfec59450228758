"""How many instructions does the RISC-V core retire, and do they depend on the values?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as nn
from command_cases import DTYPES, Case, Micro, elementwise, raw

from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.program.commands import Conv2d, Copy, Gemm, Norm, Pool2d, Reduce, Scan, Softmax, Sort
from acalsim_backend.program.enums import Activation, Domain, PoolMode, ReduceOp, ScanOp, VectorOp
from acalsim_backend.run.session import Session

HARDWARE = dataclasses.replace(HardwareConfig(), dram=dataclasses.replace(HardwareConfig().dram, size_mib=128))


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    session = Session(HARDWARE, "unicorn")
    yield session
    session.close()


def instructions(session: Session, case: Case) -> int:
    """Instructions of the case's only command; its results are checked too."""
    loaded = session.load(case.program())
    result = session.run(loaded, case.values)
    case.check(result.outputs)
    session.unload(loaded)
    return result.timings[0].cpu_instructions


@pytest.mark.parametrize("op", [VectorOp.ADD, VectorOp.MUL], ids=lambda op: op.name)
@pytest.mark.parametrize(
    ("shape", "other"),
    [
        ((512,), (512,)),
        ((64, 1000), (1000,)),
        ((64, 56, 56), (64, 1, 1)),
        ((512, 7, 7), (512, 1, 1)),
        ((64, 300), ()),
    ],
)
def test_at_most_12_instructions_per_element_of_add_and_mul(
    session: Session, op: VectorOp, shape: tuple[int, ...], other: tuple[int, ...]
) -> None:
    case = Case("elementwise")
    a, b = case.rand(*shape), case.rand(*other)
    elementwise(case, op, a, b, expected=a + b if op is VectorOp.ADD else a * b)
    assert instructions(session, case) / a.numel() <= 12


@pytest.mark.parametrize(("m", "n", "k"), [(64, 64, 128), (1, 500, 256), (4, 256, 256), (200, 1, 256)])
def test_two_to_five_instructions_per_multiply_add_of_a_product(session: Session, m: int, n: int, k: int) -> None:
    case = Case("gemm", rtol=1e-4, atol=1e-4)
    a, w = case.rand(m, k), case.rand(n, k)
    case.commands.append(Gemm(case.read(a), case.read(w.t()), case.write(a @ w.t())))
    assert 2 <= instructions(session, case) / (m * n * k) <= 5


@pytest.mark.parametrize(("channels", "filters", "size", "kernel"), [(3, 64, 24, 7), (64, 64, 14, 3), (128, 64, 14, 1)])
def test_two_to_four_instructions_per_multiply_add_of_a_convolution(
    session: Session, channels: int, filters: int, size: int, kernel: int
) -> None:
    case = Case("conv", rtol=1e-4, atol=1e-4)
    x, w = case.rand(1, channels, size, size), case.rand(filters, channels, kernel, kernel)
    expected = nn.conv2d(x, w, padding=kernel // 2)
    case.commands.append(Conv2d(case.read(x), case.read(w), case.write(expected), padding=(kernel // 2, kernel // 2)))
    assert 2 <= instructions(session, case) / (expected.numel() * channels * kernel * kernel) <= 4


def test_at_most_10_instructions_per_multiply_add_of_a_depthwise_convolution(session: Session) -> None:
    case = Case("depthwise", rtol=1e-4, atol=1e-4)
    x, w = case.rand(1, 16, 28, 28), case.rand(16, 1, 3, 3)
    expected = nn.conv2d(x, w, padding=1, groups=16)
    case.commands.append(Conv2d(case.read(x), case.read(w), case.write(expected), padding=(1, 1), groups=16))
    assert instructions(session, case) / (expected.numel() * 9) <= 10


# --- the values do not matter -------------------------------------------------------------------------------------

VALUES: dict[str, Callable[[int], torch.Tensor]] = {
    "ordinary": lambda n: torch.linspace(-3.0, 3.0, n),
    "alternating": lambda n: torch.linspace(-3.0, 3.0, n) * (-1.0) ** torch.arange(n),
    "positive": lambda n: torch.linspace(0.1, 90.0, n),
    "huge": lambda n: torch.linspace(-3e38, 3e38, n),
    "tiny": lambda n: torch.linspace(-1e-40, 1e-40, n),
    "zero": torch.zeros,
    "infinite": lambda n: torch.full((n,), float("-inf")),
    "nan": lambda n: torch.full((n,), float("nan")),
}


def counts(session: Session, case: Case, dtype: torch.dtype = torch.float32) -> set[int]:
    """Instruction counts of the case's command over all kinds of values in every floating point input."""
    loaded = session.load(case.program())
    found = set()
    for make in VALUES.values():
        bindings: dict[int, np.ndarray] = {}
        for number, data in case.values.items():
            same = case.tensors[number].dtype == DTYPES[dtype]
            bindings[number] = raw(make(len(data) // dtype.itemsize).to(dtype)) if same else data
        found.add(session.run(loaded, bindings).timings[0].cpu_instructions)
    session.unload(loaded)
    return found


OPERATIONS = [op for op in VectorOp if op.arity in (1, 2) and op.domain in (Domain.ANY, Domain.NUMBERS, Domain.FLOATS)]
OPERATIONS = [op for op in OPERATIONS if op not in (VectorOp.STORE, VectorOp.CAST)]


@pytest.mark.parametrize("op", OPERATIONS, ids=lambda op: op.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_vector_instructions_do_not_depend_on_values(session: Session, op: VectorOp, dtype: torch.dtype) -> None:
    case = Case(op.name)
    tensors = [case.rand(300, dtype=dtype) for _ in range(op.arity)]
    elementwise(case, op, *tensors, expected=tensors[0])
    assert len(counts(session, case, dtype)) == 1


def test_comparisons_selections_and_casts_do_not_depend_on_values(session: Session) -> None:
    case = Case("select")
    micro = Micro()
    a, b = (micro.load(case.read(case.rand(300))) for _ in range(2))
    chosen = micro.op(VectorOp.WHERE, micro.op(VectorOp.LT, a, b), a, b)
    for target in (torch.int32, torch.int64, torch.bool, torch.float16, torch.float64):
        if target is not torch.float64:
            micro.store(micro.cast(chosen, DTYPES[target]), case.write(torch.zeros(300, dtype=target)))
    case.commands.append(micro.command())
    assert len(counts(session, case)) == 1


def _gemm(case: Case) -> None:
    views = case.read(case.rand(9, 40)), case.read(case.rand(40, 11)), case.write(torch.zeros(9, 11))
    case.commands.append(Gemm(*views, case.read(case.rand(9, 11)), activation=Activation.GELU))


def _conv2d(case: Case) -> None:
    views = case.read(case.rand(1, 3, 8, 8)), case.read(case.rand(5, 3, 3, 3)), case.write(torch.zeros(1, 5, 8, 8))
    case.commands.append(Conv2d(*views, padding=(1, 1), activation=Activation.RELU))


def _reduce(op: ReduceOp, axis: int, indices: bool) -> Callable[[Case], None]:
    def add(case: Case) -> None:
        shape = (1, 300) if axis == 0 else (40, 1)
        x, out = case.read(case.rand(40, 300)), case.write(torch.zeros(shape))
        at = case.write(torch.zeros(shape, dtype=torch.int64)) if indices else None
        case.commands.append(Reduce(x, out, at, op, 1 << axis))

    return add


def _softmax(case: Case) -> None:
    case.commands.append(Softmax(case.read(case.rand(4, 300)), case.write(torch.zeros(4, 300))))


def _norm(case: Case) -> None:
    views = case.read(case.rand(4, 300)), case.write(torch.zeros(4, 300))
    case.commands.append(Norm(*views, case.read(case.rand(300)), case.read(case.rand(300))))


def _pool2d(mode: PoolMode, indices: bool = False) -> Callable[[Case], None]:
    def add(case: Case) -> None:
        x, out = case.read(case.rand(1, 2, 12, 12)), case.write(torch.zeros(1, 2, 6, 6))
        at = case.write(torch.zeros(1, 2, 6, 6, dtype=torch.int64)) if indices else None
        case.commands.append(Pool2d(x, out, at, (3, 3), (2, 2), (1, 1), mode=mode))

    return add


def _scan(op: ScanOp) -> Callable[[Case], None]:
    def add(case: Case) -> None:
        case.commands.append(Scan(case.read(case.rand(4, 300)), case.write(torch.zeros(4, 300)), op=op, axis=1))

    return add


def _sort(case: Case) -> None:
    results = case.write(torch.zeros(4, 80)), case.write(torch.zeros(4, 80, dtype=torch.int64))
    case.commands.append(Sort(case.read(case.rand(4, 300)), case.scratch(1200), *results, axis=1))


def _copy(case: Case) -> None:
    case.commands.append(Copy(case.read(case.rand(300)), case.write(torch.zeros(300, dtype=torch.bfloat16))))


@pytest.mark.parametrize(
    "add",
    [
        pytest.param(_gemm, id="gemm"),
        pytest.param(_conv2d, id="conv2d"),
        *(
            pytest.param(_reduce(op, axis, indices), id=f"{op.name}-axis{axis}{'-indices' if indices else ''}")
            for op in ReduceOp
            for axis in (0, 1)
            for indices in (False, True)
            if op in (ReduceOp.MAX, ReduceOp.MIN) or not indices
        ),
        pytest.param(_softmax, id="softmax"),
        pytest.param(_norm, id="norm"),
        pytest.param(_pool2d(PoolMode.MAX), id="max-pool"),
        pytest.param(_pool2d(PoolMode.MAX, indices=True), id="max-pool-indices"),
        pytest.param(_pool2d(PoolMode.AVG), id="average-pool"),
        pytest.param(_pool2d(PoolMode.ADAPTIVE_AVG), id="adaptive-pool"),
        *(pytest.param(_scan(op), id=f"scan-{op.name}") for op in ScanOp),
        pytest.param(_sort, id="sort"),
        pytest.param(_copy, id="copy"),
    ],
)
def test_kernels_do_not_depend_on_values(session: Session, add: Callable[..., Any]) -> None:
    case = Case("values")
    add(case)
    assert len(counts(session, case)) == 1
