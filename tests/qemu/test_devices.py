"""Do several accelerators share the work, with the same outputs on every machine?"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from qemu_support import require_qemu

from acalsim_backend import ACALSimBackend
from acalsim_backend.hardware import HardwareConfig

HARDWARE = dataclasses.replace(HardwareConfig(), devices=3)


class Branches(torch.nn.Module):
    """Three products that do not depend on each other, and their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = torch.nn.ModuleList(torch.nn.Linear(24, 24) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b, c = (torch.tanh(branch(x)) for branch in self.branches)
        return torch.softmax(a, 1) + torch.softmax(b, 1) * torch.softmax(c, 1)


@pytest.mark.parametrize("machine", ["unicorn", "qemu"])
def test_do_independent_commands_go_to_different_devices(machine: str) -> None:
    if machine == "qemu":
        require_qemu()
    torch.manual_seed(0)
    model, x = Branches().eval(), torch.randn(8, 24)
    backend = ACALSimBackend(mode="simulate", machine=machine, hardware=HARDWARE)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, backend=backend)(x), model(x))
    program = backend.get_program("graph_0")
    assert program
    commands = program.commands
    for kind in ("GEMM", "SOFTMAX"):  # a chain stays on its device
        assert sorted(c.device for c in commands if c.opcode.name == kind) == [0, 1, 2]
    used = [d for d in backend.session._devices[1:] if getattr(d, "segments", ())]
    assert len(used) == 3
    backend.session.close()
