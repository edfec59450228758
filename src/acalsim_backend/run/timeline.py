"""When each command ran: CPU time by retired instructions and device time by segments, on one axis of device cycles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from acalsim_backend.device.device import SegmentRun
from acalsim_backend.errors import DeviceError
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.program.commands import Command
from acalsim_backend.program.enums import Placement


@dataclass(frozen=True)
class CommandTiming:
    """When a command ran, in device cycles from the Program's first, and what the engine says of it.

    On a machine without timing all numbers are 0. ``cpu_instructions`` counts CPU and host commands; the fields after
    it are of accelerator commands: closed-form array cycles, cycles in which array and vector unit were busy, bytes
    moved, multiply-adds, vector operations, stall cycles by cause, DRAM bursts and those of them that found their row
    open, and cycles for which scratchpad banks delayed a unit.
    """

    index: int
    placement: Placement
    start_cycle: int = 0
    end_cycle: int = 0
    cpu_instructions: int = 0
    array_cycles: int = 0
    array_busy: int = 0
    vector_busy: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    macs: int = 0
    vector_ops: int = 0
    stall: Mapping[str, int] = field(default_factory=dict)
    bursts: int = 0
    row_hits: int = 0
    bank_conflict_cycles: int = 0


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
        timings.append(
            CommandTiming(
                i,
                command.placement,
                doorbell + done.start,
                doorbell + done.end,
                0,
                done.array_cycles,
                done.array_busy,
                done.vector_busy,
                done.bytes_read,
                done.bytes_written,
                done.macs,
                done.vector_ops,
                done.stall,
                done.bursts,
                done.row_hits,
                done.bank_conflict_cycles,
            )
        )
    return timings
