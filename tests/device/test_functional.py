"""Do both functional models compute what PyTorch computes, on the same bytes of guest memory?"""

from __future__ import annotations

import pytest
from command_cases import CASES, make
from support import Bench

PROVIDERS = ["torch", "native"]


@pytest.mark.parametrize("functional", PROVIDERS)
@pytest.mark.parametrize("name", CASES)
def test_does_the_device_compute_what_pytorch_does(name: str, functional: str) -> None:
    case, bench = make(name), Bench(functional)
    blocks, commands = bench.lay_out(case)
    bench.submit(commands)
    assert bench.device.fault is None
    bench.check(case, blocks)
