"""How far from the exact value are the elementary functions?

Measured against the host's double precision functions on every 4099th f32 (a prime: all exponents, ever new mantissas)
and on special values; ``exhaustive_libm.py`` does all of them.
"""

from __future__ import annotations

import ctypes
import itertools
import shutil

import numpy as np
import pytest
from libm_error import FUNCTIONS, largest_error, library

LIMIT_ULP = 0.51
STEP = 4099

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler: apt-get install gcc")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_is_the_result_the_nearest_f32(function: str) -> None:
    error = largest_error(function, STEP, chunks=8)
    assert error.ulp <= LIMIT_ULP, f"{function}: {error.ulp} ULP at bits {error.bits:#010x}"


def _pow_error(x: np.ndarray, y: np.ndarray) -> tuple[float, tuple[float, float]]:
    x, y = (np.ascontiguousarray(a, dtype=np.float32) for a in (x, y))
    worst = ctypes.c_int64()
    pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in (x, y)]
    error = library().largest_pow_error(*pointers, ctypes.c_int64(len(x)), ctypes.byref(worst))
    return error, (float(x[worst.value]), float(y[worst.value]))


def test_is_pow_the_nearest_f32() -> None:
    rng = np.random.default_rng(0)
    n = 500_000
    x = np.exp(rng.uniform(-100, 88, n))
    near_one = 1 + rng.uniform(-1e-3, 1e-3, n)
    y = rng.uniform(-3, 3, n)
    for base, exponent in ((x, y), (near_one, y * 3e4), (-x, np.rint(y)), (x, 1 / np.where(y == 0, 1, y))):
        error, where = _pow_error(base, exponent)
        assert error <= LIMIT_ULP, f"pow{where}: {error} ULP"


def test_does_pow_treat_special_values_as_c_does() -> None:
    inf, nan = np.inf, np.nan
    values = [
        0.0,
        -0.0,
        0.5,
        -0.5,
        1.0,
        -1.0,
        2.0,
        -2.0,
        3.0,
        -3.0,
        1e-45,
        -1e-45,
        3e38,
        -3e38,
        16777217.0,
        inf,
        -inf,
        nan,
    ]
    x, y = np.array(list(itertools.product(values, values))).T
    error, where = _pow_error(x, y)
    assert error <= LIMIT_ULP, f"pow{where}"
