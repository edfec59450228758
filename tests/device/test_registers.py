"""Do the registers behave as the ABI says, for drivers of any width and any clock?"""

from __future__ import annotations

import pytest
from command_cases import make
from support import RING, Bench

from acalsim_backend.device.device import NO_COMMAND, EchoDevice
from acalsim_backend.device.registers import DEVICE_ID, WIDE, ControlBit, IrqBit, Register, StatusBit
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.program.enums import ABI_VERSION, Status

HARDWARE = HardwareConfig.load("edge", {"accelerator.echo_cycles": "100"})  # longer than some polls
LATENCY = 1 + HARDWARE.accelerator.echo_cycles
ACCESS = HARDWARE.accelerator.mmio_latency_cycles


def test_does_echo_give_a_word_back_after_its_latency() -> None:
    echo = EchoDevice(HARDWARE)
    assert echo.read(Register.STATUS, 4) == 0
    echo.write(Register.DATA_IN, 4, 0xDEADBEEF)
    assert echo.read(Register.STATUS, 4) == StatusBit.BUSY
    assert echo.read(Register.DATA_OUT, 4) == 0  # not yet
    polls = 0
    while echo.read(Register.STATUS, 4) == StatusBit.BUSY:
        polls += 1
    assert polls < max(LATENCY // ACCESS, 1)
    assert echo.read(Register.STATUS, 4) == StatusBit.DATA_READY
    assert echo.read(Register.DATA_OUT, 4) == 0xDEADBEEF
    assert echo.read(Register.STATUS, 4) == 0
    assert echo.read(Register.RESULT, 4) == Status.OK


def test_is_echo_blocked_at_the_cycle_before_its_latency_and_ready_at_it() -> None:
    echo = EchoDevice(HARDWARE)
    clock = 0
    echo.cpu_clock = lambda: clock
    echo.write(Register.DATA_IN, 4, 7)
    clock = LATENCY - 1
    assert echo.read(Register.STATUS, 4) == StatusBit.BUSY
    clock = LATENCY
    assert echo.read(Register.STATUS, 4) == StatusBit.DATA_READY


def test_do_plain_registers_keep_what_was_written() -> None:
    device = Bench().device
    for register, value in ((Register.SIZE, 12), (Register.CONTROL, 0x10), (Register.QSIZE, 8)):
        device.write(register, 4, value)
        assert device.read(register, 4) == value
    assert device.read(Register.ID, 4) == DEVICE_ID
    assert device.read(Register.VERSION, 4) == ABI_VERSION
    assert device.fault is None


@pytest.mark.parametrize("register", sorted(WIDE))
def test_can_a_wide_register_be_read_as_two_halves(register: Register) -> None:
    bench = Bench()
    bench.device.write(Register.CPU_TIME, 8, 0x1_2345_6789)  # makes the times wide, too
    whole = bench.device.read(register, 8)
    bench.device.write(Register.CPU_TIME, 8, 0x1_2345_6789)
    low, high = bench.device.read(register, 4), bench.device.read(register + 4, 4)
    assert low | high << 32 == whole
    assert bench.device.fault is None


@pytest.mark.parametrize("register", [Register.QBASE, Register.CPU_TIME])
def test_can_a_wide_register_be_written_as_two_halves(register: Register) -> None:
    device = Bench().device
    device.write(register, 4, 0x89AB_CDEF)
    device.write(register + 4, 4, 0x0123_4567)
    assert device.read(register, 8) == 0x0123_4567_89AB_CDEF


@pytest.mark.parametrize("register", [Register.QBASE, Register.CPU_TIME])
@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_is_each_part_of_a_wide_register_read_by_itself(register: Register, size: int) -> None:
    device = Bench().device
    device.write(register, 8, 0x1122_3344_5566_7788)
    whole = 0x1122_3344_5566_7788.to_bytes(8, "little")
    for at in reversed(range(0, 8, size)):  # the upper parts first, so that nothing has come before
        assert device.read(register + at, size).to_bytes(size, "little") == whole[at : at + size]
    assert device.fault is None


def test_do_two_halves_of_a_time_belong_together_and_a_lone_one_to_its_own_access() -> None:
    device = Bench().device
    clock = 0
    device.cpu_clock = lambda: clock
    clock = 0x1_FFFF_FFFF
    before = device.read(Register.NOW, 8)
    clock = 0x1_FFFF_FFFF + 0x1_0000_0000
    device.read(Register.NOW, 4)
    after = device.read(Register.NOW, 8)
    assert before >> 32 != after >> 32
    low = device.read(Register.NOW, 4)
    clock = 0x8_0000_0000
    assert low | device.read(Register.NOW + 4, 4) << 32 == after
    assert device.read(Register.NOW + 4, 4) == device.read(Register.NOW, 8) >> 32 > after >> 32


@pytest.mark.parametrize(
    ("offset", "size"), [(0x18, 4), (0xA0, 4), (0xFFC, 4), (0x10, 3), (0x18, 8), (0x18, 1), (0x09, 4), (0x09, 2)]
)
def test_does_an_unknown_access_read_zero_and_set_error(offset: int, size: int) -> None:
    device = Bench().device
    assert device.read(offset, size) == 0
    assert device.read(Register.STATUS, 4) & StatusBit.ERROR
    assert device.read(Register.ERR_CODE, 4) == Status.BAD_REGISTER
    assert device.read(Register.ERR_ADDR, 8) == offset
    assert device.read(Register.ERR_COMMAND, 4) == NO_COMMAND


@pytest.mark.parametrize("register", [Register.STATUS, Register.WAIT, Register.HEAD, Register.ID, 0x200])
def test_does_writing_what_is_read_only_set_error(register: int) -> None:
    device = Bench().device
    device.write(register, 4, 1)
    assert device.read(Register.ERR_CODE, 4) == Status.BAD_REGISTER
    assert device.fault
    assert "write" in device.fault.text


def test_does_the_first_error_stay_until_the_reset() -> None:
    bench = Bench()
    bench.device.read(0x18, 4)
    bench.device.read(0x1C, 4)
    assert bench.device.read(Register.ERR_ADDR, 8) == 0x18
    bench.device.write(Register.CONTROL, 4, ControlBit.RESET)
    assert bench.device.read(Register.CONTROL, 4) == 0
    assert bench.device.read(Register.STATUS, 4) == 0
    assert bench.device.read(Register.ERR_CODE, 4) == Status.OK


def test_does_each_access_without_cpu_time_cost_the_register_latency() -> None:
    device = Bench().device
    start = device.read(Register.NOW, 8)
    device.read(Register.STATUS, 4)
    device.write(Register.SIZE, 4, 1)
    assert device.read(Register.NOW, 8) - start == 3 * ACCESS


def test_does_time_follow_the_cpu_time_that_the_driver_wrote() -> None:
    device = Bench().device
    device.write(Register.CPU_TIME, 8, 5000)
    assert device.read(Register.NOW, 8) == HARDWARE.cpu_to_device_cycles(5000)
    device.write(Register.CPU_TIME, 8, 4000)  # time does not go back
    assert device.read(Register.NOW, 8) == HARDWARE.cpu_to_device_cycles(5000)


def test_does_waiting_take_no_cpu_time() -> None:
    bench = Bench()
    clock = 1000
    bench.device.cpu_clock = lambda: clock
    case = make("copy_permuted")
    bench.submit(bench.lay_out(case)[1])
    assert bench.device.read(Register.NOW, 8) == 1000 + 200  # two commands of 100 cycles
    clock = 1010
    assert bench.device.read(Register.NOW, 8) == 1010 + 200


def test_does_a_driver_that_polls_status_make_progress() -> None:
    bench = Bench()
    case = make("copy_permuted")
    blocks, commands = bench.lay_out(case)
    bench.submit(commands, wait=False)
    assert bench.device.read(Register.STATUS, 4) == StatusBit.BUSY
    assert bench.device.read(Register.HEAD, 4) == 0
    while bench.device.read(Register.STATUS, 4) & StatusBit.BUSY:
        assert bench.device.read(Register.HEAD, 4) <= 2
    assert bench.device.read(Register.HEAD, 4) == 2
    bench.check(case, blocks)


def test_does_the_interrupt_rise_at_completion_and_fall_when_acknowledged() -> None:
    bench = Bench()
    bench.device.write(Register.IRQ_ENABLE, 4, IrqBit.DONE)
    bench.submit(bench.lay_out(make("copy_permuted"))[1], wait=False)
    assert not bench.device.interrupt
    bench.device.read(Register.WAIT, 8)
    assert bench.device.interrupt
    assert bench.device.read(Register.IRQ_STATUS, 4) == IrqBit.DONE
    bench.device.write(Register.IRQ_STATUS, 4, IrqBit.DONE)
    assert not bench.device.interrupt
    bench.device.read(0x18, 4)
    assert not bench.device.interrupt  # errors are not enabled
    bench.device.write(Register.IRQ_ENABLE, 4, IrqBit.ERROR)
    assert bench.device.interrupt


def test_do_the_counters_count() -> None:
    bench = Bench()
    bench.submit(bench.lay_out(make("copy_permuted"))[1])
    names = (Register.COMMANDS_DONE, Register.BYTES_READ, Register.BYTES_WRITTEN, Register.BUSY_CYCLES)
    assert [bench.device.read(r, 8) for r in names] == [2, 128, 64, 200]
    assert bench.device.read(Register.QSIZE, 4) == RING
    bench.device.reset()
    assert [bench.device.read(r, 8) for r in names] == [0, 0, 0, 0]


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_is_an_access_of_any_width_that_of_the_bytes_it_covers(size: int) -> None:
    device = Bench().device
    words = b"".join(device.read(offset, 4).to_bytes(4, "little") for offset in (Register.ID, Register.VERSION))
    got = b"".join(device.read(Register.ID + at, size).to_bytes(size, "little") for at in range(0, 8, size))
    assert got == words
    kept = 0x12345678 & (1 << 8 * min(size, 4)) - 1
    device.write(Register.SIZE, min(size, 4), kept)
    assert device.read(Register.SIZE, 4) == kept
    assert device.fault is None


def test_does_a_write_of_two_registers_leave_both_alone_where_one_is_read_only() -> None:
    device = Bench().device
    device.write(Register.SIZE, 8, 7 | 9 << 32)  # the other half is RESULT
    assert device.read(Register.SIZE, 4) == 0
    assert device.read(Register.ERR_CODE, 4) == Status.BAD_REGISTER
