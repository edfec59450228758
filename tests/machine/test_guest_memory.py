"""Is guest memory shared without copies, and does its heap never hand out a byte twice?"""

from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from acalsim_backend.device.registers import RAM_BASE, RESERVED_BYTES
from acalsim_backend.errors import CapacityError
from acalsim_backend.machine.memory import Ram
from acalsim_backend.program.enums import ALIGNMENT, aligned
from acalsim_backend.run.heap import Block, Heap

SIZE_MIB = (RESERVED_BYTES >> 20) + 1
BYTES = 1 << 20


def test_is_ram_committed_only_where_it_is_touched() -> None:
    ram = Ram(1 << 18)  # 256 GiB
    ram.view(RAM_BASE + (200 << 30), 8)[:] = 7
    assert ram.array[(200 << 30) + 7] == 7


def test_is_a_view_the_memory_itself() -> None:
    ram = Ram(SIZE_MIB)
    block = Heap(ram).allocate(16)
    block.array[:] = np.arange(16)
    assert ram.view(block.address + 3, 2).tolist() == [3, 4]
    assert np.shares_memory(block.array, ram.array)


@pytest.mark.parametrize("address", [0, RAM_BASE - 1, RAM_BASE + (SIZE_MIB << 20) - 3, 1 << 63])
def test_is_a_view_outside_ram_refused(address: int) -> None:
    with pytest.raises(IndexError, match="leave guest RAM"):
        Ram(SIZE_MIB).view(address, 4)


def test_does_a_full_heap_say_what_to_do() -> None:
    heap = Heap(Ram(SIZE_MIB))
    taken = heap.allocate(512 << 10)
    with pytest.raises(CapacityError) as error:
        heap.allocate(700 << 10, "the arena of net")
    assert str(error.value) == (
        "the arena of net needs 0.68 MiB of guest RAM, 0.50 MiB are free (largest hole 0.50 MiB) of "
        "dram.size_mib = 65; set dram.size_mib to 66 or more"
    )
    assert error.value.exit_code == 3
    del taken
    assert heap.allocate(700 << 10).nbytes == 700 << 10  # what nobody holds is given back


def test_is_freeing_twice_refused() -> None:
    heap = Heap(Ram(SIZE_MIB))
    block = heap.allocate(8)
    heap.free(block)
    with pytest.raises(ValueError, match="not an allocated block"):
        heap.free(block)


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_does_freeing_everything_leave_one_hole(sizes: list[int], random: Random) -> None:
    heap = Heap(Ram(SIZE_MIB))
    blocks = [heap.allocate(size) for size in sizes]
    random.shuffle(blocks)
    for block in blocks:
        heap.free(block)
    assert heap.free_bytes == BYTES
    assert heap.allocate(BYTES).address == RAM_BASE + RESERVED_BYTES


def taken(nbytes: int) -> int:
    """What a block of so many bytes takes; an empty one has an address of its own as well."""
    return aligned(max(nbytes, 1))


class HeapMachine(RuleBasedStateMachine):
    """Any order of allocating and freeing."""

    blocks = Bundle("blocks")

    def __init__(self) -> None:
        super().__init__()
        self.heap = Heap(Ram(SIZE_MIB))
        self.live: dict[int, Block] = {}

    @rule(target=blocks, nbytes=st.one_of(st.integers(0, 300), st.integers(0, BYTES // 3)))
    def allocate(self, nbytes: int) -> Block | None:
        try:
            block = self.heap.allocate(nbytes)
        except CapacityError:
            assert self.largest_hole() < taken(nbytes)
            return None
        assert block.address % ALIGNMENT == 0
        assert block.address >= RAM_BASE + RESERVED_BYTES
        assert len(block.array) == nbytes
        block.array[:] = len(self.live) % 251
        self.live[block.address] = block
        return block

    def largest_hole(self) -> int:
        """Bytes between two blocks, or between one and an end of the heap."""
        low, high = RAM_BASE + RESERVED_BYTES, RAM_BASE + RESERVED_BYTES + BYTES
        used = sorted((b.address, b.address + taken(b.nbytes)) for b in self.live.values())
        return max(start - end for (_, end), (start, _) in itertools.pairwise([(low, low), *used, (high, high)]))

    @rule(block=consumes(blocks))
    def free(self, block: Block | None) -> None:
        if block is not None:
            self.heap.free(self.live.pop(block.address))

    @invariant()
    def blocks_do_not_overlap(self) -> None:
        ends = sorted((b.address, b.address + max(b.nbytes, 1)) for b in self.live.values())
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ends))

    @invariant()
    def nothing_is_lost(self) -> None:
        used = sum(taken(b.nbytes) for b in self.live.values())
        assert self.heap.free_bytes == BYTES - used


TestHeapMachine = HeapMachine.TestCase
