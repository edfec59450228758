"""Special functions as the approximations that PyTorch's own kernels compute, step by step in the same order.

The approximations are those of Cephes, S. L. Moshier. What needs an exponential, a logarithm or a sine is taken apart
in f32 alone, in which the machine has them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from acalsim_backend.front.decompositions import cephes

aten: Any = torch.ops.aten

_QUARTER_PI = 0.785398163397448309615660845819875721
_THREE_QUARTERS_PI = 2.356194490192344928846982537459627163
_ROOT_OF_TWO_OVER_PI = 0.797884560802865355879892119868763737
_TWO_OVER_PI = 0.636619772367581343075535053490057448
_ROOT_OF_TWO_PI = 2.50662827463100050242
_ONE_OVER_ROOT_OF_PI = 0.564189583547756286948
_TO_THE_MINUS_TWO = 0.13533528323661269189
_MACHINE_EPSILON = 1.11022302462515654042e-16
_TERMS = 10
"""Of Hurwitz' sum, before the formula of Euler and Maclaurin stands for the rest."""


def _in_f32(function: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """The function of a tensor, for f32 and for integers, which PyTorch makes f32."""

    @functools.wraps(function)
    def checked(x: Tensor) -> Any:
        value = _as_float(x)
        return function(value) if value.dtype is torch.float32 else NotImplemented

    return checked


def _as_float(x: Tensor) -> Tensor:
    return x if x.is_floating_point() or x.is_complex() else x.to(torch.get_default_dtype())


def _polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    value = x * coefficients[0] + coefficients[1]
    for coefficient in coefficients[2:]:
        value = value * x + coefficient
    return value


def _quotient(x: Tensor, above: Sequence[float], below: Sequence[float]) -> Tensor:
    return _polynomial(x, above) / _polynomial(x, below)


def _chebyshev(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """A sum of Chebyshev polynomials of x / 2, by Clenshaw's recurrence."""
    before, last, value = torch.zeros_like(x), torch.zeros_like(x), torch.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        before, last = last, value
        value = x * last - before + coefficient
    return 0.5 * (value - before)


# --- zeta ---------------------------------------------------------------------------------------------------------


def _zeta(x: Tensor, q: Tensor) -> Any:
    """Hurwitz' zeta function; for negative q the terms up to 0 are two further ones of positive numbers."""
    x, q = torch.broadcast_tensors(_as_float(x), _as_float(q))
    if x.dtype is not torch.float32 or q.dtype is not torch.float32:
        return NotImplemented
    is_even = (torch.remainder(x, 2) == 0) | torch.isinf(x)
    whole = torch.where(x < 2**24, x, 2.0**24).clamp(min=1).to(torch.int64)  # of NaN, too; above, all f32 are even

    def power(a: Tensor) -> Tensor:
        """a to the power of -x: of positive q in f32, in f64 where terms of two signs may cancel."""
        near = torch.pow(a.to(torch.float32), 1 - x).to(torch.float64) / a
        return torch.where(q < 0, _integer_power(1 / a, whole), near)

    x64, q64 = x.to(torch.float64), q.to(torch.float64)
    first = torch.pow(q, -x).to(torch.float64)
    value = _hurwitz(x64, q64, is_even, power, first).to(torch.float32)
    value = torch.where((q <= 0) & (x != torch.floor(x)), torch.nan, value)
    value = torch.where((q <= 0) & (q == torch.floor(q)), torch.inf, value)
    return torch.where(x < 1, torch.nan, torch.where(x == 1, torch.inf, value))


def _integer_power(base: Tensor, exponent: Tensor) -> Tensor:
    """``base`` to the power of integers up to 2^24, by repeated squares."""
    value = torch.ones_like(base)
    for bit in range(25):
        value = torch.where((exponent & (1 << bit)) != 0, value * base, value)
        base = base * base
    return value


def _static_power(base: Tensor, exponent: int) -> Tensor:
    value = None
    while exponent:
        if exponent & 1:
            value = base if value is None else value * base
        exponent >>= 1
        base = base * base if exponent else base
    assert value is not None
    return value


def _hurwitz(x: Any, q: Tensor, is_even: Tensor, power: Callable[[Tensor], Tensor], first: Tensor) -> Tensor:
    """The sum of 1 / (q + i)^x, without its special cases. ``first`` is its first term, which PyTorch rounds."""
    up, down = torch.ceil(q) - q, q - torch.floor(q)
    is_negative = q < 0
    numbers = torch.stack([torch.where(is_negative, down, q), up, 1 - q])
    steps = torch.arange(_TERMS, device=q.device).to(torch.float64).reshape(-1, *[1] * numbers.dim())
    places = numbers + steps
    terms = power(places)
    own = torch.where(is_negative, terms[0, 0], first)
    terms = torch.cat([torch.stack([own, terms[0, 1], terms[0, 2]]).unsqueeze(0), terms[1:]])
    sums = _with_rest(x, places[-1], terms[-1], torch.sum(terms, 0), is_negative)
    before = sums[1] - sums[2]
    before = torch.where(q > -1, first, torch.where(is_even, before, -before))
    return torch.where(is_negative, sums[0] + before, sums[0])


def _with_rest(x: Any, w: Tensor, b: Tensor, s: Tensor, is_negative: Tensor) -> Tensor:
    """The sum with what follows its last term b = w^-x, by the formula of Euler and Maclaurin."""
    is_enough = (b < _MACHINE_EPSILON * s) | (is_negative & (b == 0))
    value = s + b * w / (x - 1.0) - 0.5 * b
    factor, k = x, 0.0
    for divisor in cephes.ZETA_A:
        b = b / w
        value = value + factor * b / divisor
        factor = factor * (x + (k + 1)) * (x + (k + 2))
        b = b / w
        k += 2
    return torch.where(is_enough, s, value)


def _polygamma(n: int, x: Tensor) -> Any:
    """The n-th derivative of digamma."""
    value = _as_float(x)
    if value.dtype not in (torch.float32, torch.float64) or n < 0 or (n <= 1 and value.dtype is torch.float64):
        return NotImplemented
    if n == 0:
        return torch.digamma(value)
    if n == 1:
        return _trigamma(value)
    wide = value.to(torch.float64)
    first = _static_power(1 / wide, n + 1).to(value.dtype).to(torch.float64)
    is_even = torch.full_like(wide, n % 2 == 1, dtype=torch.bool)
    sums = _hurwitz(n + 1.0, wide, is_even, lambda a: _static_power(1 / a, n + 1), first)
    sums = torch.where((wide <= 0) & (wide == torch.floor(wide)), torch.inf, sums).to(value.dtype)
    return _factorial(n, value.dtype) * (1 if n % 2 else -1) * sums


def _factorial(n: int, dtype: torch.dtype) -> float:
    logarithm = math.lgamma(n + 1.0)
    return math.exp(logarithm) if logarithm < math.log(torch.finfo(dtype).max) else math.inf


def _trigamma(x: Tensor) -> Tensor:
    is_low = x < 0.5
    sine = torch.sin(math.pi * x)
    value = torch.where(is_low, -(math.pi * math.pi) / (sine * sine), 0.0)
    x = torch.where(is_low, 1 - x, x)
    for _ in range(6):
        value = value + 1 / (x * x)
        x = x + 1
    square = 1 / (x * x)
    value = value + (1 + 1 / (2 * x) + square * (1 / 6 - square * (1 / 30 - square * (1 / 42)))) / x
    return torch.where(is_low, -value, value)


# --- the normal distribution ----------------------------------------------------------------------------------------


def _ndtri(y: Tensor) -> Tensor:
    """Where the normal distribution function is y."""
    is_high = y > 1 - _TO_THE_MINUS_TWO
    tail = torch.where(is_high, 1 - y, y)
    middle = tail - 0.5
    square = middle * middle
    inner = (middle + middle * (square * _quotient(square, cephes.NDTRI_P0, cephes.NDTRI_Q0))) * _ROOT_OF_TWO_PI
    x = torch.sqrt(-2 * torch.log(tail))
    z = 1 / x
    near = z * _polynomial(z, cephes.NDTRI_P1) / _polynomial(z, cephes.NDTRI_Q1)
    far = z * _polynomial(z, cephes.NDTRI_P2) / _polynomial(z, cephes.NDTRI_Q2)
    outer = x - torch.log(x) / x - torch.where(x < 8, near, far)
    value = torch.where(tail > _TO_THE_MINUS_TWO, inner, torch.where(is_high, outer, -outer))
    value = torch.where(y == 0, -torch.inf, torch.where(y == 1, torch.inf, value))
    return torch.where((y < 0) | (y > 1), torch.nan, value)


# --- Bessel functions -----------------------------------------------------------------------------------------------


def _j0(x: Tensor) -> Tensor:
    x = torch.abs(x)
    square = x * x
    near = (square - 5.78318596294678452118) * (square - 30.4712623436620863991)
    near = near * _polynomial(square, cephes.J0_RP) / _polynomial(square, cephes.J0_RQ)
    near = torch.where(x < 0.00001, 1 - square / 4, near)
    even, odd = _waves_0(x)
    shifted = x - _QUARTER_PI
    far = (even * torch.cos(shifted) - odd * torch.sin(shifted)) * _ROOT_OF_TWO_OVER_PI / torch.sqrt(x)
    return torch.where(x <= 5, near, far)


def _y0(x: Tensor) -> Tensor:
    square = x * x
    near = _quotient(square, cephes.Y0_YP, cephes.Y0_YQ) + _TWO_OVER_PI * torch.log(x) * _j0(x)
    even, odd = _waves_0(x)
    shifted = x - _QUARTER_PI
    far = (even * torch.sin(shifted) + odd * torch.cos(shifted)) * _ROOT_OF_TWO_OVER_PI / torch.sqrt(x)
    return _of_positive(x, torch.where(x <= 5, near, far), -torch.inf)


def _waves_0(x: Tensor) -> tuple[Tensor, Tensor]:
    """Amplitudes of the two waves that the functions of order 0 are far from 0."""
    z = 25 / (x * x)
    return _quotient(z, cephes.J0_PP, cephes.J0_PQ), 5 / x * _quotient(z, cephes.J0_QP, cephes.J0_QQ)


def _j1(x: Tensor) -> Tensor:
    value = _j1_of_positive(torch.abs(x))
    return torch.where(x < 0, -value, value)


def _j1_of_positive(x: Tensor) -> Tensor:
    square = x * x
    near = _quotient(square, cephes.J1_RP, cephes.J1_RQ) * x
    near = near * (square - 14.6819706421238932572) * (square - 49.2184563216946036703)
    even, odd = _waves_1(x)
    shifted = x - _THREE_QUARTERS_PI
    far = (even * torch.cos(shifted) - odd * torch.sin(shifted)) * _ROOT_OF_TWO_OVER_PI / torch.sqrt(x)
    return torch.where(x <= 5, near, far)


def _y1(x: Tensor) -> Tensor:
    square = x * x
    near = x * _quotient(square, cephes.Y1_YP, cephes.Y1_YQ)
    near = near + _TWO_OVER_PI * (_j1_of_positive(x) * torch.log(x) - 1 / x)
    even, odd = _waves_1(x)
    shifted = x - _THREE_QUARTERS_PI
    far = (even * torch.sin(shifted) + odd * torch.cos(shifted)) * _ROOT_OF_TWO_OVER_PI / torch.sqrt(x)
    return _of_positive(x, torch.where(x <= 5, near, far), -torch.inf)


def _waves_1(x: Tensor) -> tuple[Tensor, Tensor]:
    z = 5 / x * (5 / x)
    return _quotient(z, cephes.J1_PP, cephes.J1_PQ), 5 / x * _quotient(z, cephes.J1_QP, cephes.J1_QQ)


def _of_positive(x: Tensor, value: Tensor, at_zero: float) -> Tensor:
    return torch.where(x == 0, at_zero, torch.where(x < 0, torch.nan, value))


def _k0(x: Tensor) -> Tensor:
    """Half a subnormal number is inexact; PyTorch takes its logarithm in f64."""
    subnormal = _chebyshev(x * x - 2, cephes.K0_A) - (torch.log(x) - math.log(2)) * torch.i0(x)
    return torch.where((x > 0) & (x < 1e-30), subnormal, _modified(x, _k0_parts))


def _k0_parts(x: Tensor) -> tuple[Tensor, Tensor]:
    """The function from 0 to 2, and behind it without exp(-x)."""
    near = _chebyshev(x * x - 2, cephes.K0_A) - torch.log(0.5 * x) * torch.i0(x)
    return near, _chebyshev(8 / x - 2, cephes.K0_B)


def _k1_parts(x: Tensor) -> tuple[Tensor, Tensor]:
    near = torch.log(0.5 * x) * torch.special.i1(x) + _chebyshev(x * x - 2, cephes.K1_A) / x
    return near, _chebyshev(8 / x - 2, cephes.K1_B)


def _modified(x: Tensor, parts: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    near, far = parts(x)
    return _of_positive(x, torch.where(x <= 2, near, torch.exp(-x) * far / torch.sqrt(x)), torch.inf)


def _scaled(x: Tensor, parts: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    """The function times exp(x)."""
    near, far = parts(x)
    return _of_positive(x, torch.where(x <= 2, near * torch.exp(x), far / torch.sqrt(x)), torch.inf)


def _spherical_j0(x: Tensor) -> Tensor:
    square = x * x
    near = torch.full_like(x, 1 / 6227020800)
    for divisor in (-39916800, 362880, -5040, 120, -6):
        near = 1 / divisor + square * near
    near = 1 + square * near
    value = torch.where(torch.abs(x) < 0.5, near, torch.sin(x) / x)
    return torch.where(torch.isinf(x), 0.0, value)


# --- Airy's function ------------------------------------------------------------------------------------------------


def _airy(x: Tensor) -> Tensor:
    value = torch.where(x < -2.09, _airy_wave(x), torch.where(x >= 2.09, _airy_tail(x), _airy_series(x)))
    value = torch.where(x > 103.892, 0.0, value)
    return torch.where(torch.isinf(x), torch.nan, value)


def _airy_wave(x: Tensor) -> Tensor:
    root = torch.sqrt(-x.to(torch.float64)).to(x.dtype)  # to the last place, which counts in the phase
    phase = -2 * x * root / torch.full_like(x, 3)  # by a number PyTorch divides as a product, whose last place counts
    z = 1 / phase
    square = z * z
    t = phase + 0.25 * math.pi
    sine = torch.sin(t) * (1 + square * _polynomial(square, cephes.AIRY_AFN) / _polynomial(square, cephes.AIRY_AFD))
    cosine = torch.cos(t) * (z * _polynomial(square, cephes.AIRY_AGN) / _polynomial(square, cephes.AIRY_AGD))
    return _ONE_OVER_ROOT_OF_PI / torch.sqrt(root) * (sine - cosine)


def _airy_tail(x: Tensor) -> Tensor:
    root = torch.sqrt(x)
    zeta = 2 * x * root / 3
    ratio = _quotient(1 / zeta, cephes.AIRY_AN, cephes.AIRY_AD)
    return _ONE_OVER_ROOT_OF_PI * ratio / (2 * torch.sqrt(root) * torch.exp(zeta))


def _airy_series(x: Tensor) -> Tensor:
    """Powers up to the 36th, which are below the last place for the numbers of less than 2.09."""
    f, g, m, n = torch.ones_like(x), x, torch.ones_like(x), x
    cube = x * x * x
    for k in range(2, 38, 3):
        m = m * cube / k / (k + 1)
        n = n * cube / (k + 1) / (k + 2)
        f, g = f + m, g + n
    return 0.355028053887817239260 * f - 0.258819403792806798405 * g


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    aten.special_zeta.default: _zeta,
    aten.polygamma.default: _polygamma,
    aten.special_ndtri.default: _in_f32(_ndtri),
    aten.special_bessel_j0.default: _in_f32(_j0),
    aten.special_bessel_j1.default: _in_f32(_j1),
    aten.special_bessel_y0.default: _in_f32(_y0),
    aten.special_bessel_y1.default: _in_f32(_y1),
    aten.special_modified_bessel_k0.default: _in_f32(_k0),
    aten.special_modified_bessel_k1.default: _in_f32(lambda x: _modified(x, _k1_parts)),
    aten.special_scaled_modified_bessel_k0.default: _in_f32(lambda x: _scaled(x, _k0_parts)),
    aten.special_scaled_modified_bessel_k1.default: _in_f32(lambda x: _scaled(x, _k1_parts)),
    aten.special_spherical_bessel_j0.default: _in_f32(_spherical_j0),
    aten.special_airy_ai.default: _in_f32(_airy),
}
"""By operator overload."""
