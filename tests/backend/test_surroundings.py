"""Is a compiled model right whatever goes on beside it: effects, other threads and processes, calls within calls?"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._higher_order_ops.effects import _EffectType, _register_effectful_op

from acalsim_backend.backend import ACALSimBackend, FallbackWarning
from acalsim_backend.device.compute import ComputeDevice
from acalsim_backend.device.timing import Timing
from acalsim_backend.errors import UnsupportedError, UsageError

pytestmark = pytest.mark.filterwarnings("ignore::acalsim_backend.backend.FallbackWarning")
notes: list[tuple[int, torch.Tensor]] = []


@torch.library.custom_op("acalsim_tests::note", mutates_args=())
def note(x: torch.Tensor, number: int) -> None:
    notes.append((number, x))


@note.register_fake
def _(x: torch.Tensor, number: float) -> None:
    return None


_register_effectful_op(torch.ops.acalsim_tests.note.default, _EffectType.ORDERED)


@torch.library.custom_op("acalsim_tests::through", mutates_args=())
def through(x: torch.Tensor, dtype: str) -> torch.Tensor:
    return x.to(getattr(torch, dtype)).float()


@through.register_fake
def _(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty_like(x)


library = torch.library.Library("acalsim_tests_nested", "DEF")
library.define("inner(Tensor x) -> Tensor")
library.impl("inner", torch.empty_like, "Meta")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    notes.clear()
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def backend(**options: Any) -> ACALSimBackend:
    return ACALSimBackend(mode="simulate", machine="native", **options)


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    return torch.compile(function, backend=backend(**options))


def in_threads(*functions: Callable[[], Any]) -> None:
    """Run functions, each in a thread; what one raises is raised."""
    errors = []

    def run(function: Callable[..., Any]) -> None:
        try:
            with torch.no_grad():
                function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(f,)) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error


# --- on the host ---


def fused_around(
    x: torch.Tensor, first: Callable[..., Any], second: Callable[..., Any]
) -> tuple[Any, torch.Tensor, Any]:
    """The sum moves behind the product with which it is fused, and the first call with it."""
    c = (x + 1) + x @ x
    return first(c), second(x), c


def test_do_random_numbers_come_in_the_order_of_the_program() -> None:
    def draws(x: torch.Tensor) -> tuple[Any, ...]:
        return fused_around(x, torch.rand_like, torch.rand_like)

    x, model = torch.ones(4, 4), compiled(draws)
    torch.manual_seed(1)
    expected = draws(x)
    torch.manual_seed(1)
    for a, b in zip(model(x), expected, strict=True):
        assert torch.equal(a, b)


def test_do_effects_keep_their_order_and_what_they_were_given() -> None:
    def notes_of(x: torch.Tensor) -> tuple[Any, ...]:
        return fused_around(
            x, lambda v: torch.ops.acalsim_tests.note(v, 1), lambda v: torch.ops.acalsim_tests.note(v, 2)
        )

    model = compiled(notes_of)
    model(torch.ones(4, 4))
    model(torch.full((4, 4), 3.0))
    assert [number for number, _ in notes] == [1, 2, 1, 2]
    assert [value[0, 0].item() for _, value in notes] == [6.0, 1.0, 40.0, 3.0]


@pytest.mark.parametrize("dtype", ["int8", "float64"])
def test_is_a_string_that_names_a_dtype_a_string(dtype: str) -> None:
    x = torch.tensor([1.5, 2.5])
    assert torch.equal(compiled(lambda x: torch.ops.acalsim_tests.through(x, dtype))(x), through(x, dtype))


def test_is_a_run_within_a_run_refused() -> None:
    one = backend()
    inner = torch.compile(lambda x: (x @ x).softmax(-1), backend=one)
    library.impl("inner", lambda x: inner(x.clone()), "CPU", allow_override=True)
    x = torch.rand(8, 8)
    inner(x)
    outer = torch.compile(lambda x: x @ x @ x + torch.ops.acalsim_tests_nested.inner(x), backend=one)
    with pytest.raises(UsageError, match="a backend of its own"):
        outer(x)
    other = torch.compile(lambda x: x @ x @ x + torch.ops.acalsim_tests_nested.inner(x), backend=backend())
    torch.testing.assert_close(other(x), x @ x @ x + (x @ x).softmax(-1), rtol=1e-4, atol=1e-5)


RANKS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sum": lambda x: x.sum((0, 2, 4, 6)),
    "amax": lambda x: x.amax((1, 3, 5, 7)),
    "mean of rank 7": lambda x: x[0].mean((1, 3, 5), keepdim=True),
    "index": lambda x: x[..., [1, 0]],
    "topk": lambda x: x.topk(1).values,
    "cumsum of what is no memory": lambda x: x.permute(7, 5, 3, 1, 0, 2, 4, 6).cumsum(3),
    "cumsum of rank 7": lambda x: x[0].flip(2).cumsum(1) * 2,
    "igamma of what is no memory": lambda x: torch.igamma(y := x.permute(7, 5, 3, 1, 0, 2, 4, 6).abs(), y),
    "igamma of rank 7": lambda x: torch.igamma(y := x[0].flip(2).abs(), y) * 2,
}


@pytest.mark.parametrize("name", RANKS)
def test_may_tensors_have_more_dims_than_a_view(name: str) -> None:
    x = torch.rand(2, 1, 2, 3, 2, 2, 1, 2)
    torch.testing.assert_close(compiled(RANKS[name])(x), RANKS[name](x), rtol=1e-4, atol=1e-5)


def test_is_no_fallback_recommended_where_there_is_none(tmp_path: Path) -> None:
    def breaks(x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        torch._dynamo.graph_break()
        return y * 2

    model = torch.compile(breaks, backend=ACALSimBackend(mode="codegen", output_dir=str(tmp_path), fallback="warn"))
    with pytest.raises(UnsupportedError, match=r"rewrite these lines$"):
        model(torch.rand(4))
    c_code = ACALSimBackend(mode="simulate", build="c", fallback="warn")
    model = torch.compile(lambda x: torch.linalg.inv(x), backend=c_code)
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match='build="image"'):
        model(torch.rand(4, 4))


# --- memory ---


def test_is_what_depends_on_constants_alone_computed() -> None:
    def large(x: torch.Tensor) -> torch.Tensor:
        p = torch.arange(2300.0)
        return x + p[:, None] * p[None, :]

    x, model = torch.ones(1), compiled(large)
    assert torch.equal(model(x), large(x))
    assert torch.equal(model(x), large(x))


def window(x: torch.Tensor, *offset: int) -> torch.Tensor:
    return x.as_strided((2, 2), (1, 2), *offset)


@pytest.mark.parametrize("dynamic", [False, True, None])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: window(x) + 1,
        lambda x: window(x[1:]) + 1,
        lambda x: window(x, 2) + 1,
        lambda x: window(x).as_strided((2, 3), (3, 1), 3) + 1,
        lambda x: window(window(x)[1:]) + 1,
        lambda x: window(x).mul_(3) * 1,
        lambda x: torch.as_strided_scatter(x, torch.zeros(2, 2), (2, 2), (1, 2), 4),
    ],
)
def test_is_a_window_where_the_argument_lies_in_its_memory(function: Callable[..., Any], dynamic: bool | None) -> None:
    memory, expected = torch.arange(20.0), torch.arange(20.0)
    model = torch.compile(function, backend=backend(), dynamic=dynamic)
    for first in (0, 4, 6, 4):
        if first == 6 and dynamic is False:
            continue
        got, right = model(memory[first : first + 10]), function(expected[first : first + 10])
        assert torch.equal(got, right)
        assert torch.equal(memory, expected)


def test_is_a_write_by_another_process_noticed() -> None:
    model = nn.Linear(1024, 1024, bias=False)
    nn.init.ones_(model.weight)
    model.share_memory()
    run, x = torch.compile(model, backend=backend()), torch.ones(1, 1024)
    assert run(x)[0, 0] == run(x)[0, 0] == 1024
    pid = os.fork()
    if pid == 0:
        model.weight.data.fill_(2)
        os._exit(0)
    os.waitpid(pid, 0)
    assert model(x)[0, 0] == run(x)[0, 0] == 2048


@pytest.mark.parametrize("change", [torch.Tensor.sigmoid_, lambda v: v.t_().add_(1), lambda v: v[0].mul_(2)])
def test_may_a_result_with_a_gradient_be_written_to(change: Callable[..., Any]) -> None:
    def function(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        v = x / y
        torch._dynamo.graph_break()
        change(v)
        return v

    with torch.enable_grad():
        got, expected = list[torch.Tensor](), list[torch.Tensor]()
        for results, f in ((got, compiled(function)), (expected, function)):
            x, y = torch.arange(1, 7).view(2, 3), torch.tensor(2.0, requires_grad=True)
            result = f(x, y)
            assert not result._is_view() or results is expected
            result.sum().backward()
            assert y.grad is not None
            results += [result, y.grad]
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


# --- threads and processes ---


def test_is_a_model_not_blamed_for_another_threads_graph_break() -> None:
    strict = compiled(lambda x: (x @ x).relu(), fallback="error")
    x, done = torch.rand(300, 300), threading.Event()
    strict(x)

    def breaks(x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        torch._dynamo.graph_break()
        return y * 2

    def others() -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FallbackWarning)
                compiled(breaks)(x)
        finally:
            done.set()

    def many() -> None:
        while not done.is_set():
            strict(x)
        strict(x)

    in_threads(many, others)


def test_is_a_recurrent_layer_captured_while_another_thread_is_inside_a_call() -> None:
    inside, go = threading.Event(), threading.Event()

    @torch.compiler.disable
    def wait(x: torch.Tensor) -> torch.Tensor:
        inside.set()
        assert go.wait(60)
        return x

    model, one, allowed = nn.GRU(8, 8, batch_first=True), backend(), []

    def waiting() -> None:
        compiled(lambda x: wait(x) + 1)(torch.ones(3))
        allowed.append(torch._dynamo.config.allow_rnn)

    def recurrent() -> None:
        assert inside.wait(60)
        try:
            x = torch.rand(1, 3, 8)
            torch.testing.assert_close(torch.compile(model, backend=one)(x)[0], model(x)[0], rtol=1e-4, atol=1e-5)
        finally:
            go.set()

    in_threads(waiting, recurrent)
    assert [r.fallbacks for r in one.reports] == [()]
    assert allowed == [False]


def test_may_threads_meet_inside_their_first_call() -> None:
    meeting = threading.Barrier(2)

    @torch.compiler.disable
    def meet(x: torch.Tensor) -> torch.Tensor:
        meeting.wait(60)
        return x

    model = compiled(lambda x: meet(x + 1) * 2)
    in_threads(*[lambda: model(torch.ones(3))] * 2)


def test_may_a_process_fork_while_a_thread_simulates() -> None:
    """The thread goes around Dynamo, whose guards have a lock of their own that a fork does not wait for."""
    one, stop = ACALSimBackend(mode="simulate"), threading.Event()
    model, x = torch.compile(lambda x: x @ x, backend=one), torch.rand(256, 256)
    model(x)
    ((shape,),) = (graph.shapes.values() for graph in one._graphs)
    executable, device = shape.executable, one.session._devices[1]
    assert executable
    assert isinstance(device, ComputeDevice)
    timer = device._timer
    assert isinstance(timer, Timing)

    def simulate() -> None:
        while not stop.is_set():
            with one.session.lock:
                timer._memo.clear()  # so that the engine works
            executable.run([x])

    thread = threading.Thread(target=torch.no_grad()(simulate))
    thread.start()
    try:
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    code = 0 if torch.allclose(model(x), x @ x, rtol=1e-3) else 2
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        stop.set()
        thread.join()
