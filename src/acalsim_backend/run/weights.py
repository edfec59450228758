"""Parameters and buffers in guest RAM: each storage is uploaded once, and again only when its content changes."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import xxhash
from torch.multiprocessing.reductions import StorageWeakRef

from acalsim_backend.run.changes import PAGE, write_watch
from acalsim_backend.tensors import raw_bytes

if TYPE_CHECKING:
    from acalsim_backend.run.heap import Block
    from acalsim_backend.run.session import Session


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


@dataclass(eq=False)
class Resident:
    """A weight in guest RAM. ``generation`` grows with every upload; what was prepared from it is then stale."""

    block: Block
    owner: StorageWeakRef
    digest: int
    written: tuple[int, int, int] | None = None
    """When its storage was last written, as far as the kernel says; see :func:`_last_write`."""
    generation: int = 0

    @property
    def is_gone(self) -> bool:
        """Whether the storage that it is a copy of no longer exists."""
        return bool(self.owner.expired())


class WeightCache:
    """Finds the block of a tensor by its storage, so that tied weights and views of one layout exist once.

    A change is noticed by content (a 64-bit hash, xxh3), not by PyTorch's version counter, which writes through
    ``.data``, NumPy or fused optimizers do not touch; where the kernel knows that a storage was not written, its
    content is not looked at. Blocks of storages that no longer exist are given back when room is needed. Used
    under its session's lock.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._residents: dict[tuple[object, ...], Resident] = {}
        self.uploads = 0
        """How many times bytes were copied to the guest."""
        session.register(self)

    def bind(self, tensor: torch.Tensor) -> Resident:
        """The up-to-date resident copy of ``tensor``."""
        storage = StorageWeakRef(tensor.untyped_storage())
        place = storage.cdata, tensor.storage_offset(), tuple(tensor.shape), tensor.stride()
        key = (*place, tensor.dtype, tensor.is_neg(), tensor.is_conj())
        resident = self._residents.get(key)
        if resident is not None and resident.is_gone:  # another storage at the same address
            resident = None
        written = _last_write(tensor)  # before the content is read, so that no later write is missed
        if resident is not None and written is not None and resident.written == written:
            return resident
        data = raw_bytes(tensor)
        digest = xxhash.xxh3_64_intdigest(data.data)
        if resident is None:
            self.reclaim()
            resident = Resident(self.session.allocate(data.nbytes, "a weight"), storage, digest)
            self._residents[key] = resident
        resident.written = written
        if resident.generation and resident.digest == digest:
            return resident
        resident.block.array[:] = data
        resident.digest = digest
        resident.generation += 1
        self.uploads += 1
        return resident

    def close(self) -> None:
        """Forget all weights."""
        self._residents.clear()

    def reclaim(self) -> None:
        """Forget the weights of storages that no longer exist."""
        self._residents = {key: resident for key, resident in self._residents.items() if not resident.is_gone}
