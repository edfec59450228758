"""Finds a RISC-V cross compiler, builds bare-metal programs with it and caches them by content.

The compiler is zig from PyPI (``ziglang``), or the gcc that ``$CROSS_COMPILE`` is the prefix of. Only the standard
library is needed, because the package's own build runs ``python -m acalsim_backend.toolchain firmware --out PATH``.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from acalsim_backend import files
from acalsim_backend.errors import AcalsimError, BuildError, InputError, MissingToolError
from acalsim_backend.firmware import c_header

FIRMWARE_FOLDER = Path(__file__).parent / "firmware"
HOST_ONLY = frozenset({"host.c"})
IMAGE_ONLY = frozenset({"main.c"})  # entry of the firmware that runs images
PROGRAM_ONLY = frozenset({"standalone.c"})  # entry of generated programs
CACHE_LIMIT_BYTES = 256 << 20
CACHE_REMEDY = "set ACALSIM_CACHE_DIR to another folder"
DIGEST_BYTES = hashlib.sha256().digest_size
ABANDONED_SECONDS = 86_400  # after which an unfinished file belongs to nobody
ABI_HEADER = "acal_abi.h"
SHOWN_LINES = 30  # of a failed compiler's output

COMMON_FLAGS = (
    *("-std=c11", "-O3", "-g", "-Wall", "-Wextra"),
    *("-ffreestanding", "-nostdlib", "-static", "-mabi=lp64d", "-mcmodel=medany"),
    *("-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-strict-aliasing", "-fomit-frame-pointer"),
)
ZIG_FLAGS = ("-target", "riscv64-freestanding-none", "-mcpu=generic_rv64+m+a+f+d+c", "-fno-sanitize=all")
GCC_FLAGS = ("-march=rv64gc", "-fno-tree-loop-distribute-patterns")


@dataclass(frozen=True)
class Sources:
    """What a bare-metal program is built from.

    ``include`` are folders with headers; ``generated`` maps names of further headers to their text; ``data`` are files
    that a source takes in by ``.incbin`` under their plain name.
    """

    files: tuple[Path, ...]
    linker_script: Path
    include: tuple[Path, ...] = ()
    generated: Mapping[str, str] = field(default_factory=dict)
    data: tuple[Path, ...] = ()

    def content(self) -> Iterator[bytes]:
        """Everything that the result depends on, apart from the compiler.

        Raises:
            InputError: a file cannot be read.
        """
        headers = [path for folder in self.include for path in sorted(folder.glob("*.h"))]
        for path in (*self.files, self.linker_script, *headers, *self.data):
            try:
                text = path.read_bytes()
            except OSError as error:
                raise InputError(f"{path}: cannot be read: {error.strerror}") from None
            yield path.name.encode()
            yield text
        for name, header in sorted(self.generated.items()):
            yield name.encode()
            yield header.encode()


@dataclass(frozen=True)
class Toolchain:
    """A compiler driver for bare-metal RV64GC with hardware floating point."""

    name: str
    command: tuple[str, ...]
    flags: tuple[str, ...]

    @classmethod
    def find(cls, environment: Mapping[str, str] = os.environ) -> Toolchain:
        """The gcc that ``CROSS_COMPILE`` names if it is set, else zig.

        Raises:
            MissingToolError: neither is there; the message has the line that installs one.
        """
        prefix = environment.get("CROSS_COMPILE")
        if prefix:
            compiler = shutil.which(prefix + "gcc", path=environment.get("PATH"))
            if compiler is None:
                raise MissingToolError(
                    f"CROSS_COMPILE is {prefix!r}, but there is no {prefix}gcc on the path: "
                    "apt-get install gcc-riscv64-unknown-elf and set CROSS_COMPILE=riscv64-unknown-elf-, "
                    "or unset it to use zig"
                )
            return cls("gcc", (compiler,), GCC_FLAGS)
        if importlib.util.find_spec("ziglang") is not None:
            return cls("zig", (sys.executable, "-m", "ziglang", "cc"), ZIG_FLAGS)
        raise MissingToolError(
            "no compiler for RISC-V: pip install ziglang, "
            "or apt-get install gcc-riscv64-unknown-elf and set CROSS_COMPILE=riscv64-unknown-elf-"
        )

    def with_vectors(self) -> Toolchain:
        """The same for a core that has the vector extension."""
        flags = tuple(f.replace("+c", "+c+v").replace("rv64gc", "rv64gcv") for f in self.flags)
        return replace(self, flags=flags)

    @functools.cached_property
    def version(self) -> str:
        """What the compiler says of itself."""
        return self._run([*self.command, "--version"], os.environ).splitlines()[0]

    def compile(self, sources: Sources, out: Path, cache: Path | None) -> Path:
        """Build an ELF at ``out``, or take it from the folder ``cache``; two processes may do so at once.

        Raises:
            BuildError: the compiler failed; carries its output.
            InputError: a source cannot be read, or a folder cannot be written.
        """
        entry = None
        if cache is not None:
            entry = files.make_folder(cache / "elf", CACHE_REMEDY) / self.key(sources)
        elf = None if entry is None else _take(entry)
        if elf is None:
            elf = self._build(sources)
            if entry is not None:
                _keep(entry, elf)
        files.make_folder(out.parent)
        files.write(out, elf)
        return out

    def key(self, sources: Sources) -> str:
        """Names what :meth:`compile` makes of ``sources``: compiler, flags and content.

        Raises:
            InputError: a source cannot be read.
        """
        digest = hashlib.sha256()
        for part in (self.version, *self.flags, *COMMON_FLAGS):
            digest.update(part.encode() + b"\0")
        for content in sources.content():
            digest.update(len(content).to_bytes(8, "little") + content)
        return digest.hexdigest()

    def _build(self, sources: Sources) -> bytes:
        with tempfile.TemporaryDirectory(prefix="acalsim-") as scratch:
            return self._build_in(Path(scratch).absolute(), sources)

    def _build_in(self, scratch: Path, sources: Sources) -> bytes:
        for name, text in sources.generated.items():
            (scratch / name).write_text(text, encoding="utf-8")
        for path in sources.data:
            (scratch / path.name).symlink_to(path.absolute())
        result = scratch / "program.elf"
        files = [path.absolute() for path in sources.files]
        include = [scratch, *(folder.absolute() for folder in sources.include)]
        private = sorted({scratch, *(path.parent for path in files)})  # kept out of the debug information
        command = [
            *(*self.command, *self.flags, *COMMON_FLAGS),
            *(f"-I{folder}" for folder in include),
            *(f"-ffile-prefix-map={folder}=." for folder in private),
            *("-T", str(sources.linker_script.absolute()), *map(str, files), "-o", str(result)),
        ]
        caches = {"ZIG_GLOBAL_CACHE_DIR": str(scratch / "zig"), "ZIG_LOCAL_CACHE_DIR": str(scratch / "zig-local")}
        self._run(command, {**os.environ, **caches}, scratch)
        return result.read_bytes()

    def _run(self, command: Sequence[str], environment: Mapping[str, str], folder: Path | None = None) -> str:
        try:
            done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
        except OSError as error:
            raise MissingToolError(f"{self.name}: {command[0]} does not start: {error.strerror}") from None
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines()
            more = [f"... and {len(lines) - SHOWN_LINES} lines more"] if len(lines) > SHOWN_LINES else []
            title = f"{self.name} failed with code {done.returncode}:"
            raise BuildError("\n".join([title, *lines[:SHOWN_LINES], *more]))
        return done.stdout


def cache_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder for everything that can be made again."""
    chosen = environment.get("ACALSIM_CACHE_DIR")
    if chosen:
        return Path(chosen)
    home = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME", "~")).expanduser() / ".cache"
    return Path(home) / "acalsim"


def find_tool(name: str, variable: str, environment: Mapping[str, str] = os.environ) -> tuple[str | None, str | None]:
    """What the user set ``variable`` to, and where that, or else ``name``, is on the path; None where there is none."""
    chosen = environment.get(variable) or None
    return chosen, shutil.which(chosen or name, path=environment.get("PATH"))


def firmware_sources() -> Sources:
    """The generic firmware, which runs any Program in its image form."""
    return Sources(
        runtime_files(PROGRAM_ONLY), FIRMWARE_FOLDER / "link.ld", (FIRMWARE_FOLDER,), {ABI_HEADER: abi_header()}
    )


def vector_firmware() -> Path:
    """The generic firmware with vector code, built when it is first needed.

    Raises:
        MissingToolError, BuildError: there is no compiler for it.
    """
    toolchain, sources = Toolchain.find().with_vectors(), firmware_sources()
    folder = cache_dir() / "firmware"
    out = folder / f"acal_rv64gcv-{toolchain.key(sources)[:16]}.elf"  # other versions of this package have their own
    toolchain.compile(sources, out, cache_dir())
    _prune(folder, CACHE_LIMIT_BYTES)
    return out


def program_sources(files: Sequence[Path], linker_script: Path, data: Sequence[Path] = ()) -> Sources:
    """A generated program: its own sources, which have a ``main``, with the firmware's kernels and driver."""
    beside = [path.with_suffix(".h") for path in files]
    headers = {path.name: path.read_text(encoding="utf-8") for path in beside if path.exists()}
    runtime = runtime_files(IMAGE_ONLY)
    return Sources(
        (*files, *runtime), linker_script, (FIRMWARE_FOLDER,), {ABI_HEADER: abi_header(), **headers}, tuple(data)
    )


def runtime_files(without: Iterable[str]) -> tuple[Path, ...]:
    """The firmware's sources for the guest, some of them left out."""
    left_out = HOST_ONLY.union(without)
    return tuple(sorted(path for path in FIRMWARE_FOLDER.glob("*.[cS]") if path.name not in left_out))


def abi_header() -> str:
    """The text of the generated C header."""
    return "\n".join(c_header.generate()) + "\n"


def _keep(entry: Path, elf: bytes) -> None:
    """Put an ELF into the cache, its digest behind it."""
    files.write(entry, elf + hashlib.sha256(elf).digest(), CACHE_REMEDY)
    _prune(entry.parent, CACHE_LIMIT_BYTES)


def _take(entry: Path) -> bytes | None:
    """An ELF from the cache; None if it is not there, or not as it was put there.

    Raises:
        InputError: it cannot be read.
    """
    try:
        data = entry.read_bytes()
        with suppress(OSError):  # of another user, or gone since
            os.utime(entry)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{entry}: cannot be read: {error.strerror}; {CACHE_REMEDY}") from None
    elf, digest = data[:-DIGEST_BYTES], data[-DIGEST_BYTES:]
    return elf if hashlib.sha256(elf).digest() == digest else None


def _prune(folder: Path, limit: int) -> None:
    """Remove the files that were used longest ago until the folder holds at most ``limit`` bytes.

    Other processes may do so at the same time, and may use what is removed: they have read it, or build it anew.
    """
    found: list[tuple[float, int, Path]] = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another process removed it
            status = path.stat()
            if not files.is_temporary(path) or status.st_mtime < time.time() - ABANDONED_SECONDS:
                found.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found)[:-1]:  # never the newest
        if total <= limit:
            break
        with suppress(OSError):
            path.unlink(missing_ok=True)
        total -= size


def main(arguments: Sequence[str] | None = None) -> int:
    """``firmware --out PATH``: build the firmware. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m acalsim_backend.toolchain", description="Build for the guest.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("firmware", help="build the generic firmware")
    command.add_argument("--out", type=Path, required=True, help="where the ELF goes")
    command.add_argument("--no-cache", action="store_true", help="build anew and keep nothing else")
    options = parser.parse_args(arguments)
    try:
        cache = None if options.no_cache else cache_dir()
        Toolchain.find().compile(firmware_sources(), options.out.absolute(), cache)
    except AcalsimError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
