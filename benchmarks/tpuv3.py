"""The engine against measured TPUv3 cycles: every row, each group, and leave-one-group-out.

For leave-one-group-out the two numeric calibrated parameters are searched on a grid over the other two groups, and
the group left out is predicted with what that finds.
"""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path

from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.layers import make_layers, time_layers

REFERENCE = Path(__file__).parents[1] / "tests" / "engine" / "data" / "tpuv3_cycles.csv"
LAUNCH = (400, 700, 1000, 1500)  # cycles
LATENCY = (50, 100, 200)  # ns


def errors(overrides: dict[str, str]) -> dict[str, list[tuple[str, int, int]]]:
    """Per group the rows as (workload, measured cycles, simulated cycles)."""
    hardware = HardwareConfig.load("tpuv3", overrides)
    groups: dict[str, list[tuple[str, int, int]]] = {}
    for row in csv.DictReader(REFERENCE.open()):
        kind, sizes = row["workload"].split("_")
        document = time_layers(make_layers(kind, [int(s) for s in sizes.split("x")]), hardware)
        groups.setdefault(kind, []).append((row["workload"], int(row["tpuv3_cycles"]), document["total_cycles"]))
    return groups


def mean(rows: list[tuple[str, int, int]]) -> float:
    """Mean absolute relative error in per cent."""
    return 100 * sum(abs(ours / theirs - 1) for _, theirs, ours in rows) / len(rows)


def main() -> None:
    """Prints the tables."""
    preset = errors({})
    for rows in preset.values():
        for name, theirs, ours in rows:
            print(f"{name:24} measured {theirs:>9,}  simulated {ours:>9,}  {100 * (ours / theirs - 1):+6.1f} %")
    for group, rows in preset.items():
        print(f"{group:24} mean absolute error {mean(rows):5.1f} %")
    print(f"{'all rows':24} mean absolute error {mean([r for rows in preset.values() for r in rows]):5.1f} %")

    grid = {
        (launch, latency): errors({"accelerator.launch_cycles": str(launch), "dram.latency_ns": str(latency)})
        for launch, latency in product(LAUNCH, LATENCY)
    }
    for left_out in preset:
        best = min(grid, key=lambda point: mean([r for g, rows in grid[point].items() if g != left_out for r in rows]))
        error = mean(grid[best][left_out])
        print(f"without {left_out:10} launch {best[0]:>5}, latency {best[1]:>4} ns: {left_out} {error:.1f} %")


if __name__ == "__main__":
    main()
