"""Keep sets of sequence numbers as sorted, disjoint half-open ranges: memory follows the breaks in a run of numbers, not the numbers.

`Ranges` grows one number or range at a time; `RangeIndex` freezes the ranges of many publishers for vectorised counting.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping

import numpy as np

from floodmark.ledger.inbox import Ints


class Ranges:
    """A set of integers as half-open ranges that never touch: adding 3 to [1, 3) makes [1, 4).

    >>> ranges = Ranges()
    >>> ranges.add(0, 2), ranges.add(4, 6), ranges.add(2, 4)
    (2, 2, 2)
    >>> list(ranges)
    [(0, 6)]
    """

    __slots__ = ("ends", "starts")

    def __init__(self, starts: list[int] | None = None, ends: list[int] | None = None) -> None:
        self.starts: list[int] = starts or []
        self.ends: list[int] = ends or []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self.starts, self.ends, strict=True))

    def __len__(self) -> int:
        """Give the number of ranges, not of integers."""
        return len(self.starts)

    def __contains__(self, number: int) -> bool:
        i = bisect_right(self.starts, number) - 1
        return i >= 0 and number < self.ends[i]

    @property
    def total(self) -> int:
        """How many integers are in the set."""
        return sum(self.ends) - sum(self.starts)

    def add(self, start: int, end: int) -> int:
        """Add [start, end); give how many of them were new."""
        starts, ends = self.starts, self.ends
        if ends and start == ends[-1]:  # by far the most frequent: the next one in order
            ends[-1] = end
            return end - start
        first = bisect_left(ends, start)  # the first range that touches or follows
        last = bisect_right(starts, end)  # one past the last range that touches or precedes
        known = sum(min(e, end) - max(s, start) for s, e in zip(starts[first:last], ends[first:last], strict=True))
        if first < last:
            low, high = min(start, starts[first]), max(end, ends[last - 1])
        else:
            low, high = start, end
        starts[first:last] = [low]
        ends[first:last] = [high]
        return end - start - known

    def pop_first(self) -> tuple[int, int]:
        """Take out the lowest range."""
        return self.starts.pop(0), self.ends.pop(0)

    def within(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        """Walk the parts of the ranges inside [low, high)."""
        i = bisect_right(self.ends, low)
        while i < len(self.starts) and self.starts[i] < high:
            yield max(self.starts[i], low), min(self.ends[i], high)
            i += 1


class RangeIndex:
    """The ranges of many publishers, frozen for one question: how many numbers of publisher p are below x? Asked for whole arrays."""

    def __init__(self, ranges: Mapping[int, Ranges], *, publishers: int, limit: int) -> None:
        """`limit`: above every number asked for or held; `publishers` * `limit` must fit 63 bits."""
        self._stride = limit + 2
        ordered = sorted((publisher, held) for publisher, held in ranges.items() if len(held)) if ranges else []
        self._starts = np.array([start for _, held in ordered for start in held.starts], np.int64)
        self._ends = np.array([end for _, held in ordered for end in held.ends], np.int64)
        owners = np.repeat(np.array([p for p, _ in ordered], np.int64), [len(held) for _, held in ordered])
        self._keys = owners * self._stride + self._starts
        self._before = np.concatenate(([0], np.cumsum(self._ends - self._starts))).astype(np.int64)
        self._first = np.searchsorted(owners, np.arange(publishers + 1)).astype(np.int64)

    def below(self, publishers: Ints, numbers: Ints) -> Ints:
        """Count, per row, the publisher's integers below `number`."""
        if not len(self._keys):
            return np.zeros(len(numbers), np.int64)
        at = np.searchsorted(self._keys, publishers * self._stride + np.minimum(numbers, self._stride - 1), side="left")
        first = self._first[publishers]
        held = self._before[at] - self._before[first]
        last = np.maximum(at - 1, 0)
        beyond = np.where(at > first, np.maximum(self._ends[last] - numbers, 0), 0)
        return np.asarray(held - beyond, np.int64)
