"""Does every operator give eager's result and eager's gradients through torch.compile, the way users reach it?

The rows are those of test_operators.py, which runs the same functions beside Dynamo on every machine and placement.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from test_operators import ROWS as ALL_ROWS
from test_operators import TOLERANCE, Row, flat, rebuilt

from acalsim_backend.backend import ACALSimBackend

ROWS = [row for row in ALL_ROWS if not row.alike]
NAMES = [f"{i}-{row.name}" for i, row in enumerate(ROWS)]


@functools.cache
def backend() -> ACALSimBackend:
    return ACALSimBackend(mode="simulate")


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    torch._dynamo.reset()
    return torch.compile(function, backend=backend(), dynamic=False)


def close(row: Row, got: Any, expected: Any, doubt: float = 0.0) -> None:
    """``doubt`` is how far eager itself may be from the exact result."""
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    rtol, atol = (row.loose * t for t in TOLERANCE.get(expected.dtype, (0, 0)))
    torch.testing.assert_close(got, expected, rtol=rtol, atol=atol + 4 * doubt, equal_nan=True)


def check_forward(row: Row, arguments: tuple[Any, ...]) -> None:
    with torch.no_grad():
        got = compiled(lambda: row.function(*arguments))()
        assert backend().reports[-1].fallbacks == ()
        close(row, got, row.function(*arguments))


def with_gradients(
    function: Callable[..., Any],
    arguments: Iterable[Any],
    chosen: Sequence[int],
    weights: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[torch.Tensor, Sequence[Any]]:
    """The result, and the gradients of the chosen ones among the tensors of the arguments."""
    leaves = [t.detach().requires_grad_(i in chosen) for i, t in enumerate(flat(arguments))]
    output = function(*rebuilt(arguments, iter(leaves)))
    if not output.requires_grad:
        return output, []
    return output, torch.autograd.grad(output, [leaves[i] for i in chosen], weights(output), allow_unused=True)


def differentiable(row: Row, arguments: tuple[Any, ...]) -> list[int]:
    """Positions of the tensors for which eager has a gradient; running statistics have none."""
    chosen = []
    for i, value in enumerate(flat(arguments)):
        if value.is_floating_point():
            leaves = [t.detach().requires_grad_(i == j) for j, t in enumerate(flat(arguments))]
            with contextlib.suppress(RuntimeError, IndexError):  # eager may have no gradient for these arguments
                output = row.function(*rebuilt(arguments, iter(leaves)))
                if output.requires_grad:
                    torch.autograd.grad(output.sum(), leaves[i], allow_unused=True)
                chosen.append(i)
    return chosen


def check_gradients(row: Row, arguments: tuple[Any, ...]) -> None:
    def weights(output: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randint(-2, 3, output.shape, generator=generator).to(output.dtype)

    chosen = differentiable(row, arguments)
    expected, gradients = with_gradients(row.function, arguments, chosen, weights)
    wide = [t.double() if t.is_floating_point() else t for t in flat(arguments)]
    _, exact = with_gradients(row.function, rebuilt(arguments, iter(wide)), chosen, weights)
    got, found = with_gradients(compiled(lambda *values: row.function(*values)), arguments, chosen, weights)
    close(row, got.detach(), expected.detach())
    assert len(found) == len(gradients)
    for ours, theirs, true in zip(found, gradients, exact or gradients, strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            errors = (theirs.double() - true.double()).abs()
            lost = true.isfinite() & ~theirs.isfinite()  # eager's batch norm may read memory that nobody wrote
            theirs = torch.where(lost, true.to(theirs.dtype), theirs)
            close(row, ours, theirs, errors[errors.isfinite()].max().item() if errors.isfinite().any() else 0.0)


def drawn(row: Row, count: int) -> list[tuple[Any, ...]]:
    """Arguments, the same each time; not the first ones, which are the simplest that there are."""
    examples = []

    @settings(max_examples=count + 4, phases=[Phase.generate], derandomize=True, database=None)
    @given(row.arguments)
    def draw(arguments: tuple[Any, ...]) -> None:
        examples.append(arguments)

    draw()
    return examples[-count:]


def check(row: Row, count: int) -> None:
    for arguments in drawn(row, count):
        check_forward(row, arguments)
        check_gradients(row, arguments)


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_does_the_operator_equal_eager_through_torch_compile(row: Row) -> None:
    check(row, 1)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_do_more_draws_of_the_operator_equal_eager_through_torch_compile(row: Row) -> None:
    check(row, 10)
