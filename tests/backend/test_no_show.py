"""Is it no show: do the outputs really come out of guest memory, computed by the machine, in cycles that mean something?"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from acalsim_backend.backend import ACALSimBackend, simulate
from acalsim_backend.device.device import ComputeDevice
from acalsim_backend.errors import AcalsimError
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.models.basic import Mlp, TransformerBlock
from acalsim_backend.models.resnet import resnet18


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    torch.manual_seed(0)


def close(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def small_resnet():
    torch.manual_seed(0)
    return resnet18().eval(), torch.randn(1, 3, 64, 64)


def test_does_resnet18_agree_with_eager_and_repeat_its_cycles_for_other_weights_and_runs(small_resnet):
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


def test_does_an_accelerator_for_products_alone_leave_rows_to_the_cpu_and_take_longer(small_resnet):
    model, x = small_resnet
    _, edge = simulate(model, (x,))
    torch._dynamo.reset()
    outputs, report = simulate(model, (x,), hardware="gemm_only")
    with torch.no_grad():
        close(outputs, model(x))
    assert {row.placement for row in report.ops} == {"cpu", "accelerator"}
    assert report.cycles.total > edge.cycles.total
    assert report.cycles.cpu > 10 * edge.cycles.cpu


def test_a_is_the_arena_full_of_signalling_nans_before_each_run():
    model, x = TransformerBlock().eval(), torch.randn(1, 32, 64)
    backend = ACALSimBackend(mode="simulate")
    session = backend.session
    seen = []
    original = session.machine.run

    def spy(*args, **kwargs):
        arena = session.arena.array[: session.arena.array.size // 4 * 4].view(np.uint32)
        seen.append(bool(arena.size) and bool((arena == 0x7FA00000).all()))
        return original(*args, **kwargs)

    session.machine.run = spy
    with torch.no_grad():
        compiled = torch.compile(model, backend=backend)
        for _ in range(2):
            close(compiled(x), model(x))
    assert seen
    assert all(seen)


@pytest.mark.parametrize("functional", ["torch", "native"])
@pytest.mark.parametrize("place", ["cpu", "auto"])
def test_b_does_one_flipped_byte_of_a_weight_in_guest_ram_change_the_output(place, functional):
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
def test_b_does_one_flipped_byte_of_a_command_in_guest_ram_change_the_output_or_end_in_an_error(place):
    model, x = Mlp(), torch.randn(4, 16)
    backend = ACALSimBackend(mode="simulate", place=place)
    compiled = torch.compile(model, backend=backend)
    with torch.no_grad():
        good = compiled(x).clone()
        (loaded,) = backend.session.loaded
        image = loaded.block.array
        at = loaded.image.command_offsets[0]
        for name, offset in (("opcode", 0), ("version", 2), ("dtype of a", 32 + 8), ("rows of a", 32 + 16), ("strides", 96)):
            image[at + offset] ^= 1
            try:
                changed = not torch.equal(compiled(x), good)
            except AcalsimError as error:
                assert str(error), name
                changed = True
            image[at + offset] ^= 1
            assert changed, f"a flipped byte in {name} went unnoticed"
        assert torch.equal(compiled(x), good)


def multiply_adds(report):
    return sum(row.flops for row in report.ops if row.type in ("GEMM", "CONV2D")) // 2


@pytest.mark.parametrize("name", ["mlp", "attention", "resnet18"])
def test_c_does_place_cpu_compute_everything_on_the_cpu(name, monkeypatch, small_resnet):
    def refuse(self, *args, **kwargs):
        raise AssertionError("the doorbell rang")

    monkeypatch.setattr(ComputeDevice, "doorbell", refuse)
    model, x = {
        "mlp": lambda: (Mlp(), torch.randn(4, 16)),
        "attention": lambda: (TransformerBlock().eval(), torch.randn(1, 32, 64)),
        "resnet18": lambda: small_resnet,
    }[name]()
    outputs, report = simulate(model, (x,), place="cpu")
    with torch.no_grad():
        close(outputs, model(x))
    assert {row.placement for row in report.ops} == {"cpu"}
    assert report.instructions_retired >= 2 * multiply_adds(report)
    for row in report.ops:
        if row.type in ("GEMM", "CONV2D"):
            assert row.instructions >= row.flops, row


def test_c_is_a_doorbell_really_refused(monkeypatch):
    def refuse(self, *args, **kwargs):
        raise AssertionError("the doorbell rang")

    monkeypatch.setattr(ComputeDevice, "doorbell", refuse)
    with pytest.raises(AcalsimError, match="doorbell rang"):
        simulate(Mlp(), (torch.randn(4, 16),), place="auto")


def test_d_are_results_right_when_pytorch_cannot_compute_any_more(monkeypatch):
    """With the model and ATen's kernels raising after compilation, only the firmware's kernels are left."""
    model, x = Mlp(), torch.randn(4, 16)
    backend = ACALSimBackend(mode="simulate", functional="native")
    compiled = torch.compile(model, backend=backend)
    with torch.no_grad():
        compiled(x)
        expected = model(x)

        def refuse(*args, **kwargs):
            raise AssertionError("PyTorch computed")

        for namespace, names in (
            (torch, ["addmm", "mm", "bmm", "matmul", "relu", "clamp_min", "add", "mul", "conv2d", "softmax"]),
            (torch.Tensor, ["addmm", "mm", "matmul", "__matmul__", "relu", "add", "mul", "__add__", "__mul__"]),
            (nn.functional, ["linear", "relu", "conv2d"]),
            (nn.Linear, ["forward"]),
        ):
            for name in names:
                monkeypatch.setattr(namespace, name, refuse)
        with _ForbidArithmetic():
            close_without_torch(compiled(x), expected)


class _ForbidArithmetic(torch.utils._python_dispatch.TorchDispatchMode):
    """Raises when ATen is asked to compute; moving bytes is allowed."""

    ALLOWED = ("view", "as_strided", "detach", "alias", "empty", "copy_", "_to_copy", "reshape", "clone", "lift_fresh", "t")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name.startswith(self.ALLOWED), f"ATen computed {name}"
        return func(*args, **(kwargs or {}))


def close_without_torch(got, expected):
    np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)


class Mixed(nn.Module):
    """A product that the array limits, and a large addition that the memory limits."""

    def forward(self, a, b, x, y):
        return a @ b, x + y


def run_mixed(bandwidth):
    torch._dynamo.reset()
    hardware = HardwareConfig.load("edge", {"dram.bandwidth_gbytes_per_s": str(bandwidth)})
    inputs = (torch.randn(512, 512), torch.randn(512, 512), torch.randn(1 << 20), torch.randn(1 << 20))
    outputs, report = simulate(Mixed(), inputs, hardware=hardware)
    close(outputs[0], inputs[0] @ inputs[1])
    close(outputs[1], inputs[2] + inputs[3])
    return {row.type: row for row in report.ops}


def test_e_does_half_the_bandwidth_slow_what_memory_limits_and_nothing_else():
    fast, slow = run_mixed(25.6), run_mixed(12.8)
    assert slow["VECTOR"].cycles / fast["VECTOR"].cycles == pytest.approx(2, rel=0.1)
    assert slow["GEMM"].cycles / fast["GEMM"].cycles < 1.05


def test_e_do_bytes_per_row_equal_their_closed_form():
    rows = run_mixed(25.6)
    n = 1 << 20
    assert (rows["VECTOR"].bytes_read, rows["VECTOR"].bytes_written) == (2 * 4 * n, 4 * n)
    assert rows["GEMM"].bytes_written == 4 * 512 * 512
    assert rows["GEMM"].bytes_read >= 2 * 4 * 512 * 512
    torch._dynamo.reset()
    a, b = torch.randn(64, 48), torch.randn(48, 32)  # both fit the scratchpad, so that each byte is read once
    _, report = simulate(_Product(), (a, b))
    (row,) = report.ops
    assert (row.bytes_read, row.bytes_written) == (4 * (64 * 48 + 48 * 32), 4 * 64 * 32)


class _Product(nn.Module):
    def forward(self, a, b):
        return a @ b
