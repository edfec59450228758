"""Is everything that runs outside the machine named, with the user's line and the cause?"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from acalsim_backend import simulate
from acalsim_backend.backend import ACALSimBackend, FallbackWarning
from acalsim_backend.errors import UnsupportedError


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)


def breaks(x: torch.Tensor) -> torch.Tensor:
    y = x + 1
    torch._dynamo.graph_break()
    return y * 2


def skipped(x: torch.Tensor) -> torch.Tensor:
    for _ in range(2):
        x = x + 1
        torch._dynamo.graph_break()
    return x


def sparse(x: torch.Tensor) -> torch.Tensor:
    return torch.sparse.mm(x.to_sparse(), x)


def calls(compiled: Callable[..., Any], *inputs: Any) -> list[tuple[str, str]]:
    """Texts and lines of the warnings of all calls."""
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        for args in inputs:
            compiled(*args)
    return [(str(w.message), f"{w.filename}:{w.lineno}") for w in caught if w.category is FallbackWarning]


def line_of(function: Callable[..., Any], offset: int) -> str:
    return f"{__file__}:{function.__code__.co_firstlineno + offset}"


@pytest.mark.parametrize(
    ("function", "offset", "cause"),
    [(breaks, 2, "graph_break"), (skipped, 3, "graph_break"), (sparse, 1, "sparse")],
)
def test_is_code_that_pytorch_does_not_capture_named_once(
    function: Callable[..., Any], offset: int, cause: str
) -> None:
    backend, x = ACALSimBackend(mode="simulate"), torch.eye(3)
    named = calls(torch.compile(function, backend=backend), (x,), (x,))
    assert len(named) == 1
    text, line = named[0]
    assert line == line_of(function, offset)
    assert line in text
    assert cause in text
    for report in (backend.reports[0 if function is not breaks else 1], backend.reports[-1]):
        assert [f["source"] for f in report.fallbacks] == [line]
        assert line in report.summary()


@pytest.mark.parametrize("function", [breaks, skipped, sparse])
def test_does_fallback_error_refuse_it(function: Callable[..., Any]) -> None:
    backend = ACALSimBackend(mode="simulate", fallback="error")
    compiled = torch.compile(function, backend=backend)
    for _ in range(2):  # what was compiled meanwhile does not hide it
        with pytest.raises(UnsupportedError, match=r"did not capture all of the model.*\n.*test_uncaptured.py:\d+"):
            compiled(torch.eye(3))


def test_is_the_recompile_limit_named_and_are_known_shapes_still_simulated() -> None:
    backend = ACALSimBackend(mode="simulate")
    compiled = torch.compile(lambda x: x * 2, backend=backend, dynamic=False)
    limit = torch._dynamo.config.recompile_limit
    named = calls(compiled, *((torch.ones(n),) for n in range(1, limit + 3)))
    assert len(named) == 1
    text, line = named[0]
    assert f"recompile limit of {limit}" in text
    assert "dynamic=True" in text
    assert "test_uncaptured.py" in line
    assert [bool(r.fallbacks) for r in backend.reports] == [False] * limit + [True, True]
    assert calls(compiled, (torch.ones(1),)) == []
    assert backend.reports[-1].fallbacks == ()
    assert (backend.reports[-1].cycles.total or 0) > 0


def test_is_nothing_said_of_a_function_that_computes_nothing() -> None:
    backend = ACALSimBackend(mode="simulate")

    def function(x: torch.Tensor) -> int:
        return x.shape[0]

    assert calls(torch.compile(function, backend=backend), (torch.ones(3),)) == []
    assert backend.reports == []


def test_is_a_failing_model_not_blamed_on_capture() -> None:
    backend = ACALSimBackend(mode="simulate", fallback="error")

    def fails(x: torch.Tensor) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        torch.compile(fails, backend=backend)(torch.ones(3))


def test_do_other_backends_keep_their_behaviour() -> None:
    seen = []

    def other(gm: torch.fx.GraphModule, inputs: tuple[Any, ...]) -> Callable[..., Any]:
        seen.append(torch._dynamo.config.allow_rnn)
        return gm.forward

    torch.compile(lambda x: x + 1, backend=other)(torch.ones(3))
    assert seen == [False]
    with torch.no_grad():
        torch.compile(lambda x: x + 1, backend=ACALSimBackend(mode="simulate"))(torch.ones(3))
    assert torch._dynamo.config.allow_rnn is False


class Recurrent(nn.Module):
    def __init__(self, kind: Callable[..., nn.Module], **options: Any) -> None:
        super().__init__()
        self.layer = kind(4, 6, num_layers=2, **options)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        out, state = self.layer(x)
        return out.relu(), state


@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"bidirectional": True}, {"bias": False}])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("training", [False, True])
def test_are_recurrent_layers_one_graph_on_the_machine(
    kind: Callable[..., nn.Module], options: Any, training: bool
) -> None:
    backend = ACALSimBackend(mode="simulate", fallback="error")
    model, x = Recurrent(kind, **options), torch.randn(3, 2, 4)
    model.train(training)
    compiled = torch.compile(model, backend=backend)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
        compiled(x)
    assert len(backend.reports) == 2
    assert len(backend.get_all_compiled_irs()) == 1


def test_do_gradients_flow_through_a_recurrent_layer() -> None:
    model, x = Recurrent(nn.LSTM), torch.randn(3, 2, 4)
    twin = Recurrent(nn.LSTM)
    twin.load_state_dict(model.state_dict())
    torch.compile(model, backend=ACALSimBackend(mode="simulate"))(x)[0].sum().backward()
    twin(x)[0].sum().backward()
    for got, expected in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(got.grad, expected.grad, rtol=1e-4, atol=1e-5)


def test_does_simulate_say_what_ran_instead_of_the_machine() -> None:
    with pytest.warns(FallbackWarning, match="sparse"):
        _, report = simulate(_Module(sparse), torch.eye(3))
    assert report.ops == ()
    assert "sparse" in report.fallbacks[0]["op"]


class _Module(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> torch.Tensor:
        return self.function(*args)
