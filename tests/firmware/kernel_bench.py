"""Runs commands on the host library of the firmware's kernels, on a small RAM of its own."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from command_cases import Case

from acalsim_backend.device.kernels import Kernels
from acalsim_backend.machine.memory import Ram
from acalsim_backend.program.commands import Command
from acalsim_backend.program.enums import Status
from acalsim_backend.run.heap import Block, Heap

RAM_MIB = 192


class KernelBench:
    """RAM and the kernels. Tensors live as long as the bench."""

    def __init__(self) -> None:
        self.ram = Ram(RAM_MIB)
        self.heap = Heap(self.ram)
        self.kernels = Kernels(self.ram)

    def lay_out(self, case: Case) -> tuple[dict[int, Block], list[Command]]:
        """Blocks with the case's inputs, and its commands with absolute addresses."""
        blocks = {t.id: self.heap.allocate(max(t.nbytes, 1)) for t in case.tensors}
        for number, data in case.values.items():
            blocks[number].array[: len(data)] = data
        commands = [
            c.map_views(lambda v: dataclasses.replace(v, offset=blocks[v.tensor].address + v.offset))
            for c in case.commands
        ]
        return blocks, commands

    def execute(self, data: bytes) -> tuple[Status, int]:
        """Status and fault address of an encoded command."""
        status, address = self.kernels.execute(data)
        return Status(status), address

    def run(self, case: Case) -> dict[int, np.ndarray]:
        """Execute the case and return the bytes of its outputs."""
        blocks, commands = self.lay_out(case)
        for command in commands:
            status, address = self.execute(command.encode())
            assert status is Status.OK, f"{command}: {status!r} at {address:#x}"
        outputs = {n: blocks[n].array[: case.tensors[n].nbytes].copy() for n in case.expected}
        for block in blocks.values():
            self.heap.free(block)
        return outputs

    def check(self, case: Case) -> None:
        """Execute the case and compare with what it expects."""
        case.check(self.run(case))

    def result(self, case: Case) -> torch.Tensor:
        """The only output of a case, dense."""
        ((number, data),) = self.run(case).items()
        expected = case.expected[number]
        return torch.from_numpy(data).view(expected.dtype).reshape(expected.shape)
