"""QEMU's machine protocol: the monitor, and the watchdog that asks it what the guest is doing."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from acalsim_backend.errors import MachineError, WatchdogError
from acalsim_backend.machine.elf import Elf, Location

STALLED_TICKS = 6
"""Looks with every thread of QEMU asleep, and no progress since the first, after which the guest waits for ever."""
_MTIME = 0x0200_BFF8
_INSTRUCTIONS_PER_TICK = 100  # mtime has 10 MHz and an instruction takes 1 ns


class Monitor:
    """QEMU's machine protocol (QMP): one command at a time, each answer to whoever asked."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = b""
        self._waiting: list[Callable[[Any], object]] = []

    def fileno(self) -> int:
        """The descriptor that tells of answers."""
        return self._socket.fileno()

    def ask(self, command: str, then: Callable[[Any], object], **arguments: Any) -> None:
        """Send a command; ``then`` gets what it returns."""
        text = (
            json.dumps({"execute": command, "arguments": arguments}) if arguments else json.dumps({"execute": command})
        )
        with contextlib.suppress(OSError):  # the process ended, which its descriptor tells
            self._socket.sendall(text.encode() + b"\n")
            self._waiting.append(then)

    def human(self, line: str, then: Callable[[str], object]) -> None:
        """Send a command of the human monitor unless an answer is still awaited."""
        if not self._waiting:
            self.ask("human-monitor-command", then, **{"command-line": line})

    def receive(self) -> bool:
        """Handle what has arrived; False at the end."""
        try:
            data = self._socket.recv(1 << 16)
        except OSError:
            return False
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "return" in message:
                self._waiting.pop(0)(message["return"])
            elif "error" in message:
                raise MachineError(f"QEMU's monitor: {message['error'].get('desc')}")
        return bool(data)


class Watchdog:
    """Ends a guest that retires more than ``limit`` instructions, or that waits for what never comes.

    ``process`` is QEMU's id. QEMU's clock counts instructions: one is 1 ns, and WFI skips to the next timer.
    """

    def __init__(self, monitor: Monitor, process: int, limit: int, elf: Elf) -> None:
        self._monitor = monitor
        self._process = process
        self._limit = limit
        self._elf = elf
        self._accesses = 0
        self._progress = (-1, -1)
        self._stalled = 0

    def look(self, accesses: int) -> None:
        """Ask how far the guest has come, which has made so many accesses to its devices.

        Raises:
            WatchdogError, MachineError: later, out of the monitor's ``receive``.
        """
        self._accesses = accesses
        self._monitor.human(f"xp /1gx {_MTIME:#x}", self._on_time)

    def _on_time(self, answer: str) -> None:
        found = re.search(r": (0x[0-9a-f]+)", answer)
        if found is None:
            return
        progress = int(found[1], 16) * _INSTRUCTIONS_PER_TICK, self._accesses
        if progress != self._progress:
            self._stalled, self._progress = 0, progress
        elif self._sleeps():
            self._stalled += 1
        if progress[0] > self._limit:
            self._monitor.human("info registers", lambda text: self._on_endless(progress[0], _pc(text)))
        elif self._stalled >= STALLED_TICKS:
            self._monitor.human("info registers", lambda text: self._on_stalled(_pc(text)))

    def _sleeps(self) -> bool:
        """Whether QEMU's threads wait; on a busy host one that could run may make no progress for long."""
        try:
            states = [
                Path(task, "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
                for task in Path(f"/proc/{self._process}/task").iterdir()
                if task.name != str(self._process)  # the first one has just answered
            ]
        except OSError:  # a thread that ended, or all of them
            return False
        return set(states) == {"S"}

    def _on_endless(self, instructions: int, pc: int) -> None:
        raise WatchdogError(
            f"endless loop? {instructions} instructions retired without coming to an end, the watchdog allows "
            f"{self._limit}; the guest was in {place(self._elf, pc)}; give the session a higher watchdog if this is "
            "really needed"
        )

    def _on_stalled(self, pc: int) -> None:
        raise MachineError(f"the guest waits for an interrupt, which nothing raises; it was in {place(self._elf, pc)}")


def place(elf: Elf, pc: int) -> Location | str:
    """Where in the firmware an address is."""
    return elf.locate(pc) or f"no function (pc {pc:#x})"


def _pc(registers: str) -> int:
    found = re.search(r"\bpc\s+([0-9a-f]+)", registers)
    return int(found[1], 16) if found else 0
