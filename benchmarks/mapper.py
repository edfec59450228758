"""CPU time of choosing a mapping: 30 drawn GEMMs and convolutions, each for the first time. Exits 1 over target.

How good the choices are is a test: tests/engine/test_mapper.py compares the same shapes with an exhaustive search.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

from acalsim_backend._engine import Engine
from acalsim_backend.device.timing import engine_config
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.layers import gemm

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "engine"))
from test_mapper import SEEDS, drawn

TARGET = 1.0  # ms


def main() -> int:
    """Prints the median and the largest time, and that of finding a mapping again by its shape."""
    engines = {name: Engine(engine_config(HardwareConfig.load(name))) for name in ("edge", "gemmini", "cloud4")}
    for engine in engines.values():
        engine.mapping(gemm(33, 34, 35).commands[0].encode())  # the first command also measures the memory
    first, again = list[float](), list[float]()
    for seed in SEEDS:
        hardware, layer = drawn(seed)
        command = layer.commands[0].encode()
        for taken in (first, again):
            start = time.process_time()
            engines[hardware].mapping(command)
            taken.append(1e3 * (time.process_time() - start))
    print(f"a command's mapping, CPU ms: median {statistics.median(first):.2f}, largest {max(first):.2f} ", end="")
    print(f"(target at most {TARGET}); {sum(t <= TARGET for t in first)} of {len(first)} within it")
    print(f"found again by shape, CPU ms: median {statistics.median(again):.3f}")
    return int(max(first) > TARGET)


if __name__ == "__main__":
    sys.exit(main())
