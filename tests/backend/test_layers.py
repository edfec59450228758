"""Are layers and operators right whose meaning PyTorch's own capture, or ours, has lost before?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # its name everywhere
from torch.utils.checkpoint import checkpoint

from acalsim_backend.backend import ACALSimBackend
from acalsim_backend.errors import InputError, UnsupportedError

pytestmark = pytest.mark.filterwarnings("ignore::acalsim_backend.backend.FallbackWarning")


@torch.library.custom_op("acalsim_layers::scaled", mutates_args=())
def scaled(x: Tensor, device: torch.device, layout: str = "nchw", k: int | None = 3) -> Tensor:
    factor = {"nchw": 1, "nhwc": 10}[layout] * (100 if k is None else k)
    return x * factor * (2 if device.type == "cpu" else 1)


@scaled.register_fake
def _(x: torch.Tensor, device: torch.device | None, layout: str = "nchw", k: int = 3) -> torch.Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("acalsim_layers::smaller", mutates_args=())
def smaller(x: Tensor) -> Tensor:
    return x[:1] * 2


@smaller.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


library = torch.library.Library("acalsim_layers_lists", "DEF")
library.define("count(Tensor x, Tensor?[] ts) -> Tensor")
library.impl("count", lambda x, ts: x * len(ts), "CPU")
library.impl("count", lambda x, ts: torch.empty_like(x), "Meta")


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, backend=ACALSimBackend(mode="simulate", machine="native"))


def with_seed(function: Callable[..., Any], *args: Any) -> Any:
    torch.manual_seed(7)
    return function(*args)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("layer", [nn.RNN, nn.GRU, nn.LSTM])
def test_is_dropout_between_recurrent_layers_eagers(
    layer: Callable[..., nn.Module], bidirectional: bool, training: bool
) -> None:
    model = layer(4, 5, num_layers=3, dropout=0.5, bidirectional=bidirectional, batch_first=True).train(training)
    x, run = torch.randn(3, 2, 4), compiled(model)
    got, expected = with_seed(run, x), with_seed(model, x)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(run(x)[0], run(x)[0]) != training


@pytest.mark.parametrize("layer", [nn.RNN, nn.GRU, nn.LSTM])
def test_has_a_recurrent_layer_under_autocast_eagers_dtype(layer: Callable[..., nn.Module]) -> None:
    model, x = layer(4, 5, num_layers=2), torch.randn(3, 2, 4)

    def function(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(x)[0]

    with torch.no_grad():
        torch.testing.assert_close(compiled(function)(x), function(x), rtol=5e-2, atol=2e-2)


def test_are_two_meanings_of_one_storage_two_weights() -> None:
    z = torch.complex(torch.ones(2), torch.full((2,), 3.0))

    class Both(nn.Module):
        plain: torch.Tensor
        negated: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("plain", z.imag)
            self.register_buffer("negated", z.conj().imag)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return x + self.plain, x + self.negated

    plain, negated = compiled(Both())(torch.zeros(2))
    assert (plain.tolist(), negated.tolist()) == ([3.0, 3.0], [-3.0, -3.0])


def test_is_a_forward_mode_derivative_refused_and_not_zero() -> None:
    run = compiled(lambda x: x * 2)
    with pytest.raises(UnsupportedError, match="forward-mode"):
        torch.autograd.functional.jacobian(run, torch.ones(2), vectorize=True, strategy="forward-mode")
    assert torch.equal(torch.autograd.functional.jacobian(run, torch.ones(2)), 2 * torch.eye(2))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: scaled(x, torch.device("cpu")),
        lambda x: scaled(x, torch.device("cpu"), layout="nhwc"),
        lambda x: scaled(x, torch.device("cpu"), k=None),
        lambda x: torch.ops.acalsim_layers_lists.count(x, [x, None, None]),
        lambda x: torch.ops.acalsim_layers_lists.count(x, [None, x]),
    ],
)
def test_does_a_custom_operator_get_its_arguments(function: Callable[..., Any]) -> None:
    x = torch.tensor([1.0, 2.0])
    with torch.no_grad():
        assert torch.equal(compiled(function)(x), function(x))


def test_is_a_fake_that_lies_about_the_shape_named() -> None:
    with (
        torch.no_grad(),
        pytest.raises(InputError, match=r"returned \(1,\) torch.float32, its fake says \(2,\)"),
    ):
        compiled(lambda x: smaller(x))(torch.ones(2))


@pytest.mark.parametrize("reduce", [torch.any, torch.all])
def test_are_no_axes_none_for_truths(reduce: Callable[..., Any]) -> None:
    x = torch.tensor([[0.0, 2.0], [float("nan"), -0.0]])
    with torch.no_grad():
        assert torch.equal(compiled(lambda x: reduce(x, dim=()))(x), reduce(x, dim=()))


def test_is_a_checkpoint_over_dropout_recomputed_with_the_same_numbers() -> None:
    linear = nn.Linear(3, 4)

    def function(x: torch.Tensor) -> torch.Tensor:
        return checkpoint(lambda y: F.dropout(linear(y), 0.5), x, use_reentrant=False)

    results = []
    for run in (compiled(function), function):
        x = torch.arange(6.0).view(2, 3).requires_grad_()
        y = with_seed(run, x)
        y.sum().backward()
        results.append((y.detach(), x.grad))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def jagged() -> torch.Tensor:
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)


@pytest.mark.parametrize(
    ("make", "function", "message"),
    [
        (lambda: torch.ones(2, device="meta"), lambda x: x + 1, "meta device, which has no values"),
        (jagged, lambda n: (n * 2).values(), "nested tensor"),
    ],
    ids=["meta", "nested"],
)
def test_is_a_tensor_that_has_no_elements_in_memory_refused(
    make: Callable[..., Any], function: Callable[..., Any], message: str
) -> None:
    with pytest.raises((torch._dynamo.exc.BackendCompilerFailed, UnsupportedError), match=message):
        compiled(function)(make())


@pytest.mark.parametrize("groups", [1, 2])
def test_is_batch_norm_behind_a_transposed_convolution_right(groups: int) -> None:
    model = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, 2, groups=groups), nn.BatchNorm2d(6)).eval()
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    for part in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        assert part is not None
        part.uniform_(0.5, 2)
    x = torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(compiled(model)(x), model(x), rtol=1e-4, atol=1e-5)
