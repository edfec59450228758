"""Guest RAM as one lazily committed mapping that numpy, torch, the emulator and the kernels share."""

from __future__ import annotations

import mmap
import sys
from typing import ClassVar

from acalsim_backend.device.memory import Bytes, MappedMemory
from acalsim_backend.errors import CapacityError

__all__ = ["Bytes", "Ram"]

_MAP_NORESERVE = 0x4000 if sys.platform == "linux" else 0  # mmap.h; the mmap module names it from Python 3.13 on


class Ram(MappedMemory):
    """``size_mib`` MiB. Pages cost host memory only once they are touched.

    A forked process has a copy of its own unless the memory is ``shared``.
    """

    shared: ClassVar[bool] = False

    def __init__(self, size_mib: int) -> None:
        try:
            self.mapping = self._map(size_mib << 20)
        except (OSError, OverflowError) as error:
            raise CapacityError(
                f"the host cannot map {size_mib} MiB of guest RAM: {error}; lower dram.size_mib or free memory"
            ) from None
        super().__init__(self.mapping)

    def _map(self, size: int) -> mmap.mmap:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        return mmap.mmap(-1, size, flags=flags)
