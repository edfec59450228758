"""The heap of guest RAM: blocks that live as long as somebody holds them."""

from __future__ import annotations

import bisect
import weakref
from collections import deque
from dataclasses import dataclass, field

from acalsim_backend.device.registers import RESERVED_BYTES
from acalsim_backend.errors import CapacityError
from acalsim_backend.machine.memory import Bytes, Ram
from acalsim_backend.program.enums import aligned


@dataclass(frozen=True)
class Block:
    """``nbytes`` of guest RAM at ``address``; ``array`` is a zero-copy view of them."""

    address: int
    nbytes: int
    array: Bytes = field(repr=False, compare=False)


class Heap:
    """Allocates blocks of guest RAM above the firmware's reserved region: first fit over a sorted free list.

    A block that nobody holds any more is given back before the next allocation. Not locked: its session is.
    """

    def __init__(self, ram: Ram) -> None:
        self._ram = ram
        self._free: list[tuple[int, int]] = [(ram.base + RESERVED_BYTES, ram.size - RESERVED_BYTES)]
        self._used: dict[int, tuple[int, weakref.finalize[..., Block]]] = {}  # bytes taken, a multiple of ALIGNMENT
        self._elsewhere = 0  # bytes
        self._dropped: deque[int] = deque()
        """Addresses of blocks that were garbage collected, at whatever moment that happened."""

    @property
    def free_bytes(self) -> int:
        """Bytes that may still be allocated, in all holes together."""
        self.collect()
        return max(sum(size for _, size in self._free) - self._elsewhere, 0)

    def allocate(self, nbytes: int, purpose: str = "a block") -> Block:
        """A block whose contents are undefined.

        Raises:
            CapacityError: no hole is large enough; says what was needed, what is free and what to do.
        """
        self.collect()
        taken = aligned(max(nbytes, 1))
        fits = self.free_bytes >= taken
        for i, (address, size) in enumerate(self._free):
            if size >= taken and fits:
                if size == taken:
                    del self._free[i]
                else:
                    self._free[i] = (address + taken, size - taken)
                block = Block(address, nbytes, self._ram.view(address, nbytes))
                finalizer = weakref.finalize(block, self._dropped.append, address)
                finalizer.atexit = False
                self._used[address] = taken, finalizer
                return block
        raise self._full(taken, purpose)

    def count(self, nbytes: int, purpose: str = "a block") -> None:
        """Count what takes its share of the RAM's size, but lies elsewhere; negative: no longer.

        Raises:
            CapacityError: as ``allocate`` does.
        """
        if nbytes > self.free_bytes:
            raise self._full(nbytes, purpose)
        self._elsewhere += nbytes

    def _full(self, taken: int, purpose: str) -> CapacityError:
        largest = max((size for _, size in self._free), default=0)
        return CapacityError(
            f"{purpose} needs {_mib(taken)} of guest RAM, {_mib(self.free_bytes)} are free "
            f"(largest hole {_mib(largest)}) of dram.size_mib = {self._ram.size >> 20}; "
            f"set dram.size_mib to {self._enough(taken)} or more"
        )

    def free(self, block: Block) -> None:
        """Give a block back now; neighbouring holes become one.

        Raises:
            ValueError: it is not an allocated block.
        """
        if block.address not in self._used:
            raise ValueError(f"{block.address:#x} is not an allocated block of this heap")
        self._used[block.address][1].detach()
        self._release(block.address)

    def collect(self) -> None:
        """Give back the blocks that nobody holds any more."""
        while self._dropped:
            self._release(self._dropped.popleft())

    def _release(self, address: int) -> None:
        size, _ = self._used.pop(address)
        i = bisect.bisect(self._free, (address, 0))
        if i < len(self._free) and self._free[i][0] == address + size:
            size += self._free.pop(i)[1]
        if i and sum(self._free[i - 1]) == address:
            address, before = self._free.pop(i - 1)
            size += before
            i -= 1
        self._free.insert(i, (address, size))

    def _enough(self, taken: int) -> int:
        """A RAM size in MiB at which ``taken`` bytes would have fitted behind everything that is allocated now."""
        end = max((a + s for a, (s, _) in self._used.items()), default=self._ram.base + RESERVED_BYTES)
        return -(-(end - self._ram.base + self._elsewhere + taken) >> 20)


def _mib(nbytes: int) -> str:
    return f"{nbytes / (1 << 20):.2f} MiB"
