"""``acalsim device serve``: devices behind a Unix socket for clients that come one after another."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from acalsim_backend.device.memory import Memory
from acalsim_backend.device.registers import RAM_BASE
from acalsim_backend.errors import InputError
from acalsim_backend.server.board import Board, Observer, PagedBus
from acalsim_backend.server.clients import Client, Clients
from acalsim_backend.server.devices import DeviceEntry, create_slots
from acalsim_backend.server.log import DeviceLog
from acalsim_backend.server.memory import SharedMemory
from acalsim_backend.server.mmio import MmioConnection
from acalsim_backend.server.vfio_user import DisconnectedError, ProtocolError, VfioUserConnection

MAX_PATH = 107  # bytes, of the kernel's sockaddr_un
SERVER = "DeviceServer"

_EMPTY_BYTES = 4096  # RAM of a board whose client has none


@contextlib.contextmanager
def listen(path: Path) -> Iterator[socket.socket]:
    """A listening Unix socket; a stale one of an ended server is replaced, and the file goes at the end.

    Raises:
        InputError: the path is too long, taken by something that lives, or cannot be written.
    """
    if len(os.fsencode(path)) > MAX_PATH:
        raise InputError(
            f"--socket {path}: {len(os.fsencode(path))} bytes, but a socket's path has at most {MAX_PATH}; "
            "choose a shorter one"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            _remove_stale(path)
            listener.bind(str(path))
            path.chmod(0o600)
        except OSError as error:
            raise InputError(f"--socket {path}: {error.strerror}; choose another path") from None
        try:
            listener.listen(4)
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _remove_stale(path: Path) -> None:
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise InputError(f"--socket {path}: there is a file that is no socket; choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise InputError(f"--socket {path}: a server is listening there; end it or choose another path")


@dataclass(frozen=True)
class Server:
    """Serves devices by one protocol.

    ``write`` takes the lines of the log. ``ram`` is the guest memory of clients that cannot share theirs (mmio).
    """

    entries: Sequence[DeviceEntry]
    write: Callable[[str], object]
    observers: Sequence[Observer] = ()
    ram: Memory | None = None

    def serve_vfio_user(self, connection: socket.socket) -> None:
        """Serve one QEMU to its end, and log it."""
        log = self._begin(self.write)
        bus = _LateBus(self.entries, (log, *self.observers))
        client = VfioUserConnection(connection, bus)
        try:
            with contextlib.suppress(DisconnectedError):
                while True:
                    client.serve()
        except ProtocolError as error:
            log.say(bus.board.now, SERVER, str(error))
        finally:
            client.close()
            log.finish(bus.board)

    def serve_mmio(self, listener: socket.socket, *, once: bool = False, ended: Callable[[], object]) -> None:
        """Serve clients in turn, request by request, each on devices of its own; ``ended`` is called when one has gone.

        Returns after the first client if ``once``. The log of a client that is not alone has its number in each line.
        A client for whom this process has no descriptors left is turned away, and logged.
        """

        def refused(why: str) -> None:
            self.write(f"{SERVER}: Client refused: {why}")

        Clients(listener, self._mmio_client, refused, ended).serve(once=once)

    def _mmio_client(self, connection: socket.socket, number: int) -> Client:
        memory = self.ram if self.ram is not None else SharedMemory.private(_EMPTY_BYTES)
        label = f"[Client {number}] " if number > 1 else ""
        log = self._begin(lambda line: self.write(label + line if line else line))
        board = Board(create_slots(self.entries, memory), (log, *self.observers))
        return Client(number, connection, MmioConnection(connection, board), log, board)

    def _begin(self, write: Callable[[str], object]) -> DeviceLog:
        log = DeviceLog(write)
        write("Simulation started")
        log.say(0, SERVER, "Client connected")
        return log


class _LateBus(PagedBus):
    """Devices for a client that first has to share its RAM; they are made anew when it does."""

    def __init__(self, entries: Sequence[DeviceEntry], observers: Sequence[Observer]) -> None:
        self._entries = entries
        self._observers = observers
        self._mapped = (0, 0)
        super().__init__(self._on(SharedMemory.private(_EMPTY_BYTES)))

    def _on(self, memory: Memory) -> Board:
        return Board(create_slots(self._entries, memory), self._observers)

    def map_memory(self, address: int, size: int, fd: int, offset: int) -> None:
        if address == RAM_BASE:
            self.board = self._on(SharedMemory.from_client(fd, size, offset))
            self._mapped = (address, size)

    def unmap_memory(self, address: int, size: int) -> None:
        if (address, size) == self._mapped:
            self._mapped = (0, 0)
            self.board = self._on(SharedMemory.private(_EMPTY_BYTES))

    def reset(self) -> None:
        self.board.reset()


def qemu_command(program: str, path: Path, kernel: str = "graph_0.elf") -> str:
    """The command line for the other terminal, to be copied."""
    device = (
        f'{{"driver":"vfio-user-pci","socket":{{"type":"unix","path":"{path.absolute()}"}},'
        '"x-no-posted-writes":true,"x-msg-timeout":86400000}'
    )
    lines = [
        program,
        "-M virt,memory-backend=ram -m 256M -object memory-backend-memfd,id=ram,size=256M,share=on",
        "-nographic -monitor none -serial stdio -bios none -icount shift=0,sleep=off",
        f"-device '{device}'",
        f"-kernel {kernel}",
    ]
    return " \\\n    ".join(lines)
