"""`acalsim run` against eager: do both get a model and arguments of their own, and is every kind of output compared?"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections import OrderedDict, deque, namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_support import Command
from hypothesis import given
from hypothesis import strategies as st

from acalsim_backend.errors import InputError
from acalsim_backend.report.compare import compare

TARGETS = """
import threading
import numpy as np
import torch
from torch import nn

def argument_twice():
    x = torch.randn(3)
    return (lambda a, b: (a.add_(1), b * 1)[1]), (x, x)

def views_of_one_tensor():
    x = torch.randn(4)
    return (lambda a, b: (a.add_(1), b * 1)[1]), (x[:3], x[1:])

class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(3))
    def forward(self, x):
        self.count.add_(1)
        return x + 0

def own_buffer():
    model = Counting()
    return model, (model.count,)

class Cache:
    def __init__(self): self.keys = []

class Attending(nn.Module):
    def forward(self, x, cache):
        cache.keys.append(x)
        return sum(cache.keys)

def cache(): return Attending(), (torch.randn(3), Cache())
def cache_by_name(): return Attending(), {"x": torch.randn(3), "cache": Cache()}

def closure():
    model = Counting()
    return (lambda x: model(x) + model.count), torch.randn(3)

def closure_in_closure():
    model = Counting()
    def inner(x): return model(x) + model.count
    return (lambda x: inner(x)), torch.randn(3)

class WithLock(nn.Module):
    def __init__(self):
        super().__init__()
        self.lock, self.linear = threading.Lock(), nn.Linear(3, 3)
    def forward(self, x): return self.linear(x)

def lock(): return WithLock(), torch.randn(2, 3)

class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.utils.weight_norm(nn.Linear(3, 3))
    def forward(self, x): return self.linear(x)

def weight_norm(): return Normed(), torch.randn(2, 3)

class Derived(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Linear(3, 3).weight * 2
    def forward(self, x): return x @ self.weight

def derived(): return Derived(), torch.randn(2, 3)
def derived_input(): return nn.Linear(3, 3), torch.randn(2, 3, requires_grad=True) * 2

class Unsteady(WithLock):
    calls = 0
    def __init__(self):
        super().__init__()
        nn.init.constant_(self.linear.bias, torch.seed() % 1000)

def unsteady(): return Unsteady(), torch.randn(2, 3)

def generator(): return (lambda x: (y + 1 for y in x)), torch.randn(3)
"""


@pytest.fixture
def targets(tmp_path: Path) -> Path:
    path = tmp_path / "targets.py"
    path.write_text(TARGETS)
    return path


COPIED = [
    "argument_twice",
    "views_of_one_tensor",
    "own_buffer",
    "cache",
    "cache_by_name",
    "closure",
    "closure_in_closure",
]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("target", [*COPIED, "lock", "weight_norm", "derived", "derived_input"])
def test_do_both_runs_begin_with_the_same_state(acalsim: Command, targets: Path, target: str) -> None:
    run = acalsim("run", f"targets.py:{target}", "--machine", "native", "--json", "-")
    assert run.returncode == 0, run.stdout + run.stderr
    assert json.loads(run.stdout)["outputs"]["allclose"]
    assert ("cannot be copied and is built twice" in run.stderr) == (target not in COPIED)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("unsteady", "is another model when it is built once more, so there is nothing to compare with"),
        ("generator", "output is a generator, which cannot be compared with eager's; return tensors"),
    ],
)
def test_is_what_cannot_be_compared_an_error_of_the_model(
    acalsim: Command, targets: Path, target: str, message: str
) -> None:
    run = acalsim("-q", "run", f"targets.py:{target}", "--machine", "native")
    assert run.returncode == 3, run.stdout + run.stderr
    assert message in run.stderr
    assert len(run.stderr.splitlines()) == 1


@dataclasses.dataclass
class Record:
    value: Any
    other: Any = None


@dataclasses.dataclass(slots=True, eq=False)
class Slotted:
    value: Any


class Plain:
    def __init__(self, value: Any) -> None:
        self.value = value


class Slots:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


Pair = namedtuple("Pair", "left right")
WRAPPERS = [
    lambda x: [x],
    lambda x: (x, 1),
    lambda x: {"a": x},
    lambda x: OrderedDict(a=x),
    lambda x: deque([x]),
    lambda x: Pair(x, None),
    Record,
    Slotted,
    Plain,
    Slots,
]
LEAVES = [
    # made anew each time, and the same but for one number
    lambda n: torch.tensor([1.0, float("nan"), n]),
    lambda n: torch.tensor([1, n], dtype=torch.int64),
    lambda n: torch.tensor([1, n], dtype=torch.complex64),
    lambda n: torch.tensor([1.0, n]).to(torch.float8_e4m3fn),
    lambda n: torch.tensor([[0.0, n]]).to_sparse(),
    lambda n: torch.tensor([[0.0, n]]).to_sparse_csr(),
    lambda n: torch.quantize_per_tensor(torch.tensor([1.0, n]), 1.0, 0, torch.qint8),
    lambda n: torch.nested.nested_tensor([torch.ones(2), torch.full((3,), float(n))]),
    lambda n: np.array([1.0, n], dtype=np.float32),
    lambda n: np.array(["a", str(n)]),
    lambda n: np.float64(n),
    lambda n: float(n),
    lambda n: complex(1, n),
    lambda n: n,
    lambda n: f"text {n}",
    lambda n: Colour(1 if n == 2 else 2),
    lambda n: {n},
    lambda n: range(n),
]


@pytest.mark.filterwarnings("ignore")
@given(st.sampled_from(LEAVES), st.lists(st.sampled_from(WRAPPERS), max_size=3), st.booleans())
def test_is_an_output_close_where_and_only_where_all_that_it_holds_is(leaf: Any, wrappers: Any, differs: bool) -> None:
    got, expected = leaf(3 if differs else 2), leaf(2)
    for wrap in wrappers:
        got, expected = wrap(got), wrap(expected)
    assert compare(got, expected).allclose is not differs


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_is_a_number_like_itself_and_no_other(value: Any) -> None:
    assert compare((value,), (value,)).allclose
    for other in (1.0, 1, "1", None):
        assert not compare((other,), (value,)).allclose


def test_is_an_output_that_holds_itself_compared() -> None:
    def looped(number: float) -> Plain:
        made = Plain(torch.tensor(number))
        made.me = made  # type: ignore[attr-defined]
        return made

    assert compare(looped(1), looped(1)).allclose
    assert not compare(looped(2), looped(1)).allclose


@pytest.mark.parametrize("make", [object, lambda: iter([1]), lambda: lambda: 1, lambda: {torch.ones(1)}])
def test_is_what_has_no_content_to_see_refused_rather_than_called_different(make: Callable[[], Any]) -> None:
    with pytest.raises(InputError, match=r"output\.value\[0\] is a .* cannot be compared"):
        compare(Record([make()]), Record([make()]))


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (torch.ones(2), torch.ones(3)),
        (torch.ones(2), torch.ones(2).double()),
        (torch.ones(2), torch.ones(2).to_sparse()),
        (torch.ones(2), 1.0),
        (1.0, torch.ones(())),
        ([1.0], 1.0),
        ([1], (1,)),
        ({"a": 1}, {"b": 1}),
        (Plain(1), Slots(1)),
        (np.ones(2), np.ones(3)),
        (np.ones(2), np.ones(2, np.float32)),
    ],
)
def test_is_another_structure_different_without_a_number(got: Any, expected: Any) -> None:
    found = compare(got, expected)
    assert (found.allclose, found.max_abs_error) == (False, None)
