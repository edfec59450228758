"""What a board's observers write: the devices' log with statistics, and the trace of all accesses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from acalsim_backend import files
from acalsim_backend.device.compute import ComputeDevice
from acalsim_backend.device.registers import Register, StatusBit
from acalsim_backend.server.board import Access, Board, Slot


def register_name(offset: int) -> str:
    """``REG_TAIL``; the upper half of a 64-bit register is ``REG_WAIT+4``."""
    for start in (offset, offset - 4):
        if start in set(Register):
            return f"REG_{Register(start).name}" + ("" if start == offset else "+4")
    return f"offset {offset:#x}"


class AccessTrace:
    """Writes ``cycle device READ|WRITE register bytes value`` for each access, tab-separated."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        file.write("cycle\tdevice\taccess\tregister\tbytes\tvalue\n")

    @classmethod
    def open(cls, path: str | Path) -> AccessTrace:
        """A trace in a new file.

        Raises:
            InputError: it cannot be written.
        """
        return cls(files.stream(path, "choose another file"))  # closed by close()

    def __call__(self, access: Access) -> None:
        kind = "WRITE" if access.is_write else "READ"
        fields = (access.cycle, access.slot.name, kind, register_name(access.offset), access.size, hex(access.value))
        self._file.write("\t".join(map(str, fields)) + "\n")

    def flush(self) -> None:
        """Everything so far is in the file."""
        self._file.flush()

    def close(self) -> None:
        self._file.close()


_IDLE = StatusBit(0)


@dataclass
class _Known:
    """What the log has said of a device."""

    status: StatusBit = _IDLE
    busy_since: int = 0
    busy_until: int = 0


class DeviceLog:
    """The log of the tutorial's section 7.4: register writes, changes of status and completions, by device cycle."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._known: dict[str, _Known] = {}
        self._transactions = 0

    def say(self, cycle: int, who: str, text: str) -> None:
        """One line."""
        self._write(f"[Cycle {cycle}] {who}: {text}")

    def __call__(self, access: Access) -> None:
        self._transactions += 1
        slot, device = access.slot, access.slot.device
        known = self._known.setdefault(slot.name, _Known())
        status = device.status
        if known.status & StatusBit.BUSY and known.busy_until <= access.cycle:
            self._completed(slot, known)
        if access.is_write:
            width = 2 * access.size
            self.say(access.cycle, slot.name, f"WRITE to {register_name(access.offset)} = 0x{access.value:0{width}X}")
        if status != known.status:
            since = max(access.cycle, device.busy_since) if status & StatusBit.BUSY else access.cycle
            self.say(since, slot.name, f"Status -> {_status(status)}")
        if status & StatusBit.ERROR and not known.status & StatusBit.ERROR and device.fault is not None:
            self.say(access.cycle, slot.name, f"{device.fault.status.name}: {device.fault.text}")
        known.status, known.busy_since, known.busy_until = status, device.busy_since, device.busy_until

    def finish(self, board: Board) -> None:
        """The end of a simulation, and its statistics."""
        end = board.now
        for slot in board.slots:
            known = self._known.get(slot.name)
            if known is not None and known.status & StatusBit.BUSY:
                end = max(end, known.busy_until)
                self._completed(slot, known)
        self._write(f"[Cycle {end}] Simulation complete")
        self._write("")
        self._write("Statistics:")
        for name, value in statistics(board.slots, end, self._transactions).items():
            self._write(f"  {name}: {value}")
        self._known.clear()
        self._transactions = 0

    def _completed(self, slot: Slot, known: _Known) -> None:
        if isinstance(slot.device, ComputeDevice):
            segment = slot.device.segments[-1] if slot.device.segments else None
            count = len(segment.commands) if segment else 0
            what = f"{count} command{'' if count == 1 else 's'} complete"
            after = _IDLE
        else:
            what, after = "Echo complete", StatusBit.DATA_READY
        self.say(known.busy_until, slot.name, f"{what}, latency={known.busy_until - known.busy_since} cycles")
        after |= known.status & StatusBit.ERROR
        self.say(known.busy_until, slot.name, f"Status -> {_status(after)}")
        known.status = after


def statistics(slots: Sequence[Slot], cycles: int, transactions: int) -> dict[str, str]:
    """The tutorial's four figures. Memory traffic is what the accelerators moved, in bursts and in bytes."""
    reads = writes = read_bytes = written_bytes = 0
    for slot in slots:
        if isinstance(slot.device, ComputeDevice):
            burst = slot.device.hardware.dma.burst_bytes
            for completion in (c for segment in slot.device.segments for c in segment.timing.completions):
                reads += -(-completion.bytes_read // burst)
                writes += -(-completion.bytes_written // burst)
                read_bytes += completion.bytes_read
                written_bytes += completion.bytes_written
    return {
        "Total cycles": str(cycles),
        "Memory reads": f"{reads} ({read_bytes} bytes)",
        "Memory writes": f"{writes} ({written_bytes} bytes)",
        "Device transactions": str(transactions),
    }


def _status(status: StatusBit) -> str:
    return " | ".join(bit.name or "" for bit in StatusBit if bit in status) or "IDLE"
