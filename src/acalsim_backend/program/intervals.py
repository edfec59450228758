"""A value for every byte of a memory, in as few pieces as its history needs."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from typing import Generic, TypeVar

T = TypeVar("T")


class IntervalMap(Generic[T]):
    """Pieces of an endless memory, each with one value; a piece is cut where a range begins or ends inside it."""

    def __init__(self, value: T) -> None:
        self._starts: list[float] = [-math.inf]
        self.values: list[T] = [value]
        """Those of the pieces, by address."""

    def cut(self, low: int, high: int) -> tuple[int, int]:
        """Make pieces begin at ``low`` and at ``high``; returns the indices ``[first, last)`` of those between."""
        first = self._cut(low, 0)
        return first, self._cut(high, first)

    def _cut(self, at: int, since: int) -> int:
        index = bisect_left(self._starts, at, since)
        if index == len(self._starts) or self._starts[index] != at:
            self._starts.insert(index, at)
            self.values.insert(index, self.values[index - 1])
        return index

    def assign(self, low: int, high: int, value: T) -> None:
        """Give the bytes ``[low, high)`` one value; they become one piece, with neighbours that have the same."""
        first, last = self.cut(low, high)
        last += self.values[last] == value
        same = self.values[first - 1] == value
        self._starts[first:last] = [] if same else [low]
        self.values[first:last] = [] if same else [value]

    def within(self, low: int, high: int) -> list[T]:
        """The values of the bytes ``[low, high)``, by address."""
        return self.values[bisect_right(self._starts, low) - 1 : bisect_left(self._starts, high)]
