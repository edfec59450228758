"""Guest RAM that a client of the device server shares by a file descriptor."""

from __future__ import annotations

import fcntl
import mmap
import os

from acalsim_backend.device.memory import MappedMemory


class SharedMemory(MappedMemory):
    """``size`` bytes of the file ``fd`` as guest RAM from RAM_BASE on, all of it the client's own."""

    def __init__(self, fd: int, size: int, offset: int = 0) -> None:
        super().__init__(mmap.mmap(fd, size, mmap.MAP_SHARED, offset=offset))

    @classmethod
    def private(cls, size: int) -> SharedMemory:
        """RAM that nobody else sees."""
        fd = os.memfd_create("acalsim-ram")
        try:
            os.ftruncate(fd, size)
            return cls(fd, size)
        finally:
            os.close(fd)

    @classmethod
    def from_client(cls, fd: int, size: int, offset: int) -> SharedMemory:
        """RAM of a client, which must not be able to shrink it under our feet.

        Raises:
            ValueError: it is no memfd sealed against shrinking, or smaller than it says.
        """
        try:
            seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
            if not seals & fcntl.F_SEAL_SHRINK:
                raise ValueError("guest RAM must be a memfd sealed against shrinking, as memory-backend-memfd makes it")
            if size <= 0 or offset < 0 or offset + size > os.fstat(fd).st_size or offset % mmap.ALLOCATIONGRANULARITY:
                raise ValueError(f"{size} bytes at {offset:#x} are not in the file")
            return cls(fd, size, offset)
        except (OSError, OverflowError) as error:
            raise ValueError(str(error)) from None
