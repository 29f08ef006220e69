"""Looks after the streams that run: samples their memory, and acts on the ones that hold too much or do not move.

Every second each stream's own count of what it holds goes into the registry and up its memory ladder. Every five seconds comes the
health check: memory above the shared threshold pauses a stream, and one that owes its consumer rows and has shown no sign of life for
30 s fails. A stream whose consumer asks for nothing is not stalled, however long that lasts: that is back-pressure. Whatever is done to
a stream is told as an `intervention`. The monitor runs only while there are streams, and also removes old records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from floodmark.core.clock import Clock, sleep
from floodmark.systems.pipeline.registry import Record, Registry, Status
from floodmark.systems.pipeline.settings import STALL_TIMEOUT_S, PipelineSettings
from floodmark.systems.pipeline.telemetry import Telemetry

MEMORY = "memory"  # the reason of a pause that ends by itself
STALLED = "stalled"
MEMORY_LIMIT_EXCEEDED = "memory_limit_exceeded"
RECOVERED_RATIO = 0.8  # of a threshold: below it a pause for memory ends
TOTAL_PAUSE_RATIO = 0.9  # of what all streams may hold together


class Watched(Protocol):
    """What the monitor needs of a running stream."""

    @property
    def is_asked(self) -> bool:
        """Whether the consumer waits for rows."""

    @property
    def stall_timeout_s(self) -> float: ...

    def sample(self, *, timed: bool) -> None:
        """Count what is held and act on it."""

    @property
    def may_resume(self) -> bool:
        """Whether its own ladder has no objection to going on."""


class Interventions:
    """What may be done to a stream, each told in the same words."""

    def __init__(self, registry: Registry, telemetry: Telemetry) -> None:
        self._registry = registry
        self._telemetry = telemetry

    def throttle(self, record: Record, threshold_bytes: int) -> None:
        """Warn that chunks become smaller."""
        self._warn(record, threshold_bytes, "throttle")

    def pause(self, record: Record, threshold_bytes: int, reason: str) -> None:
        """Pause a running stream for its memory."""
        if record.status is Status.RUNNING:
            self._warn(record, threshold_bytes, "pause")
            self._tell(record, "pause", reason, memory_usage=record.memory_usage_bytes)
            self._registry.update_status(record.stream_id, Status.PAUSED, reason=MEMORY)

    def resume(self, record: Record) -> None:
        """End a pause that was made for memory; one that somebody called for stays."""
        if record.status is Status.PAUSED and record.reason == MEMORY:
            self._registry.update_status(record.stream_id, Status.RUNNING)

    def kill(self, record: Record, threshold_bytes: int) -> None:
        """Fail a stream for its memory."""
        self._telemetry.emit(
            "memory_critical",
            {"memory_usage": record.memory_usage_bytes, "threshold": threshold_bytes},
            stream_id=record.stream_id,
            action="circuit_break",
        )
        self._tell(record, "kill", MEMORY_LIMIT_EXCEEDED, memory_usage=record.memory_usage_bytes)
        self._registry.fail(record.stream_id, MEMORY_LIMIT_EXCEEDED)

    def fail(self, record: Record, reason: str, idle_s: float) -> None:
        """Fail a stream that does not move."""
        self._tell(record, "fail", reason, idle_time=idle_s)
        self._registry.fail(record.stream_id, reason)

    def _warn(self, record: Record, threshold_bytes: int, action: str) -> None:
        measured = {"memory_usage": record.memory_usage_bytes, "threshold": threshold_bytes}
        self._telemetry.emit("memory_warning", measured, stream_id=record.stream_id, action=action)

    def _tell(self, record: Record, action: str, reason: str, **measured: float) -> None:
        self._telemetry.emit("intervention", measured, stream_id=record.stream_id, action=action, reason=reason)


class HealthMonitor:
    """The service that looks after all streams of a pipeline."""

    def __init__(
        self,
        registry: Registry,
        watched: Mapping[str, Watched],
        *,
        settings: PipelineSettings,
        clock: Clock,
        telemetry: Telemetry,
        sweep: Callable[[], object] = lambda: None,
    ) -> None:
        self._registry = registry
        self._watched = watched
        self._settings = settings
        self._clock = clock
        self._telemetry = telemetry
        self._sweep = sweep  # what else is cleaned up now and then: the cache
        self._acts = Interventions(registry, telemetry)
        self._counted: dict[str, int] = {}  # records by stream at the last check
        self._checked_s = clock.now_s()
        self._cleaned_s = clock.now_s()

    async def run(self) -> None:
        """Sample, check and clean up, each at its interval, until cancelled."""
        settings = self._settings
        self._checked_s = self._cleaned_s = self._clock.now_s()
        while True:
            await sleep(self._clock, min(settings.memory_sample_s, settings.health_interval_s, settings.cleanup_interval_s))
            self.sample()
            now_s = self._clock.now_s()
            if now_s - self._checked_s >= settings.health_interval_s:
                self.check()
            if now_s - self._cleaned_s >= settings.cleanup_interval_s:
                self._cleaned_s = now_s
                self._registry.cleanup()
                self._sweep()

    def sample(self) -> None:
        """Let every stream count what it holds; above 90 % of what all may hold, pause the one that holds most."""
        for watched in tuple(self._watched.values()):
            watched.sample(timed=True)
        limit_bytes = self._settings.memory_total_bytes
        if limit_bytes is None:
            return
        live = self._registry.live()
        total_bytes = sum(record.memory_usage_bytes for record in live)
        running = [record for record in live if record.status is Status.RUNNING]
        if total_bytes >= limit_bytes * TOTAL_PAUSE_RATIO and running:
            largest = max(running, key=lambda record: record.memory_usage_bytes)
            self._acts.pause(largest, int(limit_bytes * TOTAL_PAUSE_RATIO), "memory_total_exceeded")

    def check(self) -> None:
        """Look at every stream that runs, once."""
        now_s = self._clock.now_s()
        elapsed_s, self._checked_s = now_s - self._checked_s, now_s
        live = self._registry.live()
        self._telemetry.emit(
            "health_check",
            {"active_pipelines": len(live), "total_memory": sum(record.memory_usage_bytes for record in live)},
            timestamp=self._clock.wall_s(),
        )
        for record in live:
            self._check_memory(record)
            self._check_progress(record)
            if record.status is Status.RUNNING and elapsed_s > 0:
                done_count = record.records_processed - self._counted.get(record.stream_id, 0)
                self._telemetry.emit("throughput", {"records_per_second": done_count / elapsed_s}, stream_id=record.stream_id)
        self._counted = {record.stream_id: record.records_processed for record in live}

    def _check_memory(self, record: Record) -> None:
        threshold_bytes = self._settings.memory_threshold_bytes
        if record.memory_usage_bytes > threshold_bytes:
            self._acts.pause(record, threshold_bytes, "memory_threshold_exceeded")
        elif record.memory_usage_bytes < threshold_bytes * RECOVERED_RATIO and self._total_is_low():
            watched = self._watched.get(record.stream_id)
            if watched is None or watched.may_resume:
                self._acts.resume(record)

    def _total_is_low(self) -> bool:
        limit_bytes = self._settings.memory_total_bytes
        return limit_bytes is None or sum(record.memory_usage_bytes for record in self._registry.live()) < limit_bytes * RECOVERED_RATIO

    def _check_progress(self, record: Record) -> None:
        watched = self._watched.get(record.stream_id)
        limit_s = STALL_TIMEOUT_S if watched is None else watched.stall_timeout_s
        idle_s = self._clock.wall_s() - record.last_updated_at_s
        if idle_s <= limit_s or (watched is not None and not watched.is_asked):
            return
        if record.status is Status.RUNNING:
            self._acts.fail(record, STALLED, idle_s)
        elif record.status is Status.PAUSED and record.reason == MEMORY:  # what it holds will not become less: its groups, most likely
            self._acts.fail(record, MEMORY_LIMIT_EXCEEDED, idle_s)
