"""Are random numbers those of eager PyTorch, and is the generator afterwards where eager leaves it?"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F  # noqa: N812  # its name everywhere

from acalsim_backend import ACALSimBackend

DRAWN: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "dropout": lambda x: F.dropout(x, 0.3) + F.dropout(x, 0.6),
    "dropout of all": lambda x: F.dropout(x, 1.0),
    "dropout of a view": lambda x: F.dropout(x.t(), 0.5),
    "dropout in bfloat16": lambda x: F.dropout(x.bfloat16(), 0.3),
    "dropout in float64": lambda x: F.dropout(x.double(), 0.3),
    "dropout of channels": lambda x: F.dropout2d(x[None, ..., None].expand(2, 4, 6, 3), 0.5),
    "alpha dropout": lambda x: F.alpha_dropout(x, 0.5, True),
    "rand": lambda x: torch.rand(4, 6) + x,
    "rand, returned": lambda x: torch.rand(4, 6),
    "like": lambda x: torch.rand_like(x) + torch.randn_like(x) + torch.randint_like(x, 3),
    "randint": lambda x: torch.randint(-5, 9, (4, 6)) + x,
    "randperm": lambda x: x[:, torch.randperm(6)],
    "bernoulli": lambda x: torch.bernoulli(x.sigmoid()) + torch.bernoulli(x, 0.3),
    "in place": lambda x: x.clone().uniform_(0, 2) + x.clone().normal_(1, 2) + x.clone().exponential_(3.0),
    "normal": lambda x: torch.normal(x, 0.5) + torch.normal(1.0, x.abs()) + torch.normal(x, x.abs()),
    "sampling": lambda x: torch.multinomial(x.softmax(-1), 1) + torch.multinomial(x[0].abs(), 1, replacement=True),
    "sizes of the argument": lambda x: torch.rand(x.shape[0], 2 * x.shape[1]).sum() + x,
}
ON_THE_HOST: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "of values": lambda x: F.rrelu(x, training=True),
    "after one of values": lambda x: F.rrelu(x, training=True) + F.dropout(x, 0.5),
    "before one of values": lambda x: F.rrelu(F.dropout(x, 0.5), training=True) * torch.rand(6),
    "with replacement": lambda x: torch.multinomial(x.softmax(-1), 5, replacement=True),
}


def both(function: Callable[[torch.Tensor], torch.Tensor], dynamic: bool = False) -> ACALSimBackend:
    """Run in eager and on the machine, twice from one seed."""
    backend = ACALSimBackend(mode="simulate")
    compiled = torch.compile(function, backend=backend, dynamic=dynamic)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        for rows in (4, 4, 5) if dynamic else (4, 4):
            x = torch.arange(6.0 * rows).reshape(rows, 6) / 7 - 1.5
            torch.manual_seed(3)
            expected = [function(x), function(x), torch.rand(2)]
            torch.manual_seed(3)
            got = [compiled(x), compiled(x), torch.rand(2)]
            torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)
    return backend


@pytest.mark.parametrize("name", DRAWN)
def test_are_numbers_that_depend_on_no_values_drawn_before_the_run(name: str) -> None:
    report = both(DRAWN[name]).reports[0]
    assert report.fallbacks == ()
    assert report.drawn or name == "dropout of all"
    assert all(":" in draw["source"] for draw in report.drawn)
    assert ("drawn by PyTorch's generator" in report.table()) == bool(report.drawn)


@pytest.mark.parametrize("name", ON_THE_HOST)
def test_do_all_stay_in_order_where_one_depends_on_values(name: str) -> None:
    report = both(ON_THE_HOST[name]).reports[0]
    assert report.fallbacks
    assert report.drawn == ()


def test_may_an_argument_be_overwritten_by_what_is_drawn() -> None:
    compiled = torch.compile(lambda x: x.uniform_(1, 2), backend=ACALSimBackend(mode="simulate"))
    got, expected = torch.zeros(4, 6), torch.zeros(4, 6)
    for function, argument in ((compiled, got), (lambda x: x.uniform_(1, 2), expected)):
        torch.manual_seed(5)
        assert function(argument) is argument
    assert torch.equal(got, expected)


def test_are_as_many_drawn_as_a_new_length_needs() -> None:
    assert len(both(DRAWN["sizes of the argument"], dynamic=True).reports) == 6


def test_do_gradients_pass_the_mask_that_was_drawn() -> None:
    x = torch.randn(8, 8, requires_grad=True)
    compiled = torch.compile(lambda x: F.dropout(x * 2, 0.5).square(), backend=ACALSimBackend(mode="simulate"))
    torch.manual_seed(1)
    compiled(x).sum().backward()
    got, x.grad = x.grad, None
    torch.manual_seed(1)
    F.dropout(x * 2, 0.5).square().sum().backward()
    torch.testing.assert_close(got, x.grad)
