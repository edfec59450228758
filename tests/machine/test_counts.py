"""Are instruction counts exact on the real firmware, small, and independent of the values?"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from command_cases import CASES, Case, elementwise, make, raw
from small_hardware import HARDWARE

from acalsim_backend.machine.memory import Bytes
from acalsim_backend.machine.unicorn import UnicornMachine
from acalsim_backend.program.commands import Gemm
from acalsim_backend.program.enums import Placement, VectorOp
from acalsim_backend.run.result import RunResult
from acalsim_backend.run.session import Session


def _run(session: Session, case: Case, values: Mapping[int, Bytes] | None = None) -> RunResult:
    loaded = session.load(case.program())
    try:
        return session.run(loaded, values or case.values)
    finally:
        session.unload(loaded)


def test_do_counts_equal_those_of_a_hook_on_every_instruction() -> None:
    """Every time the firmware asks for the count, in the middle of blocks, and at the end."""
    unicorn = pytest.importorskip("unicorn", reason="pip install unicorn")
    session = Session(HARDWARE)
    steps = 0
    pairs: list[tuple[int, int]] = []

    def step(*_: object) -> None:
        nonlocal steps
        steps += 1

    machine, device = session._machine, session._devices[1]
    assert isinstance(machine, UnicornMachine)
    machine._core._uc.hook_add(unicorn.UC_HOOK_CODE, step)
    clock = device.cpu_clock
    assert clock

    def compared() -> int:
        pairs.append((clock(), steps - 1))  # the hook has seen the instruction that reads, too
        return pairs[-1][0]

    device.cpu_clock = compared
    for name in ("vector_several_outputs", "gemm_int8_to_int32", "pool2d_adaptive"):
        case = make(name)
        for placement in (Placement.CPU, Placement.ACCELERATOR):
            steps = 0
            session.run(session.load(case.program(placement)), case.values)
    assert len(pairs) > 30
    assert all(counted == stepped for counted, stepped in pairs)
    assert max(counted for counted, _ in pairs) > 5000


@pytest.mark.parametrize("op", [VectorOp.ADD, VectorOp.MUL])
def test_does_an_f32_element_cost_at_most_12_instructions(unicorn: Session, op: VectorOp) -> None:
    n, case = 1 << 16, Case("elements")
    a, b = case.rand(n), case.rand(n)
    elementwise(case, op, a, b, expected=a + b if op is VectorOp.ADD else a * b)
    result = _run(unicorn, case)
    case.check(result.outputs)
    per_element = result.timings[0].cpu_instructions / n
    print(f"{op.name}: {per_element:.2f} instructions per element")
    assert per_element <= 12


def test_does_a_matrix_product_retire_at_least_two_instructions_per_product(unicorn: Session) -> None:
    case = Case("products")
    a, b = case.rand(64, 64), case.rand(64, 64)
    case.commands.append(Gemm(case.read(a), case.read(b), case.write(a @ b)))
    per_product = _run(unicorn, case).timings[0].cpu_instructions / 64**3
    print(f"{per_product:.2f} instructions per multiply-add")
    assert 2 <= per_product < 8


SPECIAL = [float("nan"), float("inf"), float("-inf"), 1e-42, -1e-42, -0.0, 3e38, -5.5]
EXTREMES = {
    "ones": lambda n: torch.ones(n),
    "zeros": lambda n: torch.zeros(n),
    "special": lambda n: torch.tensor(SPECIAL).repeat(-(-n // 8))[:n],
    "large": lambda n: torch.linspace(-3e38, 3e38, n),
}


def _with_values(case: Case, fill: str) -> dict[int, Bytes]:
    """The case's inputs with every floating-point one overwritten."""
    from acalsim_backend.tensors import TORCH_DTYPES

    values = dict(case.values)
    for t in case.tensors:
        dtype = TORCH_DTYPES[t.dtype]
        if t.id in values and dtype.is_floating_point:
            values[t.id] = raw(EXTREMES[fill](t.shape[0]).to(dtype))
    return values


@pytest.mark.parametrize("name", sorted(CASES))
def test_do_float_values_leave_the_instruction_count_alone(unicorn: Session, name: str) -> None:
    counts = {fill: _run(unicorn, make(name), _with_values(make(name), fill)).instructions_retired for fill in EXTREMES}
    assert len(set(counts.values())) == 1, counts


def test_does_the_guest_s_time_exclude_boot_and_relocation(unicorn: Session) -> None:
    """The smallest Program's CPU time is a few hundred instructions, whatever the firmware does before it."""
    case = make("barrier_between_commands")
    assert 0 < (_run(unicorn, case).instructions_retired or 0) < 3000
