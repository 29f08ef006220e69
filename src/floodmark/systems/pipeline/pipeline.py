"""The public operations: start streams, look at them, pause, resume and stop them.

A `Pipeline` holds what its streams share: registry, health monitor, supervisor, cache, clock and telemetry bus. Use it as a context manager
to end all of its streams on leaving; the functions of the same names act on a pipeline that each event loop has by default. A pipeline
without streams has no tasks. Everything belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import msgspec
import psutil

from floodmark.core.clock import Clock, RealClock, limit
from floodmark.core.errors import UsageError
from floodmark.core.telemetry import TelemetryBus
from floodmark.systems.pipeline import assembly
from floodmark.systems.pipeline.aggregate import GroupSnapshot, Snapshot
from floodmark.systems.pipeline.cache import QueryCache
from floodmark.systems.pipeline.errors import (
    CallTimeoutError,
    MemoryRefusedError,
    NoStageError,
    ProducerStartError,
    QueryRefusedError,
    QueryTimeoutError,
    StageStartError,
    StageStoppedError,
    StreamFailedError,
    StreamStoppedError,
    SupervisorNotFoundError,
    reason_of,
)
from floodmark.systems.pipeline.health import HealthMonitor
from floodmark.systems.pipeline.line import Line
from floodmark.systems.pipeline.registry import TRANSITIONS, PipelineInfo, Record, Registry, Status
from floodmark.systems.pipeline.settings import PipelineSettings, StreamSettings, stream_settings
from floodmark.systems.pipeline.stream import Stream
from floodmark.systems.pipeline.supervisor import Supervisor, always
from floodmark.systems.pipeline.telemetry import Telemetry

STREAM_ID_BYTES = 16


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a stream has come."""

    records_processed: int
    percent_complete: float | None  # None where the total is unknown; 100 once completed
    status: Status


class AggregationSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The aggregates of a stream at one moment; `stable` once they cannot change any more."""

    aggregations: dict[str, Any]
    grouped_aggregations: tuple[GroupSnapshot, ...]
    progress: Progress
    stable: bool


class AggregationState(msgspec.Struct, frozen=True, kw_only=True):
    """The aggregates that a running stage holds."""

    aggregations: dict[str, Any]
    grouped_aggregations: tuple[GroupSnapshot, ...]
    group_counts: dict[tuple[str, ...], int]
    total_transformed: int


class Pipeline:
    """A number of streams and what they share."""

    def __init__(
        self,
        *,
        settings: PipelineSettings | None = None,
        bus: TelemetryBus | None = None,
        clock: Clock | None = None,
        cache: QueryCache | None = None,
        available_bytes: Callable[[], int] = lambda: int(psutil.virtual_memory().available),
    ) -> None:
        self.settings = settings or PipelineSettings()
        self.bus = bus or TelemetryBus()
        self.clock: Clock = clock or RealClock()
        self.registry = Registry(self.clock, lifetime_s=self.settings.record_lifetime_s)
        self.supervisor = Supervisor(
            self.clock,
            restarts_max=self.settings.restarts_max,
            window_s=self.settings.restart_window_s,
            shutdown_s=self.settings.shutdown_s,
        )
        self.cache = QueryCache(clock_s=self.clock.now_s) if cache is None else cache
        self._available_bytes = available_bytes
        self._lines: dict[str, Line] = {}
        self._telemetry = Telemetry(self.bus)
        self.monitor = HealthMonitor(
            self.registry, self._lines, settings=self.settings, clock=self.clock, telemetry=self._telemetry, sweep=self.cache.sweep
        )
        self._monitoring: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop every stream and wait until nothing is left; no further stream can be started."""
        for line in tuple(self._lines.values()):
            await line.stop()
        await self.supervisor.aclose()

    # -- starting

    async def start_pipeline(self, **options: Any) -> tuple[str, Stream]:
        """Start a stream; nothing is fetched before it is asked for rows.

        Args: the options of StreamSettings; `source` and `query` are required, and may be text: an address, a table or a SELECT.
        Returns: the stream's id and the stream.
        Raises: MissingOptionError, UsageError: nothing has begun. MemoryRefusedError: the machine is short of memory. QueryRefusedError,
            ProducerStartError (also when opening takes longer than a query may), StageStartError: the stream is in the registry as failed.
            StreamStoppedError, StreamFailedError: somebody ended it before its source was open. SupervisorNotFoundError: the pipeline
            is closed. Cancelled half-way, it leaves nothing open.
        """
        settings = stream_settings(options)
        if self.supervisor.is_closed:
            raise SupervisorNotFoundError("the pipeline is closed; open a new one")
        self._check_memory()
        stream_id = base64.urlsafe_b64encode(secrets.token_bytes(STREAM_ID_BYTES)).rstrip(b"=").decode()
        metadata = {"report_name": settings.report_name}
        self.registry.cleanup()
        self.cache.sweep()
        self.registry.register(stream_id, metadata=metadata)
        record = self.registry.record(stream_id)
        telemetry = Telemetry(self.bus, stream_id, enabled=settings.enable_telemetry)
        try:
            line = await self._line(record, settings, telemetry)
            self._watch()
        except BaseException as exc:
            if self.registry.fail(stream_id, reason_of(exc), None):
                telemetry.emit("pipeline.exception", {"duration": 0.0}, reason=reason_of(exc))
            raise
        self._lines[stream_id] = line
        line.start()
        telemetry.emit("pipeline.start", {"system_time": self.clock.wall_s()}, report_name=settings.report_name)
        return stream_id, line.stream

    async def _line(self, record: Record, settings: StreamSettings, telemetry: Telemetry) -> Line:
        """Set up both stages; whatever was opened is closed again if that fails."""
        try:
            parts = assembly.stage_parts(settings)
        except Exception as exc:
            raise StageStartError(reason_of(exc)) from exc
        try:
            feed = await self._opened(settings)
        except (QueryRefusedError, UsageError):
            raise
        except Exception as exc:
            raise ProducerStartError(reason_of(exc)) from exc
        if self.supervisor.is_closed or TRANSITIONS.is_final(record.status):  # by somebody who did not wait for the source
            await feed.close()
            if record.status is Status.FAILED:
                raise StreamFailedError(record.stream_id, record.reason)
            if record.status is Status.STOPPED:
                raise StreamStoppedError(record.stream_id)
            raise SupervisorNotFoundError("the pipeline was closed while the stream was started")
        return Line(
            record,
            settings=settings,
            feed=feed,
            registry=self.registry,
            supervisor=self.supervisor,
            clock=self.clock,
            telemetry=telemetry,
            parts=parts,
            on_released=self._released,
        )

    async def _opened(self, settings: StreamSettings) -> assembly.Feed:
        """Open the query within the limit of a query."""
        limit_s = settings.query_timeout_s
        try:
            async with limit(self.clock, limit_s) as scope:
                return await assembly.open_feed(settings, self.cache)
        except TimeoutError as exc:
            if limit_s is None or not scope.expired():
                raise
            raise QueryTimeoutError(limit_s) from exc

    def _check_memory(self) -> None:
        available_bytes, reserve_bytes = self._available_bytes(), self.settings.memory_reserve_bytes
        if available_bytes < reserve_bytes:
            raise MemoryRefusedError(
                f"no stream is started: the machine has {available_bytes / 1e6:.0f} MB of memory available and at least "
                f"{reserve_bytes / 1e6:.0f} MB must stay free; end something, or lower memory_reserve_bytes"
            )
        limit_bytes = self.settings.memory_total_bytes
        if limit_bytes is None:
            return
        held_bytes = sum(line.held_bytes for line in self._lines.values())
        if held_bytes >= limit_bytes:
            raise MemoryRefusedError(
                f"no stream is started: the running ones hold {held_bytes / 1e6:.0f} MB of the {limit_bytes / 1e6:.0f} MB that all may hold"
            )

    def _watch(self) -> None:
        if self._monitoring is None or self._monitoring.done():
            self._monitoring = self.supervisor.start("health monitor", self.monitor.run, restart=always)
            self._monitoring.add_done_callback(self._monitor_ended)

    def _monitor_ended(self, task: asyncio.Task[None]) -> None:
        """Fail every stream if nobody looks after them any more."""
        if not task.cancelled() and (error := task.exception()) is not None:
            for record in self.registry.live():
                self.registry.fail(record.stream_id, reason_of(error), error)

    async def _released(self, line: Line) -> None:
        self._lines.pop(line.stream_id, None)
        if not self._lines and self._monitoring is not None:
            monitoring, self._monitoring = self._monitoring, None
            await self.supervisor.stop(monitoring)

    # -- looking and steering

    def get_pipeline_info(self, stream_id: str) -> PipelineInfo:
        """What is known of a stream. Raises: UnknownStreamError."""
        return self.registry.get(stream_id)

    def list_pipelines(self, status: Status | str | None = None) -> list[PipelineInfo]:
        """All streams, or those of one status."""
        return self.registry.list(Status(status) if status is not None else None)

    def pipeline_counts(self) -> dict[Status, int]:
        """How many streams have each status."""
        return self.registry.count_by_status()

    def pause(self, stream_id: str) -> PipelineInfo:
        """Let the producer emit nothing until `resume`; demand is kept. Raises: UnknownStreamError, IllegalTransitionError."""
        info = self.registry.update_status(stream_id, Status.PAUSED, reason="call")
        self.registry.record(stream_id).reason = "call"  # a pause for memory becomes one that only a call ends
        return msgspec.structs.replace(info, reason="call")

    def resume(self, stream_id: str) -> PipelineInfo:
        """Go on. Raises: UnknownStreamError, IllegalTransitionError."""
        return self.registry.update_status(stream_id, Status.RUNNING)

    async def stop(self, stream_id: str) -> PipelineInfo:
        """End a stream and wait until nothing of it is left; one that has ended already keeps its status. Raises: UnknownStreamError."""
        record = self.registry.record(stream_id)
        line = self._lines.get(stream_id)
        if not TRANSITIONS.is_final(record.status):
            if line is None:  # its source is being opened: whoever starts it is told, and closes it
                return self.registry.update_status(stream_id, Status.STOPPED)
            await line.stop()
        elif line is not None:
            await line.released()
        return self.registry.get(stream_id)

    # -- aggregates

    def get_aggregation_snapshot(self, stream_id: str) -> AggregationSnapshot:
        """The aggregates and the progress of a stream, running or ended.

        Raises: UnknownStreamError, NoStageError; with `partition_count` above 1 CallTimeoutError when a process does not answer soon,
        and WorkerGoneError when one has gone.

        Ask every 0.5 to 1 s if it is to be shown, and no more often than every 0.1 s: it works off what the aggregates have put aside.
        """
        record = self.registry.record(stream_id)
        line = self._lines.get(stream_id)
        total_count = record.total_count if line is None else line.total_count
        snapshot = record.result if line is None else _snapshot(line)
        if snapshot is None:
            if line is None and not TRANSITIONS.is_final(record.status):
                raise NoStageError(f"the stream {stream_id} has no stage")
            snapshot = Snapshot(records=0, aggregations={}, groupings=())
        return AggregationSnapshot(
            aggregations=snapshot.aggregations,
            grouped_aggregations=snapshot.groupings,
            progress=Progress(
                records_processed=record.records_processed,
                percent_complete=_percent(record.records_processed, total_count, record.status),
                status=record.status,
            ),
            stable=TRANSITIONS.is_final(record.status),
        )

    async def get_aggregation_state(self, stream_id: str) -> AggregationState:
        """The aggregates that a stream's stage holds now.

        Raises: UnknownStreamError, NoStageError, StageStoppedError once the stage has ended, CallTimeoutError after `call_timeout_s`.
        """
        record = self.registry.record(stream_id)
        line = self._lines.get(stream_id)
        if line is None or record.producer_consumer is None:
            if record.producer_consumer is None:
                raise NoStageError(f"the stream {stream_id} has no stage")
            raise StageStoppedError(f"the stage of the stream {stream_id} has ended ({record.status.value})")
        if record.producer_consumer.done():
            raise StageStoppedError(f"the stage of the stream {stream_id} has ended ({record.status.value})")
        limit_s = self.settings.call_timeout_s
        try:
            async with limit(self.clock, limit_s) as scope:
                snapshot = await line.stage.settled_snapshot()
        except TimeoutError as exc:
            if not scope.expired():
                raise
            raise CallTimeoutError("the state of the aggregates", limit_s) from exc
        return AggregationState(
            aggregations=snapshot.aggregations,
            grouped_aggregations=snapshot.groupings,
            group_counts={grouping.group_by: grouping.group_count for grouping in snapshot.groupings},
            total_transformed=line.stage.records_out,
        )


def _snapshot(line: Line) -> Snapshot | None:
    return None if line.stage.aggregates is None else line.stage.aggregates.peek()


def _percent(processed_count: int, total_count: int | None, status: Status) -> float | None:
    if status is Status.COMPLETED:
        return 100.0
    if total_count is None:
        return None
    return min(100.0, 100.0 * processed_count / total_count) if total_count else 100.0


_defaults: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Pipeline] = weakref.WeakKeyDictionary()


def default_pipeline() -> Pipeline:
    """The pipeline of the running event loop for the functions below; it has no tasks while it has no streams."""
    loop = asyncio.get_running_loop()
    pipeline = _defaults.get(loop)
    if pipeline is None:
        pipeline = _defaults[loop] = Pipeline()
    return pipeline


async def start_pipeline(**options: Any) -> tuple[str, Stream]:
    """`Pipeline.start_pipeline` of the default pipeline."""
    return await default_pipeline().start_pipeline(**options)


def get_pipeline_info(stream_id: str) -> PipelineInfo:
    """`Pipeline.get_pipeline_info` of the default pipeline."""
    return default_pipeline().get_pipeline_info(stream_id)


def list_pipelines(status: Status | str | None = None) -> list[PipelineInfo]:
    """`Pipeline.list_pipelines` of the default pipeline."""
    return default_pipeline().list_pipelines(status)


def pipeline_counts() -> dict[Status, int]:
    """`Pipeline.pipeline_counts` of the default pipeline."""
    return default_pipeline().pipeline_counts()


def pause(stream_id: str) -> PipelineInfo:
    """`Pipeline.pause` of the default pipeline."""
    return default_pipeline().pause(stream_id)


def resume(stream_id: str) -> PipelineInfo:
    """`Pipeline.resume` of the default pipeline."""
    return default_pipeline().resume(stream_id)


async def stop(stream_id: str) -> PipelineInfo:
    """`Pipeline.stop` of the default pipeline."""
    return await default_pipeline().stop(stream_id)


def get_aggregation_snapshot(stream_id: str) -> AggregationSnapshot:
    """`Pipeline.get_aggregation_snapshot` of the default pipeline."""
    return default_pipeline().get_aggregation_snapshot(stream_id)


async def get_aggregation_state(stream_id: str) -> AggregationState:
    """`Pipeline.get_aggregation_state` of the default pipeline."""
    return await default_pipeline().get_aggregation_state(stream_id)
