"""What a device sees of guest RAM."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt


class Memory(Protocol):
    """Guest RAM: ``size`` bytes from address ``base``, all of them in ``array``, without a copy."""

    base: int
    size: int
    array: npt.NDArray[np.uint8]
    host_address: int

    def view(self, address: int, nbytes: int) -> npt.NDArray[np.uint8]:
        """A range of RAM, zero-copy; IndexError when it leaves RAM."""
        ...

    def is_protected(self, low: int, high: int) -> bool:
        """Whether ``[low, high)`` touches guest code, which devices must not write."""
        ...
