"""The cycle-level engine as the device sees it: a segment of commands in, cycles out."""

from __future__ import annotations

import bisect
import hashlib
import math
import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import NamedTuple

from acalsim_backend._engine import Completion, Engine
from acalsim_backend.device.limits import Channel
from acalsim_backend.device.registers import RAM_BASE, RESERVED_BYTES
from acalsim_backend.errors import HardwareError, ProgramError
from acalsim_backend.hardware import HardwareConfig
from acalsim_backend.locks import Rank, make_lock
from acalsim_backend.program.commands import decode
from acalsim_backend.program.enums import ALIGNMENT, DType

__all__ = ["Completion", "SegmentTiming", "Timing", "energy_pj", "engine_config"]

ACCESS_FIELDS = (
    ("begin", "<u8"), ("end", "<u8"), ("address", "<u8"), ("bytes", "<u8"), ("command", "<u4"), ("write", "<u4")
)  # fmt: skip
"""Names and types of a recorded access, packed; times in cycles from the doorbell."""
_MEMO_SEGMENTS = 4096
_MEMO_BYTES = 64 << 20


@dataclass(frozen=True)
class SegmentTiming:
    """What the engine says of one segment, in device cycles from its doorbell.

    ``completions`` are in order of completion, ``channels`` those of the memory, ``uses`` what its units were used
    for, packed as :class:`Engine` gives them; ``accesses`` likewise, of a Timing that traces memory. ``memoised`` is
    True when an equal segment had been timed before.
    """

    cycles: int
    completions: tuple[Completion, ...]
    channels: tuple[Channel, ...] = ()
    uses: bytes = field(default=b"", repr=False)
    accesses: bytes = field(default=b"", repr=False)
    memoised: bool = False


class Timing:
    """Times segments on one piece of hardware.

    A segment's cycles depend on its commands and the hardware alone: where in RAM its tensors happen to lie does not
    count, only which of them share bytes. So equal segments are timed once. Threads that share a Timing take turns.
    With ``trace_memory`` every segment comes with its accesses to memory.

    Raises:
        HardwareError: the memory does not work at that bandwidth, or its interleaving does not suit it.
    """

    def __init__(self, hardware: HardwareConfig, trace_memory: bool = False) -> None:
        self._traces = trace_memory
        try:
            self._engine = Engine(engine_config(hardware))
        except ValueError as error:
            raise HardwareError(f"{hardware.name}: {error}") from None
        self._engine.record_accesses(trace_memory)
        self._memo: OrderedDict[bytes, SegmentTiming] = OrderedDict()
        self._memo_bytes = 0
        self._now = 0
        self._lock = make_lock(Rank.DEVICE)

    def segment(
        self, commands: Sequence[bytes], progress: Callable[[float, int], object] | None = None
    ) -> SegmentTiming:
        """Time commands that one doorbell submits, operand addresses absolute.

        ``progress`` is told the fraction of the work that is done, 0..1, and the cycles simulated so far, some times
        a second. What it raises, and Ctrl-C, end the call; nothing of the segment is kept then.

        Raises:
            ValueError: a command is malformed or its smallest tile does not fit on chip.
        """
        with self._lock:
            timing = self._segment(commands, progress)
        if self._traces:
            return replace(timing, accesses=_moved_back(timing.accesses, canonical(commands)[1]))
        return timing

    def estimate(self, commands: Sequence[bytes]) -> float:
        """Cycles that the commands take about, one after the other, as the engine's mapper expects.

        The first steps of each are played through without simulating the memory by bursts, the rest is extrapolated.

        Raises:
            ValueError: as :meth:`segment`.
        """
        with self._lock:
            return sum(self._engine.estimate(command) for command in canonical(commands)[0])

    def _segment(self, commands: Sequence[bytes], progress: Callable[[float, int], object] | None) -> SegmentTiming:
        raw = _digest(commands)
        known = self._memo.get(raw)
        if known is None:
            commands, _ = canonical(commands)
            key = _digest(commands)
            known = self._memo.get(key)
        if known is not None:
            self._remember(raw, known)
            return known
        begin = self._now
        try:
            for command in commands:
                self._engine.submit(begin, command)
            self._now = self._engine.run(progress)
            completions = tuple(self._engine.completions())
        except BaseException:
            self._engine.abandon()
            raise
        channels = tuple(Channel(c.bytes_read, c.bytes_written, c.bursts, c.row_hits) for c in self._engine.channels())
        timing = SegmentTiming(
            self._now - begin, completions, channels, self._engine.intervals(), self._engine.accesses()
        )
        for alias in {key, raw}:
            self._remember(alias, replace(timing, memoised=True))
        return timing

    def _remember(self, key: bytes, timing: SegmentTiming) -> None:
        if key not in self._memo:
            self._memo_bytes += len(timing.uses) + len(timing.accesses)
        self._memo[key] = timing
        self._memo.move_to_end(key)
        while len(self._memo) > _MEMO_SEGMENTS or (self._memo_bytes > _MEMO_BYTES and len(self._memo) > 2):
            _, oldest = self._memo.popitem(last=False)
            self._memo_bytes -= len(oldest.uses) + len(oldest.accesses)


def _digest(commands: Sequence[bytes]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for command in commands:
        digest.update(len(command).to_bytes(8, "little"))
        digest.update(command)
    return digest.digest()


class Move(NamedTuple):
    """Bytes ``[low, high)`` of guest RAM that were moved by ``by``."""

    low: int
    high: int
    by: int


def canonical(commands: Sequence[bytes]) -> tuple[list[bytes], list[Move]]:
    """The commands with their tensors moved together, in order of first use, from a fixed address on.

    Operands whose bytes overlap move as one; every address keeps its place within 64 bytes. Commands that do not
    decode stay as they are, for the engine to refuse.
    """
    try:
        decoded = [decode(command) for command in commands]
    except ProgramError:
        return list(commands), []
    operands = [(i, at, view.extent) for i, command in enumerate(decoded) for _, _, at, view in command.operands()]
    blocks: list[list[int]] = []  # low, high: disjoint, ascending
    for low, high in sorted(extent for _, _, extent in operands):
        if blocks and (low < blocks[-1][1] or low == blocks[-1][0]):
            blocks[-1][1] = max(blocks[-1][1], high)
        else:
            blocks.append([low, high])
    starts = [low for low, _ in blocks]
    moved: dict[int, int] = {}
    cursor = RAM_BASE + RESERVED_BYTES
    buffers = [bytearray(command) for command in commands]
    for i, at, (low, _) in operands:
        number = bisect.bisect_right(starts, low) - 1
        if number not in moved:
            start, end = blocks[number]
            cursor += (start - cursor) % ALIGNMENT
            moved[number] = cursor - start
            cursor += end - start
        (address,) = struct.unpack_from("<Q", buffers[i], at)
        struct.pack_into("<Q", buffers[i], at, address + moved[number])
    moves = [Move(blocks[number][0], blocks[number][1], by) for number, by in moved.items()]
    return [bytes(buffer) for buffer in buffers], moves


def _moved_back(accesses: bytes, moves: Sequence[Move]) -> bytes:
    """Accesses of moved commands with the addresses that the tensors really have."""
    import numpy as np

    found = np.frombuffer(accesses, list(ACCESS_FIELDS)).copy()
    moved = found["address"].copy()
    for low, high, by in moves:
        found["address"][(moved >= low + by) & (moved < high + by)] -= np.array(by).astype(np.uint64)
    return found.tobytes()


_MAC_ENERGY = {
    DType.BOOL: "mac_i8_pj",
    DType.U8: "mac_i8_pj",
    DType.I8: "mac_i8_pj",
    DType.I16: "mac_i16_pj",
    DType.I32: "mac_i32_pj",
    DType.I64: "mac_f64_pj",
    DType.F16: "mac_f16_pj",
    DType.BF16: "mac_f16_pj",
    DType.F32: "mac_f32_pj",
    DType.F64: "mac_f64_pj",
}


def energy_pj(completion: Completion, hardware: HardwareConfig) -> float:
    """Energy of one command in pJ: its actions times their cost, and static power over its span."""
    energy = hardware.energy
    mac: float = getattr(energy, _MAC_ENERGY[DType(completion.mac_dtype)])
    return (
        completion.macs * mac
        + completion.vector_ops * energy.vector_op_pj
        + completion.scratchpad_bytes * energy.scratchpad_byte_pj
        + completion.accumulator_bytes * energy.accumulator_byte_pj
        + (completion.bytes_read + completion.bytes_written) * energy.dram_byte_pj
        + (completion.end - completion.start) * energy.static_pj_per_cycle
    )


def _bytes_per_cycle(gbytes_per_s: float, frequency_mhz: int) -> Fraction:
    """Exact for what people write; the noise of computed floats is cut off, or products would leave 64 bits."""
    return Fraction(gbytes_per_s).limit_denominator(1_000_000) * 1000 / frequency_mhz


def engine_config(hardware: HardwareConfig) -> dict[str, int | str]:
    """The hardware file in the engine's units: bytes, device cycles, exact ratios."""
    accelerator, array, vector = hardware.accelerator, hardware.array, hardware.vector
    scratchpad, dma, dram = hardware.scratchpad, hardware.dma, hardware.dram
    latency = Fraction(str(dram.latency_ns)) * accelerator.frequency_mhz / 1000
    rate = _bytes_per_cycle(dram.bandwidth_gbytes_per_s, accelerator.frequency_mhz)
    link = _bytes_per_cycle(hardware.interconnect.bandwidth_gbytes_per_s, accelerator.frequency_mhz)
    link_latency = Fraction(str(hardware.interconnect.latency_ns)) * accelerator.frequency_mhz / 1000
    return {
        "interconnect.bytes_per_cycle.num": link.numerator,
        "interconnect.bytes_per_cycle.den": link.denominator,
        "interconnect.latency_cycles": math.ceil(link_latency),
        "cores": accelerator.cores,
        "launch_cycles": accelerator.launch_cycles,
        "array.count": array.count,
        "array.rows": array.rows,
        "array.cols": array.cols,
        "array.dataflow": array.dataflow,
        "array.double_buffered": int(array.overlap == "double_buffered"),
        "vector.lanes": vector.lanes,
        **{
            f"vector.{kind}{part}_cycles": getattr(vector, f"{kind}{part}_cycles")
            for kind in ("arithmetic", "divide", "root", "exponential", "transcendental")
            for part in ("", "_latency")
        },
        "vector.fused_rows": int(vector.fused_rows),
        "scratchpad.bytes": scratchpad.size_kib * 1024,
        "scratchpad.accumulator_bytes": scratchpad.accumulator_kib * 1024,
        "scratchpad.banks": scratchpad.banks,
        "scratchpad.bank_bytes": scratchpad.bank_bytes,
        "dma.channels": dma.channels,
        "dma.outstanding": dma.outstanding,
        "dma.burst_bytes": dma.burst_bytes,
        "frequency_mhz": accelerator.frequency_mhz,
        "memory.preset": dram.preset,
        "memory.channels": dram.channels,
        "memory.interleave_bytes": dram.interleave_bytes,
        "memory.refresh": dram.refresh,
        "memory.closed_page": int(dram.page == "closed"),
        "memory.fast_path": 1,
        "memory.latency_cycles": math.ceil(latency),
        "memory.bytes_per_cycle.num": rate.numerator,
        "memory.bytes_per_cycle.den": rate.denominator,
    }
