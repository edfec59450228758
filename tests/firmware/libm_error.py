"""Measures the firmware's elementary functions against the host's double precision ones. Run by itself for all of f32:

python tests/firmware/exhaustive_libm.py [FUNCTION ...]
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FUNCTIONS = (
    "exp",
    "log",
    "tanh",
    "erf",
    "sin",
    "cos",
    "sigmoid",
    "sqrt",
    "rsqrt",
    "exp2",
    "expm1",
    "log2",
    "log10",
    "log1p",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "asinh",
    "acosh",
    "atanh",
    "erfc",
    "lgamma",
)
HERE = Path(__file__).parent
FIRMWARE = HERE.parents[1] / "src" / "acalsim_backend" / "firmware"
FLAGS = ("-std=c11", "-O2", "-fPIC", "-shared", "-ffp-contract=off", "-fno-math-errno", "-fno-strict-aliasing")
ALL_F32 = 1 << 32


@dataclass(frozen=True)
class Error:
    """Largest error in ULP and the argument's bits."""

    ulp: float
    bits: int


@functools.cache
def library() -> Any:
    """The functions and their references, compiled for the host by the C compiler on the path."""
    compiler = shutil.which("cc")
    assert compiler is not None, "no C compiler: apt-get install gcc"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "libm_error.so"
        sources = (HERE / "libm_error.c", FIRMWARE / "libm.c")
        subprocess.run([compiler, *FLAGS, f"-I{FIRMWARE}", *map(str, sources), "-o", str(out), "-lm"], check=True)
        loaded = ctypes.CDLL(str(out))
    u64 = ctypes.c_uint64
    loaded.largest_error.restype = ctypes.c_double
    loaded.largest_error.argtypes = [ctypes.c_int, u64, u64, u64, ctypes.POINTER(ctypes.c_uint32)]
    loaded.largest_pow_error.restype = ctypes.c_double
    return loaded


def largest_error(function: str, step: int = 1, chunks: int = 64) -> Error:
    """The worst of every ``step``-th f32, on all cores."""
    size = ALL_F32 // chunks

    def measure(chunk: int) -> Error:
        worst = ctypes.c_uint32()
        first, end = -(-chunk * size // step) * step, (chunk + 1) * size
        ulp = library().largest_error(FUNCTIONS.index(function), first, end, step, ctypes.byref(worst))
        return Error(ulp, worst.value)

    library()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return max(pool.map(measure, range(chunks)), key=lambda error: error.ulp)
