"""The first stage: pages through the query, and only when rows are asked for.

Input: demand on the link below. Output: batches on that link, never more rows than are owed; what a chunk had beyond that waits here
for the next demand. A query that fails is tried again after 1, 2, 4 s without holding anybody up; the rows before it are not fetched
twice, as a cursor's position moves only with rows handed over. While its gate is closed (the stream is paused) nothing leaves, and
the demand stays.

All state is in the object and changes only between awaits that can fail, so `run` may be cancelled or break and be called again: the
supervisor restarts a producer where it stood. Not here: what the rows mean, statuses, memory policy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import polars as pl

from floodmark.core.clock import Clock, limit, sleep
from floodmark.systems.pipeline.batch import Batch
from floodmark.systems.pipeline.demand import Link
from floodmark.systems.pipeline.errors import PipelineError, QueryError, QueryTimeoutError, RetriesExhaustedError, reason_of
from floodmark.systems.pipeline.settings import StreamSettings
from floodmark.systems.pipeline.telemetry import Telemetry

T = TypeVar("T")


class Rows(Protocol):
    """What the producer needs of a source's cursor."""

    @property
    def total(self) -> int | None:
        """Rows of the whole query, where that is known."""

    async def fetch(self, count: int) -> pl.DataFrame:
        """At most `count` rows; fewer are the end of the data."""

    async def close(self) -> None:
        """Give everything back."""


class Gate:
    """Open while the stream runs; closed, it holds the producer."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._event.set()

    @property
    def is_open(self) -> bool:
        return self._event.is_set()

    def open(self) -> None:
        self._event.set()

    def close(self) -> None:
        self._event.clear()

    async def passed(self) -> None:
        """Wait until it is open."""
        await self._event.wait()


class Producer:
    """Fetches for one stream."""

    def __init__(
        self,
        *,
        cursor: Rows,
        settings: StreamSettings,
        link: Link,
        gate: Gate,
        clock: Clock,
        telemetry: Telemetry,
        on_chunk: Callable[[], None] = lambda: None,
        on_attempt: Callable[[], None] = lambda: None,
        relate: Callable[[pl.DataFrame], Awaitable[pl.DataFrame]] | None = None,
    ) -> None:
        self._cursor = cursor
        self._settings = settings
        self._link = link
        self._gate = gate
        self._clock = clock
        self._telemetry = telemetry
        self._on_chunk = on_chunk  # after each chunk: the moment to look at memory
        self._on_attempt = on_attempt  # before each query: a sign of life
        self._relate = relate
        self._surplus: Batch | None = None  # fetched and not asked for yet
        self._unrelated: pl.DataFrame | None = None  # fetched, its relations not loaded yet
        self._started_s = clock.now_s()
        self.is_exhausted = False
        self.is_degraded = False
        self.fetched_count = 0  # also the offset of the next chunk
        self.retry_count = 0
        self.retried_count = 0
        self.query_count = 0

    @property
    def chunk_size(self) -> int:
        """Rows of the next query."""
        return self._settings.degraded_chunk_size if self.is_degraded else self._settings.chunk_size

    @property
    def total_count(self) -> int | None:
        """Rows of the whole query: known beforehand, or by its end."""
        return self.fetched_count if self.is_exhausted else self._cursor.total

    @property
    def surplus_count(self) -> int:
        """Rows fetched and not asked for yet."""
        return 0 if self._surplus is None else len(self._surplus)

    @property
    def held_bytes(self) -> int:
        """Memory of the rows that wait here."""
        unrelated = 0 if self._unrelated is None else int(self._unrelated.estimated_size())
        return unrelated + (0 if self._surplus is None else self._surplus.size_bytes)

    async def run(self) -> None:
        """Serve demand until the data is exhausted.

        Raises: RetriesExhaustedError, QueryRefusedError, or whatever the source breaks with. Cancelled, it leaves its place as it is.
        """
        while True:
            await self._link.demanded()
            await self._gate.passed()
            if self._surplus is None and not self.is_exhausted:
                await self._fetch()
                if not self._gate.is_open:  # paused by this chunk, or while it came
                    continue
            self._emit()
            if self._surplus is None and self.is_exhausted:
                self._completed()
                return

    def release(self) -> None:
        """Drop the rows that wait here: the stream has ended before them."""
        self._surplus = self._unrelated = None

    def _emit(self) -> None:
        rows, owed_count = self._surplus, self._link.owed_count
        if rows is None:
            return
        if len(rows) <= owed_count:
            self._surplus = None
            self._link.send(rows)
        else:
            self._surplus = rows.slice(owed_count, len(rows) - owed_count)
            self._link.send(rows.slice(0, owed_count))

    def _completed(self) -> None:
        self._telemetry.emit("producer.completed", {"records": self.fetched_count, "duration": self._clock.now_s() - self._started_s})
        self._link.end()

    async def _fetch(self) -> None:
        if self._unrelated is None:
            count = self.chunk_size
            frame = await self._tried(lambda: self._cursor.fetch(count))
            if len(frame) > count:
                raise PipelineError(f"the source gave {len(frame)} rows where {count} were asked for")
            offset = self.fetched_count
            self.fetched_count += len(frame)
            total = self._cursor.total
            self.is_exhausted = len(frame) < count or (total is not None and self.fetched_count >= total)
            if len(frame) == 0:
                return
            self._unrelated = frame
            self._telemetry.emit("producer.chunk_fetched", {"records": len(frame), "offset": offset})
        frame = self._unrelated
        if self._relate is not None:
            relate = self._relate
            frame = await self._tried(lambda: relate(frame))
        self._unrelated = None
        self._surplus = Batch(frame)
        self._on_chunk()

    async def _tried(self, query: Callable[[], Awaitable[T]]) -> T:
        """Run a query, again and again while it fails in a way that may pass."""
        while True:
            self.query_count += 1
            self._on_attempt()
            try:
                answer = await self._within_limit(query)
            except QueryError as exc:
                if self.retry_count >= self._settings.max_retries:
                    self._tell(exc)
                    raise RetriesExhaustedError(self.retry_count + 1, reason_of(exc)) from exc
                delay_s = self._settings.retry_delay_s * 2**self.retry_count
                self.retry_count += 1
                self.retried_count += 1
                await sleep(self._clock, delay_s)
            except Exception as exc:
                self._tell(exc)
                raise
            else:
                self.retry_count = 0
                return answer

    async def _within_limit(self, query: Callable[[], Awaitable[T]]) -> T:
        limit_s = self._settings.query_timeout_s
        if limit_s is None:
            return await query()
        try:
            async with limit(self._clock, limit_s) as scope:
                return await query()
        except TimeoutError as exc:
            if not scope.expired():  # a socket's ETIMEDOUT is a TimeoutError too; it may pass as well
                raise QueryError(reason_of(exc)) from exc
            raise QueryTimeoutError(limit_s) from exc

    def _tell(self, error: BaseException) -> None:
        self._telemetry.emit("producer.error", {"offset": self.fetched_count, "retry_count": self.retry_count}, reason=reason_of(error))
