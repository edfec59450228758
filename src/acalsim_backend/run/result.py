"""What a run gives: outputs, and on a timed machine when each command ran; or the error of the command that failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acalsim_backend.device.compute import ComputeDevice
from acalsim_backend.device.device import Device
from acalsim_backend.device.limits import Channel, total_channels
from acalsim_backend.device.memory import Bytes
from acalsim_backend.errors import DeviceError, IndexOutOfRangeError
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.program.commands import Gather, Scatter
from acalsim_backend.program.enums import Status
from acalsim_backend.program.image import ImageHeader
from acalsim_backend.program.program import Program
from acalsim_backend.run.timeline import CommandTiming, Timelines, UnitUses, unit_uses


@dataclass(frozen=True)
class RunResult:
    """One run of a Program: output bytes by tensor id, and cycles (None on a machine without timing).

    ``cycles_total`` is ``cycles_cpu`` plus ``cycles_accelerator_busy``. ``memoised`` says that every segment's cycles
    were known from an earlier run. ``channels`` are those of the memory, over all segments; ``units`` say what the
    units of the accelerators were used for.
    """

    outputs: dict[int, Bytes]
    timings: list[CommandTiming]
    cycles_total: int | None
    cycles_cpu: int | None
    cycles_accelerator_busy: int | None
    instructions_retired: int | None
    memoised: bool
    uart: str
    channels: tuple[Channel, ...] = ()
    units: tuple[UnitUses, ...] = ()


def command_error(program: Program, devices: Sequence[Device], header: ImageHeader) -> DeviceError:
    """The error of a command that a device or a kernel refused, in the words of whoever did."""
    index = header.failed_command
    fault = next((d.fault for d in accelerators(devices) if d.fault), None)
    what = _status_name(header.status)
    command = program.commands[index] if index < len(program.commands) else None
    if isinstance(command, Gather | Scatter) and header.status == Status.INDEX:
        return _out_of_range(program, command, header.failed_address)
    if header.failed_address:
        what += f" at address {header.failed_address:#x}"
    if command is not None:
        what += f" in command {index} ({command.opcode.name}): {program.describe(command)}"
    error = DeviceError(f"{what}: {fault.text}" if fault is not None else f"{what}: refused by the kernel")
    error.__cause__ = fault.exception if fault is not None else None
    return error


def _out_of_range(program: Program, command: Gather | Scatter, failed: int) -> IndexOutOfRangeError:
    """The same on every machine, whoever noticed it."""
    table = command.x if isinstance(command, Gather) else command.out
    extents = table.dims[command.batch : command.batch + command.n_indices]
    index = failed - (1 << 64) if failed >> 63 else failed
    expected = " or ".join(f"{-extent if command.wrap else 0} to {extent - 1}" for extent in extents)
    return IndexOutOfRangeError(
        f"index {index} is out of range in command {command.id} ({command.opcode.name}): "
        f"{program.describe(command)}; expected {expected}{', by its axis' if len(extents) > 1 else ''}"
    )


def read_result(
    program: Program,
    hardware: HardwareConfig,
    devices: Sequence[Device],
    header: ImageHeader,
    records: npt.NDArray[np.uint64],
    outputs: dict[int, Bytes],
    uart: str,
    timelines: Timelines | None = None,
) -> RunResult:
    """What a timed machine measured: ``header`` and ``records`` as the guest left them, and the devices' segments.

    ``timelines`` are those of the Program's earlier runs.
    """
    found = [(number, s) for number, d in enumerate(accelerators(devices)) for s in d.segments]
    found.sort(key=lambda item: item[1].instructions)
    segments = [segment for _, segment in found]
    instructions = header.instret_end - header.instret_begin
    cpu = hardware.cpu_to_device_cycles(instructions)
    accelerator = sum(segment.timing.cycles for segment in segments)
    timings = (timelines or Timelines()).of(program.commands, hardware, header.instret_begin, records, segments)
    memoised = bool(segments) and all(segment.timing.memoised for segment in segments)
    channels = total_channels(segment.timing.channels for segment in segments)
    units = unit_uses(found, hardware, header.instret_begin)
    return RunResult(
        outputs, timings, cpu + accelerator, cpu, accelerator, instructions, memoised, uart, channels, units
    )


def accelerators(devices: Sequence[Device]) -> list[ComputeDevice]:
    """Those of the devices that take commands."""
    return [d for d in devices if isinstance(d, ComputeDevice)]


def _status_name(status: int) -> str:
    return Status(status).name if status in set(Status) else f"status {status}"
