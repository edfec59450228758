"""Numbers and places as people read them."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

UNLIMITED = 10_000
"""Columns where nothing cuts lines off."""


def percent(part: float | None, whole: float | None) -> str:
    """A share with one decimal: ``12.5%``; ``-`` if it is unknown."""
    if part is None or not whole:
        return "-"
    return f"{100 * part / whole:.1f}%"


def size(n: int) -> str:
    """Three digits and a binary unit: ``4.5 MiB``."""
    value = float(n)
    for unit in ("B", "KiB", "MiB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def duration(microseconds: float) -> str:
    """Simulated time in a fitting unit: ``3.2 ms``."""
    if microseconds < 1000:
        return f"{microseconds:.3g} µs"
    if microseconds < 1_000_000:
        return f"{microseconds / 1000:.4g} ms"
    return f"{microseconds / 1e6:.4g} s"


def table_width(table: Table) -> int:
    """The columns without which a table would cut what its columns state as their least width."""
    from rich.console import Console

    return Console(width=UNLIMITED).measure(table).minimum


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
