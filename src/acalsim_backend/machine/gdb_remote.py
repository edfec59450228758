"""As much of gdb's remote protocol as it takes to let a guest run up to an address."""

from __future__ import annotations

import socket

from acalsim_backend.errors import MachineError

TIMEOUT_SECONDS = 4.0


class GdbRemote:
    """A client of the gdb stub on a local port."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)

    def __enter__(self) -> GdbRemote:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, command: str) -> str:
        """Send a packet; the payload of the answer.

        Raises:
            MachineError: there is no answer.
        """
        data = command.encode()
        try:
            self._socket.sendall(b"$%s#%02x" % (data, sum(data) & 0xFF))
            answer = b""
            while b"#" not in answer[:-2]:
                part = self._socket.recv(4096)
                if not part:
                    raise MachineError("QEMU's gdb stub closed the connection")
                answer += part
            self._socket.sendall(b"+")
        except OSError as error:
            raise MachineError(f"QEMU's gdb stub: {error}") from None
        return answer.partition(b"$")[2].rpartition(b"#")[0].decode()


def stop_at(port: int, address: int) -> None:
    """Let the guest of the stub on ``port`` run to ``address``, and leave it stopped there."""
    with GdbRemote(port) as gdb:
        gdb.ask("?")
        gdb.ask(f"Z0,{address:x},4")
        gdb.ask("c")
        gdb.ask(f"z0,{address:x},4")
