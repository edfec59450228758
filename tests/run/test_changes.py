"""Is every write to memory noticed, by whatever route, and is nothing read that was not written?"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import xxhash

from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.run import changes, weights
from acalsim_backend.run.changes import LEAST_BYTES, PAGE, WriteWatch, write_watch
from acalsim_backend.run.session import Session
from acalsim_backend.run.weights import WeightCache


def large() -> torch.Tensor:
    return torch.zeros(LEAST_BYTES)  # 4 bytes each


_probe = large()
needs_kernel = pytest.mark.skipif(
    write_watch().generation(_probe.data_ptr(), _probe.nbytes) is None,
    reason="Linux 6.7 or newer and a container that allows userfaultfd tell which pages were written",
)


def remap(address: int, nbytes: int) -> None:
    """Fresh private pages in the place of others."""
    mmap_at = ctypes.CDLL(None, use_errno=True).mmap
    mmap_at.restype = ctypes.c_void_p
    mmap_at.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
    fixed = 0x10
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | fixed
    assert mmap_at(address, nbytes, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0) == address


def by_system_call(tensor: torch.Tensor, tmp_path: Path) -> None:
    file = tmp_path / "bytes"
    file.write_bytes(b"\1" * 64)
    with file.open("rb", buffering=0) as opened:
        memory: Any = tensor.numpy()
        opened.readinto(memoryview(memory).cast("B")[2 * PAGE : 2 * PAGE + 64])


def by_fused_optimizer(tensor: torch.Tensor, tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(tensor.detach())
    parameter.grad = torch.ones_like(tensor)
    torch.optim.AdamW([parameter], fused=True).step()


ROUTES = {
    "in place": lambda t, _: t.add_(1),
    "first element": lambda t, _: t[:1].fill_(5),
    "last element": lambda t, _: t[-1:].fill_(5),
    "one in the middle": lambda t, _: t[123_456:123_457].fill_(5),
    "data": lambda t, _: t.data.mul_(0).add_(2),
    "numpy": lambda t, _: t.numpy().__setitem__(70_000, 3),
    "system call": by_system_call,
    "fused optimizer": by_fused_optimizer,
}


@pytest.fixture(params=["kernel", "content"])
def cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightCache]:
    if request.param == "content":
        monkeypatch.setattr(weights, "_last_write", lambda tensor: None)
    with Session(HardwareConfig(), "native") as session:
        yield WeightCache(session)


@pytest.mark.parametrize("route", ROUTES)
def test_is_a_write_noticed_whatever_made_it(cache: WeightCache, route: str, tmp_path: Path) -> None:
    tensor = large()
    for uploads in (1, 1, 2, 2):
        if uploads == 2 and cache.uploads == 1:
            ROUTES[route](tensor, tmp_path)
        resident = cache.bind(tensor)
        assert cache.uploads == uploads
        assert bytes(resident.block.array[:64]) == bytes(tensor.numpy().view("u1")[:64])
        assert (resident.block.array == tensor.numpy().view("u1")).all()


@needs_kernel
def test_is_what_was_not_written_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = list[int]()

    def digest(data: bytes) -> int:
        hashed.append(len(data))
        return 0

    monkeypatch.setattr(xxhash, "xxh3_64_intdigest", digest)
    with Session(HardwareConfig(), "native") as session:
        cache, tensor = WeightCache(session), large()
        for _ in range(5):
            cache.bind(tensor)
    assert hashed == [tensor.nbytes]


@needs_kernel
def test_is_memory_watched_at_once_that_was_given_back_in_part_and_mapped_anew() -> None:
    """As the heap does when it shrinks and grows: the first pages stay watched, the rest is new."""
    with contextlib.closing(mmap.mmap(-1, 2 * LEAST_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)) as memory:
        view = (ctypes.c_char * len(memory)).from_buffer(memory)
        address = ctypes.addressof(view)
        for written in (0, LEAST_BYTES):  # where the first write is looked for, and where it is not
            first = write_watch().generation(address, len(memory))
            remap(address + LEAST_BYTES, LEAST_BYTES)
            memory[written] = 1
            second = write_watch().generation(address, len(memory))
            assert first is not None
            assert second is not None
            assert second > first
            assert write_watch().generation(address, len(memory)) == second
        del view


@needs_kernel
def test_do_two_caches_each_notice_one_write() -> None:
    tensor = large()
    with Session(HardwareConfig(), "native") as a, Session(HardwareConfig(), "native") as b:
        caches = WeightCache(a), WeightCache(b)
        for expected in (0.0, 1.0, 2.0):
            tensor.fill_(expected)
            for cache in caches:
                assert cache.bind(tensor).block.array.view("f4")[7] == expected


@needs_kernel
def test_are_views_of_one_storage_and_other_tensors_over_it_noticed() -> None:
    tensor = large()
    other = torch.from_numpy(tensor.numpy())  # another storage over the same memory
    with Session(HardwareConfig(), "native") as session:
        cache = WeightCache(session)
        views = tensor, tensor.view(2, -1).t(), other
        for value in (1.0, 2.0):
            other.fill_(value)
            for view in views:
                assert (cache.bind(view).block.array.view("f4") == value).all()


@needs_kernel
def test_does_memory_that_was_watched_before_stand_in_nobodys_way() -> None:
    watch, storage = write_watch(), torch.zeros(3 * LEAST_BYTES, dtype=torch.uint8)
    low, high = storage[: 2 * LEAST_BYTES], storage[LEAST_BYTES:]

    def generation(part: torch.Tensor) -> int | None:
        return watch.generation(part.data_ptr(), part.nbytes)

    assert generation(low) is not None
    assert generation(high) == generation(high) is not None
    assert generation(low) == generation(low) is not None


@needs_kernel
@pytest.mark.parametrize("forget", ["by an overlap", "by a limit"])
def test_does_a_range_that_was_forgotten_count_as_written(forget: str, monkeypatch: pytest.MonkeyPatch) -> None:
    watch, storage = write_watch(), torch.zeros(5 * LEAST_BYTES, dtype=torch.uint8)
    address, nbytes = storage.data_ptr(), 2 * LEAST_BYTES
    before = watch.generation(address, nbytes)
    if forget == "by a limit":
        monkeypatch.setattr(changes, "_MOST_RANGES", 1)
    watch.generation(address + (LEAST_BYTES if forget == "by an overlap" else 3 * LEAST_BYTES), nbytes)
    storage[4 * PAGE] = 1
    assert (watch.generation(address, nbytes) or 0) > (before or 0)


@needs_kernel
def test_does_a_forked_process_look_at_the_content() -> None:
    tensor = large()
    assert write_watch().generation(tensor.data_ptr(), tensor.nbytes) is not None
    pid = os.fork()
    if pid == 0:
        os._exit(0 if write_watch().generation(tensor.data_ptr(), tensor.nbytes) is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    before = write_watch().generation(tensor.data_ptr(), tensor.nbytes)
    tensor[200_000] = 1  # and this process goes on seeing its own writes
    assert (write_watch().generation(tensor.data_ptr(), tensor.nbytes) or 0) > (before or 0)


@needs_kernel
def test_is_memory_that_was_given_back_and_mapped_anew_not_taken_for_the_old() -> None:
    with Session(HardwareConfig(), "native") as session:
        cache = WeightCache(session)
        for value in range(6):
            tensor = torch.full((LEAST_BYTES,), float(value))
            for _ in range(2):
                assert (cache.bind(tensor).block.array.view("f4") == value).all()
            del tensor


def test_is_nothing_watched_where_the_kernel_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acalsim_backend.run.changes._USERFAULTFD", 0)
    tensor = large()
    assert WriteWatch().generation(tensor.data_ptr(), tensor.nbytes) is None
