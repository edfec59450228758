"""The server's side of the MMIO socket protocol: 20-byte requests, 16-byte replies, one register access each.

    request  u8 type (0 read, 1 write), u8 size (1, 2, 4, 8), u16 reserved (0), u64 address, u64 data
    reply    u8 success (1, or 0: nothing happened), 7 bytes 0, u64 data

All little-endian and packed. Device time passes in lockstep: with each request, and with nothing else.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct

from acalsim_backend.device.device import ACCESS_SIZES
from acalsim_backend.server.board import Board

REQUEST = struct.Struct("<BBHQQ")
REPLY = struct.Struct("<B7xQ")
READ, WRITE = 0, 1
MAX_UNREAD = 1 << 16
"""Bytes of replies that a client has not taken, from which on it is not listened to."""
_RECEIVED = 1 << 16


class MmioConnection:
    """One client on a connected socket. Nobody waits for it: replies that it does not read are kept, up to a bound."""

    def __init__(self, connection: socket.socket, board: Board) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._board = board
        self._requests = b""
        self._replies = bytearray()
        self._sends = True

    @property
    def events(self) -> int:
        """What to wait for before serving it again, as the module ``selectors`` has it."""
        reads = selectors.EVENT_READ if self._listens else 0
        return reads | (selectors.EVENT_WRITE if self._replies else 0)

    def serve(self) -> bool:
        """Answer requests that have arrived, and send what the client takes. False when the client is gone."""
        try:
            with contextlib.suppress(BlockingIOError):
                if self._listens:
                    self._answer(self._socket.recv(_RECEIVED))
            with contextlib.suppress(BlockingIOError):
                if self._replies:
                    del self._replies[: self._socket.send(self._replies)]
        except OSError:
            return False
        return self._sends or bool(self._replies)

    @property
    def _listens(self) -> bool:
        return self._sends and len(self._replies) < MAX_UNREAD

    def _answer(self, data: bytes) -> None:
        self._sends = bool(data)
        requests = self._requests + data
        whole = len(requests) // REQUEST.size * REQUEST.size
        for at in range(0, whole, REQUEST.size):
            self._replies += answer(self._board, requests[at : at + REQUEST.size])
        self._requests = requests[whole:]


def answer(board: Board, request: bytes) -> bytes:
    """The reply to one request."""
    kind, size, reserved, address, data = REQUEST.unpack(request)
    place = board.find(address, size) if size in ACCESS_SIZES and address % size == 0 else None
    if place is None or kind not in (READ, WRITE) or reserved or (kind == WRITE and data >> 8 * size):
        return REPLY.pack(0, 0)
    slot, offset = place
    if not slot.device.accepts(offset, size, kind == WRITE):
        return REPLY.pack(0, 0)
    if kind == READ:
        return REPLY.pack(1, board.read(slot, offset, size))
    board.write(slot, offset, size, data)
    return REPLY.pack(1, 0)
