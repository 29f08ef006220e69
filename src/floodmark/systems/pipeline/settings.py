"""Every option of a stream and of the pipeline around it, its default and its unit.

Frozen and validated: an option that makes no sense is a UsageError that names it, before anything has started.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.aggregate.config import FUNCTIONS
from floodmark.systems.pipeline.errors import MissingOptionError, nearest

Transformer = Callable[[dict[str, Any]], Mapping[str, Any]]

CHUNK_FLOOR_ROWS = 100  # a degraded stream fetches no fewer rows at once, unless it never fetched more
STALL_TIMEOUT_S = 30.0


class Ladder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens at which share of a stream's memory limit; None leaves a step out."""

    degrade_ratio: float | None = 0.80  # chunks are halved, a warning is emitted
    pause_ratio: float | None = 0.90  # nothing more is emitted until memory has fallen below the step before
    kill_ratio: float | None = 0.95  # the stream fails, unless the pause before has helped within one sample

    def __post_init__(self) -> None:
        steps = [ratio for ratio in (self.degrade_ratio, self.pause_ratio, self.kill_ratio) if ratio is not None]
        if any(not 0 < ratio < math.inf for ratio in steps) or steps != sorted(steps):
            raise UsageError(f"the memory ladder must rise from degrade to pause to kill, each above 0, got {steps}")


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of one stream; `source` and `query` are required."""

    source: Any  # a Source, or text such as "sales.parquet" that names one
    query: Any  # a Query, or the name of a table
    report_name: str = ""
    # producer
    chunk_size: int = 1000  # rows per query
    pager: str = "keyset"  # or "offset"
    enable_cache: bool = True
    load_config: Any = (
        None  # a LoadConfig: which relations to load beside the rows; "groupings": those that groupings use; None: all declared
    )
    memory_limit_bytes: int = 500_000_000  # what the stream itself holds: rows under way and groups
    ladder: Ladder = Ladder()
    max_retries: int = 3  # after the first failure of a query
    retry_delay_s: float = 1.0  # doubled with each retry in a row
    query_timeout_s: float | None = 20.0  # below stall_timeout_s, so that a query is tried again before the stream counts as stalled
    # stage
    max_demand: int = 500  # records asked of the producer at once
    min_demand: int | None = None  # asks again when no more are on their way; None: 100, or less under a small max_demand
    buffer_size: int = 1000  # records that wait for the consumer
    conversion: Any = None  # options of convert(); None leaves the rows as the source gave them
    transformer: Transformer | None = None  # called per record
    aggregations: tuple[str, ...] = ()
    grouped_aggregations: tuple[Any, ...] = ()  # Groupings
    partition_count: int = 1  # processes that share the aggregation
    enable_telemetry: bool = True
    # health
    stall_timeout_s: float = STALL_TIMEOUT_S  # that long rows may be owed without a sign of life

    def __post_init__(self) -> None:
        for name in ("chunk_size", "max_demand", "buffer_size", "memory_limit_bytes", "partition_count"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UsageError(f"{name} must be a whole number and at least 1, got {value!r}")
        for name in ("retry_delay_s", "query_timeout_s", "stall_timeout_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:  # phrased so that NaN is refused too
                raise UsageError(f"{name} must be finite and more than 0 s, got {value!r}")
        if self.max_retries < 0:
            raise UsageError(f"max_retries must not be negative, got {self.max_retries!r}")
        if self.min_demand is not None and not 0 <= self.min_demand < self.max_demand:
            raise UsageError(f"min_demand must be at least 0 and below max_demand ({self.max_demand}), got {self.min_demand}")
        if self.pager not in ("keyset", "offset"):
            raise UsageError(f"pager must be keyset or offset, got {self.pager!r}")
        for function in self.aggregations:
            if function not in FUNCTIONS:
                raise UsageError(f"no aggregation {function!r}; there are: {', '.join(FUNCTIONS)}")
        if self.transformer is not None and not callable(self.transformer):
            raise UsageError(f"transformer must be callable, got {self.transformer!r}")

    @property
    def demand_floor(self) -> int:
        """How few records may be on their way before the stage asks for more."""
        return self.min_demand if self.min_demand is not None else min(100, self.max_demand // 5)

    @property
    def degraded_chunk_size(self) -> int:
        """Rows per query while memory is short."""
        return min(self.chunk_size, max(self.chunk_size // 2, CHUNK_FLOOR_ROWS))


class PipelineSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all streams of one pipeline share."""

    health_interval_s: float = 5.0
    memory_sample_s: float = 1.0
    memory_threshold_bytes: int = 500_000_000  # a stream above it is paused by the health monitor, whatever its own limit
    memory_total_bytes: int | None = None  # all streams together; above 90 % of it the largest one is paused
    memory_reserve_bytes: int = 64 * 1024 * 1024  # a machine with less available starts no stream
    cleanup_interval_s: float = 30.0
    record_lifetime_s: float = 3600.0  # how long the record of a finished stream is kept
    restarts_max: int = 10
    restart_window_s: float = 60.0
    shutdown_s: float = 5.0  # what a stage gets to end by itself
    call_timeout_s: float = 5.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise UsageError(f"{name} must be finite and not negative, got {value!r}")
        for name in ("health_interval_s", "memory_sample_s", "cleanup_interval_s"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} must be more than 0 s, got {getattr(self, name)!r}")


def stream_settings(options: Mapping[str, Any]) -> StreamSettings:
    """Check the options of a stream; sequences may be lists.

    Raises: MissingOptionError without a source or a query, UsageError for an unknown option or a value out of range.
    """
    for key in ("source", "query"):
        if options.get(key) is None:
            raise MissingOptionError(key)
    known = StreamSettings.__struct_fields__
    for key in options:
        if key not in known:
            near = nearest(key, known)
            hint = f"; did you mean {near!r}?" if near else f"; there are: {', '.join(known)}"
            raise UsageError(f"a stream has no option {key!r}{hint}")
    given = dict(options)
    for key in ("aggregations", "grouped_aggregations"):
        if key in given:
            given[key] = (given[key],) if isinstance(given[key], str) else tuple(given[key] or ())
    return StreamSettings(**given)
