"""A schedule for tests: message i is due at i * every_ns and belongs to source i % sources."""

from __future__ import annotations

import numpy as np

from floodmark.runner.agent.holding import Ints


class Due:
    """`count` messages; the protocol is that of a pacer."""

    def __init__(self, *, sources: int, every_ns: int, count: int) -> None:
        self._sources, self._every_ns, self._count = sources, every_ns, count
        self._taken = 0

    @property
    def exhausted(self) -> bool:
        """Whether all were taken."""
        return self._taken >= self._count

    def next_due_ns(self) -> int | None:
        """When the next one is due."""
        return None if self.exhausted else self._taken * self._every_ns

    def take(self, elapsed_ns: int, limit: int) -> tuple[Ints, Ints]:
        """Those that are due."""
        due = min(self._count, elapsed_ns // self._every_ns + 1, self._taken + limit)
        numbers = np.arange(self._taken, due, dtype=np.int64)
        self._taken = due
        return numbers % self._sources, numbers * self._every_ns
