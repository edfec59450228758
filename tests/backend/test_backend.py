"""Does torch.compile with this backend give PyTorch's results, from a simulated machine, in every way it is used?"""

from __future__ import annotations

import copy
import gc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # its name everywhere

import acalsim_backend
from acalsim_backend.api import simulate
from acalsim_backend.backend import ACALSimBackend, FallbackWarning
from acalsim_backend.errors import UnknownNameError, UnsupportedError, UsageError
from acalsim_backend.machine.qemu import QemuConfig
from acalsim_backend.models.basic import MatMulModel, Mlp, TransformerBlock


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)


def backend(**options: Any) -> ACALSimBackend:
    return ACALSimBackend(mode="simulate", **options)


def close(got: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_does_the_quick_start_run_without_no_grad() -> None:
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 10))
    x = torch.randn(4, 16)
    close(torch.compile(model, backend=backend())(x), model(x))


def test_does_the_quick_start_run_with_no_grad() -> None:
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 10))
    x = torch.randn(4, 16)
    with torch.no_grad():
        close(torch.compile(model, backend=backend())(x), model(x))


def test_do_gradients_flow_through_the_simulated_forward() -> None:
    model, x = Mlp(), torch.randn(4, 16)
    reference = copy.deepcopy(model)
    torch.compile(model, backend=backend())(x).square().sum().backward()
    reference(x).square().sum().backward()
    for got, expected in zip(model.parameters(), reference.parameters(), strict=True):
        assert got.grad is not None
        assert expected.grad is not None
        close(got.grad, expected.grad)


@pytest.mark.parametrize("machine", ["unicorn", "native"])
@pytest.mark.parametrize("place", ["auto", "cpu"])
@pytest.mark.parametrize(
    ("model", "shape"), [(MatMulModel(), (8, 16)), (Mlp(), (4, 16)), (TransformerBlock(), (1, 32, 64))]
)
def test_do_models_give_eagers_outputs_wherever_they_run(
    model: nn.Module, shape: tuple[int, ...], place: str, machine: str
) -> None:
    x = torch.randn(shape)
    outputs, report = simulate(model.eval(), (x,), machine=machine, place=place)
    with torch.no_grad():
        close(outputs, model(x))
    assert report.fallbacks == ()
    if machine == "unicorn":
        assert (report.cycles.total or 0) > 0
        assert {row.placement for row in report.ops} == {"accelerator" if place == "auto" else "cpu"}
    else:
        assert report.cycles.total is None


def test_does_the_backend_work_by_name() -> None:
    model, x = Mlp(), torch.randn(4, 16)
    with torch.no_grad():
        close(torch.compile(model, backend="acalsim")(x), model(x))
    report = acalsim_backend.last_report()
    assert report
    assert (report.cycles.total or 0) > 0


def test_are_options_taken_by_name_and_unknown_ones_listed() -> None:
    model, x = Mlp(), torch.randn(4, 16)
    with torch.no_grad():
        torch.compile(model, backend="acalsim", options={"hardware": "gemm_only"})(x)
    report = acalsim_backend.last_report()
    assert report
    assert report.hardware == "gemm_only"
    torch._dynamo.reset()
    with torch.no_grad(), pytest.raises(Exception, match=r"unknown option 'hardwar': did you mean hardware\?"):
        torch.compile(model, backend="acalsim", options={"hardwar": "edge"})(x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "simulat"}, "unknown mode 'simulat': did you mean simulate"),
        ({"machine": "unicor"}, "unknown machine 'unicor': did you mean unicorn"),
        ({"hardware": "edg"}, "unknown hardware 'edg': did you mean edge"),
        ({"place": "gpu"}, "unknown place 'gpu'"),
        ({"fallback": "ignore"}, "unknown fallback 'ignore'"),
        *(
            ({name: None}, f"unknown {name} None: known: ")
            for name in ("mode", "machine", "place", "fallback", "build")
        ),
    ],
)
def test_do_wrong_arguments_name_the_nearest_right_ones(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        ACALSimBackend(**arguments)


def test_is_an_unwritable_output_folder_refused(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(acalsim_backend.AcalsimError, match=r"cannot write there: .*; choose another output_dir"):
        ACALSimBackend(output_dir=str(blocked / "x"))


def test_is_the_class_itself_a_backend() -> None:
    model, x = Mlp(), torch.randn(4, 16)
    with torch.no_grad():
        compiled = torch.compile(model, backend=ACALSimBackend)
        close(compiled(x), model(x))
    assert acalsim_backend.last_report() is ACALSimBackend.shared().reports[-1]


def test_may_the_settings_of_qemu_be_a_mapping(tmp_path: Path) -> None:
    config = ACALSimBackend(
        machine="qemu", qemu_config={"start_seconds": 7.5, "trace_mmio": tmp_path / "x"}
    ).qemu_config
    assert config == QemuConfig(start_seconds=7.5, trace_mmio=tmp_path / "x")
    with pytest.raises(
        UnknownNameError, match=r"unknown qemu_config setting 'start_second': did you mean start_seconds"
    ):
        ACALSimBackend(machine="qemu", qemu_config={"start_second": 1})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"binary": 3}, "binary is 3, expected the path of a file"),
        ({"gdb_port": "x"}, "gdb_port is 'x', expected a port, 1 to 65535"),
        ({"gdb_port": 0}, "gdb_port is 0, expected a port, 1 to 65535"),
        ({"gdb_port": True}, "gdb_port is True, expected a port, 1 to 65535"),
        ({"trace_mmio": ["a"]}, "trace_mmio is .*, expected the path of a file"),
        ({"extra_args": "abc"}, "extra_args is 'abc', expected a tuple of texts"),
        ({"extra_args": [1]}, r"extra_args is \[1\], expected a tuple of texts"),
        ({"start_seconds": "5"}, "start_seconds is '5', expected a number of seconds above 0"),
        ({"start_seconds": float("nan")}, "start_seconds is nan, expected a number of seconds above 0"),
    ],
)
def test_is_a_setting_of_qemu_that_it_cannot_have_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"QemuConfig: {message}"):
        ACALSimBackend(machine="qemu", qemu_config=settings)


def test_is_hardware_of_another_kind_refused() -> None:
    with pytest.raises(UsageError, match="hardware is None, expected the name of a preset, a file or a HardwareConfig"):
        ACALSimBackend(hardware=None)  # type: ignore[arg-type]


def test_is_a_qemu_config_without_qemu_refused() -> None:
    with pytest.raises(UsageError, match="qemu_config is for machine='qemu', got machine='unicorn'"):
        ACALSimBackend(qemu_config=QemuConfig())


def test_do_dynamic_shapes_get_one_program_each() -> None:
    model, b = Mlp(), backend()
    compiled = torch.compile(model, backend=b, dynamic=True)
    with torch.no_grad():
        for batch in (6, 9, 33, 9):
            x = torch.randn(batch, 16)
            close(compiled(x), model(x))
    assert len(b.get_all_compiled_irs()) == 3


def test_does_mode_compile_compile_each_shape() -> None:
    b = ACALSimBackend(mode="compile")

    def function(x: torch.Tensor) -> torch.Tensor:
        return (x * 2 + x.shape[0]).to(torch.bfloat16) + torch.tensor([1.0, 2.0], dtype=torch.bfloat16)

    compiled = torch.compile(function, backend=b, dynamic=True)
    for n in (3, 5, 3):
        x = torch.ones(n, 2)
        assert torch.equal(compiled(x), function(x))
    assert list(b.get_all_compiled_irs()) == ["graph_0", "graph_1"]
    program = b.get_program("graph_1")
    assert program
    assert program.commands


def test_do_shapes_that_pytorch_makes_dynamic_on_its_own_work() -> None:
    b = backend()
    with torch.no_grad():
        for width in (16, 24, 40):
            model, x = Mlp(width, 32, 10), torch.randn(4, width)
            close(torch.compile(model, backend=b)(x), model(x))


def test_is_an_input_that_the_model_changes_written_back() -> None:
    def step(state: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        state.add_(x)
        return state * 2

    state, x = torch.zeros(4), torch.arange(4.0)
    with torch.no_grad():
        out = torch.compile(step, backend=backend())(state, x)
    assert torch.equal(state, x)
    assert torch.equal(out, 2 * x)


def test_do_outputs_that_are_inputs_or_views_keep_their_identity() -> None:
    def function(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x, x.t(), x + 1

    x = torch.randn(3, 4)
    with torch.no_grad():
        same, turned, plus = torch.compile(function, backend=backend())(x)
    assert same is x or same.data_ptr() == x.data_ptr()
    assert torch.equal(turned, x.t())
    close(plus, x + 1)


def test_does_a_clone_have_memory_of_its_own() -> None:
    def function(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = x * 2
        return y, y.clone(), x.clone()

    x = torch.randn(4)
    with torch.no_grad():
        y, y2, x2 = torch.compile(function, backend=backend())(x)
    y.zero_()
    assert torch.equal(y2, x * 2)
    x2.zero_()
    assert x.abs().sum() > 0


def test_do_outputs_have_the_strides_that_eager_gives_them() -> None:
    def function(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (x.permute(1, 0) + 1), x.exp().t()

    x = torch.randn(3, 5)
    with torch.no_grad():
        got, expected = torch.compile(function, backend=backend())(x), function(x)
    for g, e in zip(got, expected, strict=True):
        assert g.stride() == e.stride()
        close(g, e)


@pytest.mark.parametrize("shape", [(0, 16), (1, 16)])
def test_are_zero_size_batches_handled(shape: tuple[int, ...]) -> None:
    model, x = Mlp(), torch.randn(shape)
    with torch.no_grad():
        out = torch.compile(model, backend=backend(), dynamic=False)(x)
    assert out.shape == (shape[0], 10)


# --- weights ---


def test_is_a_parameter_changed_in_place_seen() -> None:
    model, x = Mlp(), torch.randn(4, 16)
    first, last = model[0], model[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    b = backend()
    compiled = torch.compile(model, backend=b)
    with torch.no_grad():
        close(compiled(x), model(x))
        first.weight.mul_(2)
        close(compiled(x), model(x))
        last.bias.data.add_(1)  # PyTorch's version counter does not see this one
        close(compiled(x), model(x))


class ConvBn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        nn.init.uniform_(self.bn.get_buffer("running_var"), 0.5, 2)
        nn.init.uniform_(self.bn.get_buffer("running_mean"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


def test_is_running_var_changed_in_place_seen_by_what_was_prepared_from_it() -> None:
    model, x = ConvBn().eval(), torch.randn(1, 3, 8, 8)
    compiled = torch.compile(model, backend=backend())
    with torch.no_grad():
        close(compiled(x), model(x))
        model.bn.get_buffer("running_var").mul_(4)
        close(compiled(x), model(x))


def test_do_two_instances_share_a_program_and_keep_their_own_values() -> None:
    b = backend()
    models = [ConvBn().eval() for _ in range(2)]
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        for _ in range(2):
            for model in models:
                close(torch.compile(model, backend=b)(x), model(x))
    assert len(b.programs) == 1


def test_is_nothing_uploaded_twice() -> None:
    model, x, b = Mlp(), torch.randn(4, 16), backend()
    compiled = torch.compile(model, backend=b)
    with torch.no_grad():
        compiled(x)
        uploads = b.weights.uploads
        assert uploads == 4
        for _ in range(3):
            compiled(x)
        torch.compile(nn.Sequential(model, nn.ReLU()), backend=b)(x)
    assert b.weights.uploads == uploads


def test_do_tied_weights_exist_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(torch.relu(self.a(x)))

    model, x, b = Tied(), torch.randn(2, 8), backend()
    with torch.no_grad():
        close(torch.compile(model, backend=b)(x), model(x))
    assert b.weights.uploads == 1


def test_is_the_memory_of_dead_models_given_back() -> None:
    b = backend()
    x = torch.randn(2, 1024)
    with torch.no_grad():
        for _ in range(3):
            model = nn.Linear(1024, 1024)
            close(torch.compile(model, backend=b)(x), model(x))
            del model
            torch._dynamo.reset()
            gc.collect()
    assert len(b.weights._residents) <= 4


# --- fallback ---


def unsupported(x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.qr(torch.igamma(x.abs() + 1, x.abs())).R + torch.relu(torch.linalg.inv(x))


def test_do_unsupported_operators_run_on_the_host_with_one_warning_each() -> None:
    x = torch.randn(4, 4) + 4 * torch.eye(4)
    b = backend()
    compiled = torch.compile(unsupported, backend=b)
    with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        close(compiled(x), unsupported(x))
        compiled(x)
    texts = [str(w.message) for w in caught if issubclass(w.category, FallbackWarning)]
    report = b.reports[0]
    assert len(texts) == len(report.fallbacks) >= 3
    for name in ("linalg_qr", "inv", "igamma"):
        assert sum(name in t for t in texts) == 1
    assert all("test_backend.py:" in t and "wall time" in t for t in texts)
    host = [row for row in report.ops if row.placement == "host"]
    assert len(host) == len(texts)
    assert all(row.cycles in (0, None) or row.cycles >= 0 for row in host)


def test_does_fallback_error_list_all_of_them() -> None:
    x = torch.randn(4, 4)
    with pytest.raises(UnsupportedError) as error:
        simulate(_Module(unsupported), (x,), fallback="error")
    for name in ("linalg_qr", "inv", "igamma"):
        assert name in str(error.value)


class _Module(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> torch.Tensor:
        return self.function(*args)


def test_does_a_graph_that_was_never_seen_run_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    b = backend()

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"a process was started: {args}")

    monkeypatch.setattr("subprocess.Popen.__init__", refuse)
    monkeypatch.setattr("os.system", refuse)
    model, x = Mlp(17, 31, 7), torch.randn(3, 17)
    with torch.no_grad():
        close(torch.compile(model, backend=b)(x), model(x))


def test_is_the_memory_of_shapes_that_are_no_longer_kept_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acalsim_backend.backend.PROGRAM_CACHE_BYTES", 0)  # none but the newest
    model, b = ConvBn().eval(), backend()
    compiled = torch.compile(model, backend=b, dynamic=True)
    with torch.no_grad():
        for size in (8, 9, 10, 11, 8):
            x = torch.randn(1, 3, size, size)
            close(compiled(x), model(x))
    assert len(b.programs) == 1
    assert len(b.session._programs) == 2  # the Program and what prepares its weights
