"""What the consumer of a stream holds: rows to iterate over, as records or as batches, and demand to steer by hand.

Iterating keeps the buffer filled; `take(n)` asks for exactly n records and nothing moves beyond them. A stream ends when its data is
exhausted; one that fails raises StreamFailedError with the reason, one that somebody stops raises StreamStoppedError, so that no
report is taken for whole that is not. Leave it by reading to the end, by `aclose()`, or by `async with`: then all of its tasks and
rows are gone.
Several tasks may read one stream: each row goes to one of them, and none waits for a slower one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

import msgspec

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.batch import Batch
from floodmark.systems.pipeline.demand import Link
from floodmark.systems.pipeline.producer import Producer
from floodmark.systems.pipeline.stage import Stage

Record = Mapping[str, Any]


class StreamFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of one stream at one moment."""

    asked_count: int  # records the consumer asked for
    delivered_count: int  # records he was given
    buffered_count: int  # records that wait for him
    buffered_count_max: int
    in_flight_count: int  # records between the source and him, the producer's surplus left out
    surplus_count: int  # records fetched beyond the demand
    fetched_count: int
    total_count: int | None  # records of the whole query, if known
    records_in: int  # through the stage
    records_out: int
    records_failed: int  # skipped by the transformer
    records_rejected: int  # by full groupings; they are in the stream all the same
    query_count: int
    retried_count: int
    held_bytes: int
    held_bytes_max: int


class Stream:
    """The records of one query, in order."""

    def __init__(
        self,
        stream_id: str,
        *,
        link: Link,
        stage: Stage,
        producer: Producer,
        chunk_size: int,
        stop: Callable[[], Awaitable[None]],
        released: Callable[[], Awaitable[None]],
        held: Callable[[], tuple[int, int]],
    ) -> None:
        self.stream_id = stream_id
        self._link = link
        self._stage = stage
        self._producer = producer
        self._chunk_size = chunk_size
        self._stop = stop
        self._released = released
        self._held = held
        self._records: deque[Record] = deque()  # of the batches that iterating has begun
        self._claimed_count = 0  # rows asked for that a running `take` waits for
        self._closed = False

    def ask(self, count: int) -> None:
        """Ask for `count` more records, for `receive` to hand out; demand adds up."""
        self._link.ask(count)

    async def receive(self, count_max: int | None = None) -> Batch | None:
        """The next batch of what was asked for, of at most `count_max` rows; None at the end.

        Raises: UsageError for less than one row; StreamFailedError, StreamStoppedError.
        Once the stream is over, nothing of it is left behind.
        """
        if count_max is not None and count_max < 1:
            raise UsageError(f"a batch has at least 1 row, got {count_max}")
        if self._closed:
            return None
        try:
            batch = await self._link.receive(count_max)
        except BaseException:
            if self._link.is_failed:
                await self._released()
            raise
        if batch is None:
            await self._released()
        return batch

    async def take(self, count: int) -> list[Record]:
        """Exactly `count` records, or those there are before the end."""
        if count < 0:
            raise UsageError(f"take needs a number of records, got {count}")
        taken: list[Record] = [self._records.popleft() for _ in range(min(count, len(self._records)))]  # what iterating has left
        left_count = count - len(taken)
        self._claimed_count += left_count
        if self._claimed_count > self._link.outstanding_count:
            self.ask(self._claimed_count - self._link.outstanding_count)
        try:
            while left_count > 0 and (batch := await self.receive(left_count)) is not None:
                taken.extend(batch.records())
                left_count -= len(batch)
                self._claimed_count -= len(batch)
        finally:
            self._claimed_count -= left_count
        return taken

    async def batches(self, rows: int | None = None) -> AsyncIterator[Batch]:
        """Batches of at most `rows` rows (whole chunks if None): the way to read fast.

        The buffer holds at least one such batch, even if that is more than its size.
        """
        count = rows if rows is not None else self._chunk_size
        if count < 1:
            raise UsageError(f"a batch has at least 1 row, got {count}")
        self._stage.allow_batches_of(count)
        if self._records:  # left by iterating
            left = list(self._records)
            self._records.clear()
            yield Batch(left)
        self._fill()
        while (batch := await self.receive(count)) is not None:
            self._fill()  # before the batch is used, so that the next is under way meanwhile
            yield batch

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Record:
        if self._records:  # HOT: once per record
            return self._records.popleft()
        self._fill()
        batch = await self.receive()
        if batch is None:
            raise StopAsyncIteration
        self._records.extend(batch.records())  # behind those of another reader, who may have them still before him
        self._fill()
        return self._records.popleft()

    def _fill(self) -> None:
        """Keep as many records asked for as the buffer takes."""
        room = self._stage.buffer_size - self._link.outstanding_count
        if room > 0 and not self._closed:
            self._link.ask(room)

    async def aclose(self) -> None:
        """Stop the stream if it is still going, and wait until nothing of it is left."""
        self._closed = True
        self._records.clear()
        await self._stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    @property
    def skipped_count(self) -> int:
        """Records that the transformer could not take."""
        return self._stage.records_failed

    def figures(self) -> StreamFigures:
        """Count."""
        link, stage, producer = self._link, self._stage, self._producer
        held_bytes, held_bytes_max = self._held()
        return StreamFigures(
            asked_count=link.asked_count,
            delivered_count=link.received_count,
            buffered_count=link.buffered_count,
            buffered_count_max=link.buffered_count_max,
            in_flight_count=stage.in_flight_count,
            surplus_count=producer.surplus_count,
            fetched_count=producer.fetched_count,
            total_count=producer.total_count,
            records_in=stage.records_in,
            records_out=stage.records_out,
            records_failed=stage.records_failed,
            records_rejected=stage.records_rejected,
            query_count=producer.query_count,
            retried_count=producer.retried_count,
            held_bytes=held_bytes,
            held_bytes_max=held_bytes_max,
        )
