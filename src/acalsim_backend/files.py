"""Files of the user: written complete or not at all, and read with errors that say what is there instead.

A file is written under a name of its own beside its place and then moved there, so that whoever reads it, and whoever
writes the same one at the same time, sees one whole content. What is no regular file (a pipe, a terminal) is written
in place, and the file to which this process's own output goes is written at its end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from acalsim_backend.errors import HardwareError, InputError

ELSEWHERE = "choose another place"
_TEMPORARY = ".acalsim-"  # how our unfinished files begin


def write(path: str | Path, content: str | bytes, remedy: str = ELSEWHERE) -> None:
    """Write ``content`` (text as UTF-8) to ``path``, replacing what is there at once; nothing is left if that fails.

    Raises:
        InputError: it cannot be written; ``remedy`` says what to do.
    """
    data = content.encode() if isinstance(content, str) else content
    with replacing(path, remedy) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def replacing(path: str | Path, remedy: str = ELSEWHERE) -> Iterator[Path]:
    """An empty file for the block to fill, which then becomes ``path``; it is removed if the block fails.

    Raises:
        InputError: as :func:`write`.
    """
    path = Path(path)
    try:
        place, mode = _target(path)
        descriptor = _own_output(place) if mode is not None else None
        if descriptor is not None:
            with tempfile.TemporaryDirectory(prefix=_TEMPORARY) as folder:
                yield Path(folder) / "content"
                _append(Path(folder) / "content", descriptor)
            return
        if mode is not None and not stat.S_ISREG(mode):
            yield place
            return
        with _temporary(place.parent) as temporary:
            yield temporary
            if mode is not None:
                temporary.chmod(stat.S_IMODE(mode))
            temporary.replace(place)
    except OSError as error:
        raise _failure(path, error, remedy) from None


def stream(path: str | Path, remedy: str = ELSEWHERE) -> TextIO:
    """A file to be written bit by bit, emptied unless this process's own output goes there.

    Raises:
        InputError: as :func:`write`.
    """
    path = Path(path)
    try:
        place, mode = _target(path)
        descriptor = _own_output(place) if mode is not None else None
        if descriptor is not None:
            (sys.stdout if descriptor == 1 else sys.stderr).flush()
            return os.fdopen(os.dup(descriptor), "w", encoding="utf-8")
        return place.open("w", encoding="utf-8")
    except OSError as error:
        raise _failure(path, error, remedy) from None


def check_writable(path: str | Path, remedy: str = ELSEWHERE) -> None:
    """Refuse a place that :func:`write` could not write now, without leaving anything there.

    Raises:
        InputError: as :func:`write`.
    """
    path = Path(path)
    try:
        place, mode = _target(path)
        if mode is None or stat.S_ISREG(mode):
            with _temporary(place.parent):
                pass
    except OSError as error:
        raise _failure(path, error, remedy) from None


def make_folder(folder: str | Path, remedy: str = "choose another folder") -> Path:
    """``folder``, made with its parents if it is not there, and found to be writable.

    Raises:
        InputError: it cannot be made or written; ``remedy`` says what to do.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _temporary(folder):
            pass
    except OSError as error:
        raise _failure(folder, error, remedy) from None
    return folder


def check_folder(folder: str | Path, remedy: str = "choose another folder") -> None:
    """Refuse a folder that :func:`make_folder` could not make now, without leaving anything there.

    Raises:
        InputError: as :func:`make_folder`.
    """
    folder = Path(folder)
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
        with _temporary(there):
            pass
    except OSError as error:
        raise _failure(folder, error, remedy) from None


def is_temporary(path: Path) -> bool:
    """Whether a name is that of a file which :func:`write` has not finished."""
    return path.name.startswith(_TEMPORARY)


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without the mark that Windows puts in front.

    Raises:
        InputError: there is none, it is something else, or its bytes are no UTF-8.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path}: is a folder, expected a file")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path}: is no regular file (a pipe or a device); save its content as a file first")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        if path.is_symlink():
            raise InputError(f"{path}: is a link to {path.readlink()}, which does not exist") from None
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not text in UTF-8 (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def check_schema(document: Mapping[str, Any], expected: int, place: object) -> None:
    """Refuse a file whose ``schema`` is not the whole number ``expected``; ``place`` is where it says so.

    Raises:
        HardwareError: it has none, or another.
    """
    schema = document.get("schema")
    if type(schema) is not int or schema != expected:  # true and 1.0 equal 1
        got = f"schema is {schema!r}" if "schema" in document else "schema is missing"
        raise HardwareError(f"{place}: {got}, expected schema = {expected}")


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """What a TOML file says, and its text.

    Raises:
        InputError: as :func:`read_text`.
        HardwareError: it does not parse; names file and line.
    """
    text = read_text(path)
    try:
        return tomllib.loads(text), text
    except RecursionError:
        raise HardwareError(f"{path}: not valid TOML: nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        found = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", str(error), re.DOTALL)
        if found is None:
            raise HardwareError(f"{path}: not valid TOML: {error}") from None
        line = found[2] or max(text.rstrip("\n").count("\n") + 1, 1)
        where = f" (column {found[3]})" if found[3] else " (at the end of the file)"
        raise HardwareError(f"{path}:{line}: not valid TOML: {found[1]}{where}") from None


def _target(path: Path) -> tuple[Path, int | None]:
    """Where writing to ``path`` leads, links followed, and the mode of what is there; None if nothing is."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return Path(os.path.realpath(path)), None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return (Path(os.path.realpath(path)) if stat.S_ISREG(mode) else path), mode


def _own_output(path: Path) -> int | None:
    """The descriptor, 1 or 2, of this process's output if ``path`` is the file to which it goes."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and os.path.samestat(found, path.stat()):
                return descriptor
    return None


def _append(content: Path, descriptor: int) -> None:
    """Write where the output stands, behind what was printed before."""
    stream = sys.stdout if descriptor == 1 else sys.stderr
    stream.flush()
    with content.open("rb") as source, os.fdopen(os.dup(descriptor), "wb") as target:
        shutil.copyfileobj(source, target)


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """An empty file that nobody else has, with the permissions of a new file; gone at the end unless moved."""
    path = folder / f"{_TEMPORARY}{secrets.token_hex(8)}"
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def _failure(path: Path, error: OSError, remedy: str) -> InputError:
    return InputError(f"{path}: cannot write there: {error.strerror or error}; {remedy}")
