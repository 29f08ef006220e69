"""A bounded list of samples: when it is full, every second one is dropped and from then on only every second one is kept.

So memory has a limit and the whole run stays covered evenly, whatever its length. Peaks must be taken before samples come here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from floodmark.core.errors import UsageError

T = TypeVar("T")


class Series(Generic[T]):
    """At most `capacity_count` of the items added, evenly spread over all of them, the first always among them."""

    def __init__(self, capacity_count: int) -> None:
        if capacity_count < 2:
            raise UsageError(f"capacity_count must be at least 2, got {capacity_count!r}")
        self._capacity_count = capacity_count
        self._items: list[T] = []
        self.added_count = 0
        self.keep_every = 1  # one in so many is kept

    def add(self, item: T) -> None:
        """Keep the item, or not."""
        if self.added_count % self.keep_every == 0:
            if len(self._items) == self._capacity_count:
                del self._items[1::2]
                self.keep_every *= 2
            if self.added_count % self.keep_every == 0:
                self._items.append(item)
        self.added_count += 1

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)
