"""Finds a QEMU that has ``vfio-user-pci``, and sets one up privately from Debian's packages where there is none."""

from __future__ import annotations

import contextlib
import functools
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from acalsim_backend.errors import MissingToolError
from acalsim_backend.toolchain import cache_dir, find_tool

PROGRAM = "qemu-system-riscv64"
VARIABLE = "ACALSIM_QEMU"
AT_LEAST = (10, 1)  # the first with vfio-user-pci
INSTALL = "acalsim doctor --install qemu"


@dataclass(frozen=True)
class Suite:
    """A Debian suite whose ``qemu-system-riscv`` is new enough; ``needs`` are suites with what it depends on."""

    name: str
    needs: tuple[str, ...]
    versions: tuple[tuple[int, int], tuple[int, int]]
    """The first version that is accepted from it, and the first that is not."""


SUITES = (
    Suite("trixie-backports", ("trixie",), (AT_LEAST, (13, 0))),
    Suite("forky", (), (AT_LEAST, (13, 0))),
)
"""Tried in this order."""

PACKAGE = "qemu-system-riscv"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DEBIAN = "http://deb.debian.org/debian"  # where apt's own sources name no Debian archive
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_LOADERS = {"amd64": "ld-linux-x86-64.so.2", "arm64": "ld-linux-aarch64.so.1"}
_ELSEWHERE = f"install QEMU {'.'.join(map(str, AT_LEAST))} or newer by hand and set {VARIABLE} to its {PROGRAM}"


@dataclass(frozen=True)
class Qemu:
    """A program that can be used."""

    path: Path
    version: tuple[int, int]


def find_qemu(binary: str | Path | None = None, environment: Mapping[str, str] | None = None) -> Qemu:
    """``binary``, or what ACALSIM_QEMU names, or the one on the path, or the private one.

    Raises:
        MissingToolError: none of them is new enough; says what was found and what to do.
    """
    known = {} if environment is None else {"environment": environment}
    chosen, found = find_tool(PROGRAM, VARIABLE, **known)
    if binary is not None:
        place = shutil.which(binary)
        if place is None:
            raise MissingToolError(f"QEMU: {binary} is not a program; {_ELSEWHERE}, or run `{INSTALL}`")
        return _accepted(Path(place))
    if chosen is not None:
        if found is None:
            raise MissingToolError(f"{VARIABLE} is {chosen!r}, which is not a program; correct or unset it")
        return _accepted(Path(found))
    private = private_program(cache_dir(**known))
    if found is not None:
        try:
            return _accepted(Path(found))
        except MissingToolError:
            if not private.exists():
                raise
    if private.exists():
        return _accepted(private)
    raise MissingToolError(f"machine qemu: {PROGRAM} is not on the path: run `{INSTALL}`, or {_ELSEWHERE}")


def private_program(cache: Path) -> Path:
    """Where :func:`install_qemu` puts it."""
    return cache / "qemu" / PROGRAM


def _accepted(path: Path) -> Qemu:
    version = _version(path, path.stat().st_mtime_ns)
    if version < AT_LEAST:
        raise MissingToolError(
            f"{path} is QEMU {'.'.join(map(str, version))}, but vfio-user-pci came with "
            f"{'.'.join(map(str, AT_LEAST))}: run `{INSTALL}`, or {_ELSEWHERE}"
        )
    return Qemu(path, version)


@functools.lru_cache(maxsize=16)
def _version(path: Path, _: int) -> tuple[int, int]:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
        text = done.stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingToolError(f"{path} does not start: {error}; {_ELSEWHERE}, or run `{INSTALL}`") from None
    found = re.search(r"version (\d+)\.(\d+)", text)
    if found is None:
        raise MissingToolError(f"{path} --version says {text[:80]!r}, not QEMU's version; {_ELSEWHERE}")
    return int(found[1]), int(found[2])


def install_qemu(cache: Path) -> Qemu:
    """Download Debian's package with everything it depends on, checked by apt, and unpack it below ``cache``.

    The system is not touched, and no privileges are needed. Some 35 MB and 15 s.

    Raises:
        MissingToolError: not possible here; says why and what to do instead.
    """
    architecture = _ARCHITECTURES.get(platform.machine())
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if sys.platform != "linux" or architecture is None or missing:
        what = f"{', '.join(missing)} missing" if missing else f"{sys.platform} on {platform.machine()}"
        raise MissingToolError(f"QEMU is set up from Debian's packages, for amd64 and arm64 ({what}): {_ELSEWHERE}")
    if not KEYRING.exists():
        raise MissingToolError(
            f"{KEYRING} is missing, which signatures are checked with: apt-get install debian-archive-keyring"
        )
    target = private_program(cache).parent
    target.parent.mkdir(parents=True, exist_ok=True)
    problems: list[str] = []
    for suite in SUITES:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".qemu-") as scratch:
            folder = Path(scratch)
            try:
                _unpack(folder, suite, architecture)
                made = _assemble(folder, architecture)
                version = _version(made / PROGRAM, 0)
            except (_AptError, MissingToolError) as error:
                problems.append(f"{suite.name}: {error}")
                continue
            first, behind = suite.versions
            if not first <= version < behind:
                problems.append(f"{suite.name}: has QEMU {'.'.join(map(str, version))}")
                continue
            with contextlib.suppress(FileNotFoundError):
                target.rename(folder / "old")
            made.rename(target)
        _version.cache_clear()
        return _accepted(target / PROGRAM)
    raise MissingToolError(
        "no Debian archive gave a QEMU that is new enough:\n" + "\n".join(problems) + f"\n{_ELSEWHERE}"
    )


class _AptError(Exception):
    """apt or dpkg failed; the message is its last words."""


def _unpack(folder: Path, suite: Suite, architecture: str) -> None:
    """The package and all it depends on, libc included, below ``folder/root``.

    apt gets a configuration of its own, whose empty list of installed packages makes it fetch everything.
    """
    apt = folder / "apt"
    for part in ("lists/partial", "cache/archives/partial"):
        (apt / part).mkdir(parents=True)
    (apt / "status").touch()
    lines = [
        f"deb [arch={architecture} signed-by={KEYRING}] {_mirror()} {name} main" for name in (*suite.needs, suite.name)
    ]
    (apt / "sources.list").write_text("\n".join(lines) + "\n", encoding="utf-8")
    options = {
        "Dir::Etc::SourceList": apt / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "Dir::State": apt,
        "Dir::State::Lists": apt / "lists",
        "Dir::Cache": apt / "cache",
        "Dir::State::status": apt / "status",
        "APT::Install-Recommends": "false",
        "APT::Architecture": architecture,
        "APT::Sandbox::User": "",
        "Acquire::AllowInsecureRepositories": "false",
        "APT::Get::AllowUnauthenticated": "false",
        "Binary::apt-get::APT::Keep-Downloaded-Packages": "true",
        "DPkg::Post-Invoke::": "",
    }
    command = ["apt-get", "-q", "-y", *(f"-o{key}={value}" for key, value in options.items())]
    _run([*command, "-oAPT::Update::Error-Mode=any", "update"])
    _run([*command, "-t", suite.name, "--download-only", "install", PACKAGE])
    packages = sorted((apt / "cache" / "archives").glob("*.deb"))
    for package in packages:
        _run(["dpkg-deb", "--extract", str(package), str(folder / "root")])


def _assemble(folder: Path, architecture: str) -> Path:
    """The program with the libraries that it loads, and a script that starts it with them."""
    root, made = folder / "root", folder / "qemu"
    loader = next(root.glob(f"usr/lib*/**/{_LOADERS[architecture]}"), None)
    program = root / "usr" / "bin" / PROGRAM
    if loader is None or not program.exists():
        raise _AptError(f"{PACKAGE} has no {PROGRAM}, or libc6 no {_LOADERS[architecture]}")
    libraries = next(p for p in root.glob("usr/lib/*-linux-gnu") if (p / "libc.so.6").exists())
    listed = _run([str(loader), "--library-path", str(libraries), "--list", str(program)])
    (made / "lib").mkdir(parents=True)
    for path in re.findall(r"=> (/\S+)", listed):
        shutil.copy(path, made / "lib")
    shutil.copy(loader, made / "lib" / _LOADERS[architecture])
    shutil.copy(program, made / "qemu.bin")
    script = made / PROGRAM
    script.write_text(
        "#!/bin/sh\n"
        'here=$(dirname "$(readlink -f "$0")")\n'
        f'exec "$here/lib/{_LOADERS[architecture]}" --library-path "$here/lib" --argv0 {PROGRAM} '
        '"$here/qemu.bin" -L "$here" "$@"\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    return made


def _mirror() -> str:
    """The Debian archive that this system's apt already uses."""
    for place in _archives():
        if re.search(r"/debian/?$", place):
            return place
    return DEBIAN


def _archives() -> Iterator[str]:
    with contextlib.suppress(_AptError):
        yield from _run(["apt-get", "indextargets", "--format", "$(REPO_URI)"]).split()


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise _AptError(f"{command[0]}: {error}") from None
    if done.returncode != 0:
        complaints = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W:", "dpkg"))]
        raise _AptError("; ".join(complaints[-4:]) or f"{command[0]} ended with code {done.returncode}")
    return done.stdout
