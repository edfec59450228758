"""Numbers as people read them."""

from __future__ import annotations

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


def rounded(value: float) -> str:
    """Three significant digits, written out: ``12,300,000``."""
    return f"{float(f'{value:.3g}'):,.0f}"


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
