"""Compares `array_cycles` with SCALE-Sim's compute cycles in every row of the reference. Exits 1 if any differs."""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.time_command import make_layers, time_layers

REFERENCE = Path(__file__).parents[1] / "tests" / "engine" / "data" / "scalesim_reference.csv"


def main() -> int:
    """Prints each differing row and the totals."""
    start = time.process_time()
    equal = total = 0
    for row in csv.DictReader(REFERENCE.open()):
        hardware = HardwareConfig.load(f"scalesim_{row['array_rows']}", {"array.dataflow": row["dataflow"]})
        layers = make_layers("gemm", [int(row[key]) for key in ("M", "N", "K")])
        ours = time_layers(layers, hardware)["layers"][0]["array_cycles"]
        total += 1
        equal += ours == int(row["compute_cycles"])
        if ours != int(row["compute_cycles"]):
            print(f"{row['workload']} {row['layer']} {row['dataflow']}: {ours}, SCALE-Sim {row['compute_cycles']}")
    print(f"{equal} of {total} rows equal, {time.process_time() - start:.2f} CPU s with DRAM and tiling simulated")
    return int(equal != total)


if __name__ == "__main__":
    sys.exit(main())
