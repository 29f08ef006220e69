"""One stream's stages and what holds them together: started, watched, paused, and taken down without a trace.

The registry's status rules: a line acts on its changes (it closes the gate, fails the consumer's link, cancels the stages) and causes
them (completed, paused for memory), but keeps no status of its own. Its task is the last to end: when it has, the cursor is closed, the
rows are dropped, and only the registry's record is left, with the last state of the aggregates.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from floodmark.core.clock import Clock
from floodmark.systems.pipeline.aggregate import Snapshot
from floodmark.systems.pipeline.assembly import Feed, StageParts
from floodmark.systems.pipeline.demand import Link
from floodmark.systems.pipeline.errors import StreamFailedError, StreamStoppedError, reason_of
from floodmark.systems.pipeline.health import Interventions
from floodmark.systems.pipeline.memory import MemoryLadder, Step
from floodmark.systems.pipeline.producer import Gate, Producer
from floodmark.systems.pipeline.registry import TRANSITIONS, Record, Registry, Status
from floodmark.systems.pipeline.settings import StreamSettings
from floodmark.systems.pipeline.stage import Stage
from floodmark.systems.pipeline.stream import Stream
from floodmark.systems.pipeline.supervisor import Supervisor
from floodmark.systems.pipeline.telemetry import Telemetry

log = logging.getLogger(__name__)


class Line:
    """A running stream, from its cursor to its consumer."""

    def __init__(
        self,
        record: Record,
        *,
        settings: StreamSettings,
        feed: Feed,
        parts: StageParts,
        registry: Registry,
        supervisor: Supervisor,
        clock: Clock,
        telemetry: Telemetry,
        on_released: Callable[[Line], Awaitable[None]],
    ) -> None:
        self.stream_id = record.stream_id
        self.settings = settings
        self._record = record
        self._feed = feed
        self._registry = registry
        self._supervisor = supervisor
        self._clock = clock
        self._telemetry = telemetry
        self._on_released = on_released
        self._acts = Interventions(registry, telemetry)
        self._started_s = clock.now_s()
        self._ladder = MemoryLadder(settings.memory_limit_bytes, settings.ladder)
        self._gate = Gate()
        self._fetched, self._done = Link(), Link()
        self.producer = Producer(
            cursor=feed.cursor,
            settings=settings,
            link=self._fetched,
            gate=self._gate,
            clock=clock,
            telemetry=telemetry,
            on_chunk=lambda: self.sample(timed=False),
            on_attempt=self._show_life,
            relate=feed.relate,
        )
        self.stage = Stage(
            stream_id=self.stream_id,
            upstream=self._fetched,
            downstream=self._done,
            settings=settings,
            clock=clock,
            telemetry=telemetry,
            aggregates=parts.aggregates,
            convert=parts.convert,
            on_batch=lambda count: registry.increment_records(self.stream_id, count),
            on_end=lambda: self._end(Status.COMPLETED),
        )
        self.stream = Stream(
            self.stream_id,
            link=self._done,
            stage=self.stage,
            producer=self.producer,
            chunk_size=settings.chunk_size,
            stop=self.stop,
            released=self.released,
            held=lambda: (self.held_bytes, self._ladder.used_bytes_max),
        )
        self._stages: tuple[asyncio.Task[None], ...] = ()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the stages, which wait for demand."""
        top_up = self.stage.top_up

        def asked() -> None:
            self._show_life()
            if self._ladder.step is Step.PAUSED:  # the consumer has taken something: there may be room again
                self.sample(timed=False)
            top_up()

        self._done.on_ask = self._done.on_receive = asked
        self._record.on_change = self._changed
        if self._record.status is Status.PAUSED:  # while its source was opened
            self._gate.close()
        producer = self._supervisor.start(f"producer of {self.stream_id}", self.producer.run)
        stage = self._supervisor.start(f"stage of {self.stream_id}", self.stage.run)
        self._stages = (producer, stage)
        self._registry.update_producer(self.stream_id, producer)
        self._registry.update_producer_consumer(self.stream_id, stage)
        self._task = self._supervisor.start(f"stream {self.stream_id}", self._keep)

    # -- what the health monitor asks

    @property
    def is_asked(self) -> bool:
        """Whether the consumer waits for rows; not while a full buffer waits for him."""
        return self._done.owed_count > 0 and self._done.buffered_count < self.stage.buffer_size

    @property
    def stall_timeout_s(self) -> float:
        return self.settings.stall_timeout_s

    @property
    def may_resume(self) -> bool:
        """Whether the memory ladder has no objection to going on."""
        return self._ladder.step < Step.PAUSED

    @property
    def total_count(self) -> int | None:
        """Records of the whole query, if known."""
        return self.producer.total_count

    @property
    def held_bytes(self) -> int:
        """What the stream holds: rows at every place, and groups."""
        rows = self.producer.held_bytes + self._fetched.buffered_bytes + self.stage.held_bytes + self._done.buffered_bytes
        return rows + (0 if self.stage.aggregates is None else self.stage.aggregates.size_bytes)

    def sample(self, *, timed: bool) -> None:
        """Count what is held, note it in the registry and climb or descend the ladder."""
        record = self._record
        if TRANSITIONS.is_final(record.status):
            return
        record.memory_usage_bytes = self.held_bytes
        before, step = self._ladder.step, self._ladder.observe(record.memory_usage_bytes, timed=timed)
        self.producer.is_degraded = step >= Step.DEGRADED
        if step is Step.KILLED:
            self._acts.kill(record, self._ladder.threshold_bytes(step))
        elif step is Step.PAUSED:
            self._acts.pause(record, self._ladder.threshold_bytes(step), "memory_limit_near")
        elif before is Step.PAUSED:
            self._acts.resume(record)
        elif step > before:
            self._acts.throttle(record, self._ladder.threshold_bytes(step))

    # -- the end

    async def stop(self) -> None:
        """End the stream before its data does, drop what it holds, and wait until nothing of it is left."""
        self._end(Status.STOPPED)
        self._done.fail(StreamStoppedError(self.stream_id))
        await self.released()

    async def released(self) -> None:
        """Wait until the stream has given back everything."""
        if self._task is not None and self._task is not asyncio.current_task():
            await asyncio.wait({self._task})

    async def _last_figures(self) -> Snapshot | None:
        """The last state of the aggregates, whose processes end with it; None if it is lost."""
        aggregates = self.stage.aggregates
        if aggregates is None:
            return None
        try:
            if self.stage.last_figures is not None:
                return self.stage.last_figures
            async with asyncio.timeout(self._supervisor.shutdown_s):  # a worker that hangs must not hold up whoever waits for the end
                return await aggregates.gathered()
        except Exception as exc:
            log.warning("stream %s: the last state of the aggregates is lost: %s", self.stream_id, reason_of(exc))
            return None
        finally:
            aggregates.close()

    def _end(self, status: Status) -> None:
        if not TRANSITIONS.is_final(self._record.status):
            self._registry.update_status(self.stream_id, status)

    def _show_life(self) -> None:
        self._record.last_updated_at_s = self._clock.wall_s()

    def _changed(self, record: Record) -> None:
        """Act on a change of status."""
        duration_s = self._clock.now_s() - self._started_s
        match record.status:
            case Status.RUNNING:
                self._gate.open()
            case Status.PAUSED:
                self._gate.close()
            case Status.FAILED:
                error = StreamFailedError(self.stream_id, record.reason)
                error.__cause__ = record.error
                self._break_off(error)
                self._telemetry.emit("pipeline.exception", {"duration": duration_s}, reason=record.reason)
            case Status.STOPPED:
                self._break_off(StreamStoppedError(self.stream_id))
        if record.status in (Status.STOPPED, Status.COMPLETED):
            measured = {"duration": duration_s, "records_processed": record.records_processed}
            self._telemetry.emit("pipeline.stop", measured, status=record.status.value)

    def _break_off(self, error: Exception) -> None:
        self._done.fail(error)
        for task in self._stages:
            task.cancel()

    async def _keep(self) -> None:
        """Wait for both stages, then give everything back."""
        try:
            await asyncio.wait(self._stages)
        finally:
            await self._supervisor.stop(*self._stages)
            self.producer.release()
            self.stage.release()
            self._record.result = await self._last_figures()
            self._record.total_count = self.producer.total_count
            self._record.memory_usage_bytes = 0
            self._record.error = None  # its traceback holds rows
            self._record.on_change = None
            try:
                async with asyncio.timeout(self._supervisor.shutdown_s):  # a source that hangs must not hold up whoever waits for the end
                    await self._feed.close()
            except Exception as exc:
                log.warning("stream %s: the cursor did not close: %s", self.stream_id, reason_of(exc))
            await self._on_released(self)
