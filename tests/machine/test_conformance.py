"""Does every machine compute what PyTorch computes, on its CPU and on its accelerator?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from command_cases import CASES, make
from qemu_support import require_qemu

from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.program.enums import Placement
from acalsim_backend.run.session import Session

MACHINES = ["unicorn", "native", "qemu"]
HARDWARE = dataclasses.replace(HardwareConfig(), dram=dataclasses.replace(HardwareConfig().dram, size_mib=128))


@pytest.fixture(scope="module", params=MACHINES)
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    if request.param == "qemu":
        require_qemu()
    session = Session(HARDWARE, request.param)
    yield session
    session.close()


@pytest.mark.parametrize("placement", [Placement.CPU, Placement.ACCELERATOR], ids=["cpu", "accelerator"])
@pytest.mark.parametrize("name", CASES)
def test_does_the_machine_compute_what_pytorch_does(session: Session, name: str, placement: Placement) -> None:
    case = make(name)
    loaded = session.load(case.program(placement))
    result = session.run(loaded, case.values)
    case.check(result.outputs)
    session.unload(loaded)
