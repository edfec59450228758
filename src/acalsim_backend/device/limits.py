"""What limited a command or a run: its place under the roofline, and what each memory channel did.

The roofline model is S. Williams, A. Waterman and D. Patterson, "Roofline: an insightful visual performance model for
multicore architectures", CACM 52(4), 2009.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from acalsim_backend.hardware import HardwareConfig

if TYPE_CHECKING:
    from acalsim_backend._engine import Completion


@dataclass(frozen=True)
class Roofline:
    """A command's place under the roofline.

    ``intensity`` is operations per DRAM byte, None without bytes: two for each multiply-add, or vector operations where
    there is no matrix product. ``peak_gops`` is that of all arrays or of all lanes, ``attainable_gops`` what memory at
    its peak lets through of it, in 10^9 operations/s. ``fraction`` is 0..1: how near the command came to the bound that
    is hit first.
    """

    intensity: float | None
    peak_gops: float
    attainable_gops: float
    achieved_gops: float
    fraction: float
    bound: Literal["compute", "memory"]


def utilization(work: Completion, hardware: HardwareConfig) -> float:
    """Multiply-adds over what the arrays could have done in the command's span, 0..1."""
    cycles = work.end - work.start
    return min(work.macs / (hardware.macs_per_cycle * cycles), 1.0) if cycles else 0.0


def roofline(work: Completion, hardware: HardwareConfig) -> Roofline | None:
    """The place of a command; None if it took no time."""
    cycles = work.end - work.start
    if cycles <= 0:
        return None
    accelerator = hardware.accelerator
    ghz = accelerator.frequency_mhz / 1000
    if work.macs:
        operations, per_cycle = 2 * work.macs, 2 * hardware.macs_per_cycle
    else:
        operations, per_cycle = work.vector_ops, accelerator.cores * hardware.vector.lanes
    moved = work.bytes_read + work.bytes_written
    bandwidth = hardware.dram.bandwidth_gbytes_per_s
    peak = per_cycle * ghz
    compute_ns = operations / peak
    memory_ns = 0.0 if hardware.dram.preset == "ideal" else moved / bandwidth
    taken_ns = cycles / ghz
    bound: Literal["compute", "memory"] = "memory" if memory_ns > compute_ns else "compute"
    return Roofline(
        intensity=operations / moved if moved else None,
        peak_gops=peak,
        attainable_gops=operations / memory_ns if bound == "memory" else peak,
        achieved_gops=operations / taken_ns,
        fraction=min(1.0, max(compute_ns, memory_ns) / taken_ns),
        bound=bound,
    )


def row_hit_rate(row_hits: int, bursts: int) -> float | None:
    """Share of the DRAM bursts that found their row open; None where there are no rows."""
    return row_hits / bursts if bursts else None


@dataclass(frozen=True)
class Channel:
    """What one memory channel moved, in whole bursts."""

    bytes_read: int = 0
    bytes_written: int = 0
    bursts: int = 0
    row_hits: int = 0

    def to_dict(self, cycles: int, hardware: HardwareConfig) -> dict[str, Any]:
        """JSON values; the bandwidth is the mean over ``cycles`` device cycles."""
        taken_ns = cycles * 1000 / hardware.accelerator.frequency_mhz
        return {
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "gbytes_per_s": (self.bytes_read + self.bytes_written) / taken_ns if taken_ns else 0.0,
            "row_hit_rate": row_hit_rate(self.row_hits, self.bursts),
        }


def total_channels(segments: Iterable[Sequence[Channel]]) -> tuple[Channel, ...]:
    """Channel by channel the sum over segments, which all ran on the same memory."""
    return tuple(
        Channel(
            sum(c.bytes_read for c in parts),
            sum(c.bytes_written for c in parts),
            sum(c.bursts for c in parts),
            sum(c.row_hits for c in parts),
        )
        for parts in zip(*segments, strict=True)
    )
