"""Does a whole model run alike on every machine, and does every machine name what goes wrong in the same words?"""

from __future__ import annotations

import pytest
import torch
from qemu_support import require_qemu

from acalsim_backend.api import simulate
from acalsim_backend.backend import ACALSimBackend
from acalsim_backend.errors import CapacityError, DeviceError
from acalsim_backend.models.basic import Mlp
from acalsim_backend.models.resnet import resnet18

MACHINES = ["unicorn", "native", "qemu"]


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> str:
    if request.param == "qemu":
        require_qemu()
    torch._dynamo.reset()
    torch.manual_seed(0)
    return str(request.param)


def test_does_resnet18_give_eagers_outputs(machine: str) -> None:
    model, x = resnet18().eval(), torch.randn(1, 3, 64, 64)
    outputs, report = simulate(model, (x,), machine=machine)
    with torch.no_grad():
        torch.testing.assert_close(outputs, model(x), rtol=1e-4, atol=1e-5)
    assert report.fallbacks == ()


def test_are_the_device_cycles_of_every_command_of_resnet18_the_same_on_unicorn_and_qemu() -> None:
    require_qemu()
    spans = []
    for machine in ("unicorn", "qemu"):
        torch._dynamo.reset()
        torch.manual_seed(0)
        model, x = resnet18().eval(), torch.randn(1, 3, 64, 64)
        _, report = simulate(model, (x,), machine=machine)
        first = report.ops[0].start_cycle
        assert first is not None
        rows = [(r.name, (r.start_cycle or 0) - first, (r.end_cycle or 0) - first) for r in report.ops]
        spans.append((rows, report.cycles.accelerator_busy, report.instructions_retired))
    (rows, busy, retired), (other_rows, other_busy, other_retired) = spans
    assert rows == other_rows
    assert busy == other_busy
    assert other_retired == pytest.approx(retired, rel=0.001)


@pytest.mark.parametrize("place", ["cpu", "auto"])
def test_is_a_damaged_command_named_with_its_operation_and_line(machine: str, place: str) -> None:
    model, x = Mlp(), torch.randn(4, 16)
    backend = ACALSimBackend(mode="simulate", machine=machine, place=place)
    compiled = torch.compile(model, backend=backend)
    with torch.no_grad():
        good = compiled(x)
        (loaded,) = backend.session._programs.values()
        at = loaded.command_offsets[1]
        loaded.image.array[at + 2] ^= 0x40  # the version in the second command's header
        with pytest.raises(DeviceError, match=r"GEMM"):
            compiled(x)
        loaded.image.array[at + 2] ^= 0x40
        assert torch.equal(compiled(x), good)


def test_does_a_model_larger_than_guest_ram_say_so(machine: str) -> None:
    class Large(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(4096, 4096))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight

    from acalsim_backend.hardware import HardwareConfig

    hardware = HardwareConfig.load("edge", {"dram.size_mib": "96"})
    with pytest.raises(CapacityError, match="size_mib"):
        simulate(Large(), (torch.zeros(1, 4096),), hardware=hardware, machine=machine)
