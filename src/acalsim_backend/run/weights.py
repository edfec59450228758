"""Parameters and buffers in guest memory: shown where they lie, or copied once and again when their content changes."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import xxhash
from torch.multiprocessing.reductions import StorageWeakRef

from acalsim_backend.run.changes import PAGE, write_watch
from acalsim_backend.run.heap import Block
from acalsim_backend.tensors import raw_bytes

if TYPE_CHECKING:
    from acalsim_backend.run.session import Session


LEAST_SHOWN_BYTES = 1 << 16
"""Storages below this are copied: they cost less so than a region does."""
MOST_SHOWN = 500
"""The emulator's cost of a region grows with their number: 100 take 5 ms, 300 take 63 ms, 1,000 half a second."""


def _last_write(tensor: torch.Tensor) -> tuple[int, int, int] | None:
    """What is equal for two moments only if the storage was not written between them; None where nobody can tell.

    Address, generation of its whole pages, and a hash of the bytes before and behind those.
    """
    if tensor.device.type != "cpu":
        return None
    storage = tensor.untyped_storage()
    address, nbytes = storage.data_ptr(), storage.nbytes()
    generation = write_watch().generation(address, nbytes)
    if generation is None:
        return None
    edges = xxhash.xxh3_64()
    for begin, end in ((address, -(-address // PAGE) * PAGE), ((address + nbytes) // PAGE * PAGE, address + nbytes)):
        edges.update(ctypes.string_at(begin, end - begin))
    return address, generation, edges.intdigest()


class _Shown:
    """A storage that the guest sees where it lies."""

    def __init__(self, session: Session, storage: torch.UntypedStorage) -> None:
        self.owner = StorageWeakRef(storage)
        self.address = storage.data_ptr()
        self._low = self.address // PAGE * PAGE
        self.window = session.show(self._low, -(-(self.address + storage.nbytes()) // PAGE) * PAGE - self._low)

    def block(self, tensor: torch.Tensor) -> Block:
        """The elements of a tensor in this storage."""
        region, offset = self.window.region, tensor.data_ptr() - self._low
        return Block(region.base + offset, tensor.nbytes, region.array[offset : offset + tensor.nbytes])


@dataclass(eq=False)
class Resident:
    """A weight as the guest has it. ``generation`` grows with every change; what was prepared from it is then stale."""

    block: Block
    owner: StorageWeakRef
    shown: _Shown | None = None
    """None: the block is a copy."""
    digest: int | None = None
    written: tuple[int, int, int] | None = None
    """When its storage was last written, as far as the kernel says; see :func:`_last_write`."""
    generation: int = 0

    @property
    def is_gone(self) -> bool:
        """Whether the storage that it stands for no longer exists."""
        return bool(self.owner.expired())


class WeightCache:
    """Finds what the guest has of a tensor by its storage, so that tied weights and views of one layout exist once.

    Where the machine can show memory of this process to the guest, large dense weights stay where they are; the
    others are copied. A change is noticed by content (a 64-bit hash, xxh3), not by PyTorch's version counter, which
    writes through ``.data``, NumPy or fused optimizers do not touch; where the kernel knows that a storage was not
    written, its content is not looked at. Copies of storages that no longer exist are given back when room is needed.
    Used under its session's lock.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._residents: dict[tuple[object, ...], Resident] = {}
        self._shown: dict[int, _Shown] = {}
        self.uploads = 0
        """How many times bytes were copied to the guest."""
        session.register(self)

    def bind(self, tensor: torch.Tensor) -> Resident:
        """What the guest has of ``tensor``, up to date, and so is its ``generation``."""
        (resident,) = self._find([tensor])
        self._update(resident, tensor)
        return resident

    def bind_all(self, tensors: Sequence[torch.Tensor]) -> list[Resident]:
        """What the guest has of ``tensors``, up to date; of what it sees in place, the ``generation`` is not."""
        residents = self._find(tensors)
        for resident, tensor in zip(residents, tensors, strict=True):
            if resident.shown is None:
                self._update(resident, tensor)
        return residents

    def _find(self, tensors: Sequence[torch.Tensor]) -> list[Resident]:
        if any(shown.owner.expired() for shown in self._shown.values()):
            self.reclaim()  # before the run, and whatever else may be mapped at their addresses
        found = [self._known(tensor) for tensor in tensors]
        if None in found:
            largest_first = sorted(tensors, key=lambda tensor: -tensor.untyped_storage().nbytes())
            self.reclaim()
            for tensor in largest_first:  # for only so many can be shown
                if self._known(tensor) is None:
                    self._residents[_key(tensor)] = self._new(tensor)
        return [self._residents[_key(tensor)] for tensor in tensors]

    def _known(self, tensor: torch.Tensor) -> Resident | None:
        resident = self._residents.get(_key(tensor))
        if resident is None or resident.is_gone:  # another storage at the same address
            return None
        if resident.shown is not None:
            storage = tensor.untyped_storage()
            if self._shown.get(storage._cdata) is not resident.shown or resident.shown.address != storage.data_ptr():
                return None  # the storage was resized, and lies elsewhere
        return resident

    def _new(self, tensor: torch.Tensor) -> Resident:
        storage = tensor.untyped_storage()
        if not self._can_be_shown(tensor):
            return Resident(self.session.allocate(tensor.nbytes, "a weight"), StorageWeakRef(storage))
        shown = self._shown.get(storage._cdata)
        if shown is None or shown.address != storage.data_ptr():
            shown = self._shown[storage._cdata] = _Shown(self.session, storage)
            self.reclaim()  # what lay where the storage was before
        return Resident(shown.block(tensor), shown.owner, shown)

    def _can_be_shown(self, tensor: torch.Tensor) -> bool:
        storage = tensor.untyped_storage()
        return (
            self.session.takes_regions
            and tensor.device.type == "cpu"
            and storage.nbytes() >= LEAST_SHOWN_BYTES
            and (len(self._shown) < MOST_SHOWN or storage._cdata in self._shown)
            and tensor.is_contiguous()
            and not (tensor.is_neg() or tensor.is_conj())
            and tensor.data_ptr() % tensor.itemsize == 0
        )

    def _update(self, resident: Resident, tensor: torch.Tensor) -> None:
        written = _last_write(tensor)  # before the content is read, so that no later write is missed
        if written is not None and resident.written == written:
            return
        resident.written = written
        if resident.shown is not None and written is not None:  # no need to know whether the bytes are others
            resident.generation += 1
            return
        data = raw_bytes(tensor)
        digest = xxhash.xxh3_64_intdigest(data.data)
        if resident.digest == digest:
            return
        resident.digest = digest
        resident.generation += 1
        if resident.shown is None:
            resident.block.array[:] = data
            self.uploads += 1

    def close(self) -> None:
        """Forget all weights."""
        self._residents.clear()
        self._shown.clear()

    def reclaim(self) -> None:
        """Forget the weights of storages that no longer exist, or lie elsewhere now."""
        self._shown = {key: shown for key, shown in self._shown.items() if not shown.owner.expired()}
        current = {None, *self._shown.values()}
        self._residents = {k: r for k, r in self._residents.items() if not r.is_gone and r.shown in current}


def _key(tensor: torch.Tensor) -> tuple[object, ...]:
    place = tensor.untyped_storage()._cdata, tensor.storage_offset(), tuple(tensor.shape), tensor.stride()
    return (*place, tensor.dtype, tensor.is_neg(), tensor.is_conj())
