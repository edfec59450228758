"""Does the queue accept what is right, refuse what is wrong, and say why?"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from command_cases import Case, make
from support import RING, Bench

from acalsim_backend.device.device import NO_COMMAND, DeviceFault
from acalsim_backend.device.registers import RAM_BASE, ControlBit, Register, StatusBit
from acalsim_backend.hardware import AcceleratorConfig, HardwareConfig
from acalsim_backend.program.commands import Command, Copy, Fill, Gemm, Host
from acalsim_backend.program.enums import Activation, DType, Placement, Status
from acalsim_backend.program.view import View
from acalsim_backend.run.heap import Block


def _copies(bench: Bench, n: int) -> tuple[Case, dict[int, Block], list[Command]]:
    case = Case("copies")
    for _ in range(n):
        x = case.rand(5)
        case.commands.append(Copy(case.read(x), case.write(x)))
    return case, *bench.lay_out(case)


def _fault(bench: Bench) -> DeviceFault:
    assert bench.device.fault
    return bench.device.fault


def _status(bench: Bench) -> tuple[int, ...]:
    registers = (Register.ERR_CODE, Register.ERR_COMMAND)
    return *(bench.device.read(r, 4) for r in registers), bench.device.read(Register.ERR_ADDR, 8)


def test_do_indices_run_freely_around_the_ring_and_around_32_bits() -> None:
    bench = Bench()
    for _ in range(3):
        case, blocks, commands = _copies(bench, RING * 3 // 4)
        bench.submit(commands)
        bench.check(case, blocks)
    bench.device._tail = bench.device._head = 2**32 - 3
    case, blocks, commands = _copies(bench, 8)
    bench.submit(commands)
    bench.check(case, blocks)
    assert bench.device.read(Register.HEAD, 4) == 5
    assert bench.device.fault is None


def test_is_a_command_read_anew_that_was_written_between_two_equal_doorbells() -> None:
    bench = Bench()
    out = bench.heap.allocate(16)
    view = View(0, DType.I32, (4,), (1,), out.address)
    first = bench.submit([Fill(view, 3)])[0]
    for value in (3, 4, 5):
        command = Fill(view, value, id=0, placement=Placement.ACCELERATOR)
        first.array[:] = np.frombuffer(command.encode(), np.uint8)
        bench.device.write(Register.CONTROL, 4, ControlBit.RESET)
        bench.set_up_queue()
        bench.device.write(Register.TAIL, 4, 1)
        assert out.array.view(np.int32).tolist() == [value] * 4
    assert bench.device.fault is None
    assert len(bench.device._batches) == 1


def test_is_nothing_kept_of_a_doorbell_with_a_bad_command() -> None:
    bench = Bench()
    bench.ring_entry(0, RAM_BASE + 4, 0)
    bench.device.write(Register.TAIL, 4, 1)
    assert bench.device.fault is not None
    assert bench.device._batches == {}


def test_is_a_full_ring_accepted() -> None:
    bench = Bench()
    case, blocks, commands = _copies(bench, RING)
    bench.submit(commands)
    bench.check(case, blocks)


@pytest.mark.parametrize("tail", [RING + 1, 2**31, 2**32 - 1])
def test_is_a_doorbell_with_wrong_indices_refused(tail: int) -> None:
    bench = Bench()
    bench.device.write(Register.TAIL, 4, tail)
    assert _status(bench) == (Status.BAD_QUEUE, NO_COMMAND, 0)
    assert f"TAIL {tail}" in _fault(bench).text
    assert bench.device.read(Register.WAIT, 8) >= 0  # returns


@pytest.mark.parametrize("size", [0, 3, 48])
def test_is_a_ring_whose_size_is_no_power_of_two_refused(size: int) -> None:
    bench = Bench()
    bench.device.write(Register.QSIZE, 4, size)
    bench.device.write(Register.TAIL, 4, 1)
    assert _status(bench)[0] == Status.BAD_QUEUE


@pytest.mark.parametrize(
    ("base", "status"),
    [(0, Status.BAD_ADDRESS), (RAM_BASE - 16, Status.BAD_ADDRESS), (RAM_BASE + 8, Status.UNALIGNED)],
)
def test_is_a_ring_outside_ram_refused(base: int, status: Status) -> None:
    bench = Bench()
    bench.device.write(Register.QBASE, 8, base)
    bench.device.write(Register.TAIL, 4, 1)
    assert (_status(bench)[0], _status(bench)[2]) == (status, base)


@pytest.mark.parametrize(("number", "flags"), [(1, 0), (0, 1)])
def test_is_an_entry_that_does_not_fit_its_command_refused(number: int, flags: int) -> None:
    bench = Bench()
    block = bench.put(_copies(bench, 1)[2][0].encode())
    bench.ring_entry(0, block.address, number, flags)
    bench.device.write(Register.TAIL, 4, 1)
    assert _status(bench)[0] == Status.BAD_QUEUE


def test_does_the_queue_stop_at_the_bad_command_after_running_those_before_it() -> None:
    bench = Bench()
    _case, blocks, commands = _copies(bench, 4)
    copy = commands[2]
    assert isinstance(copy, Copy)
    commands[2] = dataclasses.replace(copy, out=dataclasses.replace(copy.out, offset=0x1000))
    bench.submit(commands)
    assert _status(bench) == (Status.BAD_ADDRESS, 2, 0x1000)
    assert "out (5,) at 0x1000" in _fault(bench).text
    assert bench.device.read(Register.HEAD, 4) == 2
    written = [bool(blocks[2 * i + 1].array[:20].any()) for i in range(4)]
    assert written == [True, True, False, False]


def test_is_a_stopped_queue_deaf_until_its_reset() -> None:
    bench = Bench()
    bench.device.read(0x18, 4)
    case, blocks, commands = _copies(bench, 1)
    bench.submit(commands)
    assert not blocks[1].array.any()
    bench.device.write(Register.CONTROL, 4, ControlBit.RESET)
    bench.set_up_queue()
    bench.submit(commands)
    bench.check(case, blocks)
    assert bench.device.read(Register.STATUS, 4) == 0


def _broken(command: Command, **header: int) -> bytes:
    data = bytearray(dataclasses.replace(command, placement=Placement.ACCELERATOR).encode())
    for name, value in header.items():
        fmt, at = {"opcode": ("<H", 0), "version": ("<H", 2), "size": ("<I", 4), "device": ("<H", 14)}[name]
        struct.pack_into(fmt, data, at, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ({"opcode": 77}, Status.BAD_OPCODE),
        ({"opcode": Host.opcode}, Status.BAD_OPCODE),
        ({"version": 2}, Status.BAD_VERSION),
        ({"size": 0}, Status.BAD_SHAPE),
        ({"size": 100}, Status.BAD_SHAPE),
        ({"size": 64}, Status.BAD_SHAPE),
        ({"size": 1 << 30}, Status.BAD_SHAPE),
        ({"device": 3}, Status.UNSUPPORTED),
    ],
)
def test_is_a_wrong_header_refused(header: dict[str, int], status: Status) -> None:
    bench = Bench()
    block = bench.put(_broken(_copies(bench, 1)[2][0], **header))
    bench.ring_entry(0, block.address, 0)
    bench.device.write(Register.TAIL, 4, 1)
    assert _status(bench)[:2] == (status, 0)


def test_is_a_command_outside_ram_refused() -> None:
    bench = Bench()
    for address, status in ((0x40, Status.BAD_ADDRESS), (RAM_BASE + 4, Status.UNALIGNED)):
        bench.device.reset()
        bench.set_up_queue()
        bench.ring_entry(0, address, 0)
        bench.device.write(Register.TAIL, 4, 1)
        assert _status(bench) == (status, 0, address)


def _change(command: Command, operand: str, **changes: object) -> Command:
    return dataclasses.replace(command, **{operand: dataclasses.replace(getattr(command, operand), **changes)})


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"dims": (5, 1 << 40)}, Status.BAD_ADDRESS),
        ({"dims": (1 << 62, 7)}, Status.BAD_ADDRESS),
        ({"dims": (-5, 7)}, Status.BAD_SHAPE),
        ({"dims": (5, 6)}, Status.BAD_SHAPE),
        ({"strides": (0, 1)}, Status.BAD_SHAPE),
        ({"strides": (1, 1)}, Status.BAD_SHAPE),
        ({"strides": (-(1 << 60), 1)}, Status.BAD_ADDRESS),
        ({"offset": RAM_BASE + 2}, Status.UNALIGNED),
        ({"offset": (1 << 64) - 4}, Status.BAD_ADDRESS),
        ({"dtype": DType.I32}, Status.BAD_DTYPE),
        ({"zero_point": 3}, Status.UNSUPPORTED),
    ],
)
def test_is_an_output_that_cannot_be_written_refused(changes: dict[str, object], status: Status) -> None:
    bench = Bench()
    case = Case("product")
    a, b = case.rand(5, 3), case.rand(3, 7)
    case.commands.append(Gemm(case.read(a), case.read(b), case.write(a @ b)))
    bench.submit([_change(bench.lay_out(case)[1][0], "out", **changes)])
    assert _status(bench)[0] == status


def test_is_a_huge_broadcast_refused() -> None:
    bench = Bench()
    _case, _, commands = _copies(bench, 1)
    bench.submit([_change(commands[0], "x", dims=(1 << 45,), strides=(0,))])
    assert _status(bench)[0] == Status.BAD_SHAPE


def test_is_code_protected_from_the_device() -> None:
    bench = Bench()
    bench.ram.protect(RAM_BASE, RAM_BASE + 4096)
    bench.submit([Fill(View(-1, DType.F32, (4,), (1,), RAM_BASE + 4080), 0)])
    assert _status(bench) == (Status.BAD_ADDRESS, 0, RAM_BASE + 4080)
    assert "overwrite code" in _fault(bench).text


def test_is_what_the_hardware_file_leaves_out_refused() -> None:
    hardware = HardwareConfig(accelerator=AcceleratorConfig(ops=("gemm",), activations=("relu",)))
    bench = Bench(hardware=hardware)
    bench.submit(_copies(bench, 1)[2])
    assert _status(bench)[0] == Status.UNSUPPORTED
    assert "copy is not among" in _fault(bench).text
    bench = Bench(hardware=hardware)
    gemm = bench.lay_out(make("gemm_one_matrix_for_a_batch"))[1][0]
    assert isinstance(gemm, Gemm)
    assert gemm.activation is Activation.GELU
    bench.submit([gemm])
    assert _status(bench)[0] == Status.UNSUPPORTED
    assert "activation gelu" in _fault(bench).text


def test_is_an_exception_in_a_kernel_kept_and_not_thrown(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    boom = RuntimeError("boom")

    def prepare(command: Command, data: bytes) -> object:
        def task() -> None:
            raise boom

        return task

    monkeypatch.setattr(bench.functional, "prepare", prepare)
    bench.submit(_copies(bench, 2)[2])
    assert _status(bench)[:2] == (Status.INTERNAL, 0)
    assert _fault(bench).exception is boom


def test_is_a_segment_that_the_engine_cannot_schedule_refused() -> None:
    bench = Bench()
    bench.device._timer = type("T", (), {"segment": lambda *_: (_ for _ in ()).throw(ValueError("no tile fits"))})()
    _case, blocks, commands = _copies(bench, 1)
    bench.submit(commands)
    assert _status(bench)[:2] == (Status.UNSUPPORTED, 0)
    assert not blocks[1].array.any()


def test_do_effects_appear_in_completion_order() -> None:
    bench = Bench()
    target = bench.heap.allocate(4)
    view = View(-1, DType.F32, (1,), (1,), target.address)
    commands = [Fill(view, struct.unpack("<Q", struct.pack("<d", value))[0]) for value in (1.0, 2.0, 3.0)]
    inner = bench.device._timer

    class Backwards:
        def segment(self, data: Sequence[bytes]) -> Any:
            timing: Any = inner.segment(data)
            for completion in timing.completions:
                completion.end = 100 * (3 - completion.id)
            return timing

    bench.device._timer = Backwards()
    bench.submit(commands)
    assert target.array.view(np.float32)[0] == 1.0  # the first command completed last


def test_does_a_host_call_reach_the_host_and_its_exception_stay() -> None:
    bench = Bench()
    bench.device.write(Register.HOSTCALL, 4, 5)
    assert _status(bench)[:2] == (Status.UNSUPPORTED, 5)
    bench.device.reset()
    calls: list[int] = []
    bench.device.host_call = calls.append
    bench.device.write(Register.HOSTCALL, 4, 6)
    assert calls == [6]
    assert bench.device.fault is None

    def fail(index: int) -> None:
        raise ValueError("on the host")

    bench.device.host_call = fail
    bench.device.write(Register.HOSTCALL, 4, 7)
    assert bench.device.read(Register.STATUS, 4) & StatusBit.ERROR
    assert _status(bench)[:2] == (Status.INTERNAL, 7)
    assert isinstance(_fault(bench).exception, ValueError)


def test_is_a_dependency_on_a_later_command_refused() -> None:
    bench = Bench()
    command = dataclasses.replace(_copies(bench, 1)[2][0], placement=Placement.ACCELERATOR, id=3, deps=(4,))
    block = bench.put(command.encode())
    bench.ring_entry(0, block.address, 3)
    bench.device.write(Register.TAIL, 4, 1)
    assert _status(bench)[:2] == (Status.INDEX, 3)


def test_are_unused_bytes_of_a_command_required_to_be_zero() -> None:
    bench = Bench()
    data = bytearray(dataclasses.replace(_copies(bench, 1)[2][0], placement=Placement.ACCELERATOR).encode())
    data[28] = 1  # reserved, in the header
    block = bench.put(bytes(data))
    bench.ring_entry(0, block.address, 0)
    bench.device.write(Register.TAIL, 4, 1)
    assert _status(bench)[:2] == (Status.UNSUPPORTED, 0)


def test_does_the_device_see_ram_as_it_is_at_the_doorbell() -> None:
    """A command that was executed before is not taken from a cache when its operands have changed."""
    bench = Bench()
    _case, blocks, commands = _copies(bench, 1)
    for value in (1.0, 2.0):
        blocks[0].array[:20].view(np.float32)[:] = value
        bench.submit(commands)
        assert torch.from_numpy(blocks[1].array[:20].copy()).view(torch.float32).eq(value).all()
