"""How long does a graph that was never seen take from the backend's call to its first simulated instruction?

Medians over fresh models of different widths, in one process whose session is warm for all but the first; the first is
printed apart. Limit: 0.3 s on mlp.
"""

from __future__ import annotations

import statistics
import time

import torch

from acalsim_backend.backend import ACALSimBackend
from acalsim_backend.machine.unicorn import UnicornMachine
from acalsim_backend.models.basic import Mlp

LIMIT_S = 0.3
GRAPHS = 9


def main() -> None:
    backend = ACALSimBackend(mode="simulate")
    times: list[tuple[float, float]] = []
    called = (0.0, 0.0)
    run = UnicornMachine.run

    def start_of_run(self: UnicornMachine, image: int, watchdog: int) -> str:
        times.append((time.perf_counter() - called[0], time.process_time() - called[1]))
        return run(self, image, watchdog)

    def timed_backend(gm: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        nonlocal called
        called = time.perf_counter(), time.process_time()
        return backend(gm, inputs)

    UnicornMachine.run = start_of_run  # type: ignore[method-assign]
    with torch.no_grad():
        for i in range(GRAPHS):
            torch._dynamo.reset()
            torch.compile(Mlp(16 + i, 32, 10), backend=timed_backend, dynamic=False)(torch.randn(4, 16 + i))
    print(f"mlp, backend's call to first instruction    wall s    cpu s   limit {LIMIT_S} s")
    print(f"first graph of the process               {times[0][0]:9.3f}{times[0][1]:9.3f}")
    wall, cpu = (statistics.median(t[k] for t in times[1:]) for k in (0, 1))
    print(f"a new graph, median of {GRAPHS - 1}                 {wall:9.3f}{cpu:9.3f}")


if __name__ == "__main__":
    main()
