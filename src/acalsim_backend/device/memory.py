"""Guest RAM: what a device sees of it, and bytes of this process that are it."""

from __future__ import annotations

import mmap
from typing import Protocol

import numpy as np
import numpy.typing as npt

from acalsim_backend.device.registers import RAM_BASE

Bytes = npt.NDArray[np.uint8]


class Memory(Protocol):
    """Guest RAM: ``size`` bytes from address ``base``, all of them in ``array``, without a copy."""

    base: int
    size: int
    array: Bytes
    host_address: int

    def view(self, address: int, nbytes: int) -> Bytes:
        """A range of RAM, zero-copy; IndexError when it leaves RAM."""
        ...

    def is_protected(self, low: int, high: int) -> bool:
        """Whether ``[low, high)`` touches guest code, which devices must not write."""
        ...


class MappedMemory:
    """Guest RAM from RAM_BASE on in a mapping of this process.

    ``array`` is the whole of it, zero-copy; ``host_address`` is where it lies in this process.
    """

    def __init__(self, mapping: mmap.mmap) -> None:
        self.array: Bytes = np.frombuffer(mapping, dtype=np.uint8)
        self.base = RAM_BASE
        self.size = len(self.array)
        self.host_address = int(self.array.ctypes.data)
        self._protected = (self.base, self.base)

    def protect(self, low: int, high: int) -> None:
        """Declare ``[low, high)`` guest code, which no device may write."""
        self._protected = (low, high)

    def is_protected(self, low: int, high: int) -> bool:
        """Whether ``[low, high)`` touches guest code."""
        return low < self._protected[1] and high > self._protected[0]

    def view(self, address: int, nbytes: int) -> Bytes:
        """``nbytes`` at guest ``address``, zero-copy.

        Raises:
            IndexError: the range does not lie in RAM; one of no bytes lies anywhere.
        """
        if nbytes == 0:
            return self.array[:0]
        offset = address - self.base
        if nbytes < 0 or offset < 0 or offset + nbytes > self.size:
            raise IndexError(f"{nbytes} bytes at {address:#x} leave guest RAM {self.base:#x}+{self.size:#x}")
        return self.array[offset : offset + nbytes]
