"""Where the commands write: results to stdout; progress, notes and logs to stderr."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from acalsim_backend.report.text import UNLIMITED, rounded, table_width

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.table import Table

    from acalsim_backend import layers


@dataclass
class Settings:
    """What the global options say; they may stand before or after the command's name."""

    quiet: bool = False
    verbose: int = 0
    debug: bool = False

    def reset(self) -> None:
        """As if no option had been given."""
        self.quiet, self.verbose, self.debug = False, 0, False

    def merge(self, quiet: bool, verbose: int, debug: bool) -> None:
        """Take the options of one place, in which they may stand, to those of the others."""
        self.quiet |= quiet
        self.verbose = max(self.verbose, verbose)
        self.debug |= debug


settings = Settings()


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table without frame. Numbers, in the named columns after the first, stay whole; texts give way."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for i, name in enumerate(columns):
        if name:
            width = max(len(name), *(len(row[i]) for row in rows))
            made.add_column(name, justify="right" if i else "left", no_wrap=True, min_width=width)
        else:
            made.add_column(overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def print_table(console: Console, table: Table) -> None:
    """Print a table with all its digits; a terminal that is too narrow for them wraps its lines."""
    console.width = max(console.width, table_width(table))
    console.print(table)


def stdout() -> Console:
    """The terminal, or what has no width of its own: a pipe or a file, unless COLUMNS says how wide it is."""
    from rich.console import Console

    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return Console(highlight=False, markup=False, width=None if known else UNLIMITED)


class Stages:
    """What is being done, on stderr, once that took ``DELAY`` seconds; nothing if quiet or not a terminal."""

    DELAY = 2.0

    def __init__(self, quiet: bool) -> None:
        self._enabled = not quiet and sys.stderr.isatty()
        self._stage = ""
        self._lock = threading.Lock()
        self._timer = threading.Timer(self.DELAY, self._start)
        self._timer.daemon = True
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        if self._enabled:
            self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with self._lock:
            self._enabled = False
            self._timer.cancel()
            if self._bar is not None:
                self._bar.stop()

    def stage(self, text: str) -> None:
        """Say what comes now."""
        with self._lock:
            self._stage = text
            if self._bar is not None:
                self._bar.update(self._bar.task_ids[0], description=text)

    def _start(self) -> None:
        with self._lock:
            if not self._enabled:
                return
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.add_task(self._stage, total=None)
            self._bar.start()


class Display:
    """Shows on a stream how far a run is, from ``DELAY`` seconds on: the estimate, then a bar, or without a terminal a
    line every ``EVERY`` seconds."""

    DELAY = 1.0
    EVERY = 10.0
    REDRAW = 0.2

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._start = clock()
        self._next = self._start + self.DELAY
        self._terminal = self._stream.isatty()
        self._drawn = self._begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._erase()
        self._stream.flush()

    def __call__(self, progress: layers.Progress) -> None:
        now = self._clock()
        if now < self._next:
            return
        self._next = now + (self.REDRAW if self._terminal else self.EVERY)
        self._erase()
        if not self._begun:
            self._begun = True
            self._stream.write(
                f"estimate: about {rounded(progress.estimate)} cycles (by the mapper, which plays the first steps of "
                "each command and extrapolates the rest); simulating\n"
            )
        share = f"{progress.fraction:.1%}" if progress.fraction >= 0.001 else "under 0.1%"
        text = f"{progress.layer}: {share} simulated, {progress.cycles:,} cycles"
        if progress.fraction > 0:
            left = (now - self._start) * (1 - progress.fraction) / progress.fraction
            text += f", about {_duration(left)} left"
        if self._terminal:
            filled = round(20 * progress.fraction)
            line = f"[{'#' * filled}{'-' * (20 - filled)}] {text}"
            self._stream.write(line[: shutil.get_terminal_size().columns - 1])
            self._drawn = True
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write("\r\x1b[2K")
            self._drawn = False


def _duration(seconds: float) -> str:
    for unit, length in (("years", 365 * 86400), ("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s"


def start_logging() -> None:
    """Send the package's logs and all warnings to stderr, as much of them as the options say."""
    levels = (logging.WARNING, logging.INFO, logging.DEBUG)
    logger = logging.getLogger("acalsim_backend")
    logger.setLevel(logging.ERROR if settings.quiet else levels[min(settings.verbose, 2)])
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger.handlers = [handler]
    logger.propagate = False
    warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """A warning without the line of code that gave it, which is not the user's."""
    note(f"WARNING: {message}")


def note(text: str) -> None:
    """A line on stderr, unless quiet."""
    if not settings.quiet:
        print(text, file=sys.stderr)


def complain(message: object) -> None:
    """An error on stderr."""
    print(f"acalsim: {message}", file=sys.stderr)
