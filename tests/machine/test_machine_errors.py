"""Does everything that goes wrong in the guest end in an error that says where, and leave the session usable?"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from command_cases import Case, make
from small_hardware import HARDWARE

from acalsim_backend.device.registers import RAM_BASE
from acalsim_backend.errors import DeviceError, GuestTrapError, MachineError, WatchdogError
from acalsim_backend.machine.memory import Bytes
from acalsim_backend.machine.unicorn import UnicornMachine
from acalsim_backend.program.commands import Copy, Gemm
from acalsim_backend.program.enums import Placement
from acalsim_backend.run.budget import instruction_budget
from acalsim_backend.run.heap import Block
from acalsim_backend.run.session import Session

PLACEMENTS = pytest.mark.parametrize("placement", [Placement.CPU, Placement.ACCELERATOR], ids=["cpu", "accelerator"])


def _works(session: Session) -> bool:
    case = make("gemm_plain")
    loaded = session.load(case.program(Placement.ACCELERATOR))
    case.check(session.run(loaded, case.values).outputs)
    session.unload(loaded)
    return True


def _misfit() -> Case:
    case = Case("misfit")
    x = case.rand(3)
    a, b = case.read(case.rand(3, 4)), case.read(case.rand(5, 6))
    case.commands += Copy(case.read(x), case.write(x)), Gemm(a, b, case.write(case.rand(3, 6)))
    return case


@PLACEMENTS
def test_does_a_refused_command_name_its_operation_and_python_line(machine: Session, placement: Placement) -> None:
    case = _misfit()
    loaded = machine.load(case.program(placement))
    with pytest.raises(DeviceError, match=r"^BAD_SHAPE in command 1 \(GEMM\): misfit #1 \(model\.py:2\): ") as error:
        machine.run(loaded, case.values)
    assert error.value.exit_code == 5
    machine.unload(loaded)
    assert _works(machine)


def _image_bytes(session: Session, placement: Placement, change: Callable[[np.ndarray], None]) -> None:
    """Run a good Program whose first command was damaged in guest memory."""
    case = make("gemm_plain")
    loaded = session.load(case.program(placement))
    offset = loaded.command_offsets[0]
    try:
        change(loaded.image.array[offset : offset + 32])
        session.run(loaded, case.values)
    finally:
        session.unload(loaded)


@PLACEMENTS
@pytest.mark.parametrize(("byte", "value", "status"), [(0, 99, "BAD_OPCODE"), (2, 7, "BAD_VERSION")])
def test_is_a_bad_command_in_guest_memory_a_clear_error(
    machine: Session, placement: Placement, byte: int, value: int, status: str
) -> None:
    with pytest.raises(DeviceError, match=rf"{status}.* in command 0 \(GEMM\): gemm_plain #0 \(model\.py:1\)"):
        _image_bytes(machine, placement, lambda command: command.__setitem__(byte, value))
    assert _works(machine)


def _outside(session: Session, past: int) -> tuple[Case, dict[int, Block | Bytes]]:
    """A Program with a weight that is bound to where there is no memory."""
    case = make("vector_add_broadcast")
    end = RAM_BASE + session.ram.size + past
    return case, case.values | {0: Block(end, case.tensors[0].nbytes, np.empty(0, np.uint8))}


def test_does_an_access_to_no_memory_name_c_function_and_line(unicorn: Session) -> None:
    case, bindings = _outside(unicorn, 0x100)
    loaded = unicorn.load(case.program(Placement.CPU))
    with pytest.raises(GuestTrapError) as error:
        unicorn.run(loaded, bindings)
    pattern = (
        r"guest CPU: load access fault in (\w+) \((\w+)\.[ch]:(\d+)\), pc (0x8[0-9a-f]+), address (0x[0-9a-f]+); "
        r"it was running command 0, vector_add_broadcast #0 \(model\.py:1\)"
    )
    found = re.fullmatch(pattern, str(error.value))
    assert found, str(error.value)
    assert int(found[5], 16) == RAM_BASE + unicorn.ram.size + 0x100
    assert int(found[3]) > 0
    unicorn.unload(loaded)
    assert _works(unicorn)


def test_does_the_firmware_s_own_handler_report_the_trap_too(unicorn: Session) -> None:
    case, bindings = _outside(unicorn, 0)
    loaded = unicorn.load(case.program(Placement.CPU))
    with pytest.raises(GuestTrapError):
        unicorn.run(loaded, bindings)
    machine = unicorn._machine
    assert isinstance(machine, UnicornMachine)
    assert machine._core.trap
    uart = machine._uart.decode()
    assert uart.startswith("acal: trap, cause 0x0000000000000005 pc 0x00000000800")
    trap = unicorn.ram.view(machine._elf.symbols["acal_trap"], 24).view(np.uint64)
    assert trap.tolist() == [5, machine._core.trap.pc, RAM_BASE + unicorn.ram.size]
    unicorn.unload(loaded)


@pytest.mark.parametrize("name", ["unicorn", "native"])
def test_is_an_address_outside_ram_refused_by_device_and_host_kernels(
    request: pytest.FixtureRequest, name: str
) -> None:
    session: Session = request.getfixturevalue(name)
    case, bindings = _outside(session, 0)
    loaded = session.load(case.program(Placement.ACCELERATOR))
    with pytest.raises(DeviceError, match=f"BAD_ADDRESS at address {RAM_BASE + session.ram.size:#x} in command 0"):
        session.run(loaded, bindings)
    session.unload(loaded)
    assert _works(session)


def test_does_the_watchdog_say_where_the_guest_was() -> None:
    session = Session(HARDWARE, watchdog=20_000)
    case = Case("long")
    a, b = case.rand(64, 64), case.rand(64, 64)
    case.commands.append(Gemm(case.read(a), case.read(b), case.write(a @ b)))
    with pytest.raises(WatchdogError) as error:
        session.run(session.load(case.program()), case.values)
    assert re.search(
        r"endless loop\? 200\d\d instructions retired without coming to an end, the watchdog allows 20000; the guest "
        r"was in \w+ \(\w+\.[ch]:\d+\).*; it was running command 0, long #0 \(model\.py:1\)",
        str(error.value),
    )
    short = make("copy_permuted")
    short.check(session.run(session.load(short.program()), short.values).outputs)


@pytest.mark.parametrize("name", ["gemm_int64_wraps", "conv2d_int64", "vector_power", "pool2d_average", "norm_plain"])
def test_is_the_default_watchdog_far_above_what_kernels_need(unicorn: Session, name: str) -> None:
    case = make(name)
    program = case.program()
    loaded = unicorn.load(program)
    retired = unicorn.run(loaded, case.values).instructions_retired
    assert retired is not None
    assert retired < (instruction_budget(program) - instruction_budget(dataclasses.replace(program, commands=()))) / 5
    unicorn.unload(loaded)


def test_does_a_firmware_that_has_no_image_end_in_an_error(unicorn: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make("gemm_plain")
    loaded = unicorn.load(case.program())
    inner = unicorn._machine.run
    with monkeypatch.context() as patch:
        patch.setattr(unicorn._machine, "run", lambda image, watchdog: inner(0, watchdog))
        with pytest.raises(MachineError, match="did not come to the end of gemm_plain; it wrote: 'acal: no image"):
            unicorn.run(loaded, case.values)
    unicorn.unload(loaded)


@PLACEMENTS
@pytest.mark.parametrize("name", ["gemm_transposed_with_bias_and_relu", "vector_where_and_comparisons", "norm_plain"])
def test_is_every_flipped_byte_of_a_command_survived_by_the_guest(name: str, placement: Placement) -> None:
    """Each flip ends in a result or in an error of ours, within the watchdog; the session goes on."""
    session = Session(HARDWARE, watchdog=200_000)
    case = make(name)
    loaded = session.load(case.program(placement))
    begin = loaded.command_offsets[0]
    end = begin + len(loaded.program.commands[0].encode())
    healthy = session.run(loaded, case.values)
    image = loaded.image.array.copy()
    changed = refused = 0
    for at in range(begin, end):
        loaded.image.array[:] = image
        loaded.image.array[at] ^= 0xFF
        try:
            result = session.run(loaded, case.values)
        except MachineError:
            refused += 1
        else:
            changed += any((result.outputs[n] != healthy.outputs[n]).any() for n in healthy.outputs)
    assert min(changed, refused) > 0
    loaded.image.array[:] = image
    again = session.run(loaded, case.values)
    assert all((again.outputs[n] == healthy.outputs[n]).all() for n in healthy.outputs)


@pytest.mark.parametrize("placement", [Placement.CPU, Placement.ACCELERATOR])
def test_is_a_command_that_ran_elsewhere_noticed(unicorn: Session, placement: Placement) -> None:
    with pytest.raises(DeviceError, match=r"command 0 \(GEMM\) did not run on the (cpu|accelerator)"):
        _image_bytes(unicorn, placement, lambda command: command.__setitem__(12, 1 - placement))


def test_does_one_flipped_byte_in_a_resident_weight_show(machine: Session) -> None:
    case = make("gemm_plain")
    loaded = machine.load(case.program(Placement.ACCELERATOR))
    weight = machine.allocate(case.tensors[1].nbytes)
    weight.array[:] = case.values[1]
    before = machine.run(loaded, case.values | {1: weight}).outputs
    weight.array[7] ^= 0x80
    after = machine.run(loaded, case.values | {1: weight}).outputs
    assert (before[2] != after[2]).any()
    assert torch.isfinite(torch.from_numpy(after[2]).view(torch.float32)).all()
    machine.free(weight)
    machine.unload(loaded)
