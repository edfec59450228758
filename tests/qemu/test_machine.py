"""Does stock QEMU give the outputs and cycles of unicorn, always, and does every failure end quickly and cleanly?"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from command_cases import make
from qemu_support import HARDWARE, require_qemu

from acalsim_backend.device.compute import ComputeDevice
from acalsim_backend.errors import GuestTrapError, MachineError, MissingToolError, UsageError, WatchdogError
from acalsim_backend.machine.gdb_remote import GdbRemote
from acalsim_backend.machine.qemu import QemuConfig
from acalsim_backend.program.enums import Placement
from acalsim_backend.run.result import RunResult
from acalsim_backend.run.session import LoadedProgram, Session

LONG = 600.0
"""Seconds after which a test gives up that would otherwise wait for ever; no result depends on it."""


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Counts what a run could leave: child processes, descriptors, sockets and files."""
    require_qemu()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # which other tests do not use
    before = _remains(tmp_path)
    yield
    assert _remains(tmp_path) == before


def _remains(temporary: Path) -> dict[str, object]:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        "processes": children,
        "folders": sorted(p.name for p in temporary.glob("acalsim-*")),
        "shared memory": sorted(p.name for p in Path("/dev/shm").glob("acalsim*")),
        "sockets": sum(1 for fd in Path("/proc/self/fd").iterdir() if _target(fd).startswith("socket:")),
    }


def _target(fd: Path) -> str:
    with contextlib.suppress(OSError):
        return str(fd.readlink())
    return ""


@contextlib.contextmanager
def session(**arguments: object) -> Iterator[Session]:
    opened = Session(HARDWARE, "qemu", **arguments)  # type: ignore[arg-type]
    try:
        yield opened
    finally:
        opened.close()


def run(machine: str, placement: Placement, name: str = "gemm_plain") -> RunResult:
    case = make(name)
    opened = Session(HARDWARE, machine)
    try:
        result = opened.run(opened.load(case.program(placement)), case.values)
        case.check(result.outputs)
        return result
    finally:
        opened.close()


def fails(
    error: type[Exception], match: str, opened: Session, change: Callable[[LoadedProgram], object] | None = None
) -> None:
    """Run a program that cannot end well; it must say so."""
    case = make("gemm_plain")
    loaded = opened.load(case.program(Placement.CPU))
    if change is not None:
        change(loaded)
    with pytest.raises(error, match=match):
        opened.run(loaded, case.values)


@pytest.mark.parametrize("placement", [Placement.CPU, Placement.ACCELERATOR], ids=["cpu", "accelerator"])
def test_are_cycles_those_of_unicorn(placement: Placement) -> None:
    ours, theirs = run("qemu", placement), run("unicorn", placement)
    spans = [
        [t.end_cycle - t.start_cycle for t in r.timings if t.placement is Placement.ACCELERATOR] for r in (ours, theirs)
    ]
    assert spans[0] == spans[1]
    assert ours.cycles_accelerator_busy == theirs.cycles_accelerator_busy
    assert ours.instructions_retired is not None
    assert theirs.instructions_retired is not None
    driver = 40  # instructions by which the two ways of telling time may differ, per program
    allowed = max(theirs.instructions_retired // 1000, driver)
    assert abs(ours.instructions_retired - theirs.instructions_retired) <= allowed


def _spans(result: RunResult) -> list[int]:
    return [t.end_cycle - t.start_cycle for t in result.timings if t.placement is Placement.ACCELERATOR]


def test_are_runs_equal_to_the_last_digit_whatever_the_host_does(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (run("qemu", Placement.ACCELERATOR) for _ in range(2))
    read = ComputeDevice.read

    def slow(self: ComputeDevice, offset: int, size: int) -> int:
        time.sleep(0.02)
        return read(self, offset, size)

    monkeypatch.setattr(ComputeDevice, "read", slow)
    third = run("qemu", Placement.ACCELERATOR)
    for other in (second, third):
        assert other.timings == first.timings
        assert (other.cycles_total, other.instructions_retired) == (first.cycles_total, first.instructions_retired)


def test_does_a_killed_qemu_end_the_run() -> None:
    def kill() -> None:
        deadline = time.monotonic() + LONG
        while time.monotonic() < deadline:
            for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
                return
            time.sleep(0.005)

    with session() as opened:
        thread = threading.Thread(target=kill)
        thread.start()
        fails(MachineError, "SIGKILL", opened)
        thread.join()


def test_does_qemu_end_when_its_server_is_killed() -> None:
    """The server is the process that started QEMU."""
    program = textwrap.dedent("""
        import threading, time, os
        from pathlib import Path
        from command_cases import make
        from acalsim_backend.device.compute import ComputeDevice
        from acalsim_backend.program.enums import Placement
        from acalsim_backend.run.session import Session
        from qemu_support import HARDWARE

        def stuck(self, offset, size):
            print(Path(f"/proc/self/task/{os.getpid()}/children").read_text(), flush=True)
            time.sleep(3600)

        ComputeDevice.read = stuck
        case = make("gemm_plain")
        session = Session(HARDWARE, "qemu")
        session.run(session.load(case.program(Placement.ACCELERATOR)), case.values)
    """)
    tests = Path(__file__).parent.parent
    server = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(tests)}
    )
    with server:
        assert server.stdout is not None
        qemu = int(server.stdout.readline())
        assert Path(f"/proc/{qemu}").exists()
        server.kill()
        server.wait()
    deadline = time.monotonic() + LONG
    while Path(f"/proc/{qemu}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{qemu}").exists() or _is_zombie(qemu)


def _is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def test_is_a_trap_of_the_guest_named() -> None:
    with session() as opened:
        case = make("gemm_plain")
        loaded = opened.load(case.program(Placement.CPU))
        relocations = loaded.header.relocations
        # the first operand's address goes beyond RAM
        loaded.image.array[relocations + 8 : relocations + 16].view(np.int64)[0] = 1 << 40
        with pytest.raises(GuestTrapError, match=r"access fault in \w+ \(\w+\.\w:\d+\).*running command 0"):
            opened.run(loaded, case.values)


def test_is_an_endless_loop_ended() -> None:
    with session(watchdog=1000) as opened:
        fails(WatchdogError, "endless loop", opened, lambda loaded: _loop(opened))


def _loop(opened: Session) -> None:
    """Make the first instruction of main jump to itself."""
    machine = opened._machine
    elf = machine._elf  # type: ignore[attr-defined]
    offset = elf.symbols["acal_main"] - elf.segments[0].address
    first = elf.segments[0]
    code = bytearray(first.data)
    code[offset : offset + 4] = (0x6F).to_bytes(4, "little")  # j .
    elf.segments[0] = dataclasses.replace(first, data=bytes(code))


def test_is_a_guest_that_sleeps_for_ever_ended() -> None:
    with session() as opened:
        _loop(opened)
        elf = opened._machine._elf  # type: ignore[attr-defined]
        code = bytearray(elf.segments[0].data)
        offset = elf.symbols["acal_main"] - elf.segments[0].address
        # wfi; j .-4
        code[offset : offset + 8] = (0x10500073).to_bytes(4, "little") + (0xFFDFF06F).to_bytes(4, "little")
        elf.segments[0] = dataclasses.replace(elf.segments[0], data=bytes(code))
        fails(MachineError, "waits for an interrupt", opened)


def test_is_a_qemu_that_is_too_old_refused(tmp_path: Path) -> None:
    old = tmp_path / "qemu"
    old.write_text("#!/bin/sh\necho 'QEMU emulator version 9.2.1'\n")
    old.chmod(0o755)
    with pytest.raises(MissingToolError, match=r"QEMU 9\.2, .*acalsim doctor --install qemu"):
        Session(HARDWARE, "qemu", settings=QemuConfig(old))


def test_is_a_missing_qemu_named_with_what_to_do() -> None:
    with pytest.raises(MissingToolError, match="acalsim doctor --install qemu"):
        Session(HARDWARE, "qemu", settings=QemuConfig("/nowhere/qemu"))


def test_is_a_taken_gdb_port_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with session(settings=QemuConfig(gdb_port=port)) as opened:
            fails(UsageError, f"gdb port {port} is taken", opened)


def test_is_it_said_when_qemu_finds_no_room_for_guest_ram(tmp_path: Path) -> None:
    small = tmp_path / "qemu"
    small.write_text(f'#!/bin/sh\n[ "$1" = --version ] || ulimit -v 120000\nexec {require_qemu().path} "$@"\n')
    small.chmod(0o755)
    with session(settings=QemuConfig(small)) as opened:
        fails(MachineError, "QEMU ended .*", opened)


def test_are_arguments_that_qemu_refuses_shown() -> None:
    with session(settings=QemuConfig(extra_args=("-no-such-option",))) as opened:
        fails(MachineError, "no-such-option", opened)


def test_does_a_device_error_name_the_operation_as_on_unicorn() -> None:
    messages = []
    for machine in ("unicorn", "qemu"):
        opened = Session(HARDWARE, machine)
        case = make("gemm_plain")
        loaded = opened.load(case.program(Placement.ACCELERATOR))
        at = loaded.command_offsets[0]
        loaded.image.array[at : at + 2] = 0xEE  # the opcode
        with pytest.raises(MachineError) as failure:
            opened.run(loaded, case.values)
        messages.append(str(failure.value))
        opened.close()
    assert messages[0] == messages[1]


def test_does_the_trace_hold_every_access(tmp_path: Path) -> None:
    trace = tmp_path / "trace.tsv"
    case = make("gemm_plain")
    with session(settings=QemuConfig(trace_mmio=trace)) as opened:
        opened.run(opened.load(case.program(Placement.ACCELERATOR)), case.values)
    rows = [line.split("\t") for line in trace.read_text().splitlines()]
    assert rows[0] == ["cycle", "device", "access", "register", "bytes", "value"]
    names = [(row[2], row[3]) for row in rows[1:]]
    assert names.index(("WRITE", "REG_TAIL")) < names.index(("READ", "REG_WAIT"))


def test_does_gdb_find_the_guest_at_start() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pcs: list[int] = []

    def debug(entry: int) -> None:
        deadline = time.monotonic() + LONG
        while not pcs and time.monotonic() < deadline:
            time.sleep(1.0)  # gdb is started by hand, after the guest stopped
            with contextlib.suppress(OSError, MachineError), GdbRemote(port) as gdb:
                gdb.ask("?")
                registers = gdb.ask("g")
                pcs.append(int.from_bytes(bytes.fromhex(registers[32 * 16 : 33 * 16]), "little"))
                gdb.ask("D")

    with session(settings=QemuConfig(gdb_port=port)) as opened:
        entry = opened._machine._elf.symbols["_start"]  # type: ignore[attr-defined]
        thread = threading.Thread(target=debug, args=(entry,))
        thread.start()
        case = make("gemm_plain")
        case.check(opened.run(opened.load(case.program(Placement.CPU)), case.values).outputs)
        thread.join()
    assert pcs == [entry]
