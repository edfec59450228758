"""Is the emulated core exact: its instruction count, its watchdog, its traps?"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from rv64 import (
    C_NOP,
    C_UNIMP,
    EBREAK,
    ECALL,
    LOOP_FOREVER,
    MCAUSE,
    MEPC,
    MRET,
    MTVAL,
    MTVEC,
    NOP,
    WFI,
    addi,
    assemble,
    auipc,
    bne,
    csrr,
    csrw,
    jalr,
    load,
    lui,
    store,
)

unicorn = pytest.importorskip("unicorn", reason="pip install unicorn")

from acalsim_backend.device.registers import DEVICE_BASE, RAM_BASE  # noqa: E402
from acalsim_backend.errors import MachineError, WatchdogError  # noqa: E402
from acalsim_backend.machine.memory import Ram  # noqa: E402
from acalsim_backend.machine.unicorn import SLICE, Core, TrapError  # noqa: E402

STOP, COUNT, DATA = 0x00, 0x40, 0x80  # registers of the device that these tests use
BASE = lui(5, DEVICE_BASE >> 12)  # x5 = the device
WATCHDOG = 100_000_000
HANDLER = RAM_BASE + 0x800


class Rig:
    """A core on 1 MiB of RAM: code in the first page, and a device that stops it, notes counts and keeps data."""

    def __init__(self, code: list[int], handler: Sequence[int] = ()) -> None:
        self.ram = Ram(1)
        self._write(RAM_BASE, assemble(code))
        self._write(HANDLER, assemble(list(handler)))
        self.core = Core(self.ram, RAM_BASE, RAM_BASE + 0x1000)
        self.core.map_device(DEVICE_BASE, self.read, self.write)
        self.counts: list[int] = []
        self.data: list[int] = []
        self.stepped: list[int] | None = None
        self.steps = 0

    def _write(self, address: int, code: bytes) -> None:
        self.ram.view(address, len(code))[:] = np.frombuffer(code, np.uint8)

    def count_every_instruction(self) -> None:
        """Compare with a hook that is called before each instruction."""
        self.stepped = []

        def step(*_: object) -> None:
            self.steps += 1

        self.core._uc.hook_add(unicorn.UC_HOOK_CODE, step)

    def read(self, offset: int, size: int) -> int:
        if offset == COUNT:
            self.counts.append(self.core.retired())
            if self.stepped is not None:
                self.stepped.append(self.steps - 1)
        return 0x5500_0000 + offset

    def write(self, offset: int, size: int, value: int) -> None:
        if offset == STOP:
            self.core.stop()
        else:
            self.data.append(value)

    def run(self, watchdog: int = WATCHDOG) -> Rig:
        self.core.run(RAM_BASE, watchdog)
        return self


def test_is_the_count_exact_at_every_position_inside_a_block() -> None:
    read = load(7, 5, COUNT, 4)
    code = [BASE, read, NOP, C_NOP, C_NOP, read, read, C_NOP, read, store(0, 5, STOP, 4)]
    assert Rig(code).run().counts == [1, 5, 6, 8]


@pytest.mark.parametrize("iterations", [1, 2, 1000])
def test_is_the_count_exact_after_loops(iterations: int) -> None:
    code = [BASE, lui(6, 0), addi(6, 6, iterations), addi(6, 6, -1), C_NOP, bne(6, 0, -6), load(7, 5, COUNT, 4)]
    assert Rig([*code, store(0, 5, STOP, 4)]).run().counts == [3 + 3 * iterations]


def test_does_the_count_equal_that_of_a_hook_on_every_instruction() -> None:
    read = load(7, 5, COUNT, 4)
    body = [read, C_NOP, store(6, 5, DATA, 4), read, addi(6, 6, -1), read, NOP]
    back = -(len(assemble(body)))
    rig = Rig([BASE, addi(6, 0, 50), *body, bne(6, 0, back), read, store(0, 5, STOP, 4)])
    rig.count_every_instruction()
    rig.run()
    assert len(rig.counts) == 151
    assert rig.counts == rig.stepped


def test_does_a_64_bit_access_reach_a_device_as_two_halves_low_first() -> None:
    rig = Rig([BASE, auipc(6), store(6, 5, DATA, 8), load(7, 5, DATA, 8), store(7, 5, DATA, 8), store(0, 5, STOP, 4)])
    rig.run()
    assert rig.data == [RAM_BASE + 4, 0, 0x5500_0080, 0x5500_0084]


def test_does_the_watchdog_end_an_endless_loop() -> None:
    for limit in (1, 1000, SLICE + 5):
        rig = Rig([NOP, LOOP_FOREVER])
        with pytest.raises(WatchdogError):
            rig.run(limit)
        assert rig.core._counters.retired == max(limit, 2)  # blocks are not torn
        assert rig.core.pc == RAM_BASE + 4


def test_does_pausing_for_python_leave_the_count_alone() -> None:
    iterations = 3 * SLICE // 2
    code = [BASE, lui(6, iterations >> 12), addi(6, 6, -1), bne(6, 0, -4), load(7, 5, COUNT, 4), store(0, 5, STOP, 4)]
    assert Rig(code).run().counts == [2 + 2 * (iterations >> 12 << 12)]


def test_does_ctrl_c_work_while_the_guest_runs() -> None:
    timer = threading.Timer(0.3, _thread.interrupt_main)
    rig = Rig([LOOP_FOREVER])

    def run() -> None:
        timer.start()
        rig.run(10**15)

    with pytest.raises(KeyboardInterrupt):
        run()


def test_does_a_device_s_exception_come_out_of_the_run() -> None:
    for error in (ValueError("device"), KeyboardInterrupt()):
        rig = Rig([BASE, load(7, 5, 0x100, 4), LOOP_FOREVER])

        def fail(offset: int, size: int, error: BaseException = error) -> int:
            raise error

        rig.core.map_device(DEVICE_BASE + 0x10_0000, fail, rig.write)
        rig._write(RAM_BASE, assemble([lui(5, (DEVICE_BASE >> 12) + 0x100)]))
        with pytest.raises(type(error)):
            rig.run()


def test_is_waiting_for_an_interrupt_that_cannot_come_an_error() -> None:
    with pytest.raises(MachineError, match="waits for an interrupt"):
        Rig([WFI, LOOP_FOREVER]).run()


INSTALL = [auipc(6), addi(6, 6, 0x7FC), addi(6, 6, 4), csrw(MTVEC, 6), BASE]  # 20 bytes
REPORT = [csrr(8, MCAUSE), store(8, 5, DATA, 4), csrr(8, MEPC), store(8, 5, DATA, 4), csrr(8, MTVAL)]
REPORT += [store(8, 5, DATA, 4), store(0, 5, STOP, 4)]
AT = RAM_BASE + 20 + 4  # of the instruction that traps below, one NOP after INSTALL


@pytest.mark.parametrize(
    ("trap", "cause", "pc", "address"),
    [
        ([ECALL], 11, AT, 0),
        ([EBREAK], 3, AT, 0),
        ([C_UNIMP], 2, AT, 0),
        ([csrr(7, 0x7C0)], 2, AT, 0),
        ([load(7, 9, 0x10, 8)], 5, AT, 0x2000_0010),
        ([store(7, 9, 0x10, 8)], 7, AT, 0x2000_0010),
        ([store(7, 13, 0, 4)], 7, AT, RAM_BASE),  # code is read-only
        ([load(7, 14, -4, 8)], 5, AT, RAM_BASE + (1 << 20)),  # across the end of RAM
        ([jalr(0, 9)], 1, 0x2000_0000, 0x2000_0000),
        ([jalr(0, 12)], 1, RAM_BASE + 0x1000, RAM_BASE + 0x1000),  # data is not code
    ],
)
def test_is_a_trap_entered_as_the_architecture_says(trap: list[int], cause: int, pc: int, address: int) -> None:
    # x9 = nothing there, x13 = code, x14 = end of RAM, x12 = data; set up by the test, not by guest code
    rig = Rig([*INSTALL, NOP, *trap, LOOP_FOREVER], REPORT)
    registers = {9: 0x2000_0000, 13: RAM_BASE, 14: RAM_BASE + (1 << 20), 12: RAM_BASE + 0x1000}
    for number, value in registers.items():
        rig.core._uc.reg_write(getattr(unicorn.riscv_const, f"UC_RISCV_REG_X{number}"), value)
    rig.run()
    assert rig.data == [cause, pc & 0xFFFF_FFFF, address & 0xFFFF_FFFF]
    assert rig.core.trap
    assert (rig.core.trap.cause, rig.core.trap.pc) == (cause, pc)
    if cause == 1:
        assert (rig.core.trap.origin or 0) >= AT - 4  # the jump, not its target


def test_does_the_guest_go_on_after_its_handler_returns() -> None:
    skip = [csrr(8, MEPC), addi(8, 8, 4), csrw(MEPC, 8), MRET]
    rig = Rig([*INSTALL, ECALL, addi(7, 0, 42), store(7, 5, DATA, 4), store(0, 5, STOP, 4)], skip)
    assert rig.run().data == [42]


def test_is_a_trap_without_a_handler_reported() -> None:
    with pytest.raises(TrapError) as trap:
        Rig([csrw(MTVEC, 0), NOP, ECALL]).run()
    assert (trap.value.cause, trap.value.pc) == (11, RAM_BASE + 8)


def test_does_a_trap_inside_the_handler_report_the_first_one() -> None:
    with pytest.raises(TrapError) as trap:
        Rig([*INSTALL, NOP, ECALL], [ECALL]).run()
    assert trap.value.pc == AT


def test_do_traps_leave_the_count_exact() -> None:
    def count() -> int:
        return load(7, 5, COUNT, 4)

    skip = [csrr(8, MEPC), addi(8, 8, 4), csrw(MEPC, 8), MRET]
    rig = Rig([*INSTALL, NOP, ECALL, NOP, NOP, count(), store(0, 5, STOP, 4)], skip)
    assert rig.run().counts == [5 + 1 + 4 + 2]  # an instruction that traps does not retire
