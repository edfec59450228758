"""Do pointwise operators give eager's results at the edges of every dtype, the sign of zero and NaN included?

One compiled function for many operators, so that all of the catalogue of random programs is run at little cost.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from catalogue import ACTIVATIONS, BINARY, COMPARE, DTYPES, SCALAR, UNARY
from oracle import aot_eager
from programs import namespace

from acalsim_backend.backend import ACALSimBackend

PER_GRAPH = 40
NUMBERS = ("2", "-3", "0", "0.5", "0.1", "True", "-0.0", "65536.0", "float('inf')", "float('nan')", "127", "1e10", "-1")
ELEMENTARY = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 8e-3}
"""Relative errors that elementary functions are allowed."""
UNARY_ROWS = (
    *(f"torch.{name}({{0}})" for name in UNARY),
    # at infinity and far out eager's vector path gives NaN or 0 for gelu, its scalar path does not
    *(f"F.{text}" for text in ACTIVATIONS if "gelu" not in text and "dropout" not in text),
    *(f"{{0}}.to(torch.{dtype})" for dtype in DTYPES if dtype in ("float64", "float32", "float16", "bfloat16", "bool")),
)
SCALAR_ROWS = tuple(dict.fromkeys(text.replace("{s}", number) for text in SCALAR for number in NUMBERS))
BINARY_ROWS = (
    *BINARY,
    *(f"torch.{name}({{0}}, {{1}})" for name in COMPARE),
    "torch.where({0} > 0, {0}, {1})",
    "torch.clamp({0}, {1}, {0})",
    "torch.clamp({0}, min={1})",
    "torch.lerp({0}, {1}, 0.3)",
)


def comparable(rows: Iterable[str], place: str) -> list[str]:
    """Rows without remainders on the CPU, whose kernel is exact: eager's vector loops have NaN where the quotient is
    large, its scalar loops do not."""
    return [row for row in rows if place != "cpu" or not any(text in row for text in ("%", "fmod", "//", "'floor'"))]


def edges(dtype: torch.dtype) -> torch.Tensor:
    """Values around which arithmetic of the dtype changes its ways."""
    if dtype is torch.bool:
        return torch.tensor([True, False])
    if dtype.is_floating_point:
        info = torch.finfo(dtype)
        far = [info.max, info.min, info.tiny, info.tiny / 2, float("inf"), float("-inf"), float("nan")]
        near = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, 7.0, -7.3, 1e-3, 100.0, -100.0, 11.0, 1 / 3]
        return torch.tensor(near + far, dtype=torch.float64).to(dtype)
    ints = torch.iinfo(dtype)
    values = [0, 1, 2, 3, 5, 7, 100, ints.max, ints.max - 1, ints.min, -1, -2, -3, -7, -100, 200, 2**24 + 1, 2**53 + 1]
    return torch.tensor([v for v in values if ints.min <= v <= ints.max], dtype=dtype)


def differs(got: torch.Tensor, expected: torch.Tensor, signed_zeros: bool = True) -> str:
    """Positions of wrong elements, as text; nothing where all are right."""
    if (got.dtype, got.shape) != (expected.dtype, expected.shape):
        return f"{got.dtype} {tuple(got.shape)}, expected {expected.dtype} {tuple(expected.shape)}"
    if expected.is_floating_point():
        wide, right = got.double(), expected.double()
        wrong = ~torch.isclose(wide, right, rtol=ELEMENTARY[expected.dtype], atol=1e-300, equal_nan=True)
        wrong &= (wide - right).abs().nan_to_num(1.0) > 2 * torch.finfo(expected.dtype).tiny
        if signed_zeros:
            wrong |= (torch.signbit(got) != torch.signbit(expected)) & (got == 0) & (expected == 0)
    else:
        wrong = got != expected
    where = wrong.nonzero()[:4].tolist()
    return "; ".join(f"at {i}: {got[tuple(i)]}, expected {expected[tuple(i)]}" for i in where)


def accepted(rows: Iterable[str], arguments: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What eager takes, with its results."""
    names = {**namespace(), **arguments}
    results = {}
    for text in (row.format(*arguments) for row in rows):
        try:
            results[text] = eval(text, names)
        except (RuntimeError, TypeError, ZeroDivisionError, OverflowError):
            continue
    return {text: value for text, value in results.items() if not value.is_complex()}


def compiled(
    texts: list[str], arguments: dict[str, torch.Tensor], backend: Callable[..., Any]
) -> dict[str, torch.Tensor | Exception]:
    source = f"def program({', '.join(arguments)}):\n    return ({', '.join(texts)},)\n"
    names = namespace()
    exec(source, names)
    torch._dynamo.reset()
    try:
        function: Callable[..., Any] = names["program"]
        values = torch.compile(function, backend=backend, dynamic=False)(*arguments.values())
    except Exception as error:
        if len(texts) == 1:
            return {texts[0]: error}
        half = len(texts) // 2
        return compiled(texts[:half], arguments, backend) | compiled(texts[half:], arguments, backend)
    return dict(zip(texts, values, strict=True))


@functools.cache
def backend(place: str) -> ACALSimBackend:
    return ACALSimBackend(mode="simulate", place=place)


def check(rows: Iterable[str], arguments: dict[str, torch.Tensor], place: str) -> None:
    wrong = []
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = accepted(rows, arguments)
        texts = list(expected)
        for start in range(0, len(texts), PER_GRAPH):
            for text, got in compiled(texts[start : start + PER_GRAPH], arguments, backend(place)).items():
                # which of two equal zeros is the extreme one depends in eager's loops on the processor
                signed = place != "cpu" or not any(name in text for name in ("maximum", "minimum", "clamp", "fm"))
                problem = repr(got) if isinstance(got, Exception) else differs(got, expected[text], signed)
                if problem:
                    own = compiled([text], arguments, aot_eager)[text]
                    if not isinstance(own, Exception) and not differs(own, expected[text]):
                        wrong.append(f"{text}: {problem}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("place", ["auto", pytest.param("cpu", marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", DTYPES)
class TestEdges:
    def test_are_unary_operators_right(self, dtype: str, place: str) -> None:
        check(UNARY_ROWS, {"x": edges(getattr(torch, dtype))}, place)

    def test_are_operators_with_a_number_right(self, dtype: str, place: str) -> None:
        check(comparable(SCALAR_ROWS, place), {"x": edges(getattr(torch, dtype))}, place)

    def test_are_binary_operators_right(self, dtype: str, place: str) -> None:
        x = edges(getattr(torch, dtype))
        # eager fuses the product with alpha into the sum; nothing is wider than float64 to do that in, and its loops
        # for whole vectors and for what is left over disagree in float16
        rows = [row for row in BINARY_ROWS if dtype not in ("float64", "float16") or "alpha" not in row]
        check(comparable(rows, place), {"x": x[:, None].contiguous(), "y": x[None].contiguous()}, place)
