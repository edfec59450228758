"""When each command ran: CPU time by retired instructions and device time by segments, on one axis of device cycles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from acalsim_backend.device.compute import SegmentRun
from acalsim_backend.errors import DeviceError
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.program.commands import Command
from acalsim_backend.program.enums import Placement

if TYPE_CHECKING:
    from acalsim_backend._engine import Completion
    from acalsim_backend.device.timing import SegmentTiming


@dataclass(frozen=True)
class CommandTiming:
    """When a command ran, in device cycles from the Program's first, and what the engine says of it.

    On a machine without timing all numbers are 0. ``cpu_instructions`` counts CPU and host commands; ``completion`` is
    the engine's record of a command of the accelerator.
    """

    index: int
    placement: Placement
    start_cycle: int = 0
    end_cycle: int = 0
    cpu_instructions: int = 0
    completion: Completion | None = None


@dataclass(frozen=True)
class UnitUses:
    """What the units of one device did in one segment, which began at ``start_cycle`` of the Program.

    ``uses`` and ``accesses`` (where memory is traced) are as the engine gives them, in cycles from the segment's
    doorbell; its command 0 is the report's row ``first_row``. ``peak`` is how many bytes the DRAM can
    move in a device cycle.
    """

    device: int
    start_cycle: int
    uses: bytes = field(repr=False)
    accesses: bytes = field(default=b"", repr=False)
    first_row: int = 0
    peak: float = math.inf


def untimed(commands: Sequence[Command]) -> list[CommandTiming]:
    """The timings of a machine that has none."""
    return [CommandTiming(i, command.placement) for i, command in enumerate(commands)]


def command_timings(
    commands: Sequence[Command],
    hardware: HardwareConfig,
    instret_begin: int,
    records: npt.NDArray[np.uint64],
    segments: Sequence[SegmentRun],
) -> list[CommandTiming]:
    """One timing per command, in order.

    ``records`` [commands, 2] holds retired instructions at the start and end of CPU and host commands; the CPU retires
    none while it waits for a segment, so that a command's time is its instructions so far plus all segments before it.

    Raises:
        DeviceError: a command did not run where the Program placed it: its image in guest memory was damaged.
    """
    timings: list[CommandTiming] = []
    segment_of = {number: i for i, segment in enumerate(segments) for number in segment.commands}
    waited = [0]  # device cycles before segment i
    for segment in segments:
        waited.append(waited[-1] + segment.timing.cycles)
    completions = {c.id: c for segment in segments for c in segment.timing.completions}

    def cycles(instructions: int) -> int:
        return hardware.cpu_to_device_cycles(instructions - instret_begin)

    passed = 0  # segments before the current command
    for i, (command, (begin, end)) in enumerate(zip(commands, records.tolist(), strict=True)):
        if i not in completions if command.placement is Placement.ACCELERATOR else not end:
            raise DeviceError(
                f"command {i} ({command.opcode.name}) did not run on the {command.placement.name.lower()}, where its "
                "Program placed it: the image in guest memory was overwritten"
            )
        if command.placement is not Placement.ACCELERATOR:
            start, stop = cycles(begin) + waited[passed], cycles(end) + waited[passed]
            timings.append(CommandTiming(i, command.placement, start, stop, end - begin))
            continue
        at, done = segment_of[i], completions[i]
        passed = at + 1
        doorbell = cycles(segments[at].instructions) + waited[at]
        timings.append(CommandTiming(i, command.placement, doorbell + done.start, doorbell + done.end, 0, done))
    return timings


class Timelines:
    """The timings of one Program, computed again only when something ran at another time than the last time."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._segments: list[SegmentTiming] = []
        self._timings: list[CommandTiming] = []

    def of(
        self,
        commands: Sequence[Command],
        hardware: HardwareConfig,
        instret_begin: int,
        records: npt.NDArray[np.uint64],
        segments: Sequence[SegmentRun],
    ) -> list[CommandTiming]:
        """What :func:`command_timings` gives; the very same list as before, if it is equal."""
        ran = np.where(records, records - np.uint64(instret_begin) + np.uint64(1), 0).tobytes()
        key = ran, [(s.instructions - instret_begin, s.commands) for s in segments]
        timed = [segment.timing for segment in segments]
        if key != self._key or any(a is not b for a, b in zip(timed, self._segments, strict=True)):
            self._timings = command_timings(commands, hardware, instret_begin, records, segments)
            self._key, self._segments = key, timed
        return self._timings


def unit_uses(
    segments: Sequence[tuple[int, SegmentRun]], hardware: HardwareConfig, instret_begin: int
) -> tuple[UnitUses, ...]:
    """The uses of all units; ``segments`` are numbers of devices and what ran there, in order of time."""
    found: list[UnitUses] = []
    waited = 0
    dram = hardware.dram
    rate = dram.bandwidth_gbytes_per_s * 1000 / hardware.accelerator.frequency_mhz
    peak = math.inf if dram.preset == "ideal" else rate
    for device, segment in segments:
        begin = hardware.cpu_to_device_cycles(segment.instructions - instret_begin) + waited
        found.append(UnitUses(device, begin, segment.timing.uses, segment.timing.accesses, peak=peak))
        waited += segment.timing.cycles
    return tuple(found)
