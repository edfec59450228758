"""Throws drawn messages at both protocol servers: ``python fuzz_servers.py COUNT``. Used by test_servers.py, too.

Whatever arrives, a server must answer or drop the client, within a second, without an exception, and without touching a
byte outside guest RAM, around which guards lie.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import selectors
import socket
import struct
import sys
import threading

import numpy as np
import numpy.typing as npt

from acalsim_backend.device.registers import DEVICE_BASE, DEVICE_SIZE, DEVICE_STRIDE, RAM_BASE, Register
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.server.board import Board
from acalsim_backend.server.devices import create_slots, standard_devices
from acalsim_backend.server.log import DeviceLog
from acalsim_backend.server.mmio import REPLY, REQUEST, MmioConnection
from acalsim_backend.server.vfio_user import DisconnectedError, ProtocolError, VfioUserConnection

RAM_BYTES = 1 << 16
GUARD_BYTES = 1 << 16
GUARD = 0xA5
MESSAGES_PER_CLIENT = 200
REPLY_SECONDS = 300.0
HARDWARE = dataclasses.replace(HardwareConfig(), devices=1)

_HEADER = struct.Struct("<HHIII")
_WORDS = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    16,
    255,
    256,
    4096,
    RAM_BASE,
    RAM_BASE + RAM_BYTES - 8,
    1 << 31,
    (1 << 32) - 1,
    (1 << 64) - 1,
)


class GuardedMemory:
    """Guest RAM between two guards of known bytes."""

    def __init__(self) -> None:
        self._whole: npt.NDArray[np.uint8] = np.full(RAM_BYTES + 2 * GUARD_BYTES, GUARD, np.uint8)
        self.base = RAM_BASE
        self.size = RAM_BYTES
        self.array = self._whole[GUARD_BYTES:-GUARD_BYTES]
        self.array[:] = 0
        self.host_address = int(self.array.ctypes.data)
        self.detached = 0

    def piece(self, low: int, high: int) -> GuardedMemory | None:
        return self if self.base <= low and high <= self.base + self.size else None

    def view(self, address: int, nbytes: int) -> npt.NDArray[np.uint8]:
        offset = address - self.base
        if nbytes < 0 or offset < 0 or offset + nbytes > self.size:
            raise IndexError(f"{nbytes} bytes at {address:#x} leave guest RAM")
        return self.array[offset : offset + nbytes]

    def is_protected(self, low: int, high: int) -> bool:
        return False

    def check(self) -> None:
        assert (self._whole[:GUARD_BYTES] == GUARD).all()
        assert (self._whole[-GUARD_BYTES:] == GUARD).all()


class Bus:
    """The board as vfio-user sees it, on memory that stays."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self.pages = len(board.slots)
        self.interrupt = False

    def read(self, offset: int, size: int) -> int:
        return self._board.read(self._board.slots[offset // DEVICE_SIZE], offset % DEVICE_SIZE, size)

    def write(self, offset: int, size: int, value: int) -> None:
        self._board.write(self._board.slots[offset // DEVICE_SIZE], offset % DEVICE_SIZE, size, value)

    def map_memory(self, address: int, size: int, fd: int, offset: int) -> None:
        from acalsim_backend.server.memory import SharedMemory

        SharedMemory.from_client(fd, size, offset)

    def unmap_memory(self, address: int, size: int) -> None:
        pass

    def reset(self) -> None:
        self._board.reset()


def make_board(memory: GuardedMemory) -> Board:
    """Echo and Compute with a log, as `acalsim device serve` makes them."""
    return Board(create_slots(standard_devices(HARDWARE), memory), (DeviceLog(lambda line: None),))


def fuzz_vfio_user(count: int, seed: int) -> int:
    """Send ``count`` messages; how many were answered."""
    rng = random.Random(seed)
    memory = GuardedMemory()
    board = make_board(memory)
    answered = 0
    sent = 0
    while sent < count:
        _fill_ram(rng, memory)
        ours, theirs = socket.socketpair()
        theirs.settimeout(REPLY_SECONDS)
        server = VfioUserConnection(theirs, Bus(board))
        thread = threading.Thread(target=_serve_vfio_user, args=(server,))
        thread.start()
        with ours:
            ours.settimeout(REPLY_SECONDS)
            exchanged = _converse(rng, ours, min(MESSAGES_PER_CLIENT, count - sent))
            sent, answered = sent + exchanged[0], answered + exchanged[1]
        thread.join(10 * REPLY_SECONDS)
        assert not thread.is_alive(), f"seed {seed}, message {sent}: the server hangs"
        memory.check()
    assert not _failures, _failures
    return answered


_failures: list[BaseException] = []


def _serve_vfio_user(server: VfioUserConnection) -> None:
    try:
        while True:
            server.serve()
    except (DisconnectedError, ProtocolError):
        pass
    except BaseException as error:
        _failures.append(error)
        raise
    finally:
        server.close()


def _converse(rng: random.Random, ours: socket.socket, count: int) -> tuple[int, int]:
    """Messages sent until the server dropped us, and answers."""
    answered = i = 0
    for i in range(count):
        message, fds = (_version(), []) if i == 0 and rng.random() < 0.95 else _message(rng)
        try:
            socket.send_fds(ours, [message], fds) if fds else ours.sendall(message)
        except OSError:
            break  # the server dropped us
        finally:
            for fd in fds:
                os.close(fd)
        whole = len(message) >= 16 and struct.unpack_from("<I", message, 4)[0] == len(message)
        if not whole:
            break  # whatever follows belongs to this message
        flags = struct.unpack_from("<I", message, 8)[0]
        if flags & 0x1F == 0:
            if not _receive(ours):
                break
            answered += 1
    return i + 1, answered


def _receive(ours: socket.socket) -> bool:
    header = _exactly(ours, 16)
    if len(header) < 16:
        return False
    rest = int.from_bytes(header[4:8], "little") - 16
    return len(_exactly(ours, rest)) == rest


def _exactly(ours: socket.socket, count: int) -> bytes:
    """That many bytes, or fewer if the server dropped us; TimeoutError if it says nothing."""
    data = b""
    while len(data) < count:
        try:
            part = ours.recv(count - len(data))
        except ConnectionError:
            break
        if not part:
            break
        data += part
    return data


def _version() -> bytes:
    return _frame(1, struct.pack("<HH", 0, 1) + json.dumps({"capabilities": {}}).encode() + b"\0")


def _frame(command: int, payload: bytes, flags: int = 0) -> bytes:
    return _HEADER.pack(7, command, 16 + len(payload), flags, 0) + payload


def _message(rng: random.Random) -> tuple[bytes, list[int]]:
    """Mostly well-framed requests with odd contents; some damaged; some with file descriptors."""
    command = rng.choice([2, 3, 4, 5, 7, 8, 9, 9, 9, 10, 10, 10, 10, 13, rng.randrange(1 << 16)])
    if command in (9, 10) and rng.random() < 0.9:
        count = rng.choice((1, 2, 4, 8, 4, 8, rng.randrange(300)))
        if rng.random() < 0.8:
            region, offset = 0, rng.randrange(2) * DEVICE_SIZE + rng.choice(list(Register))
        else:
            region, offset = rng.choice((0, 7, rng.choice(_WORDS) & 0xFFFF_FFFF)), rng.choice(_WORDS)
        payload = struct.pack("<QII", offset, region, count)
        if command == 10:
            payload += (_value(rng) & (1 << 64) - 1).to_bytes(8, "little").ljust(count, b"\1")[:count]
    else:
        payload = b"".join(rng.choice(_WORDS).to_bytes(8, "little") for _ in range(rng.randrange(6)))
    flags = rng.choice((0x10, 0x10, 0x10, rng.randrange(1 << 6))) if rng.random() < 0.02 else 0
    message = _frame(command, payload, flags)
    damage = rng.random()
    if damage < 0.002:
        message = message[: rng.randrange(len(message))]
    elif damage < 0.004:
        damaged = bytearray(message)
        damaged[rng.randrange(16)] ^= 1 << rng.randrange(8)
        message = bytes(damaged)
    fds = [_descriptor(rng) for _ in range(rng.choice((*[1] * 30, 2, 9)))] if message and rng.random() < 0.05 else []
    return message, fds


def _descriptor(rng: random.Random) -> int:
    kind = rng.randrange(3)
    if kind == 0:
        return os.open(os.devnull, os.O_RDWR)
    if kind == 1:
        return os.eventfd(0, os.EFD_NONBLOCK)
    fd = os.memfd_create("fuzz", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, rng.choice((0, 1, 4096)))
    return fd


def _value(rng: random.Random) -> int:
    return rng.choice((*_WORDS, RAM_BASE + 16 * rng.randrange(RAM_BYTES // 16), rng.randrange(16), rng.getrandbits(64)))


def _fill_ram(rng: random.Random, memory: GuardedMemory) -> None:
    """Queue entries that point to commands that are nearly right."""
    for slot in range(64):
        address = RAM_BASE + 0x1000 + 64 * rng.randrange(256)
        entry = struct.pack("<QII", address, rng.randrange(4), 0)
        memory.array[16 * slot : 16 * slot + 16] = np.frombuffer(entry, np.uint8)
    for at in range(0x1000, 0x5000, 64):
        head = struct.pack(
            "<HHIIHHIHHII", rng.randrange(18), 1, 64 * rng.randrange(20), rng.randrange(4), 1, 0, 0, 0, 0, 0, 0
        )
        body = (head + rng.randbytes(64))[:64]
        memory.array[at : at + 64] = np.frombuffer(body, np.uint8)


def fuzz_mmio(count: int, seed: int) -> int:
    """Send ``count`` requests, some torn or in lumps; how many succeeded."""
    rng = random.Random(seed)
    memory = GuardedMemory()
    board = make_board(memory)
    good = 0
    for first in range(0, count, MESSAGES_PER_CLIENT):
        _fill_ram(rng, memory)
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=_serve_mmio, args=(theirs, board))
        thread.start()
        with ours:
            ours.settimeout(REPLY_SECONDS)
            sent = 0
            for _ in range(min(MESSAGES_PER_CLIENT, count - first)):
                ours.sendall(_request(rng))
                sent += 1
                if rng.random() < 0.9:
                    data = _exactly(ours, REPLY.size * sent)
                    assert len(data) == REPLY.size * sent
                    good += sum(reply[0] for reply in REPLY.iter_unpack(data))
                    sent = 0
            if rng.random() < 0.5:
                ours.sendall(_request(rng)[: rng.randrange(REQUEST.size)])
        thread.join(10 * REPLY_SECONDS)
        assert not thread.is_alive(), f"seed {seed}: the server hangs"
        memory.check()
    assert not _failures, _failures
    return good


def _serve_mmio(connection: socket.socket, board: Board) -> None:
    server = MmioConnection(connection, board)
    try:
        with connection, selectors.DefaultSelector() as selector:
            selector.register(connection, server.events)
            while server.serve():
                selector.modify(connection, server.events)
                selector.select()
    except BaseException as error:
        _failures.append(error)
        raise


def _request(rng: random.Random) -> bytes:
    if rng.random() < 0.1:
        return rng.randbytes(REQUEST.size)
    address = DEVICE_BASE + rng.randrange(3) * DEVICE_STRIDE + rng.choice((*Register, rng.randrange(DEVICE_SIZE + 8)))
    size = rng.choice((4, 4, 8, 1, 2, rng.randrange(256)))
    value = _value(rng) & (1 << 8 * min(size, 8)) - 1
    return REQUEST.pack(rng.choice((0, 1, 1, rng.randrange(256))), size, 0, address, value)


def main() -> None:
    count = int(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
    print(f"seed {seed}")
    print(f"vfio-user: {count} messages, {fuzz_vfio_user(count, seed)} answered")
    print(f"mmio: {count} requests, {fuzz_mmio(count, seed)} succeeded")


if __name__ == "__main__":
    main()
