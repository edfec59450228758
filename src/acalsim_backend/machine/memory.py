"""Guest RAM as one lazily committed mapping that numpy, torch, the emulator and the kernels share."""

from __future__ import annotations

import mmap
import sys
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from acalsim_backend.device.registers import RAM_BASE
from acalsim_backend.errors import CapacityError

Bytes = npt.NDArray[np.uint8]

_MAP_NORESERVE = 0x4000 if sys.platform == "linux" else 0  # mmap.h; the mmap module names it from Python 3.13 on


class Ram:
    """``size_mib`` MiB at RAM_BASE. Pages cost host memory only once they are touched.

    ``array`` is the whole of it as ``np.uint8``, zero-copy; ``host_address`` is where it lies in this process. A forked
    process has a copy of its own unless the memory is ``shared``.
    """

    shared: ClassVar[bool] = False

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
