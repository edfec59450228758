"""Does a session keep what is resident, bind what changes, and measure what ran?"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from command_cases import Case, Micro, make, raw
from small_hardware import HARDWARE

from acalsim_backend.device.registers import RAM_BASE
from acalsim_backend.errors import CapacityError, InputError, UnknownNameError
from acalsim_backend.machine.memory import Ram
from acalsim_backend.program.commands import Command, Copy, Gemm, Host
from acalsim_backend.program.enums import DType, Placement, VectorOp
from acalsim_backend.program.program import Origin, Program, Tensor, TensorKind
from acalsim_backend.program.view import View
from acalsim_backend.run.session import SIGNALLING_NAN, Session

CPU, ACCELERATOR, HOST = Placement.CPU, Placement.ACCELERATOR, Placement.HOST


def tensor(number: int, kind: TensorKind, *shape: int, **more: Any) -> Tensor:
    return Tensor(number, f"t_{number}", kind, DType.F32, shape, **more)


def view(t: Tensor) -> View:
    strides = torch.empty(t.shape, device="meta").stride()
    return View(t.id, t.dtype, t.shape, tuple(strides))


def program(tensors: list[Tensor], commands: list[Command], arena_size: int = 0, **more: Any) -> Program:
    numbered = tuple(
        dataclasses.replace(c, id=i, origin=(i, 1), deps=(i - 1,) if i else ()) for i, c in enumerate(commands)
    )
    origins = tuple(Origin(i, f"op_{i}", "TEST", source=f"model.py:{i + 1}") for i in range(len(commands)))
    inputs = tuple(t.id for t in tensors if t.kind is TensorKind.INPUT)
    outputs = tuple(t.id for t in tensors if t.kind is TensorKind.OUTPUT)
    return Program("net", tuple(tensors), numbered, inputs, outputs, arena_size, origins, **more)


def floats(data: np.ndarray) -> list[float]:
    return [float(value) for value in data.view(np.float32)]


def add(a: View, b: View, out: View, placement: Placement) -> Command:
    micro = Micro()
    micro.store(micro.op(VectorOp.ADD, micro.load(a), micro.load(b)), out)
    return dataclasses.replace(micro.command(), placement=placement)


def chain(n: int = 64) -> Program:
    """out = ((x @ w) + c) + x, first and last on the accelerator, the second on the CPU."""
    x, w, c, out = (
        tensor(0, TensorKind.INPUT, n, n),
        tensor(1, TensorKind.WEIGHT, n, n),
        tensor(2, TensorKind.CONSTANT, n, n, data=raw(torch.full((n, n), 3.0)).tobytes()),
        tensor(3, TensorKind.OUTPUT, n, n),
    )
    y, z = (tensor(4 + i, TensorKind.ARENA, n, n, offset=4 * n * n * i) for i in range(2))
    commands = [
        Gemm(view(x), view(w), view(y), placement=ACCELERATOR),
        add(view(y), view(c), view(z), CPU),
        add(view(z), view(x), view(out), ACCELERATOR),
        add(view(out), view(out), view(out), ACCELERATOR),
    ]
    return program([x, w, c, out, y, z], commands, 8 * n * n)


def test_do_weights_constants_arena_and_inputs_come_together(machine: Session) -> None:
    torch.manual_seed(0)
    loaded = machine.load(chain())
    weight = machine.allocate(4 * 64 * 64)
    w = torch.randn(64, 64)
    weight.array[:] = raw(w)
    for _ in range(2):
        x = torch.randn(64, 64)
        result = machine.run(loaded, {0: raw(x), 1: weight})
        got = torch.from_numpy(result.outputs[3]).view(torch.float32).view(64, 64)
        torch.testing.assert_close(got, 2 * ((x @ w + 3) + x), rtol=1e-5, atol=1e-4)
    machine.free(weight)
    machine.unload(loaded)


def test_do_two_modules_share_a_program_and_keep_their_weights(machine: Session) -> None:
    loaded = machine.load(chain())
    assert machine.load(loaded.program) is loaded
    weights = [machine.allocate(4 * 64 * 64) for _ in range(2)]
    x = torch.eye(64)
    for factor, weight in enumerate(weights):
        weight.array[:] = raw(torch.full((64, 64), float(factor)))
    for factor in (0, 1, 0):
        result = machine.run(loaded, {0: raw(x), 1: weights[factor]})
        assert floats(result.outputs[3])[1] == 2 * (factor + 3)
    for weight in weights:
        machine.free(weight)
    machine.unload(loaded)


@pytest.mark.parametrize("placement", [CPU, ACCELERATOR])
@pytest.mark.parametrize("name", ["gemm_plain", "vector_functions", "softmax_rows"])
def test_are_two_runs_equal_to_the_last_bit_and_cycle(name: str, placement: Placement) -> None:
    session = Session(HARDWARE)
    case = make(name)
    loaded = session.load(case.program(placement))
    first, second = (session.run(loaded, case.values) for _ in range(2))
    for number in first.outputs:
        assert (first.outputs[number] == second.outputs[number]).all()
    for field in ("cycles_total", "cycles_cpu", "cycles_accelerator_busy", "instructions_retired", "timings"):
        assert getattr(first, field) == getattr(second, field)
    assert (first.memoised, second.memoised) == (False, placement is ACCELERATOR)


def test_do_cycles_add_up_on_one_timeline(unicorn: Session) -> None:
    loaded, weight = unicorn.load(chain()), unicorn.allocate(4 * 64 * 64)
    result = unicorn.run(loaded, {0: raw(torch.ones(64, 64)), 1: weight})
    retired, total, busy = result.instructions_retired, result.cycles_total, result.cycles_accelerator_busy
    completion = result.timings[0].completion
    assert retired is not None
    assert total is not None
    assert busy is not None
    assert completion
    assert result.cycles_cpu == HARDWARE.cpu_to_device_cycles(retired)
    assert total == result.cycles_cpu + busy
    times = [(t.start_cycle, t.end_cycle) for t in result.timings]
    assert all(0 <= start < end <= total for start, end in times)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(times))
    assert [t.cpu_instructions > 0 for t in result.timings] == [False, True, False, False]
    assert completion.macs == 64**3
    assert completion.bytes_read >= 2 * 4 * 64 * 64
    assert (times[0][1] - times[0][0]) + (times[3][1] - times[2][0]) <= busy
    unicorn.free(weight)
    unicorn.unload(loaded)


def test_does_native_have_no_times(native: Session) -> None:
    case = make("gemm_plain")
    loaded = native.load(case.program())
    result = native.run(loaded, case.values)
    assert [result.cycles_total, result.cycles_cpu, result.instructions_retired] == [None] * 3
    assert [t.index for t in result.timings] == [0]
    native.unload(loaded)


def test_does_what_was_never_written_read_as_nan(machine: Session) -> None:
    arena, out, missed = (
        tensor(0, TensorKind.ARENA, 5),
        tensor(1, TensorKind.OUTPUT, 5),
        tensor(2, TensorKind.OUTPUT, 7),
    )
    net = program([arena, out, missed], [Copy(view(arena), view(out), placement=CPU)], 20)
    loaded = machine.load(net)
    for _ in range(2):
        result = machine.run(loaded, {})
        assert (result.outputs[1].view(np.uint32) == SIGNALLING_NAN).all()
        assert np.isnan(result.outputs[2].view(np.float32)).all()
    machine.unload(loaded)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_is_fresh_memory_nan_in_every_floating_type(dtype: torch.dtype) -> None:
    fresh = torch.from_numpy(np.full(4, SIGNALLING_NAN, np.uint32).view(np.uint8)).view(dtype)
    assert torch.isnan(fresh).all()


def test_is_an_output_bound_to_a_block_written_there(machine: Session) -> None:
    x, out = tensor(0, TensorKind.INPUT, 6), tensor(1, TensorKind.OUTPUT, 6)
    loaded = machine.load(program([x, out], [add(view(x), view(x), view(out), ACCELERATOR)]))
    block = machine.allocate(24)
    result = machine.run(loaded, {0: raw(torch.arange(6.0)), 1: block})
    assert result.outputs == {}
    assert floats(block.array) == [0, 2, 4, 6, 8, 10]
    result = machine.run(loaded, {0: block})  # and is an input of the next run
    assert floats(result.outputs[1]) == [0, 4, 8, 12, 16, 20]
    machine.free(block)
    machine.unload(loaded)


def test_is_an_arena_tensor_copied_out_when_it_is_an_output(machine: Session) -> None:
    x, y = tensor(0, TensorKind.INPUT, 4), tensor(1, TensorKind.ARENA, 4, offset=64)
    net = program([x, y], [add(view(x), view(x), view(y), CPU)], 128)
    loaded = machine.load(dataclasses.replace(net, outputs=(1,)))
    assert floats(machine.run(loaded, {0: raw(torch.ones(4))}).outputs[1]) == [2, 2, 2, 2]
    machine.unload(loaded)


def host_program(call: object) -> Program:
    x, y, out = tensor(0, TensorKind.INPUT, 4), tensor(1, TensorKind.ARENA, 4), tensor(2, TensorKind.OUTPUT, 4)
    commands = [
        add(view(x), view(x), view(y), CPU),
        Host((view(y),), (view(out),), 1, 1, 0, placement=HOST),
        add(view(out), view(out), view(out), ACCELERATOR),
    ]
    return program([x, y, out], commands, 64, host_calls=(call,))


def test_does_a_host_command_work_on_guest_memory_between_the_others(machine: Session) -> None:
    seen: list[tuple[View, View]] = []

    def negate(inputs: list[View], outputs: list[View], ram: Ram) -> None:
        seen.append((inputs[0], outputs[0]))
        source = ram.view(inputs[0].offset, 16).view(np.float32)
        ram.view(outputs[0].offset, 16).view(np.float32)[:] = -source

    loaded = machine.load(host_program(negate))
    result = machine.run(loaded, {0: raw(torch.arange(4.0))})
    assert floats(result.outputs[2]) == [0, -4, -8, -12]
    assert all(v.offset > RAM_BASE and v.dims == (4,) for v in seen[0])
    machine.unload(loaded)


@pytest.mark.parametrize("error", [ValueError("in the callable"), KeyboardInterrupt()], ids=["error", "ctrl_c"])
def test_does_a_host_command_s_exception_come_out_of_the_run(machine: Session, error: BaseException) -> None:
    def fail(*_: object) -> None:
        raise error

    loaded = machine.load(host_program(fail))
    with pytest.raises(type(error)) as caught:
        machine.run(loaded, {0: raw(torch.zeros(4))})
    assert caught.value is error
    machine.unload(loaded)
    case = make("gemm_plain")  # and the session goes on
    case.check(machine.run(machine.load(case.program()), case.values).outputs)


def test_does_unloading_give_all_memory_back(machine: Session) -> None:
    machine.unload(machine.load(chain(8)))
    free = machine._heap.free_bytes
    for _ in range(3):
        machine.unload(machine.load(chain(8)))
    assert machine._heap.free_bytes == free


def test_is_a_program_larger_than_memory_refused_and_forgotten() -> None:
    session = Session(HARDWARE, "native")
    small = session.load(chain(8))
    free = session._heap.free_bytes
    with pytest.raises(CapacityError, match=r"t_0 of net needs 64.00 MiB .* dram.size_mib = 128; set dram.size_mib to"):
        session.load(chain(4096))
    with pytest.raises(CapacityError, match=r"the arena of net needs 72.00 MiB"):
        session.load(dataclasses.replace(chain(8), arena_size=72 << 20))
    assert session._heap.free_bytes == free
    weight = session.allocate(256)
    session.run(small, {0: raw(torch.ones(8, 8)), 1: weight})


@pytest.mark.parametrize(
    ("bindings", "message"),
    [
        ({}, "input t_0 has no value: bind 16 bytes"),
        ({0: np.zeros(15, np.uint8)}, "t_0 is bound to 15 bytes, expected 16"),
    ],
)
def test_is_a_wrong_binding_refused(native: Session, bindings: dict[int, np.ndarray], message: str) -> None:
    loaded = native.load(host_program(None))
    with pytest.raises(InputError, match=message):
        native.run(loaded, bindings)
    native.unload(loaded)


def test_is_a_weight_without_a_block_refused(native: Session) -> None:
    loaded = native.load(chain(8))
    with pytest.raises(InputError, match=r"t_1 \(weight\) is not bound"):
        native.run(loaded, {0: raw(torch.ones(8, 8))})
    native.unload(loaded)


def test_is_an_unknown_machine_named_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean unicorn"):
        Session(HARDWARE, "unicron")


def test_is_a_run_without_commands_a_run(machine: Session) -> None:
    case = Case("empty")
    loaded = machine.load(case.program())
    assert machine.run(loaded, {}).outputs == {}
    machine.unload(loaded)
