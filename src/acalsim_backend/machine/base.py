"""What every machine is: something that runs the image of a Program that lies in guest RAM."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from acalsim_backend.device.device import Device
from acalsim_backend.device.memory import Region
from acalsim_backend.errors import UnknownNameError
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.machine.elf import FIRMWARE
from acalsim_backend.machine.memory import Ram


@dataclass(frozen=True)
class Platform:
    """What a machine is made of. ``devices`` stand in the order of the memory map, and are empty without timing."""

    ram: Ram
    hardware: HardwareConfig
    devices: tuple[Device, ...]
    host_call: Callable[[int], None]
    """Runs the HOST command of that index; may raise."""
    settings: object | None = None
    """What the machine alone understands, such as a QemuConfig."""
    firmware: Path = FIRMWARE
    """The ELF that the CPU runs; one that is not the firmware brings its own commands and is run with image 0."""


class Machine(Protocol):
    """Runs images. A machine is built once per session and keeps its Platform.

    ``timed`` machines execute instructions of a CPU that drives the devices; the others only compute. ``ram_class``
    makes the guest RAM from its size in MiB.
    """

    timed: ClassVar[bool]
    ram_class: ClassVar[type[Ram]]

    def __init__(self, platform: Platform) -> None: ...

    def run(self, image: int, watchdog: int) -> str:
        """Run the image at a guest address to its end; its result stands in the image's header.

        Returns what the guest wrote to its UART.

        Raises:
            GuestTrapError: the CPU trapped.
            WatchdogError: more than ``watchdog`` instructions were retired.
            MachineError: the guest ended in another way than by powering off.
        """
        ...

    def close(self) -> None:
        """Give back what the machine holds of the host."""
        ...


@runtime_checkable
class RegionMachine(Machine, Protocol):
    """A machine that can show memory of this process to the guest, beside its RAM."""

    def attach(self, region: Region) -> None:
        """Map a region, for reading."""
        ...

    def detach(self, region: Region) -> None:
        """Unmap it."""
        ...


MACHINES = {
    "native": "acalsim_backend.machine.native:NativeMachine",
    "qemu": "acalsim_backend.machine.qemu:QemuMachine",
    "unicorn": "acalsim_backend.machine.unicorn:UnicornMachine",
}
"""Machines by name; a module is imported when its machine is first asked for."""


def check_machine(name: str) -> None:
    """Refuse a name that no machine has, without importing one.

    Raises:
        UnknownNameError: the nearest names are in its message.
    """
    if name not in MACHINES:
        raise UnknownNameError("machine", name, MACHINES)


def find_machine(name: str) -> type[Machine]:
    """The class of a machine; raises like :func:`check_machine`."""
    check_machine(name)
    module, _, attribute = MACHINES[name].partition(":")
    machine: type[Machine] = getattr(importlib.import_module(module), attribute)
    return machine
