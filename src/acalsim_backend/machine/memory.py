"""Guest RAM as one lazily committed mapping that numpy, torch, the emulator and the kernels share, and its heap."""

from __future__ import annotations

import bisect
import mmap
import sys
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from acalsim_backend.device.registers import RAM_BASE, RESERVED_BYTES
from acalsim_backend.errors import CapacityError

ALIGNMENT = 64
"""Bytes; every block starts at a multiple of it, which is more than any dtype or command asks for."""

Bytes = npt.NDArray[np.uint8]

_MAP_NORESERVE = 0x4000 if sys.platform == "linux" else 0  # mmap.h; the mmap module names it from Python 3.13 on


class Ram:
    """``size_mib`` MiB at RAM_BASE. Pages cost host memory only once they are touched.

    ``array`` is the whole of it as ``np.uint8``, zero-copy; ``host_address`` is where it lies in this process.
    """

    def __init__(self, size_mib: int) -> None:
        self.base = RAM_BASE
        self.size = size_mib << 20
        try:
            self.mapping = self._map()
        except (OSError, OverflowError) as error:
            raise CapacityError(
                f"the host cannot map {size_mib} MiB of guest RAM: {error}; lower dram.size_mib or free memory"
            ) from None
        self.array: Bytes = np.frombuffer(self.mapping, dtype=np.uint8)
        self.host_address = int(self.array.ctypes.data)
        self._protected = (self.base, self.base)

    def _map(self) -> mmap.mmap:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        return mmap.mmap(-1, self.size, flags=flags)

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


@dataclass(frozen=True)
class Block:
    """``nbytes`` of guest RAM at ``address``; ``array`` is a zero-copy view of them."""

    address: int
    nbytes: int
    array: Bytes = field(repr=False, compare=False)


class Heap:
    """Allocates blocks of guest RAM above the firmware's reserved region: first fit over a sorted free list."""

    def __init__(self, ram: Ram) -> None:
        self._ram = ram
        self._free: list[tuple[int, int]] = [(ram.base + RESERVED_BYTES, ram.size - RESERVED_BYTES)]
        self._used: dict[int, int] = {}  # address -> bytes taken, a multiple of ALIGNMENT

    @property
    def free_bytes(self) -> int:
        """Bytes that are not allocated, in all holes together."""
        return sum(size for _, size in self._free)

    def allocate(self, nbytes: int, purpose: str = "a block") -> Block:
        """A block whose contents are undefined.

        Raises:
            CapacityError: no hole is large enough; says what was needed, what is free and what to do.
        """
        taken = max(-(-nbytes // ALIGNMENT), 1) * ALIGNMENT
        for i, (address, size) in enumerate(self._free):
            if size >= taken:
                if size == taken:
                    del self._free[i]
                else:
                    self._free[i] = (address + taken, size - taken)
                self._used[address] = taken
                return Block(address, nbytes, self._ram.view(address, nbytes))
        largest = max((size for _, size in self._free), default=0)
        raise CapacityError(
            f"{purpose} needs {_mib(taken)} of guest RAM, {_mib(self.free_bytes)} are free "
            f"(largest hole {_mib(largest)}) of dram.size_mib = {self._ram.size >> 20}; "
            f"set dram.size_mib to {self._enough(taken)} or more"
        )

    def free(self, block: Block) -> None:
        """Give a block back; neighbouring holes become one.

        Raises:
            ValueError: it is not an allocated block.
        """
        size = self._used.pop(block.address, None)
        if size is None:
            raise ValueError(f"{block.address:#x} is not an allocated block of this heap")
        address = block.address
        i = bisect.bisect(self._free, (address, 0))
        if i < len(self._free) and self._free[i][0] == address + size:
            size += self._free.pop(i)[1]
        if i and sum(self._free[i - 1]) == address:
            address, before = self._free.pop(i - 1)
            size += before
            i -= 1
        self._free.insert(i, (address, size))

    def _enough(self, taken: int) -> int:
        """A RAM size in MiB at which ``taken`` bytes would have fitted behind everything that is allocated now."""
        end = max((a + s for a, s in self._used.items()), default=self._ram.base + RESERVED_BYTES)
        return -(-(end - self._ram.base + taken) >> 20)


def _mib(nbytes: int) -> str:
    return f"{nbytes / (1 << 20):.2f} MiB"
