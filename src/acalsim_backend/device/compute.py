"""The accelerator as software sees it: a command queue behind registers.

A device never raises into the machine that drives it: what goes wrong sets ERROR and is kept as its ``fault``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from acalsim_backend.device.device import MASK32, Device
from acalsim_backend.device.functional.task import Functional, Task
from acalsim_backend.device.memory import Memory
from acalsim_backend.device.registers import DEVICE_ID, IrqBit, Register, StatusBit
from acalsim_backend.device.validate import CommandError, read_command, validate
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.program.commands import Command, Conv2d, Gemm
from acalsim_backend.program.enums import ABI_VERSION, Activation, Opcode, Placement, Status
from acalsim_backend.program.image import QueueEntry

if TYPE_CHECKING:
    from acalsim_backend.device.timing import SegmentTiming

_CACHED_COMMANDS = 16384
_CACHED_BATCHES = 64
_BATCH_SPREAD = 8
"""Commands whose memory is this much sparser than they are are read one by one."""


class SegmentTimer(Protocol):
    """Says how long the encoded commands of one doorbell take; ValueError if they cannot be scheduled."""

    def segment(self, commands: Sequence[bytes]) -> SegmentTiming: ...


@dataclass(frozen=True)
class SegmentRun:
    """One doorbell: ``commands`` are the ids that ran; ``instructions`` had been retired by the CPU before it."""

    instructions: int
    commands: tuple[int, ...]
    timing: SegmentTiming


@dataclass(frozen=True)
class _Prepared:
    command: Command
    data: bytes
    task: Task = field(repr=False)


@dataclass
class _Batch:
    """The commands of one doorbell, and ``data``, what memory held from ``low`` on when they were read."""

    commands: list[_Prepared]
    low: int = 0
    data: bytes = b""
    timing: SegmentTiming | None = None
    """Where it is known and does not change."""


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
        self._batches: dict[bytes, _Batch] = {}
        self._detached = memory.detached
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
        self._busy_since = self._busy_until = 0
        self._in_flight: list[int] = []  # completion times of commands between HEAD and TAIL, rising
        self._irq_enable = 0
        self._irq_done = False

    @property
    def takes_regions(self) -> bool:
        """Whether operands may lie in regions beside RAM."""
        return self._functional.takes_regions

    @property
    def busy_since(self) -> int:
        return self._busy_since

    @property
    def busy_until(self) -> int:
        return self._busy_until

    @property
    def interrupt(self) -> bool:
        """Level of the interrupt line."""
        return bool(self._irq_status() & self._irq_enable)

    def _retire(self) -> None:
        done = sum(1 for end in self._in_flight if end <= self.now)
        self._head = self._head + done & MASK32
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
            ring = self._entries(tail)
        except CommandError as error:
            self._fail(error.status, str(error), address=error.address)
            return
        if self._memory.detached != self._detached:
            self._prepared.clear()  # some task may be one on memory that is gone
            self._batches.clear()
            self._detached = self._memory.detached
        batch = self._batches.get(ring)
        refused: tuple[int, CommandError] | None = None
        if batch is None or bytes(self._memory.view(batch.low, len(batch.data))) != batch.data:
            batch, refused = self._read_batch(ring)
        self._tail = self._tail + len(batch.commands) & MASK32
        if batch.commands:
            self._run(batch)
        if refused is not None:
            number, reason = refused
            self._fail(reason.status, str(reason), number, reason.address, reason)

    def _read_batch(self, ring: bytes) -> tuple[_Batch, tuple[int, CommandError] | None]:
        """The commands of ring entries up to the first bad one, its id and what is wrong with it; kept if none is."""
        commands: list[_Prepared] = []
        entries = [QueueEntry(*fields) for fields in _ENTRY.iter_unpack(ring)]
        for entry in entries:
            try:
                commands.append(self._prepare(entry, commands))
            except CommandError as error:
                return _Batch(commands), (entry.id, error)
        low = min((entry.command for entry in entries), default=0)
        high = max((e.command + len(c.data) for e, c in zip(entries, commands, strict=True)), default=0)
        if high - low > _BATCH_SPREAD * sum(len(c.data) for c in commands):
            return _Batch(commands), None
        batch = _Batch(commands, low, bytes(self._memory.view(low, high - low)))
        if len(self._batches) >= _CACHED_BATCHES:
            del self._batches[next(iter(self._batches))]
        self._batches[ring] = batch
        return batch, None

    def _entries(self, tail: int) -> bytes:
        """The ring's entries from the last TAIL to the new one."""
        size, count = self._queue_size, tail - self._tail & MASK32
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
        first, last = (self._tail & (size - 1)) * stride, (tail & (size - 1)) * stride
        return ring[first:last] if first < last or not count else ring[first:] + ring[:last]

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

    def _run(self, batch: _Batch) -> None:
        by_id = {c.command.id: c for c in batch.commands}
        timing = batch.timing
        if timing is None:
            try:
                timing = self._timer.segment([c.data for c in batch.commands])
            except ValueError as error:
                self._fail(Status.UNSUPPORTED, str(error), batch.commands[0].command.id, exception=error)
                return
            batch.timing = timing if timing.memoised else None
        start = max([self.now, *self._in_flight[-1:]])
        self._busy_since = self._busy_since if self._in_flight else start
        order = sorted(timing.completions, key=lambda completion: (completion.end, completion.id))
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
