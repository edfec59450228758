"""The clients of a listening socket, served in turn by one thread that waits for none of them."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass

from acalsim_backend.server.board import Board
from acalsim_backend.server.log import DeviceLog
from acalsim_backend.server.mmio import MmioConnection


@dataclass(frozen=True, eq=False)
class Client:
    """A client that is being served, with devices and a log of its own."""

    number: int
    socket: socket.socket
    connection: MmioConnection
    log: DeviceLog
    board: Board

    def close(self) -> None:
        """End it and its log."""
        self.socket.close()
        self.log.finish(self.board)


class Clients:
    """Takes clients in and serves them, request by request.

    ``admit`` makes a client of a connection and its number and raises OSError where this process lacks the means;
    then, and where no descriptor is left for the connection itself, that client alone is turned away, and ``refused``
    is told why. ``ended`` is called when one has gone.
    """

    def __init__(
        self,
        listener: socket.socket,
        admit: Callable[[socket.socket, int], Client],
        refused: Callable[[str], object],
        ended: Callable[[], object],
    ) -> None:
        self._listener = listener
        self._admit = admit
        self._refused = refused
        self._ended = ended
        self._clients: list[Client] = []
        self._spare: int | None = None

    def serve(self, *, once: bool) -> None:
        """Serve until a signal ends it, or to the end of the first client if ``once``."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            self._keep_spare()
            try:
                while selector.get_map():
                    for key, _ in selector.select():
                        if key.data is None:
                            self._take_in(selector, once)
                        else:
                            self._go_on(selector, key.data)
            finally:
                self._drop_spare()
                for client in self._clients:
                    client.close()

    def _take_in(self, selector: selectors.BaseSelector, once: bool) -> None:
        number = max((c.number for c in self._clients), default=0) + 1
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            self._turn_away(error)
            return
        try:
            client = self._admit(connection, number)
        except OSError as error:
            connection.close()
            self._refused(str(error.strerror))
            return
        self._clients.append(client)
        selector.register(connection, client.connection.events, client)
        if once:
            selector.unregister(self._listener)

    def _go_on(self, selector: selectors.BaseSelector, client: Client) -> None:
        if client.connection.serve():
            selector.modify(client.socket, client.connection.events, client)
            return
        selector.unregister(client.socket)
        self._clients.remove(client)
        client.close()
        self._ended()

    def _turn_away(self, error: OSError) -> None:
        """Take the waiting client in by the spare descriptor and leave it, for it would wait for ever."""
        self._drop_spare()
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            connection.close()
        self._keep_spare()
        self._refused(str(error.strerror))

    def _keep_spare(self) -> None:
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY)

    def _drop_spare(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
