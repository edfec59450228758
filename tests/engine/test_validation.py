"""How near is the engine to measured hardware and to the roofline?"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from engine_support import layer, run

TPU = list(csv.DictReader((Path(__file__).parent / "data" / "tpuv3_cycles.csv").open()))


def errors(**overrides: Any) -> dict[str, list[float]]:
    by_group: dict[str, list[float]] = {}
    for row in TPU:
        kind, sizes = row["workload"].split("_")
        cycles, _ = run("tpuv3", layer(kind, *map(int, sizes.split("x"))), **overrides)
        by_group.setdefault(kind, []).append(abs(cycles / int(row["tpuv3_cycles"]) - 1))
    return by_group


def test_is_the_mean_error_over_the_tpuv3_rows_at_most_12_percent() -> None:
    by_group = errors()
    for group, values in by_group.items():
        print(f"{group}: {100 * sum(values) / len(values):.1f} %")
    every = [e for values in by_group.values() for e in values]
    assert len(every) == 10
    assert sum(every) / len(every) <= 0.12


@pytest.mark.parametrize("hardware", ["edge", "cloud4"])
def test_does_a_large_gemm_reach_95_percent_of_peak(hardware: str) -> None:
    cycles, (row,) = run(hardware, layer("gemm", 4096, 4096, 4096))
    peak = {"edge": 256, "cloud4": 4 * 128 * 128}[hardware]
    assert row.macs / cycles / peak >= 0.95


def test_are_four_cores_with_four_times_the_bandwidth_3_8_times_faster() -> None:
    one, _ = run(
        "cloud4",
        layer("gemm", 4096, 4096, 4096),
        accelerator__cores=1,
        dram__channels=16,
        dram__bandwidth_gbytes_per_s=256,
    )
    four, _ = run("cloud4", layer("gemm", 4096, 4096, 4096))
    assert one / four >= 3.8
