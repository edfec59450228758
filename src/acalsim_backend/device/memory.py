"""Guest memory: RAM, what a device sees of it, and bytes of this process that are it."""

from __future__ import annotations

import bisect
import ctypes
import mmap
from typing import Protocol

import numpy as np
import numpy.typing as npt

from acalsim_backend.device.registers import RAM_BASE

Bytes = npt.NDArray[np.uint8]

PAGE = mmap.PAGESIZE
WINDOW_BASE = 1 << 45
"""Where memory of this process is shown to the guest, far behind all RAM."""


class Extent(Protocol):
    """Guest memory in one piece: ``size`` bytes from address ``base``, all of them in ``array``, without a copy."""

    base: int
    size: int
    array: Bytes


class Memory(Extent, Protocol):
    """All guest memory. Itself it is RAM; there may be regions beside it, which nobody in the guest may write."""

    host_address: int
    detached: int
    """How many regions there were that are no more. What was learned about addresses before it grew is void."""

    def piece(self, low: int, high: int) -> Extent | None:
        """What ``[low, high)`` lies in: RAM, a region, or nothing."""
        ...

    def view(self, address: int, nbytes: int) -> Bytes:
        """A range of memory, zero-copy; IndexError where there is none."""
        ...

    def is_protected(self, low: int, high: int) -> bool:
        """Whether ``[low, high)`` touches guest code or a region, which devices must not write."""
        ...


class Region:
    """Whole pages of this process in the guest's window, for reading: ``size`` bytes at guest address ``base``.

    Whoever attached it sees to it that the pages stay what they are until it is detached.
    """

    def __init__(self, base: int, host_address: int, size: int) -> None:
        self.base = base
        self.host_address = host_address
        self.size = size
        self.array: Bytes = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(host_address))


class MappedMemory:
    """Guest RAM from RAM_BASE on in a mapping of this process, and regions beside it.

    ``array`` is all of RAM, zero-copy; ``host_address`` is where it lies in this process.
    """

    def __init__(self, mapping: mmap.mmap) -> None:
        self.array: Bytes = np.frombuffer(mapping, dtype=np.uint8)
        self.base = RAM_BASE
        self.size = len(self.array)
        self.host_address = int(self.array.ctypes.data)
        self.detached = 0
        self._protected = (self.base, self.base)
        self._regions: list[Region] = []  # by rising base
        self._next_base = WINDOW_BASE

    def protect(self, low: int, high: int) -> None:
        """Declare ``[low, high)`` guest code, which no device may write."""
        self._protected = (low, high)

    def attach(self, host_address: int, size: int) -> Region:
        """Show whole pages of this process to the guest, at an address that was never used before."""
        region = Region(self._next_base, host_address, size)
        self._next_base += size + PAGE  # nothing lies between two regions, so that no range covers both
        self._regions.append(region)
        return region

    def detach(self, region: Region) -> None:
        """Take a region away from the guest."""
        self._regions.remove(region)
        self.detached += 1

    def is_protected(self, low: int, high: int) -> bool:
        """Whether ``[low, high)`` touches guest code or a region."""
        return (low < self._protected[1] and high > self._protected[0]) or high > WINDOW_BASE

    def piece(self, low: int, high: int) -> Extent | None:
        """What ``[low, high)`` lies in: RAM, a region, or nothing."""
        if self.base <= low and high <= self.base + self.size:
            return self
        i = bisect.bisect(self._regions, low, key=lambda region: region.base) - 1
        if i >= 0 and high <= self._regions[i].base + self._regions[i].size:
            return self._regions[i]
        return None

    def view(self, address: int, nbytes: int) -> Bytes:
        """``nbytes`` at guest ``address``, zero-copy.

        Raises:
            IndexError: the range does not lie in guest memory; one of no bytes lies anywhere.
        """
        if nbytes == 0:
            return self.array[:0]
        piece = self.piece(address, address + nbytes) if nbytes > 0 else None
        if piece is None:
            raise IndexError(f"{nbytes} bytes at {address:#x} leave guest RAM {self.base:#x}+{self.size:#x}")
        return piece.array[address - piece.base : address - piece.base + nbytes]
