"""Feed a consumer chunk by chunk, and wrap consumers: rows gathered into even batches, failures tried again, progress told.

    total = await consume(document.batches(), Buffered(Progressing(writer, tell, total_count=10_000), rows=100))

A consumer takes chunks in order, one at a time, and is finalized once, after the last; what it gives then is the result. A consumer that
fails ends the reading, and is not finalized. Not here: where the chunks come from, and what is made of them. Memory: one chunk and what a
consumer keeps.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import msgspec
import polars as pl

from floodmark.core.clock import Clock, RealClock, sleep
from floodmark.core.errors import UsageError


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """Some rows and their place in the stream."""

    records: pl.DataFrame
    chunk_index: int  # from 0
    total_processed: int  # rows up to and with this chunk

    @property
    def chunk_size(self) -> int:
        """Return how many rows there are."""
        return len(self.records)


class Consumer(Protocol):
    """What takes chunks."""

    async def consume_chunk(self, chunk: Chunk) -> None:
        """Take the next chunk."""

    async def finalize(self) -> Any:
        """Come to an end, and give the result."""


async def consume(batches: AsyncIterator[pl.DataFrame], consumer: Consumer) -> Any:
    """Read everything into a consumer. Returns: what it gives in the end. Raises: what it raises."""
    index = total = 0
    async for records in batches:
        total += len(records)
        await consumer.consume_chunk(Chunk(records=records, chunk_index=index, total_processed=total))
        index += 1
    return await consumer.finalize()


class Buffered:
    """Hands on batches of exactly so many rows, but for the last."""

    def __init__(self, consumer: Consumer, *, rows: int = 100) -> None:
        if rows < 1:
            raise UsageError(f"a batch has at least 1 row, got {rows}")
        self._consumer, self._rows = consumer, rows
        self._kept: list[pl.DataFrame] = []
        self._kept_count = self._index = self._total = 0

    async def consume_chunk(self, chunk: Chunk) -> None:
        """Take a chunk, and hand on every batch that is full."""
        self._kept.append(chunk.records)
        self._kept_count += len(chunk.records)
        if self._kept_count < self._rows:
            return
        rows = pl.concat(self._kept)
        full_count = len(rows) - len(rows) % self._rows
        self._kept, self._kept_count = [rows.slice(full_count)], len(rows) - full_count
        for start in range(0, full_count, self._rows):
            await self._hand_on(rows.slice(start, self._rows))

    async def finalize(self) -> Any:
        """Hand on what is left."""
        if self._kept_count:
            rest, self._kept, self._kept_count = pl.concat(self._kept), [], 0
            await self._hand_on(rest)
        return await self._consumer.finalize()

    async def _hand_on(self, records: pl.DataFrame) -> None:
        self._total += len(records)
        chunk = Chunk(records=records, chunk_index=self._index, total_processed=self._total)
        self._index += 1
        await self._consumer.consume_chunk(chunk)


class Retrying:
    """Gives a chunk to a consumer again when it has failed; the consumer must bear to see a chunk twice.

    Only errors that are named in `errors` are tried again; the last one is raised.
    """

    def __init__(
        self,
        consumer: Consumer,
        *,
        retries: int = 0,
        delay_s: float = 1.0,
        errors: tuple[type[Exception], ...] = (OSError,),
        clock: Clock | None = None,
    ) -> None:
        if retries < 0 or not delay_s >= 0:
            raise UsageError(f"retries and delay_s are not negative, got {retries} and {delay_s!r}")
        self._consumer, self._retries, self._delay_s, self._errors = consumer, retries, delay_s, errors
        self._clock: Clock = clock or RealClock()
        self.retried_count = 0

    async def consume_chunk(self, chunk: Chunk) -> None:
        """Take a chunk, again if need be."""
        for left_count in range(self._retries, -1, -1):
            try:
                await self._consumer.consume_chunk(chunk)
                return
            except self._errors:
                if not left_count:
                    raise
            self.retried_count += 1
            await sleep(self._clock, self._delay_s)

    async def finalize(self) -> Any:
        """Finalize the consumer, once."""
        return await self._consumer.finalize()


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a reading has come."""

    records_count: int
    total_count: int | None
    elapsed_s: float
    remaining_s: float | None  # at the pace so far; None while nothing is known

    @property
    def percent(self) -> float | None:
        """Return the share done, of 100; None where the total is unknown."""
        return None if self.total_count is None else min(100.0, 100.0 * self.records_count / max(self.total_count, 1))


class Progressing:
    """Tells after every chunk how far it has come and how long the rest will take."""

    def __init__(
        self, consumer: Consumer, tell: Callable[[Progress], None], *, total_count: int | None = None, clock: Clock | None = None
    ) -> None:
        self._consumer, self._tell, self._total_count = consumer, tell, total_count
        self._clock: Clock = clock or RealClock()
        self._started_s = self._clock.now_s()

    async def consume_chunk(self, chunk: Chunk) -> None:
        """Take a chunk, then tell."""
        await self._consumer.consume_chunk(chunk)
        elapsed_s, done_count, total_count = self._clock.now_s() - self._started_s, chunk.total_processed, self._total_count
        remaining_s = None if total_count is None or not done_count else elapsed_s * max(total_count - done_count, 0) / done_count
        self._tell(Progress(records_count=done_count, total_count=total_count, elapsed_s=elapsed_s, remaining_s=remaining_s))

    async def finalize(self) -> Any:
        """Finalize the consumer."""
        return await self._consumer.finalize()
