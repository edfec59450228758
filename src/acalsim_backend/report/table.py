"""A report as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rich import box
from rich.console import Console
from rich.table import Table

from acalsim_backend.report.text import duration, percent, size, table_width

if TYPE_CHECKING:
    from acalsim_backend.report.model import OpRow, RunReport

WIDE, WIDER = 100, 130  # columns from which the table shows the module, and the source line as well


def plain(report: RunReport, width: int) -> str:
    """Rows and totals as plain text of ``width`` columns, or as many as the numbers need."""
    table = rich_table(report, width)
    console = Console(width=max(width, table_width(table)), color_system=None, force_terminal=False, markup=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get() + summary(report) + "\n"


def rich_table(report: RunReport, width: int) -> Table:
    """The rows as a rich table that suits ``width`` columns: numbers are kept whole, texts are shortened."""
    texts = ["operation"] + ["module"] * (width >= WIDE) + ["source"] * (width >= WIDER)
    numbers = ["cycles", "share", "util", "read", "written"]
    cells = [_cells(report, i, row) for i, row in enumerate(report.ops)]
    fixed = sum(max(map(len, (name, *(c[name] for c in cells)))) + 2 for name in ("#", "on", *numbers))
    room = max((width - fixed - 1) // len(texts) - 2, 8)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    order = ["#", *texts[:2], "on", *numbers, *texts[2:]]
    for name in order:
        justify: Literal["left", "right"] = "right" if name in ("#", *numbers) else "left"
        longest = max(map(len, (name, *(cell[name] for cell in cells))))
        limit = min(longest, room) if name in texts else longest
        table.add_column(name, justify=justify, no_wrap=True, overflow="ellipsis", min_width=limit, max_width=limit)
    styles = {"cpu": "yellow", "host": "red"}
    for row, cell in zip(report.ops, cells, strict=True):
        table.add_row(*(cell[name] for name in order), style=styles.get(row.placement))
    return table


def _cells(report: RunReport, index: int, row: OpRow) -> dict[str, str]:
    return {
        "#": str(index),
        "operation": "+".join(row.fused) or row.type,
        "module": row.module,
        "source": row.source,
        "on": "acc" if row.placement == "accelerator" else row.placement,
        "cycles": "-" if row.cycles is None else f"{row.cycles:,}",
        "share": percent(row.cycles, report.cycles.total),
        "util": percent(row.utilization, 1) if row.utilization else "-",
        "read": size(row.bytes_read),
        "written": size(row.bytes_written),
    }


def summary(report: RunReport) -> str:
    """Totals and verdict in a few lines."""
    c = report.cycles
    lines: list[tuple[str, str]] = []
    if c.total is None or c.cpu is None or c.accelerator_busy is None:
        lines.append(("cycles", f"none: machine {report.machine} has no timing"))
    else:
        mhz = report.clock_mhz["accelerator"]
        wide = len(f"{c.total:,}")
        memo = ", accelerator timing memoised" if report.memoised else ""
        lines.append(("cycles", f"{c.total:,}  {duration(c.total / mhz)} at {mhz:,} MHz{memo}"))
        retired = f"{report.instructions_retired:,} instructions"
        lines.append(("  cpu", f"{c.cpu:>{wide},}  {percent(c.cpu, c.total)}, {retired}"))
        busy = f"{c.accelerator_busy:>{wide},}  {percent(c.accelerator_busy, c.total)} busy"
        lines.append(("  accelerator", busy))
    if report.outputs.allclose is not None:
        verdict = "equal to eager" if report.outputs.allclose else "DIFFERENT from eager"
        error, tolerance = report.outputs.max_abs_error, report.outputs.tolerance
        largest = "" if error is None else f", largest absolute difference {error:.2g}"
        lines.append(("outputs", f"{verdict}{largest}"))
        if tolerance:
            lines.append(("  within", tolerance))
    for fallback in report.fallbacks:
        place = f" ({fallback['source']})" if fallback.get("source") else ""
        lines.append(("fallback", f"{fallback['op']}{place} ran in PyTorch on the host, its cycles are not counted"))
    for draw in report.drawn:
        place = f" ({draw['source']})" if draw["source"] else ""
        lines.append(("random", f"{draw['op']}{place} was drawn by PyTorch's generator and given to the run"))
    return "\n".join(f"{name:<14}{text}" for name, text in lines)
