"""The middle stage: converts, transforms and aggregates each batch, and passes on to the consumer what he asked for.

Demand travels through it at once: what the consumer asks for is asked of the producer in steps of `max_demand`, the next step when no
more than `min_demand` records are still to come. So what waits for the consumer is never more than he has asked for, nor more than the
buffer holds. Per batch: conversion (if it fails, the rows go on as they are), the transformer, the aggregates, the next stage, telemetry.
Without a transformer the aggregates see the rows as the source gave them, so that a decimal converted for display is still summed exactly.

A batch stays in hand until it is passed on: a stage that is started again goes on with it. Not here: fetching, statuses, the
consumer's side.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import polars as pl

from floodmark.core.clock import Clock
from floodmark.systems.pipeline.aggregate import Snapshot, Update
from floodmark.systems.pipeline.batch import Batch
from floodmark.systems.pipeline.demand import Link
from floodmark.systems.pipeline.errors import RecoverableError, reason_of
from floodmark.systems.pipeline.settings import StreamSettings
from floodmark.systems.pipeline.telemetry import Telemetry
from floodmark.systems.pipeline.transform import transformed

log = logging.getLogger(__name__)

BUFFER_WARNING_RATIO = 0.8
SHORTEST_S = 0.001  # a batch that took less counts as this long, so that a throughput is never infinite


class Aggregating(Protocol):
    """What the stage needs of the aggregates, in this process or in several."""

    @property
    def size_bytes(self) -> int: ...
    def update(self, rows: pl.DataFrame | Sequence[Mapping[str, Any]]) -> Update: ...
    def fold(self) -> None: ...
    def peek(self) -> Snapshot: ...
    async def settled(self) -> None: ...
    async def gathered(self) -> Snapshot: ...
    def close(self) -> None: ...


class Stage:
    """Works on the rows of one stream."""

    def __init__(
        self,
        *,
        stream_id: str,
        upstream: Link,
        downstream: Link,
        settings: StreamSettings,
        clock: Clock,
        telemetry: Telemetry,
        aggregates: Aggregating | None = None,
        convert: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
        on_batch: Callable[[int], None] = lambda count: None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._stream_id = stream_id
        self._upstream = upstream
        self._downstream = downstream
        self._settings = settings
        self._clock = clock
        self._telemetry = telemetry
        self._convert = convert
        self._on_batch = on_batch
        self._on_end = on_end
        self._max_demand = settings.max_demand
        self._in_hand: Batch | None = None
        self._limits_told: set[tuple[str, ...]] = set()
        self._conversion_told = False
        self.aggregates = aggregates
        self.last_figures: Snapshot | None = None  # once the producer has ended
        self.buffer_size = settings.buffer_size
        self.records_in = 0
        self.records_out = 0
        self.records_failed = 0
        self.records_rejected = 0
        downstream.on_ask = downstream.on_receive = self.top_up

    def allow_batches_of(self, count: int) -> None:
        """Let the consumer have batches of `count` rows, even if that is more than one step of demand or than the buffer."""
        self._max_demand = max(self._max_demand, count)
        self.buffer_size = max(self.buffer_size, count)

    @property
    def held_bytes(self) -> int:
        """Memory of the batch that is being worked on."""
        return 0 if self._in_hand is None else self._in_hand.size_bytes

    @property
    def in_flight_count(self) -> int:
        """Records that have left the producer and not reached the consumer."""
        in_hand_count = 0 if self._in_hand is None else len(self._in_hand)
        return self._upstream.buffered_count + in_hand_count + self._downstream.buffered_count

    def top_up(self) -> None:
        """Ask the producer for what the consumer still waits for, a step at a time, and for no more than the buffer has room for."""
        coming_count = self._upstream.outstanding_count
        if coming_count > self._settings.demand_floor:
            return
        under_way_count = coming_count + (0 if self._in_hand is None else len(self._in_hand))
        missing_count = self._downstream.owed_count - under_way_count
        room_count = self.buffer_size - self._downstream.buffered_count - under_way_count
        count = min(self._max_demand - coming_count, missing_count, room_count)
        if count > 0:
            self._upstream.ask(count)

    async def run(self) -> None:
        """Work until the producer ends.

        Raises: TransformerError, or whatever breaks; the batch in hand is kept for a new start.
        """
        while True:
            if self._in_hand is None:
                self._in_hand = await self._upstream.receive()
            if self._in_hand is None:
                if self.aggregates is not None:
                    self.aggregates.fold()
                    self.last_figures = await self.aggregates.gathered()  # fails if figures are lost, which must not pass for complete
                self._on_end()
                self._downstream.end()
                return
            try:
                self._work(self._in_hand)
                if self.aggregates is not None:
                    await self._settle(self.aggregates)
            except RecoverableError:
                raise
            except Exception as exc:
                records_count = 0 if self._in_hand is None else len(self._in_hand)
                self._telemetry.emit("producer_consumer.error", {"records": records_count}, reason=reason_of(exc))
                raise
            self.top_up()

    async def settled_snapshot(self) -> Snapshot:
        """The state of the aggregates between two batches."""
        return (
            Snapshot(records=self.records_in, aggregations={}, groupings=())
            if self.aggregates is None
            else await self.aggregates.gathered()
        )

    def release(self) -> None:
        """Drop the batch in hand: the stream has ended before it."""
        self._in_hand = None

    def _work(self, batch: Batch) -> None:
        started_s = self._clock.now_s()
        done, failed_count = self._converted(batch), 0
        if self._settings.transformer is not None:
            records = done.frame().to_dicts()  # his own: a batch that is worked on again must not show what he did to them before
            results, failed_count = transformed(records, self._settings.transformer, stream_id=self._stream_id)
            done = batch = Batch(results)
        update = None
        if self.aggregates is not None and len(batch):
            update = self.aggregates.update(batch.frame() if batch.has_frame else batch.records())
        # INVARIANT: nothing below can fail, so that a batch which is worked on again has not been counted yet.
        in_count = len(done) + failed_count
        self._in_hand = None
        self.records_in += in_count
        self.records_out += len(done)
        self.records_failed += failed_count
        self._downstream.send(done)
        self._on_batch(in_count)
        rejected_count = self._rejected(update)
        self._tell(in_count, len(done), failed_count, rejected_count, self._clock.now_s() - started_s)

    async def _settle(self, aggregates: Aggregating) -> None:
        """Wait until the aggregates can take another batch, and tell of them if somebody listens."""
        await aggregates.settled()
        if self._telemetry.wants("producer_consumer.aggregation_computed"):
            snapshot = await aggregates.gathered()
            self._telemetry.emit(
                "producer_consumer.aggregation_computed",
                {"records_processed": self.records_in},
                aggregations=snapshot.aggregations,
                grouped_aggregations=snapshot.groupings,
            )

    def _converted(self, batch: Batch) -> Batch:
        if self._convert is None:
            return batch
        try:
            return Batch(self._convert(batch.frame()))
        except Exception as exc:
            if not self._conversion_told:
                self._conversion_told = True
                log.warning("stream %s: conversion failed, rows go on as they are: %s", self._stream_id, reason_of(exc))
            return batch

    def _rejected(self, update: Update | None) -> int:
        """Count what full groupings did not take, and tell of each that is full: an event per batch, a log line once."""
        if update is None:
            return 0
        rejected_count = 0
        for grouping in update.groupings:
            rejected_count += grouping.rejected
            if grouping.limit_reached:
                self._telemetry.emit(
                    "producer_consumer.group_limit_reached",
                    {"max_groups": grouping.max_groups, "current_count": grouping.group_count},
                    group_by=grouping.group_by,
                )
                if grouping.group_by not in self._limits_told:
                    self._limits_told.add(grouping.group_by)
                    log.warning(
                        "stream %s: the grouping by %s is full at %s groups; records of further groups are not in it",
                        self._stream_id,
                        ", ".join(grouping.group_by),
                        grouping.max_groups,
                    )
        self.records_rejected += rejected_count
        return rejected_count

    def _tell(self, in_count: int, out_count: int, failed_count: int, rejected_count: int, duration_s: float) -> None:
        buffered_count = self._downstream.buffered_count
        telemetry = self._telemetry
        if telemetry.wants("producer_consumer.batch_transformed"):
            telemetry.emit(
                "producer_consumer.batch_transformed",
                {
                    "records_in": in_count,
                    "records_out": out_count,
                    "records_failed": failed_count,
                    "records_rejected": rejected_count,
                    "duration_ms": duration_s * 1000,
                    "records_buffered": buffered_count,
                },
            )
        if telemetry.wants("throughput"):
            telemetry.emit("throughput", {"records_per_second": out_count / max(duration_s, SHORTEST_S)})
        if buffered_count > self.buffer_size * BUFFER_WARNING_RATIO:
            telemetry.emit("producer_consumer.buffer_full", {"buffer_size": self.buffer_size, "records_buffered": buffered_count})
