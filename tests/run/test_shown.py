"""Are large weights read where they lie, and never anything else than what they are?"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from acalsim_backend import ACALSimBackend
from acalsim_backend.device.memory import WINDOW_BASE, Region
from acalsim_backend.errors import CapacityError, DeviceError, GuestTrapError
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.program.commands import Fill
from acalsim_backend.program.enums import DType, Placement
from acalsim_backend.program.program import Origin, Program, Tensor, TensorKind
from acalsim_backend.program.view import View
from acalsim_backend.run import weights
from acalsim_backend.run.heap import Block
from acalsim_backend.run.session import Session
from acalsim_backend.run.weights import LEAST_SHOWN_BYTES, WeightCache

LARGE = LEAST_SHOWN_BYTES // 4  # elements of f32


@pytest.fixture
def cache() -> Iterator[WeightCache]:
    with Session(HardwareConfig()) as session:
        yield WeightCache(session)


def regions(cache: WeightCache) -> list[Region]:
    cache.bind_all([])
    cache.session._close_windows()
    return cache.session.ram._regions


def test_do_large_dense_tensors_stay_where_they_are(cache: WeightCache) -> None:
    tensor = torch.randn(3, LARGE)
    whole, row = cache.bind_all([tensor, tensor[1]])
    assert whole.block.array.ctypes.data == tensor.data_ptr()
    assert row.block.array.ctypes.data == tensor[1].data_ptr()
    assert row.block.address - whole.block.address == 4 * LARGE
    assert (cache.uploads, len(regions(cache))) == (0, 1)


@pytest.mark.parametrize(
    "tensor",
    [torch.randn(LARGE - 1), torch.randn(2, LARGE).t(), torch.randn(LARGE, dtype=torch.complex64).conj().real],
    ids=["small", "transposed", "strided"],
)
def test_are_others_copied(cache: WeightCache, tensor: torch.Tensor) -> None:
    block = cache.bind_all([tensor])[0].block
    assert torch.equal(torch.from_numpy(block.array).view(tensor.dtype).view(tensor.shape), tensor)
    assert (cache.uploads, regions(cache)) == (1, [])


def test_does_the_kernel_library_get_copies() -> None:
    with Session(HardwareConfig(), functional="native") as session:
        cache = WeightCache(session)
        assert cache.bind(torch.ones(LARGE)).shown is None


def test_are_the_largest_shown_where_not_all_can_be(cache: WeightCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "MOST_SHOWN", 2)
    tensors = [torch.ones(factor * LARGE) for factor in (1, 4, 2, 3)]
    assert [r.shown is not None for r in cache.bind_all(tensors)] == [False, True, False, True]


def test_is_an_address_never_that_of_two_storages(cache: WeightCache) -> None:
    seen = set[int]()
    for _ in range(5):  # the host's allocator gives the same pages again
        seen.add(cache.bind(torch.ones(4 * LARGE)).block.address)
        gc.collect()
        assert regions(cache) == []
    assert len(seen) == 5
    assert min(seen) >= WINDOW_BASE


def test_is_a_storage_followed_that_was_resized(cache: WeightCache) -> None:
    tensor = torch.zeros(LARGE)
    before = cache.bind(tensor).block.address
    tensor.resize_(64 * LARGE).fill_(3)
    after = cache.bind(tensor).block
    assert after.address != before
    assert after.array.ctypes.data == tensor.data_ptr()
    assert len(regions(cache)) == 1


@pytest.mark.parametrize("known", ["by the kernel", "by content"])
def test_does_the_generation_grow_with_a_change_alone(
    cache: WeightCache, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if known == "by content":
        monkeypatch.setattr(weights, "_last_write", lambda tensor: None)
    tensor = torch.zeros(64 * LARGE)
    first, again = cache.bind(tensor).generation, cache.bind(tensor).generation
    tensor.data[5] = 1.0
    assert first == again < cache.bind(tensor).generation


def test_is_memory_beyond_the_size_of_ram_refused() -> None:
    hardware = HardwareConfig.load("edge", {"dram.size_mib": "66"})
    with Session(hardware) as session:
        cache, tensor = WeightCache(session), torch.ones(1 << 18)
        cache.bind(tensor)
        with pytest.raises(CapacityError, match=r"a weight needs 2.\d\d MiB .* set dram.size_mib to 6[78] or more"):
            cache.bind(torch.ones(1 << 19))
        del tensor
        cache.bind(torch.ones(3 << 16))


@pytest.mark.parametrize("placement", [Placement.CPU, Placement.ACCELERATOR])
def test_is_a_weight_never_written(cache: WeightCache, placement: Placement) -> None:
    tensor = torch.ones(LARGE)
    block = cache.bind(tensor).block
    out = Tensor(0, "t_0", TensorKind.OUTPUT, DType.F32, (LARGE,))
    fill = Fill(View(0, DType.F32, (LARGE,), (1,)), placement=placement, origin=(0, 1))
    program = Program("net", (out,), (fill,), (), (0,), 0, (Origin(0, "op_0", "TEST"),))
    with pytest.raises((GuestTrapError, DeviceError), match=r"store|overwrite"):
        cache.session.run(cache.session.load(program), {0: Block(block.address, block.nbytes, block.array)})
    assert (tensor == 1).all()


@pytest.mark.parametrize("place", ["cpu", "accelerator"])
def test_does_a_model_see_every_change_of_its_weights(place: str) -> None:
    torch.manual_seed(0)
    backend = ACALSimBackend(mode="simulate", place=place)
    model = nn.Sequential(nn.Linear(256, 256), nn.BatchNorm1d(256), nn.Linear(256, 256, bias=False)).eval()
    first, last = model[0], model[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    last.weight = first.weight
    compiled, x = torch.compile(model, backend=backend), torch.randn(2, 256)

    def check() -> None:
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-4)

    check()
    uploads = backend.weights.uploads
    first.weight.data.mul_(0.5)
    check()
    first.weight.data = torch.randn(256, 256)
    check()
    first.weight.detach().numpy()[3] = 2.0
    check()
    assert backend.weights.uploads == uploads
