"""The server's side of the MMIO socket protocol: 20-byte requests, 16-byte replies, one register access each.

    request  u8 type (0 read, 1 write), u8 size (1, 2, 4, 8), u16 reserved (0), u64 address, u64 data
    reply    u8 success (1, or 0: nothing happened), 7 bytes 0, u64 data

All little-endian and packed. Device time passes in lockstep: with each request, and with nothing else.
"""

from __future__ import annotations

import socket
import struct

from acalsim_backend.device.device import ACCESS_SIZES
from acalsim_backend.server.board import Board

REQUEST = struct.Struct("<BBHQQ")
REPLY = struct.Struct("<B7xQ")
READ, WRITE = 0, 1


class MmioConnection:
    """One client on a connected socket."""

    def __init__(self, connection: socket.socket, board: Board) -> None:
        self._socket = connection
        self._board = board
        self._buffer = b""

    def serve(self) -> bool:
        """Answer the requests that have arrived; waits for some. False when the client is gone."""
        try:
            data = self._socket.recv(1 << 16)
            self._buffer += data
            replies = bytearray()
            while len(self._buffer) >= REQUEST.size:
                request, self._buffer = self._buffer[: REQUEST.size], self._buffer[REQUEST.size :]
                replies += answer(self._board, request)
            self._socket.sendall(replies)
        except OSError:
            return False
        return bool(data)


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
