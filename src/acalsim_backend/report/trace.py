"""A report as a Chrome trace, which opens in Perfetto."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acalsim_backend.report.model import RunReport


def events(report: RunReport) -> Iterator[dict[str, Any]]:
    """The trace's events."""
    lanes = ("CPU", "array", "vector", "DMA")
    yield {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": f"{report.model} on {report.hardware}"}}
    for tid, lane in enumerate(lanes):
        yield {"ph": "M", "pid": 1, "tid": tid, "name": "thread_name", "args": {"name": lane}}
        yield {"ph": "M", "pid": 1, "tid": tid, "name": "thread_sort_index", "args": {"sort_index": tid}}
    mhz = report.clock_mhz["accelerator"]
    for i, row in enumerate(report.ops):
        if row.start_cycle is None or row.cycles is None:
            continue
        used = {
            "CPU": row.placement != "accelerator",
            "array": row.array_busy > 0,
            "vector": row.vector_busy > 0,
            "DMA": row.placement == "accelerator" and row.bytes_read + row.bytes_written > 0,
        }
        args = {"row": i, "cycles": row.cycles, "flops": row.flops, "module": row.module, "source": row.source}
        own: dict[str, dict[str, object]] = {
            "CPU": {"instructions": row.instructions},
            "array": {"busy_cycles": row.array_busy, "utilization": row.utilization},
            "vector": {"busy_cycles": row.vector_busy},
            "DMA": {"bytes_read": row.bytes_read, "bytes_written": row.bytes_written},
        }
        for tid, lane in enumerate(lanes):
            if used[lane]:
                yield {
                    "ph": "X",
                    "pid": 1,
                    "tid": tid,
                    "name": "+".join(row.fused) or row.type,
                    "cat": row.placement,
                    "ts": row.start_cycle / mhz,
                    "dur": row.cycles / mhz,
                    "args": args | own[lane],
                }
