"""Orthogonal polynomials of a known degree, by the steps of PyTorch's own kernels.

Where the degree is a tensor, only Hermite's are taken apart: PyTorch bounds their degree, but the steps of the others
by nothing, and closed forms round otherwise and overflow at other degrees than the recurrences do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

aten: Any = torch.ops.aten

_MOST_STEPS = 128
"""Of a recurrence; in f32 PyTorch has Hermite's polynomials up to this degree."""
_MOST_WAVES = 12
"""Of a degree: each multiplies the last place of the arc cosine, in which the machine and PyTorch differ."""

Step = Callable[[Any, Any, Any, int], Any]
"""p_(k + 1) of x, p_k, p_(k - 1) and k."""


def _degree(n: Any, most: int) -> int | None:
    """A number that PyTorch would round to f32 and cut to an integer, where both leave what the steps need."""
    return int(n) if isinstance(n, (int, float)) and abs(n) <= most else None


def _operand(x: Tensor) -> Tensor:
    return x if x.is_floating_point() or x.is_complex() else x.to(torch.get_default_dtype())


def _recurrence(x: Tensor, first: Tensor, n: int, step: Step) -> Tensor:
    before, value = torch.ones_like(x), first
    if n == 0:
        return before
    for k in range(1, n):
        before, value = value, step(x, value, before, k)
    return value


def _of_degree(function: Callable[[Tensor, int], Tensor], most: int = _MOST_STEPS) -> Callable[..., Any]:
    """The function for degrees that are known; 0 for negative ones."""

    def decomposed(x: Tensor, n: Any) -> Any:
        degree, x = _degree(n, most), _operand(x)
        if degree is None or x.dtype is not torch.float32:
            return NotImplemented
        return torch.zeros_like(x) if degree < 0 else function(x, degree)

    return decomposed


def _fused(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """a * b - c with one rounding, as PyTorch's kernels have it: their recurrences lose places where terms cancel."""
    return (a.to(torch.float64) * b.to(torch.float64) - c.to(torch.float64)).to(a.dtype)


def _twice(x: Tensor, p: Tensor, before: Tensor, k: int) -> Tensor:
    return _fused(x + x, p, before)


def _hermite_h(x: Tensor, p: Tensor, before: Tensor, k: int) -> Tensor:
    return _fused(x + x, p, 2 * k * before)


def _hermite_he(x: Tensor, p: Tensor, before: Tensor, k: int) -> Tensor:
    return _fused(x, p, k * before)


def _laguerre(x: Tensor, p: Tensor, before: Tensor, k: int) -> Tensor:
    return _fused((k + k) + (1 - x), p, k * before) / torch.full_like(x, k + 1)


def _legendre(x: Tensor, p: Tensor, before: Tensor, k: int) -> Tensor:
    return _fused((k + k + 1) * x, p, k * before) / torch.full_like(x, k + 1)


# --- Chebyshev's, which between -1 and 1 are waves for high degrees ----------------------------------------------


def _t(x: Tensor, n: int, is_shifted: bool = False) -> Tensor:
    value = _recurrence(x, x, n, _twice)
    if n > 6:
        value = torch.where(torch.abs(x) < 1, torch.cos(n * torch.acos(x)), value)
    return _at_ends(x, value, 1, _sign(n))


def _u(x: Tensor, n: int, is_shifted: bool = False) -> Tensor:
    value = _recurrence(x, x + x, n, _twice)
    if n > (6 if is_shifted else 8):
        angle = torch.acos(x)
        sine = torch.sin(angle)
        wave = torch.where(sine != 0, torch.sin((n + 1) * angle) / sine, (n + 1) * torch.cos((n + 1) * angle) / x)
        value = torch.where(torch.abs(x) < 1, wave, value)
    return _at_ends(x, value, n + 1, _sign(n) * (n + 1))


def _v(x: Tensor, n: int, is_shifted: bool = False) -> Tensor:
    value = _recurrence(x, x + x - 1, n, _twice)
    low = _sign(n) * (n + n + 1)
    if n > (6 if is_shifted else 8):
        angle = torch.acos(x)
        wave = torch.cos((n + 0.5) * angle) / torch.cos(angle * 0.5)
        wave = torch.where(torch.sin(angle * 0.5) != 1, wave, low)
        value = torch.where(torch.abs(x) < 1, wave, value)
    return _at_ends(x, value, 1, low)


def _w(x: Tensor, n: int, is_shifted: bool = False) -> Tensor:
    value = _recurrence(x, x + x + 1, n, _twice)
    if n > (4 if is_shifted else 8):
        angle = torch.acos(x)
        wave = torch.sin((n + 0.5) * angle) / torch.sin(angle * 0.5)
        top = torch.where(x > 0, float(_sign(n) if is_shifted else n + n + 1), float(_sign(n)))
        wave = torch.where(torch.cos(angle * 0.5) != 1, wave, top)
        value = torch.where(torch.abs(x) < 1, wave, value)
    return _at_ends(x, value, n + n + 1, _sign(n))


def _sign(n: int) -> int:
    return 1 if n % 2 == 0 else -1


def _at_ends(x: Tensor, value: Tensor, high: int, low: int) -> Tensor:
    return torch.where(x == 1, float(high), torch.where(x == -1, float(low), value))


def _shifted(function: Callable[[Tensor, int, bool], Tensor]) -> Callable[[Tensor, int], Tensor]:
    """Of 2x - 1. Its ends are those of x itself, which the sum may reach from near 0."""

    def shifted(x: Tensor, n: int) -> Tensor:
        y = x + x - 1
        return torch.where((y == -1) & (x != 0), _inside(y, n), function(y, n, True))

    def _inside(y: Tensor, n: int) -> Tensor:
        """-1 by the recurrence, which is left out of the ends."""
        firsts: dict[Any, Tensor] = {_t: y, _u: y + y, _v: y + y - 1, _w: y + y + 1}
        return _recurrence(y, firsts[function], n, _twice)

    return shifted


# --- the others ------------------------------------------------------------------------------------------------------


def _laguerre_l(x: Tensor, n: int) -> Tensor:
    return torch.where(x == 0, 1.0, _recurrence(x, 1 - x, n, _laguerre))


def _legendre_p(x: Tensor, n: int) -> Tensor:
    return _at_ends(x, _recurrence(x, x, n, _legendre), 1, _sign(n))


def _h(x: Tensor, n: int) -> Tensor:
    return _recurrence(x, x + x, n, _hermite_h)


def _he(x: Tensor, n: int) -> Tensor:
    return _recurrence(x, x, n, _hermite_he)


def _of_degrees(factor: int, step: Step) -> Callable[..., Any]:
    """Hermite's polynomials of degrees that a tensor has; beyond the bound they are NaN, of no degree at all 0."""

    def decomposed(x: Tensor, n: Tensor) -> Any:
        if torch.result_type(x, n) not in (torch.float32, torch.int64, torch.int32):
            return NotImplemented
        x, n = torch.broadcast_tensors(_operand(x), _operand(n))
        if x.dtype is not torch.float32 or n.dtype is not torch.float32:
            return NotImplemented
        degree = torch.trunc(n)
        value: Tensor = torch.where((degree > _MOST_STEPS) & (degree < 2.0**63), torch.nan, torch.zeros_like(x))
        before, last = torch.ones_like(x), factor * x
        value = torch.where(degree == 0, before, torch.where(degree == 1, last, value))
        for k in range(1, _MOST_STEPS):
            before, last = last, step(x, last, before, k)
            value = torch.where(degree == k + 1, last, value)
        return value

    return decomposed


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    aten.special_chebyshev_polynomial_t.n_scalar: _of_degree(_t, _MOST_WAVES),
    aten.special_chebyshev_polynomial_u.n_scalar: _of_degree(_u, _MOST_WAVES),
    aten.special_chebyshev_polynomial_v.n_scalar: _of_degree(_v, _MOST_WAVES),
    aten.special_chebyshev_polynomial_w.n_scalar: _of_degree(_w, _MOST_WAVES),
    aten.special_shifted_chebyshev_polynomial_t.n_scalar: _of_degree(_shifted(_t), _MOST_WAVES),
    aten.special_shifted_chebyshev_polynomial_u.n_scalar: _of_degree(_shifted(_u), _MOST_WAVES),
    aten.special_shifted_chebyshev_polynomial_v.n_scalar: _of_degree(_shifted(_v), _MOST_WAVES),
    aten.special_shifted_chebyshev_polynomial_w.n_scalar: _of_degree(_shifted(_w), _MOST_WAVES),
    aten.special_laguerre_polynomial_l.n_scalar: _of_degree(_laguerre_l),
    aten.special_legendre_polynomial_p.n_scalar: _of_degree(_legendre_p),
    aten.special_hermite_polynomial_h.n_scalar: _of_degree(_h),
    aten.special_hermite_polynomial_he.n_scalar: _of_degree(_he),
    aten.special_hermite_polynomial_h.default: _of_degrees(2, _hermite_h),
    aten.special_hermite_polynomial_he.default: _of_degrees(1, _hermite_he),
}
"""By operator overload."""
