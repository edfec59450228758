"""Compares the `array_cycles` of `acalsim time` with SCALE-Sim's in every row of the reference. Exits 1 if any differs.

The command runs as a user starts it, once for each array and dataflow, on a topology file of the rows.
"""

from __future__ import annotations

import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import groupby
from pathlib import Path

REFERENCE = Path(__file__).parents[1] / "tests" / "engine" / "data" / "scalesim_reference.csv"


def array_cycles(rows: list[dict[str, str]], size: str, dataflow: str) -> list[int]:
    """What the command says of the rows, in order."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "topology.csv"
        file.write_text("Layer,M,N,K,\n" + "".join(f"{r['layer']},{r['M']},{r['N']},{r['K']},\n" for r in rows))
        command = [str(Path(sys.executable).parent / "acalsim"), "time", "--topology", str(file), "--json", "-"]
        command += ["--hw", f"scalesim_{size}", "--dataflow", dataflow]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
    return [layer["array_cycles"] for layer in json.loads(run.stdout)["layers"]]


def main() -> int:
    """Prints each differing row and the totals."""
    start = time.perf_counter()
    equal = total = 0

    def kind(row: dict[str, str]) -> tuple[str, str]:
        return row["array_rows"], row["dataflow"]

    for (size, dataflow), group in groupby(sorted(csv.DictReader(REFERENCE.open()), key=kind), kind):
        rows = list(group)
        for row, ours in zip(rows, array_cycles(rows, size, dataflow), strict=True):
            total += 1
            equal += ours == int(row["compute_cycles"])
            if ours != int(row["compute_cycles"]):
                print(f"{row['workload']} {row['layer']} {size} {dataflow}: {ours}, SCALE-Sim {row['compute_cycles']}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{equal} of {total} rows equal; {time.perf_counter() - start:.1f} s, ", end="")
    print(f"{used.ru_utime + used.ru_stime:.1f} CPU s in 6 processes, DRAM and tiling simulated")
    return int(equal != total)


if __name__ == "__main__":
    sys.exit(main())
