"""The devices as software sees them: registers, time and the command queue.

A device never raises into the machine that drives it: what goes wrong sets ERROR and is kept as its ``fault``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from acalsim_backend.device.functional.task import Functional, Task
from acalsim_backend.device.memory import Memory
from acalsim_backend.device.registers import DEVICE_ID, WIDE, ControlBit, IrqBit, Register, StatusBit
from acalsim_backend.device.validate import CommandError, read_command, validate
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.program.commands import Command, Conv2d, Gemm
from acalsim_backend.program.enums import ABI_VERSION, Activation, Opcode, Placement, Status
from acalsim_backend.program.image import QueueEntry

if TYPE_CHECKING:
    from acalsim_backend.device.timing import SegmentTiming

CpuClock = Callable[[], int]
"""Instructions that the CPU has retired, exact at the access that is being served."""

T = TypeVar("T")

_REGISTERS = frozenset(int(r) for r in Register)
_MASK32 = 0xFFFF_FFFF
_CACHED_COMMANDS = 16384
NO_COMMAND = 0xFFFF_FFFF


class SegmentTimer(Protocol):
    """Says how long the encoded commands of one doorbell take; ValueError if they cannot be scheduled."""

    def segment(self, commands: Sequence[bytes]) -> SegmentTiming: ...


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


@dataclass(frozen=True)
class SegmentRun:
    """One doorbell: ``commands`` are the ids that ran; ``instructions`` had been retired by the CPU before it."""

    instructions: int
    commands: tuple[int, ...]
    timing: SegmentTiming


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
        self._high_halves: dict[Register, int] = {}
        self._clear()

    def _clear(self) -> None:
        """What CONTROL.RESET does."""
        self.fault: DeviceFault | None = None
        self._control = 0
        self._size = 0
        self._word: int | None = None
        self._word_at = 0

    def read(self, offset: int, size: int) -> int:
        """The value of ``size`` bytes at ``offset``; an unknown offset or size reads 0 and sets ERROR."""
        try:
            return self._read(offset, size)
        except Exception as error:  # noqa: BLE001  # the guest sees a status, the host the cause
            self._fail(Status.INTERNAL, f"reading register {offset:#x}: {error}", exception=error)
            return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Store ``size`` bytes at ``offset``; an offset that cannot be written sets ERROR."""
        try:
            self._write(offset, size, value)
        except Exception as error:  # noqa: BLE001  # the guest sees a status, the host the cause
            self._fail(Status.INTERNAL, f"writing {value:#x} to register {offset:#x}: {error}", exception=error)

    @property
    def status(self) -> StatusBit:
        """STATUS as it stands, without the time of an access."""
        return StatusBit(self._status())

    @property
    def busy_until(self) -> int:
        """Device cycle at which the latest work ends or ended."""
        return self._word_at

    def _read(self, offset: int, size: int) -> int:
        if size == 4 and offset - 4 in WIDE:
            return self._high_halves.pop(Register(offset - 4), 0)
        self._advance()
        reader = self._find(self._readers, offset, size)
        if reader is None:
            self._fail(Status.BAD_REGISTER, f"read of {size} bytes at register offset {offset:#x}", address=offset)
            return 0
        value = reader()
        if size == 4 and offset in WIDE:
            self._high_halves[Register(offset)] = value >> 32
        return value & (1 << 8 * size) - 1

    def _write(self, offset: int, size: int, value: int) -> None:
        high = size == 4 and offset - 4 in WIDE
        place = offset - 4 if high else offset
        if not high and place != Register.CPU_TIME:
            self._advance()
        writer = self._find(self._writers, place, 4 if high else size)
        if writer is None:
            self._fail(Status.BAD_REGISTER, f"write of {size} bytes at register offset {offset:#x}", address=offset)
            return
        if size == 4 and place in WIDE:
            before = self._readers[Register(place)]()
            value = (value << 32 | before & _MASK32) if high else (before & ~_MASK32 | value)
        writer(value)

    @staticmethod
    def _find(table: dict[Register, T], offset: int, size: int) -> T | None:
        if offset not in _REGISTERS or not (size == 4 or (size == 8 and offset in WIDE)):
            return None
        return table.get(Register(offset))

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
        self._word_at = self.now + self.hardware.accelerator.launch_cycles

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


@dataclass(frozen=True)
class _Prepared:
    command: Command
    data: bytes
    task: Task = field(repr=False)


class ComputeDevice(Device):
    """The accelerator: fetches commands from a ring in guest memory, executes them there and says how long that took.

    A write of TAIL is the doorbell. The commands up to it are validated in order and, up to the first bad one, executed
    in the order in which the engine completes them.
    """

    def __init__(
        self, memory: Memory, hardware: HardwareConfig, functional: Functional, timer: SegmentTimer, index: int = 0
    ) -> None:
        self.index = index
        self.host_call: Callable[[int], None] | None = None
        self._memory = memory
        self._functional = functional
        self._timer = timer
        self._supported = set(hardware.accelerator.ops) | {Opcode.BARRIER.name.lower()}
        self._prepared: dict[bytes, _Prepared] = {}
        super().__init__(hardware)
        self._readers |= {
            Register.ID: lambda: DEVICE_ID,
            Register.VERSION: lambda: ABI_VERSION,
            Register.QBASE: lambda: self._queue_base,
            Register.QSIZE: lambda: self._queue_size,
            Register.HEAD: self._read_head,
            Register.TAIL: lambda: self._tail,
            Register.CPU_TIME: lambda: self._cpu_time,
            Register.NOW: lambda: self.now,
            Register.WAIT: self._wait,
            Register.ERR_CODE: lambda: self.fault.status if self.fault else Status.OK,
            Register.ERR_COMMAND: lambda: self.fault.command if self.fault else 0,
            Register.ERR_ADDR: lambda: self.fault.address if self.fault else 0,
            Register.IRQ_STATUS: self._irq_status,
            Register.IRQ_ENABLE: lambda: self._irq_enable,
            Register.HOSTCALL: lambda: 0,
            Register.COMMANDS_DONE: lambda: self._commands_done,
            Register.BYTES_READ: lambda: self._bytes_read,
            Register.BYTES_WRITTEN: lambda: self._bytes_written,
            Register.BUSY_CYCLES: lambda: self._busy_cycles,
        }
        self._writers |= {
            Register.QBASE: self._write_queue_base,
            Register.QSIZE: self._write_queue_size,
            Register.TAIL: self._doorbell,
            Register.CPU_TIME: self._write_cpu_time,
            Register.IRQ_STATUS: self._write_irq_status,
            Register.IRQ_ENABLE: self._write_irq_enable,
            Register.HOSTCALL: self._write_host_call,
        }

    def reset(self) -> None:
        """Power on; what was learned about commands is kept."""
        super().reset()
        self.segments: list[SegmentRun] = []
        self._commands_done = self._bytes_read = self._bytes_written = self._busy_cycles = 0

    def _clear(self) -> None:
        super()._clear()
        self._queue_base = 0
        self._queue_size = 0
        self._head = 0
        self._tail = 0
        self._busy_until = 0
        self._in_flight: list[int] = []  # completion times of commands between HEAD and TAIL, rising
        self._irq_enable = 0
        self._irq_done = False

    @property
    def busy_until(self) -> int:
        return self._busy_until

    @property
    def interrupt(self) -> bool:
        """Level of the interrupt line."""
        return bool(self._irq_status() & self._irq_enable)

    def _retire(self) -> None:
        done = sum(1 for end in self._in_flight if end <= self.now)
        self._head = self._head + done & _MASK32
        del self._in_flight[:done]

    def _read_head(self) -> int:
        self._retire()
        return self._head

    def _status(self) -> int:
        self._retire()
        return super()._status() | (StatusBit.BUSY if self._in_flight else 0)

    def _wait(self) -> int:
        """Run to the completion of what was submitted; the time is also the value read."""
        if self._in_flight:
            self._wait_until(self._in_flight[-1])
        self._retire()
        return self.now

    def _irq_status(self) -> int:
        self._retire()
        done = self._irq_done and not self._in_flight
        return (IrqBit.DONE if done else 0) | (IrqBit.ERROR if self.fault else 0)

    def _write_irq_status(self, value: int) -> None:
        if value & IrqBit.DONE:
            self._irq_done = False

    def _write_irq_enable(self, value: int) -> None:
        self._irq_enable = value & (IrqBit.DONE | IrqBit.ERROR)

    def _write_queue_base(self, value: int) -> None:
        self._queue_base = value

    def _write_queue_size(self, value: int) -> None:
        self._queue_size = value

    def _write_cpu_time(self, value: int) -> None:
        self._cpu_time = value
        self._cpu_time_is_new = True

    def _write_host_call(self, index: int) -> None:
        if self.host_call is None:
            self._fail(Status.UNSUPPORTED, "this machine has no host calls", command=index)
            return
        try:
            self.host_call(index)
        except Exception as error:  # noqa: BLE001  # the guest sees a status, the host the cause
            self._fail(Status.INTERNAL, f"host call: {error}", command=index, exception=error)

    def _doorbell(self, tail: int) -> None:
        if self.fault is not None:
            return
        self._retire()
        try:
            entries = self._entries(tail)
        except CommandError as error:
            self._fail(error.status, str(error), address=error.address)
            return
        commands: list[_Prepared] = []
        refused: tuple[int, CommandError] | None = None
        for entry in entries:
            try:
                commands.append(self._prepare(entry, commands))
            except CommandError as error:
                refused = entry.id, error
                break
        self._tail = self._tail + len(commands) & _MASK32
        if commands:
            self._run(commands)
        if refused is not None:
            number, reason = refused
            self._fail(reason.status, str(reason), number, reason.address, reason)

    def _entries(self, tail: int) -> Iterable[QueueEntry]:
        """The ring's entries from the last TAIL to the new one."""
        size, count = self._queue_size, tail - self._tail & _MASK32
        if size < 1 or size & size - 1:
            raise CommandError(Status.BAD_QUEUE, f"QSIZE {size} is not a power of two")
        if count + len(self._in_flight) > size:
            raise CommandError(
                Status.BAD_QUEUE, f"TAIL {tail} is {count} entries past {self._tail}, more than QSIZE {size} holds"
            )
        stride = QueueEntry.sizeof()
        if self._queue_base % stride:
            raise CommandError(Status.UNALIGNED, f"QBASE {self._queue_base:#x}", self._queue_base)
        try:
            ring = self._memory.view(self._queue_base, size * stride).tobytes()
        except IndexError as error:
            raise CommandError(Status.BAD_ADDRESS, f"QBASE: {error}", self._queue_base) from None
        slots = (((self._tail + i) & (size - 1)) * stride for i in range(count))
        return [QueueEntry(*_ENTRY.unpack_from(ring, slot)) for slot in slots]

    def _prepare(self, entry: QueueEntry, before: Sequence[_Prepared]) -> _Prepared:
        data = read_command(self._memory, entry.command)
        prepared = self._prepared.get(data)
        if prepared is None:
            command = validate(data, self._memory)
            self._check_placement(command)
            prepared = _Prepared(command, data, self._functional.prepare(command, data))
            if len(self._prepared) >= _CACHED_COMMANDS:
                del self._prepared[next(iter(self._prepared))]
            self._prepared[data] = prepared
        command = prepared.command
        if entry.flags or entry.id != command.id:
            text = f"entry {entry.id} with flags {entry.flags:#x} of command {command.id}"
            raise CommandError(Status.BAD_QUEUE, text)
        if before and before[-1].command.id >= command.id:
            raise CommandError(Status.BAD_QUEUE, f"command {command.id} comes after {before[-1].command.id}")
        return prepared

    def _check_placement(self, command: Command) -> None:
        """Refuse what this accelerator was not built for."""
        name = command.opcode.name.lower()
        if name not in self._supported:
            text = f"{name} is not among this accelerator's commands: {', '.join(sorted(self._supported))}"
            raise CommandError(Status.UNSUPPORTED, text)
        if isinstance(command, Gemm | Conv2d) and command.activation is not Activation.NONE:
            activation, known = command.activation.name.lower(), self.hardware.accelerator.activations
            if activation not in known:
                raise CommandError(Status.UNSUPPORTED, f"activation {activation} is not among {', '.join(known)}")
        if command.placement is not Placement.ACCELERATOR or command.device != self.index:
            place = f"{command.placement.name.lower()} {command.device}"
            raise CommandError(Status.UNSUPPORTED, f"command for {place} in the queue of accelerator {self.index}")

    def _run(self, commands: Sequence[_Prepared]) -> None:
        try:
            timing = self._timer.segment([c.data for c in commands])
        except ValueError as error:
            self._fail(Status.UNSUPPORTED, str(error), commands[0].command.id, exception=error)
            return
        start = max([self.now, *self._in_flight[-1:]])
        order = sorted(timing.completions, key=lambda completion: (completion.end, completion.id))
        by_id = {c.command.id: c for c in commands}
        self.segments.append(SegmentRun(self._cpu_time, tuple(by_id), timing))
        with self._functional.scope():
            for completion in order:
                if not self._execute(by_id[completion.id]):
                    break
        self._in_flight += [start + completion.end for completion in order]
        self._in_flight[-1] = self._busy_until = start + timing.cycles
        self._irq_done = True
        self._commands_done += len(order)
        self._bytes_read += sum(completion.bytes_read for completion in order)
        self._bytes_written += sum(completion.bytes_written for completion in order)
        self._busy_cycles += timing.cycles

    def _execute(self, prepared: _Prepared) -> bool:
        """Run one command on guest memory; False when it failed."""
        try:
            prepared.task()
        except CommandError as error:
            self._fail(error.status, str(error), prepared.command.id, error.address, error)
        except Exception as error:  # noqa: BLE001  # the guest sees a status, the host the cause
            text = f"{prepared.command.opcode.name}: {error}"
            self._fail(Status.INTERNAL, text, prepared.command.id, exception=error)
        return self.fault is None


_ENTRY = struct.Struct("<QII")
