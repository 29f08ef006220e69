"""The record of every stream: where it stands, what it has done, and which tasks carry it.

The registry is the only place where a stream's status changes, and the table below the only way: a status that is final is never
overwritten, so `failed` stays `failed` whatever the stages still say. Whoever acts on a status (the stream itself) is told of each change.
A stage that is watched and dies makes its stream `failed`. Finished records are kept for an hour. One event loop; not for threads.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from floodmark.core.clock import Clock
from floodmark.core.states import Transitions
from floodmark.systems.pipeline.errors import RegistrationError, UnknownStreamError, end_of


class Status(enum.Enum):
    """Where a stream stands."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"  # the data is exhausted
    FAILED = "failed"  # retries exhausted, a stage died, it stalled, or it was killed; the reason is recorded
    STOPPED = "stopped"  # by a stop call


_ENDS = {Status.COMPLETED, Status.FAILED, Status.STOPPED}
TRANSITIONS: Transitions[Status] = Transitions(
    {
        Status.RUNNING: {Status.PAUSED, *_ENDS},
        Status.PAUSED: {Status.RUNNING, *_ENDS},
        Status.COMPLETED: (),
        Status.FAILED: (),
        Status.STOPPED: (),
    }
)


class PipelineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one stream at one moment. Times of day are seconds since 1970."""

    stream_id: str
    status: Status
    reason: str  # why it failed or is paused; empty otherwise
    producer: asyncio.Task[None] | None
    producer_consumer: asyncio.Task[None] | None
    started_at_s: float
    completed_at_s: float | None
    last_updated_at_s: float
    records_processed: int
    memory_usage_bytes: int
    metadata: Mapping[str, Any]

    @property
    def is_final(self) -> bool:
        """Whether the stream has ended, one way or another."""
        return TRANSITIONS.is_final(self.status)


class Record:
    """The registry's own, changing record of one stream."""

    __slots__ = (
        "completed_at_s",
        "error",
        "last_updated_at_s",
        "memory_usage_bytes",
        "metadata",
        "on_change",
        "producer",
        "producer_consumer",
        "reason",
        "records_processed",
        "result",
        "started_at_s",
        "status",
        "stream_id",
        "total_count",
    )

    def __init__(self, stream_id: str, now_s: float, metadata: Mapping[str, Any], on_change: Callable[[Record], None] | None) -> None:
        self.stream_id = stream_id
        self.status = Status.RUNNING
        self.reason = ""
        self.error: BaseException | None = None
        self.producer: asyncio.Task[None] | None = None
        self.producer_consumer: asyncio.Task[None] | None = None
        self.started_at_s = now_s
        self.completed_at_s: float | None = None
        self.last_updated_at_s = now_s
        self.records_processed = 0
        self.memory_usage_bytes = 0
        self.metadata = metadata
        self.result: Any = None  # the last state of the aggregates, once the stream has ended
        self.total_count: int | None = None
        self.on_change = on_change

    def info(self) -> PipelineInfo:
        """A copy that does not change any more."""
        fields = (name for name in PipelineInfo.__struct_fields__)
        return PipelineInfo(**{name: getattr(self, name) for name in fields})


class Registry:
    """All streams of one pipeline, by id."""

    def __init__(self, clock: Clock, *, lifetime_s: float = 3600.0) -> None:
        self._clock = clock
        self._lifetime_s = lifetime_s
        self._records: dict[str, Record] = {}

    def __len__(self) -> int:
        return len(self._records)

    def register(
        self, stream_id: str, *, metadata: Mapping[str, Any] | None = None, on_change: Callable[[Record], None] | None = None
    ) -> PipelineInfo:
        """Enter a stream, running. `on_change` is called with its record after each change of status.

        Raises: RegistrationError if the id is taken.
        """
        if stream_id in self._records:
            raise RegistrationError(f"a stream {stream_id!r} is registered already")
        record = Record(stream_id, self._clock.wall_s(), dict(metadata or {}), on_change)
        self._records[stream_id] = record
        return record.info()

    def record(self, stream_id: str) -> Record:
        """The changing record itself, for the parts of the pipeline. Raises: UnknownStreamError."""
        try:
            return self._records[stream_id]
        except KeyError:
            raise UnknownStreamError(stream_id) from None

    def get(self, stream_id: str) -> PipelineInfo:
        """What is known of a stream. Raises: UnknownStreamError."""
        return self.record(stream_id).info()

    def list(self, status: Status | None = None) -> list[PipelineInfo]:  # the name of the operation in the requirements
        """All streams, or those of one status, oldest first."""
        return [record.info() for record in self._records.values() if status is None or record.status is status]

    def count_by_status(self) -> dict[Status, int]:
        """How many streams have each status; one that none has is 0."""
        counts = dict.fromkeys(Status, 0)
        for record in self._records.values():
            counts[record.status] += 1
        return counts

    def live(self) -> tuple[Record, ...]:
        """The records of the streams that have not ended."""
        return tuple(record for record in self._records.values() if not TRANSITIONS.is_final(record.status))

    def update_status(self, stream_id: str, status: Status, *, reason: str = "", error: BaseException | None = None) -> PipelineInfo:
        """Take a stream to another status and tell whoever watches it. The status it has already is no change.

        Raises: UnknownStreamError; IllegalTransitionError, as from a final status.
        """
        record = self.record(stream_id)
        if record.status is not status:
            TRANSITIONS.check(record.status, status)
            record.status = status
            record.reason = reason
            record.error = error
            self._touch(record)
            if TRANSITIONS.is_final(status):
                record.completed_at_s = record.last_updated_at_s
            if record.on_change is not None:
                record.on_change(record)
        return record.info()

    def fail(self, stream_id: str, reason: str, error: BaseException | None = None) -> bool:
        """Mark a stream failed unless it has ended or is gone; whether it was marked."""
        record = self._records.get(stream_id)
        if record is None or TRANSITIONS.is_final(record.status):
            return False
        self.update_status(stream_id, Status.FAILED, reason=reason, error=error)
        return True

    def update_producer(self, stream_id: str, task: asyncio.Task[None]) -> None:
        """Name the task that fetches, and watch it."""
        self.record(stream_id).producer = task
        self._watch(stream_id, "the producer", task)

    def update_producer_consumer(self, stream_id: str, task: asyncio.Task[None]) -> None:
        """Name the task of the middle stage, and watch it."""
        self.record(stream_id).producer_consumer = task
        self._watch(stream_id, "the stage", task)

    def _watch(self, stream_id: str, what: str, task: asyncio.Task[None]) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            if task.cancelled():
                self.fail(stream_id, f"{what} was killed")
            elif (error := task.exception()) is not None:
                self.fail(stream_id, end_of(what, error), error)

        task.add_done_callback(ended)

    def increment_records(self, stream_id: str, count: int) -> None:
        """Count records that went through. Raises: UnknownStreamError; ValueError for less than one."""
        if count < 1:
            raise ValueError(f"records are counted up by at least 1, got {count}")
        record = self.record(stream_id)
        record.records_processed += count
        self._touch(record)

    def update_memory_usage(self, stream_id: str, used_bytes: int) -> None:
        """Note what a stream holds. It is no sign of progress: `last_updated_at_s` stays."""
        if used_bytes < 0:
            raise ValueError(f"memory cannot be negative, got {used_bytes}")
        self.record(stream_id).memory_usage_bytes = used_bytes

    def deregister(self, stream_id: str) -> None:
        """Forget a stream. Raises: UnknownStreamError."""
        self.record(stream_id)
        del self._records[stream_id]

    def cleanup(self) -> int:
        """Forget the streams that ended longer ago than a record is kept; how many."""
        now_s = self._clock.wall_s()
        old = [
            record.stream_id
            for record in self._records.values()
            if record.completed_at_s is not None and now_s - record.completed_at_s > self._lifetime_s
        ]
        for stream_id in old:
            del self._records[stream_id]
        return len(old)

    def _touch(self, record: Record) -> None:
        record.last_updated_at_s = self._clock.wall_s()
