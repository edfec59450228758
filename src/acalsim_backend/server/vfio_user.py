"""The server's side of vfio-user: one PCI device, its BAR0 made of the register pages of the devices on a board.

Protocol: https://qemu.org/docs/master/interop/vfio-user.html, version 0; what is said here of its client is QEMU's.
A client that breaks the framing is dropped (ProtocolError); a request that makes no sense is answered with an error.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import json
import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Protocol

from acalsim_backend.device.device import ACCESS_SIZES
from acalsim_backend.device.registers import DEVICE_SIZE, PCI_ID

MAX_TRANSFER = 1 << 20  # bytes of a region access; what we announce
MAX_MESSAGE = MAX_TRANSFER + 4096
MAX_FDS = 8
CONFIG_SIZE = 256

_HEADER = struct.Struct("<HHIII")  # id, command, size with header, flags, errno
_REPLY, _TYPE_MASK, _NO_REPLY, _ERROR = 0x1, 0xF, 0x10, 0x20
_DMA_WRITABLE = 2


class Command(enum.IntEnum):
    """Requests that are answered; the others get ENOTSUP."""

    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    DEVICE_GET_INFO = 4
    DEVICE_GET_REGION_INFO = 5
    DEVICE_GET_IRQ_INFO = 7
    DEVICE_SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DEVICE_RESET = 13


class Region(enum.IntEnum):
    """Regions that exist, by their index; the other ones have size 0."""

    BAR0 = 0
    CONFIG = 7


_REGIONS, _IRQS = 9, 5
_INTX = 0
_INTX_FLAGS = 7  # eventfd, maskable, masked by each interrupt
_SET_EVENTFD, _SET_NONE = 0x4, 0x1
_SET_MASK, _SET_UNMASK, _SET_TRIGGER = 0x8, 0x10, 0x20

_PCI_COMMAND, _PCI_STATUS, _PCI_BAR0, _PCI_LINE = 0x04, 0x06, 0x10, 0x3C
_PCI_CLASS = 0x120000_01  # processing accelerator, revision 1
_PCI_INTERRUPT_STATUS = 0x08


class ProtocolError(Exception):
    """The peer does not speak vfio-user, or stopped in the middle of a message; nothing more can be read from it."""


class DisconnectedError(Exception):
    """The peer closed the connection between two messages."""


class _RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


class Bus(Protocol):
    """What is behind the PCI device: register pages, and the guest memory that it may reach."""

    @property
    def pages(self) -> int:
        """Register pages of DEVICE_SIZE bytes in BAR0."""
        ...

    @property
    def interrupt(self) -> bool:
        """Level of INTA#."""
        ...

    def read(self, offset: int, size: int) -> int:
        """Read BAR0."""
        ...

    def write(self, offset: int, size: int, value: int) -> None:
        """Write BAR0."""
        ...

    def map_memory(self, address: int, size: int, fd: int, offset: int) -> None:
        """The guest has memory at ``address``: ``size`` bytes of the file ``fd`` from ``offset`` on.

        ``fd`` is the caller's. ValueError refuses.
        """
        ...

    def unmap_memory(self, address: int, size: int) -> None:
        """The memory at ``address`` is gone."""
        ...

    def reset(self) -> None:
        """Power on."""
        ...


class VfioUserConnection:
    """One client on a connected socket. The caller says when a message is there, and closes."""

    def __init__(self, connection: socket.socket, bus: Bus) -> None:
        self._socket = connection
        self._bus = bus
        self._negotiated = False
        self._trigger: int | None = None
        self._masked = False
        self._bar_size = 1 << max(bus.pages * DEVICE_SIZE - 1, 0).bit_length()
        self._config = bytearray()
        self._reset_config()
        self._handlers: dict[Command, Callable[[bytes, list[int]], bytes]] = {
            Command.VERSION: self._version,
            Command.DMA_MAP: self._dma_map,
            Command.DMA_UNMAP: self._dma_unmap,
            Command.DEVICE_GET_INFO: self._info,
            Command.DEVICE_GET_REGION_INFO: self._region_info,
            Command.DEVICE_GET_IRQ_INFO: self._irq_info,
            Command.DEVICE_SET_IRQS: self._set_irqs,
            Command.REGION_READ: self._region_read,
            Command.REGION_WRITE: self._region_write,
            Command.DEVICE_RESET: self._reset,
        }

    def serve(self) -> None:
        """Receive one message and answer it; waits for it if it is not there yet.

        Raises:
            DisconnectedError: there is none, and there will be none.
            ProtocolError: it is not one.
        """
        fds: list[int] = []
        try:
            number, command, size, flags = self._receive_header(fds)
            payload = self._receive(size - _HEADER.size)
            error, reply = 0, b""
            try:
                reply = self._handle(command, payload, fds)
            except _RefusedError as refused:
                error = refused.number
        except (OSError, TimeoutError) as failed:
            raise ProtocolError(f"vfio-user client: {failed}") from None
        finally:
            for fd in fds:
                os.close(fd)
        if not flags & _NO_REPLY:
            self._reply(number, command, error, reply)
        self._raise_interrupt()

    def close(self) -> None:
        """Give back what the client handed over, and the connection."""
        self._drop_trigger()
        self._socket.close()

    # --- framing ---

    def _receive_header(self, fds: list[int]) -> tuple[int, int, int, int]:
        data = b""
        while len(data) < _HEADER.size:
            part, more, flags, _ = socket.recv_fds(self._socket, _HEADER.size - len(data), MAX_FDS)
            fds += more
            if not part:
                if data:
                    raise ProtocolError("vfio-user client: closed in the middle of a header")
                raise DisconnectedError
            if flags & socket.MSG_CTRUNC or len(fds) > MAX_FDS:
                raise ProtocolError(f"vfio-user client: more than {MAX_FDS} file descriptors in a message")
            data += part
        number, command, size, flags, _ = _HEADER.unpack(data)
        if flags & _TYPE_MASK or not _HEADER.size <= size <= MAX_MESSAGE:
            raise ProtocolError(
                f"vfio-user client: message of type {flags & _TYPE_MASK} with {size} bytes, expected a request (0) of "
                f"{_HEADER.size} to {MAX_MESSAGE}"
            )
        return number, command, size, flags

    def _receive(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            part = self._socket.recv(min(count - len(data), 1 << 16))
            if not part:
                raise ProtocolError("vfio-user client: closed in the middle of a message")
            data += part
        return bytes(data)

    def _reply(self, number: int, command: int, error: int, payload: bytes) -> None:
        flags = _REPLY | (_ERROR if error else 0)
        try:
            self._socket.sendall(_HEADER.pack(number, command, _HEADER.size + len(payload), flags, error) + payload)
        except OSError as failed:
            raise DisconnectedError from failed

    def _handle(self, command: int, payload: bytes, fds: list[int]) -> bytes:
        if command not in set(Command):
            raise _RefusedError(errno.ENOTSUP)
        if self._negotiated == (command == Command.VERSION):
            raise _RefusedError(errno.EINVAL)
        return self._handlers[Command(command)](payload, fds)

    # --- requests: payload to payload ---

    def _version(self, payload: bytes, fds: list[int]) -> bytes:
        (major, minor), text = _unpack("<HH", payload)
        try:
            json.loads(text.rstrip(b"\0") or b"{}")
        except (ValueError, RecursionError):
            raise _RefusedError(errno.EINVAL) from None
        if major != 0:
            raise _RefusedError(errno.ENOTSUP)
        self._negotiated = True
        ours = {"capabilities": {"max_msg_fds": MAX_FDS, "max_data_xfer_size": MAX_TRANSFER, "pgsizes": 4096}}
        return struct.pack("<HH", 0, min(minor, 1)) + json.dumps(ours).encode() + b"\0"

    def _dma_map(self, payload: bytes, fds: list[int]) -> bytes:
        (_, flags, offset, address, size), _ = _unpack("<IIQQQ", payload)
        if fds and flags & _DMA_WRITABLE:  # ROM has none, and is not for devices
            try:
                self._bus.map_memory(address, size, fds[0], offset)
            except ValueError:
                raise _RefusedError(errno.EINVAL) from None
        return b""

    def _dma_unmap(self, payload: bytes, fds: list[int]) -> bytes:
        (_, _, address, size), _ = _unpack("<IIQQ", payload)
        self._bus.unmap_memory(address, size)
        return payload

    def _info(self, payload: bytes, fds: list[int]) -> bytes:
        _unpack("<IIII", payload)
        return struct.pack("<IIII", 16, 3, _REGIONS, _IRQS)  # a PCI device that can be reset

    def _region_info(self, payload: bytes, fds: list[int]) -> bytes:
        (_, _, index, _, _, _), _ = _unpack("<IIIIQQ", payload)
        size = self._region_size(index)
        return struct.pack("<IIIIQQ", 32, 3 if size else 0, index, 0, size, 0)

    def _irq_info(self, payload: bytes, fds: list[int]) -> bytes:
        (_, _, index, _), _ = _unpack("<IIII", payload)
        return struct.pack("<IIII", 16, *((_INTX_FLAGS, index, 1) if index == _INTX else (1, index, 0)))

    def _set_irqs(self, payload: bytes, fds: list[int]) -> bytes:
        (_, flags, index, _, count), _ = _unpack("<IIIII", payload)
        if index != _INTX:
            return b""
        if flags & _SET_TRIGGER and flags & _SET_EVENTFD and fds:
            self._drop_trigger()
            self._trigger = fds.pop(0)
        elif flags & _SET_TRIGGER and flags & _SET_NONE and count == 0:
            self._drop_trigger()
        elif flags & _SET_NONE and flags & (_SET_MASK | _SET_UNMASK):
            self._masked = bool(flags & _SET_MASK)
        return b""

    def _region_read(self, payload: bytes, fds: list[int]) -> bytes:
        (offset, region, count), _ = _unpack("<QII", payload)
        self._check_access(offset, region, count)
        if region == Region.CONFIG:
            self._config[_PCI_STATUS] = _PCI_INTERRUPT_STATUS if self._bus.interrupt else 0
            data = bytes(self._config[offset : offset + count])
        elif offset >= self._bus.pages * DEVICE_SIZE:  # BAR0 is rounded up to a power of two
            data = b"\xff" * count
        else:
            data = self._bus.read(offset, count).to_bytes(count, "little")
        return payload[:16] + data

    def _region_write(self, payload: bytes, fds: list[int]) -> bytes:
        (offset, region, count), data = _unpack("<QII", payload)
        self._check_access(offset, region, count)
        if len(data) != count:
            raise _RefusedError(errno.EINVAL)
        if region == Region.CONFIG:
            self._write_config(offset, data)
        elif offset < self._bus.pages * DEVICE_SIZE:
            self._bus.write(offset, count, int.from_bytes(data, "little"))
        return payload[:16]

    def _reset(self, payload: bytes, fds: list[int]) -> bytes:
        self._reset_config()
        self._bus.reset()
        return b""

    # --- PCI ---

    def _region_size(self, index: int) -> int:
        return {Region.BAR0: self._bar_size, Region.CONFIG: CONFIG_SIZE}.get(Region(index), 0) if index in (0, 7) else 0

    def _check_access(self, offset: int, region: int, count: int) -> None:
        if offset + count > self._region_size(region) or count == 0:
            raise _RefusedError(errno.EINVAL)
        if region == Region.BAR0 and (count not in ACCESS_SIZES or offset % count):
            raise _RefusedError(errno.EINVAL)

    def _reset_config(self) -> None:
        self._config = bytearray(CONFIG_SIZE)
        struct.pack_into("<IHHI", self._config, 0, PCI_ID, 0, 0, _PCI_CLASS)
        struct.pack_into("<I", self._config, 0x2C, PCI_ID)
        self._config[0x3D] = 1  # interrupts at INTA#
        self._masked = False

    def _write_config(self, offset: int, data: bytes) -> None:
        """Only the command register, BAR0's address bits and the interrupt line can be written."""
        writable = bytearray(CONFIG_SIZE)
        struct.pack_into("<H", writable, _PCI_COMMAND, 0x0406)  # memory, bus master, interrupts off
        struct.pack_into("<I", writable, _PCI_BAR0, -self._bar_size & 0xFFFF_FFFF)
        writable[_PCI_LINE] = 0xFF
        for i, byte in enumerate(data, offset):
            self._config[i] = self._config[i] & ~writable[i] | byte & writable[i]

    def _raise_interrupt(self) -> None:
        if self._trigger is not None and not self._masked and self._bus.interrupt:
            self._masked = True
            with contextlib.suppress(OSError):  # whatever the client passed as an eventfd
                os.write(self._trigger, struct.pack("<Q", 1))

    def _drop_trigger(self) -> None:
        if self._trigger is not None:
            os.close(self._trigger)
            self._trigger = None


def _unpack(layout: str, payload: bytes) -> tuple[Sequence[int], bytes]:
    size = struct.calcsize(layout)
    if len(payload) < size:
        raise _RefusedError(errno.EINVAL)
    return struct.unpack_from(layout, payload), payload[size:]
