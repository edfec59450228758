"""The one error tree. Every message says what was got, what was expected and what to do."""

from __future__ import annotations

import difflib
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path


class AcalsimError(Exception):
    """Base of every error this package raises on purpose; ``exit_code`` is what the CLI returns for it."""

    exit_code = 3


class UsageError(AcalsimError):
    """A command line or an API argument that cannot be understood."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that is not in its list; the message gives the nearest ones."""

    def __init__(self, kind: str, got: object, known: Iterable[str]) -> None:
        names = sorted(known)
        nearest = difflib.get_close_matches(got, names, n=3, cutoff=0.5) if isinstance(got, str) else []
        hint = f"did you mean {' or '.join(nearest)}? " if nearest else ""
        super().__init__(f"unknown {kind} {got!r}: {hint}known: {', '.join(names)}")
        self.nearest = nearest


class InputError(AcalsimError):
    """A model, file or value that was read but cannot be used."""


class HardwareError(InputError):
    """A hardware description that does not parse or does not make sense; names file, line and key."""


class UnsupportedError(InputError):
    """Operators, data types or shapes that no processor of the machine can run; lists all of them."""


class ProgramError(AcalsimError):
    """A Program that breaks a rule of the ABI; found by the verifier."""


class CapacityError(InputError):
    """Something larger than the memory that the hardware file gives it."""


class MissingToolError(AcalsimError):
    """Something that has to be installed first; the message carries the line that does it."""

    exit_code = 4


class BuildError(AcalsimError):
    """A compiler that ran and failed; carries its output."""


class MachineError(AcalsimError):
    """The simulated machine could not finish a Program."""

    exit_code = 5


class GuestTrapError(MachineError):
    """The guest CPU trapped or touched unmapped memory; names cause, C function and line."""


class WatchdogError(MachineError):
    """The guest retired more instructions than the watchdog allows."""


class DeviceError(MachineError):
    """The accelerator or a CPU kernel refused a command; names the IR operation and the Python line."""


class IndexOutOfRangeError(DeviceError, IndexError):
    """An index that a command read lies outside the axis that it counts."""


def one_line(message: object) -> str:
    """What another library or a model says, without its line breaks, so that an error stays one line."""
    return "; ".join(line.strip() for line in str(message).splitlines() if line.strip())


def user_line(error: BaseException) -> str:
    """Where in the user's own files an error arose, to be put behind a message: `` (model.py:7)``.

    The innermost line that is neither this package's nor an installed one's; without such a line the innermost.
    """
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append((error.filename, error.lineno))
    own = [frame for frame in frames if not _is_installed(frame[0])]
    if not frames:
        return ""
    file, line = (own or frames)[-1]
    return f" ({Path(file).name}:{line})"


def _is_installed(file: str) -> bool:
    folders = (Path(__file__).parent, *(sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")))
    return "site-packages" in Path(file).parts or file.startswith(("<", *(f"{folder}/" for folder in folders)))
