"""What a pipeline tells while it runs: the names of its events and what comes with each.

All events go over a `core.telemetry.TelemetryBus` under the prefix `floodmark.pipeline`. EVENTS is the whole list: an event that is
not in it cannot be emitted. Durations are seconds unless the name says otherwise, memory is bytes. `export_to_opentelemetry` turns them
into OpenTelemetry metrics, if that library is there (the extra `floodmark[otel]`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from floodmark.core.errors import UsageError
from floodmark.core.telemetry import TelemetryBus

PREFIX = "floodmark.pipeline"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What one event carries."""

    measurements: tuple[str, ...]
    metadata: tuple[str, ...]
    meaning: str


EVENTS: dict[str, Event] = {
    "pipeline.start": Event(measurements=("system_time",), metadata=("stream_id", "report_name"), meaning="a stream was started"),
    "pipeline.stop": Event(
        measurements=("duration", "records_processed"), metadata=("stream_id", "status"), meaning="a stream is completed or was stopped"
    ),
    "pipeline.exception": Event(measurements=("duration",), metadata=("stream_id", "reason"), meaning="a stream has failed"),
    "health_check": Event(
        measurements=("active_pipelines", "total_memory"), metadata=("timestamp",), meaning="the health monitor looked at every stream"
    ),
    "memory_warning": Event(
        measurements=("memory_usage", "threshold"), metadata=("stream_id", "action"), meaning="memory is short: throttle or pause"
    ),
    "memory_critical": Event(
        measurements=("memory_usage", "threshold"), metadata=("stream_id", "action"), meaning="the last step of the memory ladder"
    ),
    "intervention": Event(
        measurements=("memory_usage", "idle_time"), metadata=("stream_id", "action", "reason"), meaning="paused, killed or failed"
    ),
    "throughput": Event(measurements=("records_per_second",), metadata=("stream_id",), meaning="the speed of a stream"),
    "producer.chunk_fetched": Event(measurements=("records", "offset"), metadata=("stream_id",), meaning="a query gave rows"),
    "producer.completed": Event(measurements=("records", "duration"), metadata=("stream_id",), meaning="the query is exhausted"),
    "producer.error": Event(
        measurements=("offset", "retry_count"), metadata=("stream_id", "reason"), meaning="the producer has given up on a query"
    ),
    "producer_consumer.batch_transformed": Event(
        measurements=("records_in", "records_out", "records_failed", "records_rejected", "duration_ms", "records_buffered"),
        metadata=("stream_id",),
        meaning="a batch went through the stage; failed: skipped by the transformer, rejected: by a full grouping",
    ),
    "producer_consumer.aggregation_computed": Event(
        measurements=("records_processed",),
        metadata=("stream_id", "aggregations", "grouped_aggregations"),
        meaning="the aggregates, with this batch in them",
    ),
    "producer_consumer.buffer_full": Event(
        measurements=("buffer_size", "records_buffered"), metadata=("stream_id",), meaning="the buffer is more than 80 % full"
    ),
    "producer_consumer.group_limit_reached": Event(
        measurements=("max_groups", "current_count"), metadata=("stream_id", "group_by"), meaning="a grouping takes no new groups"
    ),
    "producer_consumer.error": Event(measurements=("records",), metadata=("stream_id", "reason"), meaning="the stage has broken"),
}


class Telemetry:
    """Emits the events of one stream, or of no stream in particular."""

    __slots__ = ("_bus", "_stream", "enabled")

    def __init__(self, bus: TelemetryBus, stream_id: str | None = None, *, enabled: bool = True) -> None:
        self._bus = bus
        self._stream = {} if stream_id is None else {"stream_id": stream_id}
        self.enabled = enabled

    def wants(self, tail: str) -> bool:
        """Tell if anybody listens to this event."""
        return self.enabled and self._bus.wants(f"{PREFIX}.{tail}")

    def emit(self, tail: str, measurements: Mapping[str, Any], **metadata: Any) -> None:
        """Emit the event of this name; the stream's id is added."""
        if not self.enabled:
            return
        assert tail in EVENTS, tail
        name = f"{PREFIX}.{tail}"
        if self._bus.wants(name):
            self._bus.emit(name, measurements, {**self._stream, **metadata})


def export_to_opentelemetry(bus: TelemetryBus, meter: Any = None, *, by_stream: bool = False) -> Callable[[], None]:
    """Record every measurement as an OpenTelemetry histogram, with the texts of its metadata as attributes.

    Args:
        meter: an OpenTelemetry meter; None takes the global one.
        by_stream: keep each stream's id as an attribute. A time series for each stream is what an exporter holds on to for good, so this
            is for few streams that live long.
    Returns: a function that ends the export.
    Raises: UsageError where OpenTelemetry is not installed.
    """
    if meter is None:
        try:
            from opentelemetry import metrics  # type: ignore[import-not-found,unused-ignore]  # the extra floodmark[otel]
        except ImportError as exc:
            raise UsageError("OpenTelemetry is not installed; install floodmark[otel], or pass a meter") from exc
        meter = metrics.get_meter(PREFIX)
    instruments: dict[str, Any] = {}  # INVARIANT: no more than EVENTS has measurements

    def record(event: str, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        attributes = {name: value for name, value in metadata.items() if isinstance(value, str) and (by_stream or name != "stream_id")}
        for name, value in measurements.items():
            if value is None:
                continue
            key = f"{event}.{name}"
            if key not in instruments:
                instruments[key] = meter.create_histogram(key)
            instruments[key].record(value, attributes)

    return bus.attach(PREFIX, record)
