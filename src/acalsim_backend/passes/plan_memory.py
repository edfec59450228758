"""plan_memory: offsets of the scratch tensors in one arena, by liveness, with in-place reuse.

Offsets are chosen greedily by size, as in Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
Inference" (2020), section 5.2. The liveness lower bound is the largest sum of sizes that are alive at one command.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from acalsim_backend.ops.lowering import Lowered
from acalsim_backend.passes.target import Target
from acalsim_backend.program.commands import Command
from acalsim_backend.program.enums import Opcode, aligned
from acalsim_backend.program.program import Tensor, TensorKind
from acalsim_backend.program.view import View


@dataclass
class _Buffer:
    """Tensors that share one block of the arena, alive from command ``first`` to command ``last``."""

    tensors: list[int]
    size: int
    first: int
    last: int
    offset: int = 0


@dataclass(frozen=True)
class PlanMemory:
    """Every scratch tensor gets an offset; the others are bound at run time or belong to the Program."""

    name: str = "plan_memory"
    after: tuple[str, ...] = ("place",)

    def apply(self, lowered: Lowered, target: Target) -> Lowered:
        buffers = _buffers(lowered)
        arena = _assign(list(buffers))
        offsets = {t: b.offset for b in buffers for t in b.tensors}
        tensors = tuple(replace(t, offset=offsets[t.id]) if t.id in offsets else t for t in lowered.tensors)
        return replace(lowered, tensors=tensors, arena_size=arena, arena_bound=_lower_bound(buffers))


def _buffers(lowered: Lowered) -> list[_Buffer]:
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for i, command in enumerate(lowered.commands):
        for view in (*command.reads(), *command.writes()):
            first.setdefault(view.tensor, i)
            last[view.tensor] = i
    owner: dict[int, _Buffer] = {}
    for tensor in lowered.tensors:
        if tensor.kind is TensorKind.ARENA and tensor.id in first:
            size = aligned(tensor.nbytes)
            owner[tensor.id] = _Buffer([tensor.id], size, first[tensor.id], last[tensor.id])
    for i, command in enumerate(lowered.commands):
        for result, source in _in_place_pairs(command, lowered.tensors):
            a, b = owner.get(source), owner.get(result)
            if a and b and a is not b and a.last == i == b.first:
                a.tensors += b.tensors
                a.last, a.size = b.last, max(a.size, b.size)
                owner.update(dict.fromkeys(b.tensors, a))
    return list({id(b): b for b in owner.values()}.values())


def _in_place_pairs(command: Command, tensors: tuple[Tensor, ...]) -> list[tuple[int, int]]:
    """(result, source) tensors of a VECTOR that may share memory: both whole, dense, walked in the same order."""
    if command.opcode is not Opcode.VECTOR:
        return []
    pairs: list[tuple[int, int]] = []
    reads = command.reads()
    for out in command.writes():
        for x in reads:
            alike = [v for v in reads if v.tensor == x.tensor]
            same_walk = all((v.dims, v.strides, v.dtype) == (out.dims, out.strides, x.dtype) for v in alike)
            if same_walk and x.dtype.itemsize == out.dtype.itemsize and _whole(x, tensors) and _whole(out, tensors):
                pairs.append((out.tensor, x.tensor))
    return pairs


def _whole(view: View, tensors: tuple[Tensor, ...]) -> bool:
    tensor = tensors[view.tensor]
    return view.offset == 0 and view.is_contiguous and view.numel * view.dtype.itemsize == tensor.nbytes


def _assign(buffers: list[_Buffer]) -> int:
    """Lowest free offset for each buffer, largest first; returns the arena's size.

    What is placed stands in columns, sorted by offset: n buffers take n sweeps of at most n numbers each, at about a
    nanosecond per number.
    """
    placed = np.zeros((4, len(buffers)), np.int64)
    for count, buffer in enumerate(sorted(buffers, key=lambda b: (-b.size, b.first))):
        first, last, offset, end = placed[:, :count]
        alive = np.flatnonzero((first <= buffer.last) & (last >= buffer.first))
        tops = np.maximum.accumulate(end[alive])
        gaps = offset[alive]
        gaps[1:] -= tops[:-1]
        fits = np.flatnonzero(gaps >= buffer.size)
        below = fits[0] if len(fits) else len(alive)
        buffer.offset = int(tops[below - 1]) if below else 0
        at = int(np.searchsorted(offset, buffer.offset, side="right"))
        placed[:, at + 1 : count + 1] = placed[:, at:count]
        placed[:, at] = buffer.first, buffer.last, buffer.offset, buffer.offset + buffer.size
    return max((b.offset + b.size for b in buffers), default=0)


def _lower_bound(buffers: list[_Buffer]) -> int:
    change: dict[int, int] = {}
    for b in buffers:
        change[b.first] = change.get(b.first, 0) + b.size
        change[b.last + 1] = change.get(b.last + 1, 0) - b.size
    alive = bound = 0
    for i in sorted(change):
        alive += change[i]
        bound = max(bound, alive)
    return bound
