"""``acalsim device``: devices for a simulator in another process."""

from __future__ import annotations

import contextlib
import enum
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acalsim_backend.cli import options, terminal
from acalsim_backend.cli.options import Hardware, Overrides
from acalsim_backend.errors import InputError, MissingToolError, UsageError

if TYPE_CHECKING:
    from acalsim_backend.hardware import HardwareConfig
    from acalsim_backend.server.memory import SharedMemory

app = typer.Typer(help="Serve the devices to a simulator in another process.", no_args_is_help=True)


class Protocol(enum.StrEnum):
    """How another process reaches the devices."""

    vfio_user = "vfio-user"
    mmio = "mmio"


@options.command(app)
def serve(
    socket: Annotated[
        Path, typer.Option("--socket", parser=options.path, metavar="PATH", help="Unix socket to listen on.")
    ],
    protocol: Annotated[
        Protocol, typer.Option(help="vfio-user for QEMU, mmio for test programs.")
    ] = Protocol.vfio_user,
    devices: Annotated[
        Path | None,
        typer.Option("--devices", parser=options.path, metavar="FILE", help="Devices file: names, bases, hardware."),
    ] = None,
    hw: Hardware = "edge",
    set_: Overrides = None,
    trace_mmio: Annotated[
        Path | None,
        typer.Option("--trace-mmio", parser=options.path, metavar="FILE", help="Write every register access there."),
    ] = None,
    ram: Annotated[
        Path | None,
        typer.Option("--ram", parser=options.path, metavar="FILE", help="mmio: file that is guest RAM at 0x80000000."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End after the first client.")] = False,
) -> None:
    """Serve Echo and Compute devices to clients one after another; print their log and statistics."""
    serve_devices(
        socket,
        protocol.value,
        devices,
        options.load_hardware(hw, options.overrides(set_ or ())),
        trace_mmio=trace_mmio,
        ram=ram,
        once=once,
        write=lambda line: typer.echo(line),
        note=terminal.note,
    )


def serve_devices(
    path: Path,
    protocol: str,
    devices: Path | None,
    hardware: HardwareConfig,
    *,
    trace_mmio: Path | None,
    ram: Path | None,
    once: bool,
    write: Callable[[str], object],
    note: Callable[[str], object],
) -> None:
    """Serve clients at the socket ``path`` until Ctrl-C, SIGTERM or SIGHUP, or one if ``once``.

    Raises:
        SystemExit: a signal ended the server; the code is 128 and its number.
        InputError: a file or the socket cannot be used.
        UsageError: options that do not go together.
    """
    from acalsim_backend.server.devices import load_devices, standard_devices
    from acalsim_backend.server.log import AccessTrace
    from acalsim_backend.server.serve import Server, listen, qemu_command

    if ram is not None and protocol != "mmio":
        raise UsageError(f"--ram is for --protocol mmio, got {protocol}: QEMU shares its own RAM")
    entries = load_devices(devices) if devices is not None else standard_devices(hardware)
    memory = _map_file(ram) if ram is not None else None
    trace = AccessTrace.open(trace_mmio) if trace_mmio is not None else None
    server = Server(entries, write, (trace,) if trace is not None else (), memory)
    with _ended_by(signal.SIGTERM, signal.SIGHUP), listen(path) as listener:
        if protocol == "mmio":
            note(f"listening at {path}; Ctrl-C ends the server")
        else:
            command = qemu_command(_program(), path)
            note(f"listening at {path}; Ctrl-C ends the server. In another terminal:\n\n{command}\n")
        flush = trace.flush if trace is not None else lambda: None
        try:
            if protocol == "mmio":
                server.serve_mmio(listener, once=once, ended=flush)
                return
            while True:
                connection, _ = listener.accept()
                server.serve_vfio_user(connection)
                flush()
                if once:
                    break
        finally:
            if trace is not None:
                trace.close()


@contextlib.contextmanager
def _ended_by(*signals: signal.Signals) -> Iterator[None]:
    """Let signals end the block as Ctrl-C does, by an exception, so that nothing is left behind."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _program() -> str:
    from acalsim_backend.machine.qemu_setup import PROGRAM, find_qemu

    try:
        return str(find_qemu().path)
    except MissingToolError:
        return PROGRAM


def _map_file(path: Path) -> SharedMemory:
    from acalsim_backend.server.memory import SharedMemory

    try:
        fd = os.open(path, os.O_RDWR)
    except OSError as error:
        raise InputError(f"--ram {path}: {error.strerror}; make it first, as in: truncate -s 256M {path}") from None
    try:
        return SharedMemory(fd, os.fstat(fd).st_size)
    except (OSError, ValueError) as error:
        raise InputError(f"--ram {path}: cannot be mapped: {error}") from None
    finally:
        os.close(fd)
