"""The devices behind a transport: found by number or by address, on one clock, with every access shown to observers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from acalsim_backend.device.compute import ComputeDevice
from acalsim_backend.device.device import Device
from acalsim_backend.device.registers import DEVICE_BASE, DEVICE_SIZE, DEVICE_STRIDE


@dataclass(frozen=True)
class Slot:
    """A device on a board: what logs call it, and its address in the memory map."""

    name: str
    base: int
    device: Device


@dataclass(frozen=True)
class Access:
    """One access to a register, after it took place; ``cycle`` is the device's time then."""

    slot: Slot
    is_write: bool
    offset: int
    size: int
    value: int
    cycle: int


Observer = Callable[[Access], None]


class Board:
    """Devices of one machine. Each access takes place at the latest time that any of the devices has reached."""

    def __init__(self, slots: Sequence[Slot], observers: Sequence[Observer] = ()) -> None:
        self.slots = tuple(slots)
        self.now = 0
        self._observers = tuple(observers)

    def read(self, slot: Slot, offset: int, size: int) -> int:
        """Read ``size`` bytes of a device's register space."""
        slot.device.now = max(slot.device.now, self.now)
        value = slot.device.read(offset, size)
        self._show(slot, False, offset, size, value)
        return value

    def write(self, slot: Slot, offset: int, size: int, value: int) -> None:
        """Write ``size`` bytes of a device's register space."""
        slot.device.now = max(slot.device.now, self.now)
        slot.device.write(offset, size, value)
        self._show(slot, True, offset, size, value)

    def find(self, address: int, size: int) -> tuple[Slot, int] | None:
        """The device that answers at a bus address, and the offset in it; None where there is nothing."""
        for slot in self.slots:
            if slot.base <= address and address + size <= slot.base + DEVICE_SIZE:
                return slot, address - slot.base
        return None

    def reset(self) -> None:
        """Power on."""
        self.now = 0
        for slot in self.slots:
            slot.device.reset()

    @property
    def interrupt(self) -> bool:
        """Level of the interrupt line that the devices share."""
        return any(s.device.interrupt for s in self.slots if isinstance(s.device, ComputeDevice))

    def _show(self, slot: Slot, is_write: bool, offset: int, size: int, value: int) -> None:
        self.now = slot.device.now
        if self._observers:
            access = Access(slot, is_write, offset, size, value, self.now)
            for observe in self._observers:
                observe(access)


class PagedBus:
    """A board as PCI shows it: page *i* of BAR0 is device *i*. What becomes of the memory that a client offers is up
    to subclasses."""

    def __init__(self, board: Board) -> None:
        self.board = board

    @property
    def pages(self) -> int:
        return len(self.board.slots)

    @property
    def interrupt(self) -> bool:
        return self.board.interrupt

    def read(self, offset: int, size: int) -> int:
        return self.board.read(self.board.slots[offset // DEVICE_SIZE], offset % DEVICE_SIZE, size)

    def write(self, offset: int, size: int, value: int) -> None:
        self.board.write(self.board.slots[offset // DEVICE_SIZE], offset % DEVICE_SIZE, size, value)


def standard_slots(devices: Sequence[Device]) -> list[Slot]:
    """Devices in the order of the memory map, at its addresses: an Echo and then Compute devices."""
    names = ["Echo", *(f"Compute{i}" for i in range(len(devices) - 1))]
    return [
        Slot(name, DEVICE_BASE + i * DEVICE_STRIDE, device)
        for i, (name, device) in enumerate(zip(names, devices, strict=True))
    ]
