"""The edge between two stages: demand goes up, batches come down, and never a row that was not asked for.

Demand is additive: asking three times for 50 is asking for 150. What was asked and not yet sent is *owed*; what was sent and not
yet received is *buffered*. As no stage can send more than is owed, whoever bounds what he asks for bounds what can pile up.
One sender; receivers may be several: each gets whole batches (or the part it wants), in order, nobody waits for a slower one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from floodmark.core.errors import HarnessBugError
from floodmark.systems.pipeline.batch import Batch


class Link:
    """Demand and batches between one sender and its receivers."""

    __slots__ = (
        "_arrived",
        "_asked",
        "_batches",
        "_ended",
        "_error",
        "asked_count",
        "buffered_count",
        "buffered_count_max",
        "on_ask",
        "on_receive",
        "received_count",
        "sent_count",
    )

    def __init__(self) -> None:
        self.asked_count = 0
        self.sent_count = 0
        self.received_count = 0
        self.buffered_count = 0  # sent and not received yet
        self.buffered_count_max = 0
        self.on_ask: Callable[[], None] | None = None  # called after each ask, so that demand travels up at once
        self.on_receive: Callable[[], None] | None = None  # called after each receipt: there is room again
        self._batches: deque[Batch] = deque()
        self._asked = asyncio.Event()
        self._arrived = asyncio.Event()
        self._ended = False
        self._error: BaseException | None = None

    # -- the receiver's side

    @property
    def outstanding_count(self) -> int:
        """Rows asked for and not received yet."""
        return self.asked_count - self.received_count

    def ask(self, count: int) -> None:
        """Ask for `count` more rows."""
        if count < 1:
            raise ValueError(f"demand must be at least 1, got {count}")
        self.asked_count += count
        self._asked.set()
        if self.on_ask is not None:
            self.on_ask()

    async def receive(self, count_max: int | None = None) -> Batch | None:
        """The next batch, or the first `count_max` rows of it; None at the end of the data.

        Raises: what the sender has failed with; batches that were on their way are then gone.
        """
        while not self._batches:
            if self._error is not None:
                raise self._error
            if self._ended:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        batch = self._batches.popleft()
        if count_max is not None and len(batch) > count_max:
            self._batches.appendleft(batch.slice(count_max, len(batch) - count_max))
            batch = batch.slice(0, count_max)
        self.received_count += len(batch)
        self.buffered_count -= len(batch)
        if self.on_receive is not None:
            self.on_receive()
        return batch

    # -- the sender's side

    @property
    def owed_count(self) -> int:
        """Rows asked for and not sent yet."""
        return self.asked_count - self.sent_count

    @property
    def buffered_bytes(self) -> int:
        """Memory of the rows sent and not received yet."""
        return sum(batch.size_bytes for batch in self._batches)

    @property
    def is_ended(self) -> bool:
        """Whether nothing more will be sent."""
        return self._ended or self._error is not None

    @property
    def is_failed(self) -> bool:
        """Whether receivers will be told of a failure."""
        return self._error is not None

    async def demanded(self) -> int:
        """Wait until rows are owed; how many."""
        while self.owed_count <= 0:
            self._asked.clear()
            await self._asked.wait()
        return self.owed_count

    def send(self, batch: Batch) -> None:
        """Hand rows down. INVARIANT: never more than are owed."""
        if len(batch) > self.owed_count:
            raise HarnessBugError(f"{len(batch)} rows sent where {self.owed_count} were owed")
        if len(batch) == 0:
            return
        self.sent_count += len(batch)
        self.buffered_count += len(batch)
        self.buffered_count_max = max(self.buffered_count_max, self.buffered_count)
        self._batches.append(batch)
        self._arrived.set()

    def end(self) -> None:
        """Say that all rows were sent."""
        self._ended = True
        self._arrived.set()

    def fail(self, error: BaseException) -> None:
        """Drop what is on its way and let every receiver raise `error`; the first failure stays."""
        self._batches.clear()
        self.buffered_count = 0
        if self._error is None:
            self._error = error
        self._arrived.set()
