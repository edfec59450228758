"""Runs a generated program, an ELF with a graph's commands, weights and ``main``, on a machine of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from acalsim_backend.errors import CapacityError, InputError, MachineError, UsageError
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.machine.base import Platform, find_machine
from acalsim_backend.machine.elf import Elf
from acalsim_backend.machine.memory import Ram
from acalsim_backend.program.enums import Status
from acalsim_backend.program.image import ImageHeader
from acalsim_backend.program.program import Program, TensorKind
from acalsim_backend.run.budget import instruction_budget
from acalsim_backend.run.result import RunResult, command_error, read_result
from acalsim_backend.run.session import make_devices, poison

Bytes = npt.NDArray[np.uint8]


class Standalone:
    """The ELF of a generated graph; ``image`` and ``examples`` are the C names of its commands and of its inputs by id.

    Raises:
        UsageError: a machine that runs no RISC-V code.
        CapacityError: the program needs more RAM than the hardware has.
        InputError: an ELF without these names.
    """

    def __init__(
        self,
        elf: Path,
        program: Program,
        image: str,
        examples: Mapping[int, str],
        hardware: HardwareConfig,
        machine: str = "unicorn",
        functional: str | None = None,
    ) -> None:
        machine_class = find_machine(machine)
        if not machine_class.timed:
            raise UsageError(f"machine {machine} runs no RISC-V program; use machine unicorn, or build image")
        self.program = program
        self.hardware = hardware
        self._symbols = Elf(elf).symbols
        missing = [name for name in (image, "arena", "__end", *examples.values()) if name not in self._symbols]
        if missing:
            raise InputError(f"{elf}: has no symbol {', '.join(missing)}; it is not the program of {program.name}")
        self.ram: Ram = machine_class.ram_class(hardware.dram.size_mib)
        needed = self._symbols["__end"] - self.ram.base
        if needed > self.ram.size:
            raise CapacityError(
                f"{program.name} needs {needed / 2**20:.0f} MiB of guest RAM, dram.size_mib is "
                f"{hardware.dram.size_mib}; set it to {-(-needed >> 20)} or more"
            )
        self._image = self._symbols[image]
        self._examples = {number: self._symbols[name] for number, name in examples.items()}
        self.devices = make_devices(self.ram, hardware, functional)
        self._machine = machine_class(Platform(self.ram, hardware, self.devices, _no_host_call, firmware=elf))

    def run(self, inputs: Mapping[int, npt.NDArray[Any]] | None = None) -> RunResult:
        """Run ``main`` once; ``inputs`` are raw bytes by tensor id that replace captured example inputs.

        Raises:
            DeviceError: a command was refused.
            GuestTrapError, WatchdogError, MachineError: the guest did not come to its end.
        """
        for number, value in (inputs or {}).items():
            raw = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
            self.ram.view(self._examples[number], raw.nbytes)[:] = raw
        poison(self.ram.view(self._symbols["arena"], self.program.arena_size))
        for device in self.devices:
            device.reset()
        uart = self._machine.run(0, instruction_budget(self.program))
        header = ImageHeader.decode_from(self.ram.view(self._image, ImageHeader.sizeof()).tobytes())
        if header.runs != 1:
            raise MachineError(
                f"the generated program of {self.program.name} did not run its graph; it wrote: {uart!r}"
            )
        if header.status != Status.OK:
            raise command_error(self.program, self.devices, header)
        records = self._table(header.records, 2 * len(self.program.commands)).reshape(-1, 2)
        return read_result(self.program, self.hardware, self.devices, header, records, self._outputs(header), uart)

    def _outputs(self, header: ImageHeader) -> dict[int, Bytes]:
        addresses = self._table(header.bindings, len(self.program.tensors))
        outputs: dict[int, Bytes] = {}
        for number in self.program.outputs:
            tensor = self.program.tensors[number]
            if tensor.kind in (TensorKind.OUTPUT, TensorKind.ARENA):
                outputs[number] = self.ram.view(int(addresses[number]), tensor.nbytes).copy()
        return outputs

    def _table(self, offset: int, length: int) -> npt.NDArray[np.uint64]:
        return self.ram.view(self._image + offset, 8 * length).view(np.uint64)

    def close(self) -> None:
        """End the machine."""
        self._machine.close()


def _no_host_call(index: int) -> None:
    raise MachineError(f"a generated program asked for host call {index}")
