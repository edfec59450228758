"""The firmware's kernels as a host library, loaded by ctypes."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from acalsim_backend.device.memory import Memory
from acalsim_backend.errors import MissingToolError

LIBRARY = Path(__file__).parent.parent / "firmware" / "libacal_kernels.so"

HostCall = Callable[[int], int]
"""Runs the HOST command of that index and returns its status."""

_HOSTCALL = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_uint32)


class Fault(ctypes.Structure):
    """``acal_fault_t``: the address that a failed command is blamed on, 0 if none."""

    _fields_ = [("address", ctypes.c_uint64)]


@functools.cache
def _load(path: Path) -> Any:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise MissingToolError(f"the kernel library is not built ({error}); run `make setup`") from None
    library.acal_execute.restype = ctypes.c_uint32
    library.acal_execute.argtypes = [ctypes.c_char_p, ctypes.POINTER(Fault)]
    library.acal_set_ram.restype = None
    library.acal_set_ram.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64]
    library.acal_run_image.restype = ctypes.c_uint32
    library.acal_run_image.argtypes = [ctypes.c_uint64]
    library.acal_set_hostcall.restype = None
    library.acal_set_hostcall.argtypes = [_HOSTCALL]
    return library


class Kernels:
    """The library bound to one guest RAM. It keeps its RAM per thread, so every call says which."""

    def __init__(self, memory: Memory) -> None:
        self._library = _load(LIBRARY)
        self._ram = (memory.host_address, memory.base, memory.size)

    def execute(self, command: bytes) -> tuple[int, int]:
        """Run one command; status and fault address."""
        fault = Fault()
        self._library.acal_set_ram(*self._ram)
        status = self._library.acal_execute(command, ctypes.byref(fault))
        return status, fault.address

    def run_image(self, address: int, host_call: HostCall) -> int:
        """Run the image at a guest address; its status. ``host_call`` must not raise, and may run other images."""

        def call(index: int) -> int:
            status = host_call(index)
            bind()
            return status

        def bind() -> None:
            self._library.acal_set_ram(*self._ram)
            self._library.acal_set_hostcall(callback)

        callback = _HOSTCALL(call)
        bind()
        return int(self._library.acal_run_image(address))
