"""Every f32 through every elementary function of the firmware: prints the largest error and fails above the limit.

Takes one to two minutes a function on two cores: ``python tests/firmware/exhaustive_libm.py [FUNCTION ...]``
"""

from __future__ import annotations

import sys
import time

from libm_error import FUNCTIONS, largest_error

LIMIT_ULP = 2.0


def main(names: list[str]) -> int:
    failed = False
    for name in names or FUNCTIONS:
        start = time.monotonic()
        error = largest_error(name)
        failed |= not error.ulp <= LIMIT_ULP
        print(f"{name:8} {error.ulp:.4f} ULP at {error.bits:#010x}, {time.monotonic() - start:.0f} s", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
