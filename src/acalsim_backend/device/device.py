"""A device as software sees it: registers and time; Echo has nothing else.

A device never raises into the machine that drives it: what goes wrong sets ERROR and is kept as its ``fault``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from acalsim_backend.device.registers import WIDE, ControlBit, Register, StatusBit
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.program.enums import Status

CpuClock = Callable[[], int]
"""Instructions that the CPU has retired, exact at the access that is being served."""

ACCESS_SIZES = (1, 2, 4, 8)
MASK32 = 0xFFFF_FFFF
NO_COMMAND = 0xFFFF_FFFF
_NO_LATCH = (-1, 0)


def _register_at(offset: int) -> int:
    """Where the register begins, if there is one, that has the byte at an offset."""
    word = offset & ~3
    return word - 4 if word - 4 in WIDE else word


@dataclass(frozen=True)
class DeviceFault:
    """Why a device stopped: what the ERR registers say, in words, and the exception behind it if there is one.

    ``command`` is NO_COMMAND where none is to blame.
    """

    status: Status
    command: int
    address: int
    text: str
    exception: BaseException | None = None


class Device:
    """The six registers that every device has: a word written to DATA_IN can be read from DATA_OUT after a latency.

    Time is in device cycles. It follows the CPU's instruction count, from ``cpu_clock`` or from what the driver wrote
    to CPU_TIME before the access; an access without either costs ``mmio_latency_cycles``.
    """

    def __init__(self, hardware: HardwareConfig) -> None:
        self.hardware = hardware
        self.cpu_clock: CpuClock | None = None
        self._readers: dict[Register, Callable[[], int]] = {
            Register.DATA_IN: lambda: 0,
            Register.DATA_OUT: self._read_data,
            Register.STATUS: self._status,
            Register.CONTROL: lambda: self._control,
            Register.SIZE: lambda: self._size,
            Register.RESULT: lambda: self.fault.status if self.fault else Status.OK,
        }
        self._writers: dict[Register, Callable[[int], None]] = {
            Register.DATA_IN: self._write_data,
            Register.CONTROL: self._write_control,
            Register.SIZE: self._write_size,
        }
        self.reset()

    def reset(self) -> None:
        """Power on: time 0, every register 0."""
        self.now = 0
        self._waited = 0
        self._cpu_time: int = 0
        self._cpu_time_is_new = False
        self._latch = _NO_LATCH
        self._clear()

    def _clear(self) -> None:
        """What CONTROL.RESET does."""
        self.fault: DeviceFault | None = None
        self._control = 0
        self._size = 0
        self._word: int | None = None
        self._word_since = self._word_at = 0

    def accepts(self, offset: int, size: int, is_write: bool) -> bool:
        """Whether such an access reaches a register; any other one sets ERROR."""
        table: dict[Register, Any] = self._writers if is_write else self._readers
        registers = {_register_at(offset), _register_at(offset + size - 1)}
        return size in ACCESS_SIZES and offset % size == 0 and all(register in table for register in registers)

    def read(self, offset: int, size: int) -> int:
        """The value of ``size`` bytes at ``offset``; an unknown offset or size reads 0 and sets ERROR.

        1, 2 or 4 bytes are those of their register; 8 may be two registers, read one after the other. Of a register of
        64 bits the upper half is as it was when the lower one was read, if that was the access just before.
        """
        try:
            if not self.accepts(offset, size, False):
                self._advance()
                self._fail(Status.BAD_REGISTER, f"read of {size} bytes at register offset {offset:#x}", address=offset)
                return 0
            if size == 8 and offset not in WIDE:
                return self._read(offset, 4) | self._read(offset + 4, 4) << 32
            return self._read(offset, size)
        except Exception as error:  # noqa: BLE001  # the guest sees a status, the host the cause
            self._fail(Status.INTERNAL, f"reading register {offset:#x}: {error}", exception=error)
            return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Store ``size`` bytes at ``offset``; an offset that cannot be written sets ERROR.

        1 or 2 bytes are written with zeros around them, as on a bus of 32 bits without byte enables; 8 may be two
        registers, written one after the other.
        """
        try:
            if not self.accepts(offset, size, True):
                self._advance()
                self._fail(Status.BAD_REGISTER, f"write of {size} bytes at register offset {offset:#x}", address=offset)
            elif size == 8 and offset not in WIDE:
                self._write(offset, 4, value & MASK32)
                self._write(offset + 4, 4, value >> 32)
            elif size < 4:
                self._write(offset & ~3, 4, value << 8 * (offset & 3))
            else:
                self._write(offset, size, value)
        except Exception as error:  # noqa: BLE001  # the guest sees a status, the host the cause
            self._fail(Status.INTERNAL, f"writing {value:#x} to register {offset:#x}: {error}", exception=error)

    @property
    def status(self) -> StatusBit:
        """STATUS as it stands, without the time of an access."""
        return StatusBit(self._status())

    @property
    def busy_since(self) -> int:
        """Device cycle at which the latest work began; a word that was written is there one cycle later."""
        return self._word_since

    @property
    def busy_until(self) -> int:
        """Device cycle at which the latest work ends or ended."""
        return self._word_at

    def _read(self, offset: int, size: int) -> int:
        (latched, half), self._latch = self._latch, _NO_LATCH
        if size == 4 and offset == latched:
            return half
        self._advance()
        register = _register_at(offset)
        value = self._readers[Register(register)]()
        if size == 4 and offset in WIDE:
            self._latch = offset + 4, value >> 32
        return value >> 8 * (offset - register) & (1 << 8 * size) - 1

    def _write(self, offset: int, size: int, value: int) -> None:
        self._latch = _NO_LATCH
        place = Register(_register_at(offset))
        high = offset != place
        if not high and place != Register.CPU_TIME:
            self._advance()
        if size == 4 and place in WIDE:
            before = self._readers[place]()
            value = (value << 32 | before & MASK32) if high else (before & ~MASK32 | value)
        self._writers[place](value)

    def _fail(
        self,
        status: Status,
        text: str,
        command: int = NO_COMMAND,
        address: int = 0,
        exception: BaseException | None = None,
    ) -> None:
        """Keep the first fault; later ones follow from it."""
        if self.fault is None:
            self.fault = DeviceFault(status, command, address, text, exception)

    def _advance(self) -> None:
        if self.cpu_clock is not None:
            self._cpu_time = self.cpu_clock()
        elif not self._cpu_time_is_new:
            self.now += self.hardware.accelerator.mmio_latency_cycles
            return
        self._cpu_time_is_new = False
        self.now = max(self.now, self.hardware.cpu_to_device_cycles(self._cpu_time) + self._waited)

    def _wait_until(self, time: int) -> None:
        """Let device time pass while the CPU stands still."""
        if time > self.now:
            self._waited += time - self.now
            self.now = time

    def _status(self) -> int:
        status = StatusBit(0)
        if self._word is not None:
            status |= StatusBit.DATA_READY if self.now >= self._word_at else StatusBit.BUSY
        if self.fault is not None:
            status |= StatusBit.ERROR
        return status

    def _write_data(self, value: int) -> None:
        self._word = value
        self._word_since = self.now + 1
        self._word_at = self._word_since + self.hardware.accelerator.echo_cycles

    def _read_data(self) -> int:
        """The word, which also takes DATA_READY away; 0 where none is ready."""
        if self._word is None or self.now < self._word_at:
            return 0
        word, self._word = self._word, None
        return word

    def _write_control(self, value: int) -> None:
        if value & ControlBit.RESET:
            self._clear()
        self._control = value & ~int(ControlBit.RESET)

    def _write_size(self, value: int) -> None:
        self._size = value


class EchoDevice(Device):
    """Device 0: nothing but the common registers."""
