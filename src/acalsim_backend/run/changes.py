"""Has memory been written since it was last asked about? Answered by the kernel, without reading the memory.

On Linux 6.7 and later: userfaultfd with asynchronous write protection marks pages, PAGEMAP_SCAN tells which of them
were written (Documentation/admin-guide/mm/{userfaultfd,pagemap}.rst). It sees writes by any code of this process,
system calls included. Where the kernel or a container has none of it, nothing is watched and the caller looks at the
bytes.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import itertools
import mmap
import os
import platform
import struct
import sys

from acalsim_backend.locks import Rank, make_lock

PAGE = mmap.PAGESIZE
LEAST_BYTES = 1 << 20
"""Below this, reading the bytes takes no longer than asking the kernel."""
_MOST_RANGES = 4096

_USERFAULTFD = {"x86_64": 323, "aarch64": 282}.get(platform.machine(), 0) if sys.platform == "linux" else 0
_USER_MODE_ONLY = 1
_API, _REGISTER, _WRITE_PROTECT = 0xC018AA3F, 0xC020AA00, 0xC018AA06
_PAGEMAP_SCAN = 0xC0606610
_FEATURES = 1 << 15 | 1 << 13  # UFFD_FEATURE_WP_ASYNC, UFFD_FEATURE_WP_UNPOPULATED
_REGISTER_MODE_WP, _WRITE_PROTECT_MODE_WP = 2, 1
_CHECK_WPASYNC, _IS_WRITTEN = 2, 2


class WriteWatch:
    """The watched ranges of this process. Whole pages alone, each in one range, so that no answer hides another's."""

    def __init__(self) -> None:
        self._lock = make_lock(Rank.TABLE)
        self._generations: dict[tuple[int, int], int] = {}
        self._numbers = itertools.count()  # no number twice: a range that was forgotten counts as written
        self._process = os.getpid()
        self._faults = self._pages = -1
        with contextlib.suppress(OSError):
            self._open()

    def generation(self, address: int, nbytes: int) -> int | None:
        """A number that grows when the whole pages in ``[address, address + nbytes)`` may have been written.

        A write before this call and after the one before it makes the number larger. None where they are not watched.
        """
        low, high = -(-address // PAGE) * PAGE, (address + nbytes) // PAGE * PAGE
        if self._faults < 0 or high - low < LEAST_BYTES or self._process != os.getpid():
            return None
        with self._lock:
            known = self._generations.get((low, high))
            if known is not None:
                with contextlib.suppress(OSError):  # parts of it were given back since and mapped anew
                    return self._renewed(low, high) if self._is_written(low, high) else known
                del self._generations[low, high]
            return self._begin(low, high)

    def _begin(self, low: int, high: int) -> int | None:
        if len(self._generations) >= _MOST_RANGES:
            self._generations.clear()
        for other in [(a, h) for a, h in self._generations if low < h and a < high]:
            del self._generations[other]  # given back, or other storages over the same memory
        try:
            if not _is_private(low, high):
                return None
            self._register(low, high)
            return self._renewed(low, high)
        except OSError:  # a part of it is no memory
            return None

    def _renewed(self, low: int, high: int) -> int:
        self._protect(low, high)
        self._generations[low, high] = number = next(self._numbers)
        return number

    def _open(self) -> None:
        if not _USERFAULTFD:
            return
        libc = ctypes.CDLL(None, use_errno=True)
        faults = libc.syscall(_USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK | _USER_MODE_ONLY)
        if faults < 0:
            raise OSError(ctypes.get_errno(), "userfaultfd")
        try:
            fcntl.ioctl(faults, _API, struct.pack("<QQQ", 0xAA, _FEATURES, 0))
            self._pages = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
            self._faults = faults
            if not self._works():
                raise OSError(errno.ENOTSUP, "writes are not seen")
        except OSError:
            os.close(faults)
            self._faults = -1
            raise

    def _works(self) -> bool:
        """Whether a write to a page of our own is seen, and nothing else is."""
        with contextlib.closing(mmap.mmap(-1, 2 * PAGE)) as memory:
            view = (ctypes.c_char * (2 * PAGE)).from_buffer(memory)
            low = ctypes.addressof(view)
            memory[0] = 1
            self._register(low, low + 2 * PAGE)
            self._protect(low, low + 2 * PAGE)
            before = self._is_written(low, low + 2 * PAGE)
            memory[PAGE] = 1
            after = self._is_written(low, low + 2 * PAGE)
            del view
            return after and not before

    def _register(self, low: int, high: int) -> None:
        fcntl.ioctl(self._faults, _REGISTER, struct.pack("<QQQQ", low, high - low, _REGISTER_MODE_WP, 0))

    def _protect(self, low: int, high: int) -> None:
        fcntl.ioctl(self._faults, _WRITE_PROTECT, struct.pack("<QQQ", low, high - low, _WRITE_PROTECT_MODE_WP))

    def _is_written(self, low: int, high: int) -> bool:
        found = ctypes.create_string_buffer(24)  # one struct page_region is enough
        request = struct.pack(
            "<12Q", 96, _CHECK_WPASYNC, low, high, 0, ctypes.addressof(found), 1, 1, 0, _IS_WRITTEN, 0, _IS_WRITTEN
        )
        buffer = bytearray(request)
        return bool(fcntl.ioctl(self._pages, _PAGEMAP_SCAN, buffer) > 0)


def _is_private(low: int, high: int) -> bool:
    """Whether all of the range is memory that this process alone can write: neither a file's nor shared."""
    with open("/proc/self/maps", "rb") as maps:  # noqa: PTH123  # a third of the time of Path.open
        for line in maps:
            begin, _, rest = line.partition(b"-")
            if int(begin, 16) >= high:
                return True
            end, permissions, _, _, inode, *_ = rest.split()
            if int(end, 16) > low and (permissions[3:4] != b"p" or inode != b"0"):
                return False
    return True


_watch: WriteWatch | None = None
_watch_lock = make_lock(Rank.TABLE)


def write_watch() -> WriteWatch:
    """The watch of this process."""
    global _watch
    with _watch_lock:
        if _watch is None:
            _watch = WriteWatch()
        return _watch
