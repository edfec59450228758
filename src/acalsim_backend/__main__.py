"""``python -m acalsim_backend`` and the console script: Ctrl-C is quiet from the start, no stream has to be there.

Whatever takes long to import comes after that, the command line included.
"""

from __future__ import annotations

import os

try:
    import io
    import signal
    import sys
except KeyboardInterrupt:
    os._exit(130)

TYPE_CHECKING = False  # typing's, without the time that importing it takes
if TYPE_CHECKING:
    from typing import NoReturn

    from _typeshed import ReadableBuffer


def compile_() -> NoReturn:
    """``acalsim-compile``: the same as ``acalsim compile``."""
    sys.argv.insert(1, "compile")
    main()


def main() -> NoReturn:
    """Run the command line."""
    try:
        own = signal.signal(signal.SIGINT, _leave)  # nothing is open yet
        _open_streams()
        from acalsim_backend.cli.main import main as run

        signal.signal(signal.SIGINT, own)
        run()
    except KeyboardInterrupt:
        _leave()
    finally:
        signal.signal(signal.SIGINT, _leave)  # what the interpreter tears down does not complain either


def _leave(*_: object) -> NoReturn:
    os._exit(128 + signal.SIGINT)


class _Heedless(io.FileIO):
    """A file that takes what it cannot write: nobody could be told."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _open_streams() -> None:
    """Standard streams for a process that was started without some (``>&-``), and a stderr that never fails.

    Results that nobody takes are an error like those for which a disk is too small.
    """
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")  # to which writing is an error
    number = os.open(os.devnull, os.O_WRONLY) if sys.stderr is None else sys.stderr.fileno()
    encoding = None if sys.stderr is None else sys.stderr.encoding
    raw = io.BufferedWriter(_Heedless(number, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(raw, encoding, "backslashreplace", line_buffering=True)


if __name__ == "__main__":
    main()
