"""Is it no show: do the outputs come out of guest memory, computed by the machine, in cycles that mean something?"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from acalsim_backend.api import simulate
from acalsim_backend.backend import ACALSimBackend
from acalsim_backend.device.compute import ComputeDevice
from acalsim_backend.errors import AcalsimError
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.models.basic import Mlp, TransformerBlock
from acalsim_backend.models.resnet import resnet18
from acalsim_backend.report.model import OpRow, RunReport
from acalsim_backend.run.session import SIGNALLING_NAN


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)


def close(got: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def small_resnet() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return resnet18().eval(), torch.randn(1, 3, 64, 64)


def test_does_resnet18_agree_with_eager_and_repeat_its_cycles_for_other_weights_and_runs(
    small_resnet: tuple[nn.Module, torch.Tensor],
) -> None:
    model, x = small_resnet
    outputs, report = simulate(model, (x,))
    with torch.no_grad():
        close(outputs, model(x))
    assert report.fallbacks == ()
    torch._dynamo.reset()
    torch.manual_seed(1)
    other = resnet18().eval()
    _, again = simulate(other, (torch.randn(1, 3, 64, 64),))
    assert again.cycles == report.cycles
    assert [(r.start_cycle, r.end_cycle) for r in again.ops] == [(r.start_cycle, r.end_cycle) for r in report.ops]


def test_does_an_accelerator_for_products_alone_leave_rows_to_the_cpu_and_take_longer(
    small_resnet: tuple[nn.Module, torch.Tensor],
) -> None:
    model, x = small_resnet
    _, edge = simulate(model, (x,))
    torch._dynamo.reset()
    outputs, report = simulate(model, (x,), hardware="gemm_only")
    with torch.no_grad():
        close(outputs, model(x))
    assert {row.placement for row in report.ops} == {"cpu", "accelerator"}
    assert (report.cycles.total or 0) > (edge.cycles.total or 0) > 0
    assert (report.cycles.cpu or 0) > 10 * (edge.cycles.cpu or 0) > 0


def test_a_is_the_arena_full_of_signalling_nans_before_each_run(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = TransformerBlock().eval(), torch.randn(1, 32, 64)
    backend = ACALSimBackend(mode="simulate")
    session = backend.session
    seen = []
    original = session._machine.run

    def spy(*args: Any, **kwargs: Any) -> Any:
        assert session._arena
        arena = session._arena.array.view(np.uint32)
        seen.append(bool(arena.size) and bool((arena == SIGNALLING_NAN).all()))
        return original(*args, **kwargs)

    monkeypatch.setattr(session._machine, "run", spy)
    with torch.no_grad():
        compiled = torch.compile(model, backend=backend)
        for _ in range(2):
            close(compiled(x), model(x))
    assert seen
    assert all(seen)


@pytest.mark.parametrize("functional", ["torch", "native"])
@pytest.mark.parametrize("place", ["cpu", "auto"])
def test_b_does_one_flipped_byte_of_a_weight_in_guest_ram_change_the_output(place: str, functional: str) -> None:
    model, x = Mlp(), torch.randn(4, 16)
    backend = ACALSimBackend(mode="simulate", place=place, functional=functional)
    compiled = torch.compile(model, backend=backend)
    with torch.no_grad():
        good = compiled(x).clone()
        for resident in list(backend.weights._residents.values()):
            resident.block.array[3] ^= 0x40  # an exponent bit of the first element
            assert not torch.equal(compiled(x), good)
            resident.block.array[3] ^= 0x40
            assert torch.equal(compiled(x), good)


@pytest.mark.parametrize("place", ["cpu", "auto"])
def test_b_does_one_flipped_byte_of_a_command_in_guest_ram_change_the_output_or_end_in_an_error(place: str) -> None:
    model, x = Mlp(), torch.randn(4, 16)
    backend = ACALSimBackend(mode="simulate", place=place)
    compiled = torch.compile(model, backend=backend)
    with torch.no_grad():
        good = compiled(x).clone()
        (loaded,) = backend.session._programs.values()
        image = loaded.image.array
        at = loaded.command_offsets[0]
        for name, offset in (
            ("opcode", 0),
            ("version", 2),
            ("dtype of a", 32 + 8),
            ("rows of a", 32 + 16),
            ("strides", 96),
        ):
            image[at + offset] ^= 1
            try:
                changed = not torch.equal(compiled(x), good)
            except AcalsimError:
                changed = True
            image[at + offset] ^= 1
            assert changed, f"a flipped byte in {name} went unnoticed"
        assert torch.equal(compiled(x), good)


def multiply_adds(report: RunReport) -> int:
    return sum(row.flops for row in report.ops if row.type in ("GEMM", "CONV2D")) // 2


@pytest.mark.parametrize("name", ["mlp", "attention", "resnet18"])
def test_c_does_place_cpu_compute_everything_on_the_cpu(
    name: str, monkeypatch: pytest.MonkeyPatch, small_resnet: tuple[nn.Module, torch.Tensor]
) -> None:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("the doorbell rang")

    monkeypatch.setattr(ComputeDevice, "_doorbell", refuse)
    models: dict[str, Callable[[], tuple[nn.Module, torch.Tensor]]] = {
        "mlp": lambda: (Mlp(), torch.randn(4, 16)),
        "attention": lambda: (TransformerBlock().eval(), torch.randn(1, 32, 64)),
        "resnet18": lambda: small_resnet,
    }
    model, x = models[name]()
    outputs, report = simulate(model, (x,), place="cpu")
    with torch.no_grad():
        close(outputs, model(x))
    assert {row.placement for row in report.ops} == {"cpu"}
    assert (report.instructions_retired or 0) >= 2 * multiply_adds(report)
    for row in report.ops:
        if row.type in ("GEMM", "CONV2D"):
            assert (row.instructions or 0) >= row.flops, row


def test_c_is_a_doorbell_really_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("the doorbell rang")

    monkeypatch.setattr(ComputeDevice, "_doorbell", refuse)
    with pytest.raises(AcalsimError, match="doorbell rang"):
        simulate(Mlp(), (torch.randn(4, 16),), place="auto")


ATEN = ("addmm", "mm", "bmm", "relu", "relu_", "clamp_min", "add.Tensor", "mul.Tensor", "addmm.out", "mm.out", "linear")


def test_d_are_results_right_when_pytorch_cannot_compute_any_more() -> None:
    """With ATen's kernels raising after compilation, and so the eager model too, the firmware's kernels are left."""
    model, x = Mlp(), torch.randn(4, 16)
    backend = ACALSimBackend(mode="simulate", functional="native")
    compiled = torch.compile(model, backend=backend)
    with torch.no_grad():
        compiled(x)
        x = torch.randn(4, 16)
        expected = model(x)

        def refuse(*args: Any, **kwargs: Any) -> None:
            raise AssertionError("PyTorch computed")

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            library = torch.library.Library("aten", "IMPL")
            for name in ATEN:
                library.impl(name, refuse, "CPU")
        try:
            with pytest.raises(AssertionError, match="PyTorch computed"):
                model(x)
            got = compiled(x)
        finally:
            library._destroy()
    close(got, expected)


class Product(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a @ b


class Sum(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b


def row(model: nn.Module, inputs: tuple[torch.Tensor, ...], **overrides: Any) -> OpRow:
    torch._dynamo.reset()
    outputs, report = simulate(model, inputs, hardware=HardwareConfig.load("edge", overrides))
    close(outputs, model(*inputs))
    (only,) = report.ops
    return only


def test_e_does_half_the_bandwidth_slow_what_memory_limits_and_nothing_else() -> None:
    def ratio(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> float:
        full, half = (row(model, inputs, **{"dram.bandwidth_gbytes_per_s": rate}).cycles for rate in ("51.2", "25.6"))
        assert full
        assert half
        return half / full

    vectors = torch.randn(1 << 20), torch.randn(1 << 20)
    matrices = torch.randn(512, 512), torch.randn(512, 512)
    assert ratio(Sum(), vectors) == pytest.approx(2, rel=0.05)
    assert ratio(Product(), matrices) < 1.05


def test_e_do_bytes_per_row_equal_their_closed_form() -> None:
    n = 1 << 20
    vector = row(Sum(), (torch.randn(n), torch.randn(n)))
    assert (vector.bytes_read, vector.bytes_written) == (2 * 4 * n, 4 * n)
    fits = row(Product(), (torch.randn(64, 48), torch.randn(48, 32)))  # the scratchpad holds both: each byte once
    assert (fits.bytes_read, fits.bytes_written) == (4 * (64 * 48 + 48 * 32), 4 * 64 * 32)
