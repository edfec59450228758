"""The devices file: which devices a server has, where, and on which hardware.

schema = 1

[[device]]
name = "Echo"
kind = "echo"
base = 0x10200000

[[device]]
name = "Compute0"
kind = "compute"
base = 0x10300000
hardware = "edge"       # preset, or a hardware file relative to this one; compute only
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acalsim_backend.device.compute import ComputeDevice
from acalsim_backend.device.device import EchoDevice
from acalsim_backend.device.functional import create_functional
from acalsim_backend.device.memory import Memory
from acalsim_backend.device.registers import DEVICE_BASE, DEVICE_SIZE, DEVICE_STRIDE, RAM_BASE
from acalsim_backend.errors import AcalsimError, InputError
from acalsim_backend.files import check_schema, read_toml
from acalsim_backend.hardware import HardwareConfig, presets
from acalsim_backend.server.board import Slot

SCHEMA = 1
KINDS = ("echo", "compute")
_KEYS = {"name", "kind", "base", "hardware"}


@dataclass(frozen=True)
class DeviceEntry:
    """One device of a devices file."""

    name: str
    kind: str
    base: int
    hardware: HardwareConfig


def standard_devices(hardware: HardwareConfig) -> tuple[DeviceEntry, ...]:
    """Echo and the accelerators of a hardware file, at the addresses of the memory map."""
    names = [("Echo", "echo"), *((f"Compute{i}", "compute") for i in range(hardware.devices))]
    return tuple(
        DeviceEntry(name, kind, DEVICE_BASE + i * DEVICE_STRIDE, hardware) for i, (name, kind) in enumerate(names)
    )


def load_devices(path: Path) -> tuple[DeviceEntry, ...]:
    """Read a devices file; devices come in the order of their bases.

    Raises:
        InputError: it does not parse or does not make sense; names the device.
    """
    document, _ = read_toml(path)
    check_schema(document, SCHEMA, path)
    tables = document.get("device")
    if not isinstance(tables, list) or not tables or set(document) != {"schema", "device"}:
        raise InputError(
            f"{path}: expected schema = {SCHEMA} and one [[device]] table or more, got {', '.join(document)}"
        )
    entries = sorted((_entry(path, i, table) for i, table in enumerate(tables)), key=lambda e: e.base)
    for before, entry in itertools.pairwise(entries):
        if entry.base < before.base + DEVICE_SIZE:
            raise InputError(f"{path}: {entry.name} at {entry.base:#x} overlaps {before.name} at {before.base:#x}")
    names = [e.name for e in entries]
    if len(set(names)) != len(names):
        raise InputError(f"{path}: two devices have the same name: {', '.join(sorted(names))}")
    return tuple(entries)


def create_slots(entries: Sequence[DeviceEntry], memory: Memory) -> list[Slot]:
    """The devices themselves, on one guest RAM. Compute devices are numbered in order."""
    from acalsim_backend.device.timing import Timing

    slots: list[Slot] = []
    functional, timers = None, dict[HardwareConfig, Timing]()
    index = 0
    for entry in entries:
        if entry.kind == "echo":
            slots.append(Slot(entry.name, entry.base, EchoDevice(entry.hardware)))
            continue
        functional = functional or create_functional(None, memory)
        timer = timers.setdefault(entry.hardware, Timing(entry.hardware))
        device = ComputeDevice(memory, entry.hardware, functional, timer, index)
        slots.append(Slot(entry.name, entry.base, device))
        index += 1
    return slots


def _entry(path: Path, number: int, table: Any) -> DeviceEntry:
    where = f"{path}: device {number + 1}"
    if not isinstance(table, dict) or not {"name", "kind", "base"} <= set(table) <= _KEYS:
        keys = ", ".join(table) if isinstance(table, dict) else repr(table)
        raise InputError(f"{where} has {keys}; expected name, kind, base and perhaps hardware")
    name, kind, base = table["name"], table["kind"], table["base"]
    if kind not in KINDS:
        raise InputError(f"{where}: kind is {kind!r}, expected one of {', '.join(KINDS)}")
    if not isinstance(name, str) or not name:
        raise InputError(f"{where}: name is {name!r}, expected text")
    if type(base) is not int or base % DEVICE_SIZE or not DEVICE_BASE <= base < RAM_BASE:
        got = hex(base) if type(base) is int else repr(base)
        raise InputError(
            f"{where}: base is {got}, expected a multiple of {DEVICE_SIZE:#x} from {DEVICE_BASE:#x} to {RAM_BASE:#x}"
        )
    hardware = table.get("hardware", "edge")
    if not isinstance(hardware, str):
        raise InputError(f"{where}: hardware is {hardware!r}, expected a preset or a file")
    try:
        source = hardware if hardware in presets() else str(path.parent / hardware)
        return DeviceEntry(name, kind, base, HardwareConfig.load(source))
    except AcalsimError as error:
        raise InputError(f"{where}: {error}") from None
