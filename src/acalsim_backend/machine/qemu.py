"""The machine ``qemu``: the firmware on a stock QEMU, which reaches this process's devices by vfio-user.

Guest RAM is one memfd that both processes map, so that devices work on it without a copy. QEMU counts instructions
(``-icount``) on one hart, which makes every run equal to the last digit; the driver tells the devices its count. One
QEMU process runs one image. Its end, its UART, its monitor and its device accesses are all watched by one loop.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import mmap
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from acalsim_backend.device.registers import RAM_BASE
from acalsim_backend.errors import GuestTrapError, MachineError, UnknownNameError, UsageError
from acalsim_backend.machine.base import Platform
from acalsim_backend.machine.elf import Elf
from acalsim_backend.machine.gdb_remote import stop_at
from acalsim_backend.machine.memory import Ram
from acalsim_backend.machine.qemu_setup import Qemu, find_qemu
from acalsim_backend.machine.qmp import Monitor, Watchdog, place
from acalsim_backend.machine.traps import describe_trap
from acalsim_backend.server.board import Board, PagedBus, standard_slots
from acalsim_backend.server.log import AccessTrace
from acalsim_backend.server.vfio_user import DisconnectedError, ProtocolError, VfioUserConnection
from acalsim_backend.toolchain import vector_firmware

log = logging.getLogger(__name__)

TICK_SECONDS = 0.25
"""Between two looks of the watchdog."""
_DEVICE_TREE_ROOM = 2 << 20  # QEMU puts its device tree into the last 2 MiB of RAM, which the session therefore lacks
_DEVICE_TREE_MAGIC = b"\xd0\x0d\xfe\xed"
_EXIT_PASS, _EXIT_COMMAND_FAILED, _EXIT_TRAP = 0, 1, 2
_STDERR_BYTES = 1 << 16


@dataclass(frozen=True)
class QemuConfig:
    """Settings of the machine ``qemu``.

    ``binary`` replaces the QEMU that would be found. With ``gdb_port`` the guest stops at ``_start`` until a gdb says
    otherwise, and no watchdog runs. ``trace_mmio`` is a file that gets a line per register access. ``extra_args`` go
    to QEMU's command line. ``start_seconds`` is how long QEMU may take to build its board and to connect, and to send
    the rest of a message that it began: of host time, so generous.
    """

    binary: str | Path | None = None
    gdb_port: int | None = None
    trace_mmio: str | Path | None = None
    extra_args: tuple[str, ...] = ()
    start_seconds: float = 120.0

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> QemuConfig:
        """Settings by name.

        Raises:
            UnknownNameError: one that does not exist.
        """
        known = [field.name for field in fields(cls)]
        for name in settings:
            if name not in known:
                raise UnknownNameError("qemu_config setting", name, known)
        return cls(**settings)

    def __post_init__(self) -> None:
        """Raises UsageError for a value that a setting cannot have."""
        places = "expected the path of a file"
        port, arguments, seconds = self.gdb_port, self.extra_args, self.start_seconds
        for name, right, expected in (
            ("binary", _is_place(self.binary), places),
            ("gdb_port", port is None or (type(port) is int and 0 < port < 1 << 16), "expected a port, 1 to 65535"),
            ("trace_mmio", _is_place(self.trace_mmio), places),
            (
                "extra_args",
                isinstance(arguments, (tuple, list)) and all(isinstance(a, str) for a in arguments),
                "expected a tuple of texts",
            ),
            (
                "start_seconds",
                isinstance(seconds, (int, float)) and 0 < seconds < float("inf"),
                "expected a number of seconds above 0",
            ),
        ):
            if not right:
                raise UsageError(f"QemuConfig: {name} is {getattr(self, name)!r}, {expected}")


def _is_place(path: object) -> bool:
    return path is None or isinstance(path, (str, os.PathLike))


class SharedRam(Ram):
    """Guest RAM that other processes can map by the file descriptor ``fd``; it has no name and ends with its users."""

    shared: ClassVar[bool] = True

    def _map(self, size: int) -> mmap.mmap:
        self.file_size = -(-size // _DEVICE_TREE_ROOM) * _DEVICE_TREE_ROOM + _DEVICE_TREE_ROOM
        self.fd = os.memfd_create("acalsim-ram")
        weakref.finalize(self, os.close, self.fd)
        os.ftruncate(self.fd, self.file_size)
        return mmap.mmap(self.fd, size, flags=mmap.MAP_SHARED)


class QemuMachine:
    """See :class:`acalsim_backend.machine.base.Machine`."""

    timed: ClassVar[bool] = True
    ram_class: ClassVar[type[Ram]] = SharedRam

    def __init__(self, platform: Platform) -> None:
        config = platform.settings if platform.settings is not None else QemuConfig()
        if not isinstance(config, QemuConfig):
            raise UsageError(f"machine qemu takes a QemuConfig, got {config!r}")
        assert isinstance(platform.ram, SharedRam)
        self._config = config
        self._ram = platform.ram
        self._qemu = find_qemu(config.binary)
        self._vectors = platform.hardware.cpu.isa == "rv64gcv"
        self._elf = Elf(vector_firmware()) if self._vectors else Elf()
        self._trace = AccessTrace.open(config.trace_mmio) if config.trace_mmio is not None else None
        observers = [self._trace] if self._trace is not None else []
        self._board = Board(standard_slots(platform.devices), observers)
        self._ram.protect(min(s.address for s in self._elf.segments), self._elf.symbols["__text_end"])

    def run(self, image: int, watchdog: int) -> str:
        """Start QEMU on an image and serve its devices until it ends."""
        if self._config.gdb_port is not None:
            _check_port(self._config.gdb_port)
        for segment in self._elf.segments:
            memory = self._ram.view(segment.address, segment.size)
            memory[: len(segment.data)] = np.frombuffer(segment.data, np.uint8)
            memory[len(segment.data) :] = 0
        self._word("acal_boot")[0] = image
        self._board.reset()
        cpu = "rv64,v=true,vlen=256" if self._vectors else "rv64"
        guest = _Guest(self._qemu, cpu, self._config, self._ram, self._board, self._elf, watchdog)
        try:
            code = guest.run()
        finally:
            guest.end()
            if self._trace is not None:
                self._trace.flush()
        if code == _EXIT_TRAP:
            cause, pc, address = (int(v) for v in self._word("acal_trap", 3))
            raise GuestTrapError(describe_trap(cause, pc, address, place(self._elf, pc)))
        if code not in (_EXIT_PASS, _EXIT_COMMAND_FAILED) or (code and guest.complaint):
            raise MachineError(f"QEMU ended {_how(code)}{guest.complaint}")
        return guest.uart

    def close(self) -> None:
        """End the trace; no QEMU outlives a run."""
        if self._trace is not None:
            self._trace.close()

    def _word(self, symbol: str, count: int = 1) -> Any:
        return self._ram.view(self._elf.symbols[symbol], 8 * count).view(np.uint64)


class _Bus(PagedBus):
    """What QEMU reaches over vfio-user; the memory that it offers must be the session's own."""

    def __init__(self, board: Board, ram: SharedRam) -> None:
        super().__init__(board)
        self._ram = ram

    def map_memory(self, address: int, size: int, fd: int, offset: int) -> None:
        mine, offered = os.fstat(self._ram.fd), os.fstat(fd)
        if address == RAM_BASE and (mine.st_dev, mine.st_ino) != (offered.st_dev, offered.st_ino):
            raise ValueError("not the session's RAM")

    def unmap_memory(self, address: int, size: int) -> None:
        """It stays mapped here."""

    def reset(self) -> None:
        """The session resets its devices before each run."""


class _Guest:
    """One QEMU process and what is connected to it."""

    def __init__(
        self, qemu: Qemu, cpu: str, config: QemuConfig, ram: SharedRam, board: Board, elf: Elf, watchdog: int
    ) -> None:
        self._qemu = qemu
        self._cpu = cpu
        self._config = config
        self._ram = ram
        self._bus = _Bus(board, ram)
        self._elf = elf
        self._watchdog = watchdog
        self._open = contextlib.ExitStack()
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], object]] = {}
        self._uart = bytearray()
        self._line = bytearray()
        self._stderr = bytearray()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: VfioUserConnection | None = None
        self._monitor: Monitor | None = None
        self._dog: Watchdog | None = None
        self._started = self._ended = False
        self._accesses = 0

    def run(self) -> int:
        """Run to the end of the process; its exit code, negative for a signal."""
        process = self._start()
        limit = self._config.start_seconds
        deadline = time.monotonic() + limit
        tick = time.monotonic() + TICK_SECONDS
        while not self._ended:
            for fd, _ in self._poll.poll(TICK_SECONDS * 1000):
                if fd in self._handlers:  # an earlier one may have been the last word
                    self._handlers[fd]()
            now = time.monotonic()
            if not self._started and now > deadline:
                more = "QemuConfig(start_seconds=...) gives it more"
                raise MachineError(f"QEMU did not start within {limit:g} s; {more}{self.complaint}")
            if now > tick and self._dog is not None and self._started and self._config.gdb_port is None:
                tick = now + TICK_SECONDS
                self._dog.look(self._accesses)
        return process.wait()

    def end(self) -> None:
        """Leave no process and no descriptor behind."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._connection is not None:
            self._connection.close()
        self._open.close()

    @property
    def uart(self) -> str:
        """What the guest wrote so far."""
        return self._uart.decode(errors="replace")

    @property
    def complaint(self) -> str:
        """What QEMU said of itself, to be put behind a message."""
        lines = [line for line in self._stderr.decode(errors="replace").splitlines() if "warning:" not in line]
        return ": " + "; ".join(lines[-4:]) if lines else ""

    # --- starting ---

    def _start(self) -> subprocess.Popen[bytes]:
        self._folder = self._open.enter_context(
            tempfile.TemporaryDirectory(prefix="acalsim-", ignore_cleanup_errors=True)
        )
        folder = os.open(self._folder, os.O_PATH)
        self._open.callback(os.close, folder)
        path = f"/proc/self/fd/{folder}/socket"  # short, wherever the folder is
        listener = self._open.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listener.bind(path)
        listener.listen(1)
        ours, theirs = socket.socketpair()
        self._open.enter_context(ours)
        with theirs:
            command = [*self._guard(), str(self._qemu.path), *self._arguments(path, theirs.fileno())]
            log.debug("%s", " ".join(command))
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=(self._ram.fd, folder, theirs.fileno()),
                    process_group=0,  # Ctrl-C is for this process, which then ends QEMU
                )
            except OSError as error:
                raise MachineError(f"{self._qemu.path} does not start: {error.strerror}") from None
        self._process = process
        assert process.stdout is not None
        assert process.stderr is not None
        for pipe in (process.stdout, process.stderr):
            self._open.enter_context(pipe)
        pidfd = os.pidfd_open(process.pid)
        self._open.callback(os.close, pidfd)
        self._monitor = Monitor(ours)
        self._dog = Watchdog(self._monitor, process.pid, self._watchdog, self._elf)
        self._watch(pidfd, lambda: self._on_exit(pidfd))
        self._watch(process.stdout.fileno(), self._on_uart)
        self._watch(process.stderr.fileno(), self._on_stderr)
        self._watch(ours.fileno(), self._on_monitor)
        self._watch(listener.fileno(), lambda: self._on_connect(listener))
        self._monitor.ask("qmp_capabilities", self._on_ready)
        return process

    def _guard(self) -> list[str]:
        """What ends QEMU when this process is killed; its exit-with-parent does not while it waits for an answer."""
        setpriv = shutil.which("setpriv")
        return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []

    def _arguments(self, socket_path: str, monitor: int) -> Iterator[str]:
        size = self._ram.file_size >> 20
        device = {
            "driver": "vfio-user-pci",
            "socket": {"type": "unix", "path": socket_path},
            "x-no-posted-writes": True,
            "x-msg-timeout": 86_400_000,
        }
        yield from (
            "-M",
            "virt,memory-backend=ram",
            "-m",
            f"{size}M",
            "-cpu",
            self._cpu,
            "-nodefaults",
            "-nographic",
            "-S",
        )
        yield from (
            "-object",
            f"memory-backend-file,id=ram,size={size}M,share=on,mem-path=/proc/self/fd/{self._ram.fd}",
        )
        yield from ("-icount", "shift=0,sleep=off", "-bios", "none", "-serial", "stdio", "-monitor", "none")
        yield from ("-chardev", f"socket,id=monitor,fd={monitor}", "-qmp", "chardev:monitor")
        yield from ("-device", json.dumps(device))
        if self._config.gdb_port is not None:
            yield from ("-gdb", f"tcp:127.0.0.1:{self._config.gdb_port}")
        yield from self._config.extra_args

    def _on_ready(self, _: Any) -> None:
        """The board is built and was reset, and the CPU stands at its reset vector."""
        tail = os.pread(self._ram.fd, 4, self._ram.file_size - _DEVICE_TREE_ROOM)
        if tail != _DEVICE_TREE_MAGIC:
            raise MachineError(
                f"QEMU {'.'.join(map(str, self._qemu.version))} puts its device tree elsewhere than into the last "
                "2 MiB of RAM, where it may have overwritten data: use another version"
            )
        assert self._monitor is not None
        self._started = True
        if self._config.gdb_port is None:
            self._monitor.ask("cont", lambda _: None)
            return
        stop_at(self._config.gdb_port, self._elf.entry)
        log.warning(
            "the guest stops at _start for gdb: gdb-multiarch %s -ex 'target remote localhost:%d'",
            self._elf.path,
            self._config.gdb_port,
        )

    # --- while it runs ---

    def _watch(self, fd: int, handler: Callable[[], object]) -> None:
        self._handlers[fd] = handler
        self._poll.register(fd, select.POLLIN)

    def _forget(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def _on_connect(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        peer = int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), "little")
        if self._process is None or peer != self._process.pid:
            connection.close()
            return
        Path(self._folder, "socket").unlink()  # so that nothing is left when this process is killed
        Path(self._folder).rmdir()
        connection.settimeout(self._config.start_seconds)
        self._forget(listener.fileno())
        self._connection = VfioUserConnection(connection, self._bus)
        fd = connection.fileno()
        self._watch(fd, lambda: self._on_message(fd))

    def _on_message(self, fd: int) -> None:
        assert self._connection is not None
        self._accesses += 1
        try:
            self._connection.serve()
        except DisconnectedError:
            self._forget(fd)
        except ProtocolError as error:
            if self._process is not None and self._process.poll() is None:
                raise MachineError(str(error)) from None
            self._forget(fd)

    def _on_uart(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        data = os.read(fd, 4096)
        if not data:
            self._forget(fd)
        self._uart += data
        *lines, rest = (self._line + data).split(b"\n")
        self._line = bytearray(rest)
        for line in lines:
            log.info("guest: %s", line.decode(errors="replace").rstrip("\r"))

    def _on_stderr(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        fd = self._process.stderr.fileno()
        data = os.read(fd, 4096)
        if not data:
            self._forget(fd)
        self._stderr = (self._stderr + data)[-_STDERR_BYTES:]

    def _on_monitor(self) -> None:
        assert self._monitor is not None
        if not self._monitor.receive():
            self._forget(self._monitor.fileno())

    def _on_exit(self, pidfd: int) -> None:
        """Read what was written before the end."""
        self._forget(pidfd)
        assert self._process is not None
        for pipe, handler in ((self._process.stdout, self._on_uart), (self._process.stderr, self._on_stderr)):
            assert pipe is not None
            while pipe.fileno() in self._handlers:
                handler()
        self._ended = True


def _how(code: int) -> str:
    if code >= 0:
        return f"with code {code}"
    try:
        return f"by signal {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"


def _check_port(port: int) -> None:
    """Fail before anything is started."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            reason = "is taken" if taken else f"cannot be used: {error}"
            raise UsageError(f"gdb port {port} {reason}; choose another one") from None
