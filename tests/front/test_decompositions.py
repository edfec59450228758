"""Which operators are taken apart before the compiler sees them, and into what?"""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F  # noqa: N812  # its name everywhere

from acalsim_backend.front.trace import to_core_aten
from acalsim_backend.ops import operator_for


def overloads(function: Callable[[torch.Tensor], object], x: torch.Tensor) -> list[str]:
    graph = to_core_aten(function, [x]).graph
    return [str(n.target) for n in graph.nodes if isinstance(n.target, torch._ops.OpOverload)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "function",
    [F.leaky_relu, F.elu, F.softplus, torch.var, torch.std, torch.nansum, torch.logaddexp, torch.linalg.vector_norm],
    ids=lambda function: function.__name__,
)
def test_is_it_taken_apart_to_what_is_known(function: Callable[..., torch.Tensor], dtype: torch.dtype) -> None:
    arguments = 2 if function is torch.logaddexp else 1
    found = overloads(lambda x: function(*[x] * arguments), torch.rand(3, 4, dtype=dtype))
    assert found
    assert [name for name in found if operator_for(name) is None] == []


def test_does_an_operator_that_ends_in_itself_stay_whole() -> None:
    assert overloads(lambda x: torch.igamma(x, x), torch.rand(3)) == ["aten.igamma.default"]


def test_is_group_norm_a_layer_norm_of_its_groups() -> None:
    found = overloads(lambda x: F.group_norm(x, 2), torch.rand(2, 4, 3))
    assert "aten.native_layer_norm.default" in found


@pytest.mark.parametrize("size", [(3, 4), (1, 4), (3, 1)])
def test_is_nothing_written_to_for_the_strides_of_a_filled_copy(size: tuple[int, int]) -> None:
    x = torch.rand(2, *size).permute(2, 0, 1).as_strided((size[1], 2, size[0]), (1, size[0] * size[1], size[1]))
    function = functools.partial(torch.index_fill, dim=0, index=torch.tensor([0, 0]), value=0.5)
    assert not [name for name in overloads(function, x) if "copy_" in name]
    got, expected = to_core_aten(function, [x])(x), function(x)
    torch.testing.assert_close(got[0] if isinstance(got, (list, tuple)) else got, expected)


@pytest.mark.parametrize("draw", [lambda x: torch.normal(x, 2.0), lambda x: torch.normal(2.0, x), torch.normal])
def test_are_draws_around_a_transposed_tensor_eagers(draw: Callable[..., torch.Tensor]) -> None:
    x = torch.rand(4, 6).t()
    arguments = (x, x) if draw is torch.normal else (x,)
    torch.manual_seed(0)
    expected = draw(*arguments)
    captured = to_core_aten(lambda x: draw(*[x] * len(arguments)), [x])
    torch.manual_seed(0)
    got = captured(x)
    torch.testing.assert_close(got[0] if isinstance(got, (list, tuple)) else got, expected)
