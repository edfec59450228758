"""Is memory that a program looks at laid out as PyTorch's kernels lay it out, whatever fake tensors say?"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # its name everywhere

from acalsim_backend import ACALSimBackend

ORDERS = [(0, 1, 2, 3), (0, 2, 3, 1), (3, 2, 1, 0), (1, 0, 2, 3), (2, 0, 3, 1)]
OPERATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "batch_norm": lambda x: F.batch_norm(x, torch.zeros(4), torch.ones(4) * 2, training=False),
    "group_norm": lambda x: F.group_norm(x, 2),
    "layer_norm": lambda x: F.layer_norm(x, x.shape[-1:]),
    "relu": torch.relu,
    "softmax": lambda x: torch.softmax(x, 1),
    "max_pool2d": lambda x: F.max_pool2d(x, 2, 1),
    "interpolate": lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
    "cumsum": lambda x: torch.cumsum(x, 1),
    "flip": lambda x: x.flip(2),
    "cat": lambda x: torch.cat([x, x], 0),
    "sum": lambda x: x.sum(1, keepdim=True),
    "pad": lambda x: F.pad(x, (1, 1)),
    "batch_norm then relu": lambda x: torch.relu(F.batch_norm(x, torch.zeros(4), torch.ones(4), training=False)) + 1,
}


@pytest.mark.parametrize("name", OPERATORS)
@given(order=st.sampled_from(ORDERS), sizes=st.tuples(*[st.integers(2, 4)] * 2), offset=st.integers(0, 2))
@settings(max_examples=6)
def test_does_as_strided_of_a_result_see_eagers_memory(
    name: str, order: tuple[int, ...], sizes: tuple[int, int], offset: int
) -> None:
    torch._dynamo.reset()
    shape = (2, 4, *sizes)
    memory = torch.randn([shape[axis] for axis in order])
    x = memory.permute([order.index(axis) for axis in range(4)])  # laid out in that order

    def program(x: Tensor) -> Tensor:
        return torch.as_strided(OPERATORS[name](x), (2, 3), (1, 2), offset) * 1

    with torch.no_grad():
        got = torch.compile(program, backend=ACALSimBackend(mode="simulate"), dynamic=False)(x)
    torch.testing.assert_close(got, program(x), rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("again", [False, True])
def test_may_a_window_into_memory_beside_a_tensor_be_written(again: bool) -> None:
    """Functionalisation reads what was written back through the same window."""

    def program(x: Tensor) -> tuple[Tensor, Tensor]:
        window = torch.as_strided(x, (2,), (1,), 1)  # of which x itself has the first element alone
        window[torch.tensor([-1])] = 7.0
        if again:
            window += 1
        return window * 2, x.ge(0)

    def argument() -> Tensor:
        return torch.arange(12.0).as_strided((4, 1), (3, 2), 1)

    torch._dynamo.reset()
    with torch.no_grad():
        got = torch.compile(program, backend=ACALSimBackend(mode="simulate"))(argument())
    for a, b in zip(got, program(argument()), strict=True):
        assert torch.equal(a, b)
