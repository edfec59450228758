"""How much slower than eager PyTorch is a simulated run? Everything is measured in one process and one run.

Eager and simulated calls alternate, so that both see the same noise; medians are printed, as wall
clock and as processor time (of all threads), and the ratios that the project promises come from processor time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

STEADY_LIMIT, FIRST_LIMIT, START_LIMIT = 5.0, 15.0, 15.0


@dataclass(frozen=True)
class Cost:
    """Seconds of one call."""

    wall: float
    cpu: float


def measure(call: Callable[[], object]) -> Cost:
    """What ``call`` costs; processor time counts all threads of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def median(costs: list[Cost]) -> Cost:
    return Cost(statistics.median(c.wall for c in costs), statistics.median(c.cpu for c in costs))


def from_process_start(model: str, hardware: str) -> Cost:
    """`acalsim run` from the start of the process to the report, with an empty cache."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "ACALSIM_CACHE_DIR": cache}
        command = [str(Path(sys.executable).with_name("acalsim")), "run", model, "--hw", hardware, "--json", "-"]
        before = os.times()
        start = time.perf_counter()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        wall, after = time.perf_counter() - start, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(wall, cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--hw", default="edge")
    parser.add_argument("--repeat", type=int, default=7, help="timed calls of each kind")
    parser.add_argument("--json", metavar="FILE", help="also write the figures as JSON")
    arguments = parser.parse_args()

    process = from_process_start(arguments.model, arguments.hw)

    import torch

    from acalsim_backend import ACALSimBackend
    from acalsim_backend.models import load_target

    model, inputs = load_target(arguments.model)
    backend = ACALSimBackend(mode="simulate", hardware=arguments.hw)
    compiled = torch.compile(model, backend=backend)
    with torch.no_grad():
        model(*inputs)  # warm-up
        first_call = measure(lambda: compiled(*inputs))
        first_run_wall = backend.reports[-1].wall_s["simulate"]
        assert first_run_wall is not None
        eager, simulated = [], []
        for _ in range(arguments.repeat):
            eager.append(measure(lambda: model(*inputs)))
            simulated.append(measure(lambda: compiled(*inputs)))
    report = backend.reports[-1]
    e, s = median(eager), median(simulated)

    print(f"{arguments.model} on {arguments.hw}: {report.cycles.total:,} cycles; {torch.get_num_threads()} threads")
    print(f"{'':34}{'wall s':>9}{'cpu s':>9}{'x eager':>9}{'limit':>8}")
    print(f"{'eager':34}{e.wall:9.3f}{e.cpu:9.3f}")
    print(f"{'simulate, from the second call on':34}{s.wall:9.3f}{s.cpu:9.3f}{s.cpu / e.cpu:9.2f}{STEADY_LIMIT:8.0f}")
    print(f"{'simulate, first run':34}{first_run_wall:9.3f}{'':9}{first_run_wall / e.wall:9.2f}{FIRST_LIMIT:8.0f}")
    print(f"{'first call, capture included':34}{first_call.wall:9.3f}{first_call.cpu:9.3f}")
    print(f"{'process start to report':34}{process.wall:9.3f}{process.cpu:9.3f}{'':9}{START_LIMIT:6.0f} s")
    if arguments.json:
        figures = {
            "model": arguments.model,
            "hardware": arguments.hw,
            "cycles": report.cycles.total,
            "eager_s": vars(e),
            "simulate_s": vars(s),
            "first_run_wall_s": first_run_wall,
            "first_call_s": vars(first_call),
            "process_s": vars(process),
        }
        Path(arguments.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
