"""A device on a small RAM, without a CPU: commands are put into its ring as a driver would."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from command_cases import Case

from acalsim_backend.device.compute import ComputeDevice
from acalsim_backend.device.functional import create_functional
from acalsim_backend.device.registers import Register
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.machine.memory import Ram
from acalsim_backend.program.commands import HEADER, Command
from acalsim_backend.program.enums import Placement
from acalsim_backend.program.image import QueueEntry
from acalsim_backend.run.heap import Block, Heap

RING = 64


@dataclass
class FakeCompletion:
    id: int
    start: int
    end: int
    bytes_read: int = 64
    bytes_written: int = 32


@dataclass
class FakeTiming:
    cycles: int
    completions: list[FakeCompletion]
    memoised: bool = False


class FakeTimer:
    """100 cycles a command, one after the other."""

    def segment(self, commands: Sequence[bytes]) -> Any:
        ids = [HEADER.unpack_from(c)[3] for c in commands]
        done = [FakeCompletion(number, 100 * i, 100 * i + 100) for i, number in enumerate(ids)]
        return FakeTiming(100 * len(ids), done)


class Bench:
    """RAM, a device on it, and what a driver does."""

    def __init__(self, functional: str = "torch", hardware: HardwareConfig | None = None, size_mib: int = 80) -> None:
        self.hardware = hardware or HardwareConfig()
        self.ram = Ram(size_mib)
        self.heap = Heap(self.ram)
        self.functional = create_functional(functional, self.ram)
        self.device = ComputeDevice(self.ram, self.hardware, self.functional, FakeTimer())
        self.ring = self.heap.allocate(RING * QueueEntry.sizeof())
        self.set_up_queue()

    def set_up_queue(self) -> None:
        self.device.write(Register.QBASE, 8, self.ring.address)
        self.device.write(Register.QSIZE, 4, RING)

    def put(self, data: bytes) -> Block:
        block = self.heap.allocate(len(data))
        block.array[:] = np.frombuffer(data, np.uint8)
        return block

    def ring_entry(self, slot: int, address: int, number: int, flags: int = 0) -> None:
        entry = bytearray(QueueEntry.sizeof())
        QueueEntry(address, number, flags).encode_into(entry)
        at = slot % RING * len(entry)
        self.ring.array[at : at + len(entry)] = np.frombuffer(bytes(entry), np.uint8)

    def submit(self, commands: Iterable[Command], wait: bool = True) -> list[Block]:
        """Ring the doorbell for commands numbered from 0, and usually wait."""
        tail = self.device.read(Register.TAIL, 4)
        blocks = []
        for i, command in enumerate(commands):
            placed = dataclasses.replace(command, id=i, placement=Placement.ACCELERATOR, deps=())
            blocks.append(self.put(placed.encode()))
            self.ring_entry(tail + i, blocks[-1].address, i)
        self.device.write(Register.TAIL, 4, tail + len(blocks))
        if wait:
            self.device.read(Register.WAIT, 8)
        return blocks

    def lay_out(self, case: Case) -> tuple[dict[int, Block], list[Command]]:
        """Blocks for a case's tensors, filled with inputs, and its commands with absolute addresses."""
        blocks = {t.id: self.heap.allocate(max(t.nbytes, 1)) for t in case.tensors}
        for number, data in case.values.items():
            blocks[number].array[: len(data)] = data
        commands = [
            c.map_views(lambda v: dataclasses.replace(v, offset=blocks[v.tensor].address + v.offset))
            for c in case.commands
        ]
        return blocks, commands

    def check(self, case: Case, blocks: dict[int, Block]) -> None:
        case.check({n: blocks[n].array[: case.tensors[n].nbytes] for n in case.expected})
