"""Do the device servers survive any client, and do they say what the protocols and the tutorial promise?"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fuzz_servers import fuzz_mmio, fuzz_vfio_user
from qemu_support import require_qemu

from acalsim_backend.device.registers import DEVICE_BASE, DEVICE_ID, DEVICE_STRIDE, Register, StatusBit
from acalsim_backend.errors import InputError
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.program.enums import ABI_VERSION
from acalsim_backend.server.devices import load_devices
from acalsim_backend.server.mmio import REPLY, REQUEST
from acalsim_backend.server.serve import listen
from acalsim_backend.toolchain import Toolchain, cache_dir, program_sources

ECHO, COMPUTE = DEVICE_BASE, DEVICE_BASE + DEVICE_STRIDE
GUEST = Path(__file__).parent / "guest" / "echo.c"
FIRMWARE = Path(sys.modules["acalsim_backend"].__file__ or "").parent / "firmware"
DOCS = Path(__file__).parents[2] / "docs" / "cosimulation.md"


@pytest.mark.parametrize("seed", range(3))
def test_does_the_vfio_user_server_survive_drawn_messages(seed: int) -> None:
    assert fuzz_vfio_user(1000, seed) > 500


@pytest.mark.parametrize("seed", range(3))
def test_does_the_mmio_server_survive_drawn_requests(seed: int) -> None:
    assert fuzz_mmio(1000, seed) > 100


LONG = 600.0
"""Seconds after which a test gives up that would otherwise wait for ever; no result depends on it."""


@contextmanager
def serving(path: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`acalsim device serve` in another process, listening; ended with Ctrl-C."""
    command = [sys.executable, "-m", "acalsim_backend", "device", "serve", "--socket", str(path), *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        ready = server.stderr.readline()
        assert ready.startswith(f"listening at {path}"), ready
        yield server
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=LONG)
        assert not path.exists()


class Client:
    """A test program that speaks the MMIO protocol."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(LONG)
        self.socket.connect(str(path))

    def ask(self, kind: int, size: int, address: int, data: int = 0, reserved: int = 0) -> tuple[int, int]:
        self.socket.sendall(REQUEST.pack(kind, size, reserved, address, data))
        reply = b""
        while len(reply) < REPLY.size:
            part = self.socket.recv(REPLY.size - len(reply))
            assert part
            reply += part
        success, value = REPLY.unpack(reply)
        return success, value


def test_is_the_mmio_protocol_that_of_the_tutorial(tmp_path: Path) -> None:
    latency = HardwareConfig().accelerator.mmio_latency_cycles
    with serving(tmp_path / "s", "--protocol", "mmio", "--set", "accelerator.echo_cycles=100") as server:
        for _ in range(2):  # clients one after another, each with fresh devices
            client = Client(tmp_path / "s")
            assert client.ask(1, 4, ECHO + Register.DATA_IN, 0x3F800000) == (1, 0)
            assert client.ask(0, 4, ECHO + Register.STATUS) == (1, StatusBit.BUSY)
            polls = 1
            while client.ask(0, 4, ECHO + Register.STATUS)[1] & StatusBit.BUSY:
                polls += 1
            assert polls == 100 // latency  # in lockstep, not in host time
            assert client.ask(0, 4, ECHO + Register.DATA_OUT) == (1, 0x3F800000)
            before = client.ask(0, 8, COMPUTE + Register.NOW)[1]
            assert client.ask(0, 8, COMPUTE + Register.NOW)[1] == before + latency
            client.socket.close()
            assert server.stdout is not None
            lines = iter(server.stdout.readline, "")
            assert any("Simulation complete" in line for line in lines)
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=LONG)
    assert server.returncode == 130


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_may_an_access_have_each_of_the_documented_sizes(tmp_path: Path, size: int) -> None:
    with serving(tmp_path / "s", "--protocol", "mmio") as server:
        client = Client(tmp_path / "s")
        value = DEVICE_ID | ABI_VERSION << 32
        assert client.ask(0, size, COMPUTE + Register.ID) == (1, value & (1 << 8 * size) - 1)
        assert client.ask(1, min(size, 4), COMPUTE + Register.SIZE, 7) == (1, 0)
        assert client.ask(0, 4, COMPUTE + Register.SIZE) == (1, 7)
        assert client.ask(0, size, COMPUTE + 0x18) == (0, 0)  # no register: nothing happened
        assert client.ask(1, 4, COMPUTE + Register.ID, 1) == (0, 0)
        assert client.ask(0, 4, COMPUTE + Register.STATUS) == (1, 0)
        client.socket.close()
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=LONG)


def test_are_clients_served_in_turn_on_devices_of_their_own(tmp_path: Path) -> None:
    """None waits for another to leave; a lone client's log has no number."""
    with serving(tmp_path / "s", "--protocol", "mmio") as server:
        clients = [Client(tmp_path / "s") for _ in range(3)]
        for round_ in range(2):
            for number, client in enumerate(clients):
                assert client.ask(0, 4, COMPUTE + Register.SIZE) == (1, 10 * number * round_)
                assert client.ask(1, 4, COMPUTE + Register.SIZE, 10 * number) == (1, 0)
        for client in clients:
            client.socket.close()
        assert server.stdout is not None
        output, ended = "", 0
        while ended < len(clients):
            line = server.stdout.readline()
            output, ended = output + line, ended + ("Device transactions" in line)
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=LONG)
    assert output.count("Simulation complete") == 3
    assert "\n[Cycle 40] Compute0: WRITE to REG_SIZE = 0x00000000\n" in output
    assert "\n[Client 2] [Cycle 40] Compute0: WRITE to REG_SIZE = 0x0000000A\n" in output


def test_do_others_go_on_while_a_client_reads_no_replies(tmp_path: Path) -> None:
    """It is not listened to until it reads; then it gets every reply, also those to what it sent before it shut up."""
    request = REQUEST.pack(0, 4, 0, COMPUTE + Register.ID, 0)
    with serving(tmp_path / "s", "--protocol", "mmio") as server:
        silent, other = Client(tmp_path / "s"), Client(tmp_path / "s")
        silent.socket.setblocking(False)
        sent = 0
        for _ in range(5):  # each answer to the other comes after what the server still took from the silent one
            with contextlib.suppress(BlockingIOError):
                while True:
                    sent += silent.socket.send(request * 1000)
            assert other.ask(0, 4, COMPUTE + Register.ID) == (1, DEVICE_ID)
        assert sent < 64 << 20  # kept for it: some in the kernel, a bounded rest in the server
        assert Client(tmp_path / "s").ask(0, 4, COMPUTE + Register.ID) == (1, DEVICE_ID)
        silent.socket.settimeout(LONG)
        silent.socket.shutdown(socket.SHUT_WR)
        replies = b"".join(iter(lambda: silent.socket.recv(1 << 16), b""))
        assert replies == REPLY.pack(1, DEVICE_ID) * (sent // REQUEST.size)
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=LONG)
    assert server.returncode == 128 + signal.SIGTERM


def test_is_a_client_without_a_descriptor_left_refused_alone_and_logged(tmp_path: Path) -> None:
    with serving(tmp_path / "s", "--protocol", "mmio") as server:
        first = Client(tmp_path / "s")
        assert first.ask(1, 4, COMPUTE + Register.SIZE, 7) == (1, 0)
        used = len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
        for left in (0, 1, 2):  # for nothing, for the connection alone, and for that and its memory while it is made
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used + left, used + 100))
            with Client(tmp_path / "s").socket as refused, contextlib.suppress(ConnectionResetError):
                assert refused.recv(1) == b""
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used + 100, used + 100))
        assert Client(tmp_path / "s").ask(0, 4, COMPUTE + Register.SIZE) == (1, 0)
        assert first.ask(0, 4, COMPUTE + Register.SIZE) == (1, 7)
        server.send_signal(signal.SIGINT)
        output, errors = server.communicate(timeout=LONG)
    assert output.count("DeviceServer: Client refused: Too many open files\n") == 3
    assert "Traceback" not in errors


def test_are_the_devices_of_several_accelerators_where_the_tutorial_says(tmp_path: Path) -> None:
    with serving(tmp_path / "s", "--protocol", "mmio", "--set", "devices=3", "--once") as server:
        client = Client(tmp_path / "s")
        for base in (0x1030_0000, 0x1040_0000, 0x1050_0000):
            assert client.ask(0, 4, base + Register.ID) == (1, DEVICE_ID)
        assert client.ask(0, 4, 0x1060_0000 + Register.ID) == (0, 0)
        client.socket.close()
        server.communicate(timeout=LONG)
    assert server.returncode == 0


def test_is_the_log_of_an_echo_that_of_the_tutorial(tmp_path: Path) -> None:
    """Section 7.4, line by line but for the device's name: BUSY a cycle after the write, ready 10 cycles later."""
    with serving(
        tmp_path / "s", "--protocol", "mmio", "--set", "accelerator.mmio_latency_cycles=10", "--once"
    ) as server:
        client = Client(tmp_path / "s")
        for _ in range(9):
            client.ask(0, 4, ECHO + Register.STATUS)
        client.ask(1, 4, ECHO + Register.DATA_IN, 0x3F800000)
        while client.ask(0, 4, ECHO + Register.STATUS)[1] & StatusBit.BUSY:
            pass
        client.socket.close()
        output, _ = server.communicate(timeout=LONG)
    assert output.startswith(
        """Simulation started
[Cycle 0] DeviceServer: Client connected
[Cycle 100] Echo: WRITE to REG_DATA_IN = 0x3F800000
[Cycle 101] Echo: Status -> BUSY
[Cycle 111] Echo: Echo complete, latency=10 cycles
[Cycle 111] Echo: Status -> DATA_READY
"""
    )
    assert "Simulation complete\n\nStatistics:\n  Total cycles: 120\n  Memory reads: 0 (0 bytes)\n" in output


@pytest.mark.parametrize(
    ("number", "busy"),
    [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGHUP, False), (signal.SIGTERM, True)],
)
def test_does_a_signal_end_the_server_and_its_socket(tmp_path: Path, number: signal.Signals, busy: bool) -> None:
    with serving(tmp_path / "s", "--protocol", "mmio") as server:
        client = Client(tmp_path / "s") if busy else None
        if client is not None:
            assert client.ask(0, 4, ECHO + Register.STATUS) == (1, 0)
        server.send_signal(number)
        output, errors = server.communicate(timeout=LONG)
        assert not (tmp_path / "s").exists()
    assert server.returncode == 128 + number
    assert "Traceback" not in errors
    assert ("Simulation complete" in output) == busy


@pytest.mark.parametrize(
    "request_",
    [
        (2, 4, ECHO, 0, 0),  # neither read nor write
        (0, 3, ECHO, 0, 0),
        (0, 0, ECHO, 0, 0),
        (0, 4, ECHO + 2, 0, 0),  # not aligned
        (0, 4, ECHO + 0x1000, 0, 0),  # behind the device
        (0, 8, 0x8000_0000, 0, 0),  # RAM
        (0, 8, 2**64 - 8, 0, 0),
        (1, 4, ECHO, 1 << 32, 0),  # more than four bytes
        (0, 4, ECHO, 0, 7),  # reserved
    ],
)
def test_is_a_malformed_request_answered_with_failure(
    mmio_client: Client, request_: tuple[int, int, int, int, int]
) -> None:
    assert mmio_client.ask(*request_) == (0, 0)
    assert mmio_client.ask(0, 4, ECHO + Register.STATUS)[0] == 1


@pytest.fixture(scope="module")
def mmio_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    path = tmp_path_factory.mktemp("mmio") / "s"
    with serving(path, "--protocol", "mmio"):
        client = Client(path)
        yield client
        client.socket.close()


def test_does_a_devices_file_say_what_is_where(tmp_path: Path) -> None:
    file = tmp_path / "devices.toml"
    file.write_text(
        "schema = 1\n"
        + "".join(
            f'[[device]]\nname = "{name}"\nkind = "{kind}"\nbase = {base}\n'
            for name, kind, base in (("a", "echo", ECHO), ("b", "compute", COMPUTE), ("c", "echo", 0x1040_0000))
        )
    )
    with serving(tmp_path / "s", "--protocol", "mmio", "--devices", str(file), "--once") as server:
        client = Client(tmp_path / "s")
        assert client.ask(1, 4, 0x1040_0000, 5) == (1, 0)
        client.socket.close()
        output, _ = server.communicate(timeout=LONG)
    assert " c: WRITE to REG_DATA_IN = 0x00000005" in output


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("schema = 2", "schema is 2"),
        ("schema = true", "schema is True"),
        ("schema = 1.0", r"schema is 1\.0"),
        ("schema = 1", r"one \[\[device\]\] table or more"),
        ('schema = 1\n[[device]]\nname = "a"\nkind = "gpu"\nbase = 0x10200000', "kind is 'gpu'"),
        ('schema = 1\n[[device]]\nname = "a"\nkind = "echo"\nbase = 0x10200004', "multiple of 0x1000"),
        ('schema = 1\n[[device]]\nname = "a"\nkind = "echo"\nbase = 0x10200000\nhardware = "edgy.toml"', "edgy.toml"),
        (
            'schema = 1\n[[device]]\nname = "a"\nkind = "echo"\nbase = 0x10200000\n'
            '[[device]]\nname = "b"\nkind = "echo"\nbase = 0x10200000',
            "overlaps a",
        ),
    ],
)
def test_is_a_wrong_devices_file_refused_with_the_reason(tmp_path: Path, text: str, match: str) -> None:
    file = tmp_path / "devices.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=match):
        load_devices(file)


def test_is_a_socket_path_that_is_too_long_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at most 107; choose a shorter one"), listen(tmp_path / ("x" * 120)):
        pass


def test_is_a_socket_in_use_left_alone_and_a_stale_one_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with (
        listen(path),
        pytest.raises(InputError, match="a server is listening there"),
        listen(path),
    ):
        pass
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with listen(path):
        pass
    assert not path.exists()
    path.write_text("mine")
    with pytest.raises(InputError, match="a file that is no socket"), listen(path):
        pass
    assert path.read_text() == "mine"
    path.unlink()


def test_does_the_session_of_the_documentation_run(tmp_path: Path) -> None:
    """Both terminals' commands, and the output that the page shows."""
    require_qemu()
    elf = tmp_path / "graph_0.elf"
    Toolchain.find().compile(program_sources([GUEST], FIRMWARE / "link.ld"), elf, cache_dir())
    page = DOCS.read_text(encoding="utf-8")
    found = re.search(r"^\$ acalsim device serve (.*)$", page, re.M)
    assert found is not None
    options = shlex.split(found[1])
    path = tmp_path / "acalsim.sock"
    assert options[0] == "--socket"
    with serving(path, *options[2:], "--once") as server:
        assert server.stderr is not None
        command = ""
        while "-kernel" not in command:
            command += server.stderr.readline()
        shown = subprocess.run(
            ["sh", "-c", command],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONG,
            check=False,
        )
        output, _ = server.communicate(timeout=LONG)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == "echo: 0x000000003f800000\n"
    assert shown.stdout in page
    assert output in page


def test_is_nothing_left_of_a_server_whose_client_dies(tmp_path: Path) -> None:
    with serving(tmp_path / "s", "--once") as server:
        client = Client(tmp_path / "s")
        client.socket.sendall(b"\1\0\1")  # the beginning of a header
        client.socket.close()
        output, errors = server.communicate(timeout=LONG)
    assert server.returncode == 0, errors
    assert "closed in the middle of a header" in output
    assert not os.listdir(tmp_path)  # noqa: PTH208
