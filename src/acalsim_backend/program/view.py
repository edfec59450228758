"""Strided windows on tensors: what the operands of commands refer to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from acalsim_backend.program.enums import DType


@dataclass(frozen=True)
class View:
    """A strided window on a tensor: what an operand of a command refers to.

    ``tensor`` is the id in the Program's tensor table and ``offset`` counts bytes from its start; after decoding
    from guest memory ``tensor`` is -1 and ``offset`` is the absolute address. ``strides`` count elements; 0
    broadcasts.
    """

    tensor: int
    dtype: DType
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0
    zero_point: int = 0

    @property
    def numel(self) -> int:
        """Elements of the iteration space (broadcast elements count every time)."""
        n = 1
        for d in self.dims:
            n *= d
        return n

    @property
    def distinct(self) -> int:
        """Elements that differ in address, assuming that non-zero strides do not overlap."""
        n = 1
        for d, s in zip(self.dims, self.strides, strict=True):
            n *= d if s else min(d, 1)
        return n

    @property
    def nbytes(self) -> int:
        """Bytes of the distinct elements: what a device that reads each once has to move."""
        return self.distinct * self.dtype.itemsize

    @property
    def extent(self) -> tuple[int, int]:
        """Half-open byte range ``[low, high)`` relative to the tensor; empty views give ``(offset, offset)``."""
        low = high = 0
        for d, s in zip(self.dims, self.strides, strict=True):
            if d == 0:
                return self.offset, self.offset
            if s < 0:
                low += (d - 1) * s
            else:
                high += (d - 1) * s
        size = self.dtype.itemsize
        return self.offset + low * size, self.offset + (high + 1) * size

    @property
    def is_contiguous(self) -> bool:
        return self.strides == contiguous_strides(self.dims) or self.numel <= 1


def contiguous_strides(dims: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major strides in elements."""
    strides: list[int] = []
    step = 1
    for d in reversed(dims):
        strides.append(step)
        step *= max(d, 1)
    return tuple(reversed(strides))


def overlaps(dims: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether elements may share memory: a stride that does not reach beyond the dims walked in smaller steps."""
    reach = 0
    for stride, size in sorted((abs(s), d) for d, s in zip(dims, strides, strict=True) if d != 1):
        if stride <= reach:
            return True
        reach += stride * (size - 1)
    return False
