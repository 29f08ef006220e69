"""The list of partitions for a round, from a user's source that may fail, hang or say nonsense.

Contract: a source that gives no list is told once per round, and the round goes on with the last list, or with what is published: losses
must be dealt with whatever the source does, so an emergency also waits for it less. Only the very first round of a fleet cannot do
without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from floodmark.systems.fleet.errors import FleetError
from floodmark.systems.fleet.leader.layout import Held
from floodmark.systems.fleet.partition import Partition, Source, unique

EMERGENCY_LIMIT_S: Final = 0.5  # a crash is to be dealt with in less than a second after its grace


class SourceTimeoutError(FleetError):
    """The source did not answer in time."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(limit_s)
        self.limit_s = limit_s

    def __str__(self) -> str:
        return f"the source did not list the partitions within {self.limit_s:g} s; the list from before is used where there is one"


class Listing:
    """What a source lists. `error`: why the last answer is not the source's own; None: it is."""

    def __init__(self, source: Source, limit_s: float, *, on_error: Callable[[Exception], object]) -> None:
        self.error: Exception | None = None
        self._source = source
        self._limit_s = limit_s
        self._on_error = on_error
        self._last: list[Partition] | None = None

    async def partitions(self, published: Held, *, emergency: bool) -> Sequence[Partition]:
        """List the partitions. Raises: what the source raised, if there is no other list."""
        limit_s = min(self._limit_s, EMERGENCY_LIMIT_S) if emergency else self._limit_s
        try:
            self._last = await self._ask(limit_s)
            self.error = None
        except Exception as exc:  # whatever a user's source may raise
            self.error = exc
            self._on_error(exc)
            if self._last is None and not published:
                raise
            if self._last is None:
                self._last = [partition for given in published.values() for partition in given]
        return self._last

    async def _ask(self, limit_s: float) -> list[Partition]:
        try:
            async with asyncio.timeout(limit_s) as limit:
                return unique(await self._source.list_partitions())
        except TimeoutError as exc:
            if not limit.expired():
                raise
            raise SourceTimeoutError(limit_s) from exc
