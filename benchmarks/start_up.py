"""How soon the command answers where no model is involved: wall time of a process. Exits 1 over target."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = (("--help",), ("time", "gemm", "64", "64", "64", "--json", "-"))
TARGET = 0.3  # s


def main() -> int:
    """Prints the median of nine runs of each command."""
    late = False
    for arguments in COMMANDS:
        taken = []
        for _ in range(9):
            start = time.perf_counter()
            acalsim = str(Path(sys.executable).parent / "acalsim")
            subprocess.run([acalsim, *arguments], stdout=subprocess.DEVNULL, check=True)
            taken.append(time.perf_counter() - start)
        median = statistics.median(taken)
        late = late or median > TARGET
        print(f"acalsim {' '.join(arguments)}: {median:.2f} s (target at most {TARGET})")
    return int(late)


if __name__ == "__main__":
    sys.exit(main())
