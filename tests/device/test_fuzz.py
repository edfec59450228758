"""Does a damaged command give a changed output or an error, and never harm to this process?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
from command_cases import Case, make
from support import Bench

from acalsim_backend.device.registers import Register
from acalsim_backend.program.commands import Command, Conv2d, Gemm
from acalsim_backend.program.enums import Placement

CASES = [
    "gemm_scaled_by_alpha_and_beta",
    "gemm_heads_of_attention",
    "conv2d_in_groups_with_dilation",
    "conv2d_padded_only_below_and_right",
    "vector_chain_of_rows",
    "reduce_finds_the_first_extreme",
    "softmax_rows",
    "norm_with_statistics",
    "pool2d_max_with_indices",
    "pool2d_average",
    "copy_converts",
    "fill_values",
    "gather_rows",
    "gather_by_two_indices_from_the_end",
    "scatter_sets_every_row",
    "scan_finds_the_last_extreme",
    "sort_rows",
]
ORIGIN = range(16, 22)  # origin_first and origin_count, which only error messages use


class Patient:
    """One command on a device, to be run again and again with a byte changed."""

    def __init__(self, case: Case, functional: str) -> None:
        self.bench = Bench(functional)
        self.blocks, commands = self.bench.lay_out(case)
        self.case = case
        self.command = dataclasses.replace(commands[0], placement=Placement.ACCELERATOR)
        self.data = self.command.encode()
        self.block = self.bench.put(self.data)
        first = min(block.address for block in self.blocks.values())
        self.reach = self.bench.ram.view(first, self.block.address + 4096 - first)
        self.healthy = self.run(self.data)

    def run(self, data: bytes) -> bytes | None:
        """Everything in reach after running ``data`` on fresh memory; None if the device refused it."""
        bench = self.bench
        bench.device.reset()
        bench.set_up_queue()
        self.reach[:] = 0
        for number, data_in in self.case.values.items():
            self.blocks[number].array[: len(data_in)] = data_in
        self.block.array[:] = np.frombuffer(data, np.uint8)
        bench.ring_entry(0, self.block.address, 0)
        bench.device.write(Register.TAIL, 4, 1)
        bench.device.read(Register.WAIT, 8)
        if bench.device.fault is not None:
            assert bench.device.fault.text
            return None
        return self.reach.tobytes()

    def damaged(self) -> Iterator[tuple[int, bytes]]:
        for at in range(len(self.data)):
            for mask in (0x01, 0x80, 0xFF):
                data = bytearray(self.data)
                data[at] ^= mask
                yield at, bytes(data)


@pytest.mark.parametrize("functional", ["torch", "native"])
@pytest.mark.parametrize("name", CASES)
def test_is_every_flipped_byte_survived(name: str, functional: str) -> None:
    patient = Patient(make(name), functional)
    assert patient.healthy is not None
    refused = sum(patient.run(data) is None for _, data in patient.damaged())
    assert refused > len(patient.data)  # most of them cannot be executed
    assert patient.run(patient.data) == patient.healthy


def _field_at(command: Command, at: int) -> str:
    return next(f.name for f in reversed(command.layout()) if f.offset <= at)


@pytest.mark.parametrize("functional", ["torch", "native"])
@pytest.mark.parametrize("kind", [Gemm, Conv2d])
def test_does_no_flipped_byte_pass_unnoticed(kind: type[Command], functional: str) -> None:
    """Where every field matters, each flip is refused or changes what lies in memory."""
    case = Case("all fields matter")
    if kind is Gemm:
        a, b, bias = case.rand(3, 4, 5), case.rand(3, 5, 6), case.rand(3, 4, 6)
        views = case.read(a), case.read(b), case.write(-2 * a @ b + 0.5 * bias), case.read(bias)
        case.commands.append(Gemm(*views, alpha=-2.0, beta=0.5))
    else:
        x, w, bias = case.rand(2, 4, 9, 9), case.rand(6, 2, 3, 3), case.rand(6)
        out = case.rand(2, 6, 4, 4)
        views = case.read(x), case.read(w), case.write(out), case.read(bias)
        case.commands.append(Conv2d(*views, stride=(2, 2), padding=(1, 1), groups=2))
    patient = Patient(case, functional)
    unnoticed = {
        _field_at(patient.command, at)
        for at, data in patient.damaged()
        if at not in ORIGIN and patient.run(data) == patient.healthy
    }
    assert unnoticed <= {"alpha", "beta"}  # the last bits of a factor may be rounded away
