"""ResNet-18 224x224 on machine qemu against machine unicorn, wall time of ``simulate`` in one process: at most 3x.

Medians over runs after the first, which compiles; both machines run the same firmware and the same device model.
"""

from __future__ import annotations

import statistics
import time

import torch

from acalsim_backend.backend import ACALSimBackend
from acalsim_backend.models.resnet import resnet18

RUNS = 5
LIMIT = 3


def main() -> None:
    torch.manual_seed(0)
    model, x = resnet18().eval(), torch.randn(1, 3, 224, 224)
    walls = {}
    print("ResNet-18 224x224      wall s      cycles")
    for machine in ("unicorn", "qemu"):
        torch._dynamo.reset()
        backend = ACALSimBackend(mode="simulate", machine=machine)
        compiled = torch.compile(model, backend=backend)
        times = []
        with torch.no_grad():
            for _ in range(RUNS + 1):
                start = time.perf_counter()
                compiled(x)
                times.append(time.perf_counter() - start)
        walls[machine] = statistics.median(times[1:])
        print(f"{machine:20}{walls[machine]:9.3f}{backend.reports[-1].cycles.total:12,}")
    print(f"qemu / unicorn      {walls['qemu'] / walls['unicorn']:9.2f}   limit {LIMIT}")


if __name__ == "__main__":
    main()
