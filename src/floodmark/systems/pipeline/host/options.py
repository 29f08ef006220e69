"""How the streams of a channel are set up, as the client says when it opens the channel.

A channel is a worker that runs one stream after another, each of `records` records: the first `records` that are offered are the rows of
its first stream, and so on. A row has the fields of `rows.py`, its `id` counted from 0 in each stream.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.aggregate import FUNCTIONS
from floodmark.systems.pipeline.host.network import checked_faults


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a client may say."""

    records: int = 1000
    groups: int = 10
    store: Literal["memory", "sqlite", "http"] = "memory"  # sqlite, http: a stream begins when all of its records are in a table
    network: str = ""  # faults of the proxy that such a stream's pages come through (network.py)
    pager: Literal["keyset", "offset"] = "keyset"
    chunk_size: int = 1000
    max_demand: int = 500
    min_demand: int | None = None
    buffer_size: int = 1000
    aggregations: tuple[str, ...] = ("sum", "count")
    transform: bool = False  # each record through a function in Python
    fail_id: int | None = None  # the function raises for this record
    query_failures: int = 0  # so many of every `query_failures_of` queries fail
    query_failures_of: int = 5
    retry_delay_s: float = 0.01
    pause_s: float = 0.0  # that the drain takes over each batch
    measure_records: int = 0  # rows of a stream beside the others whose speed is measured; in whole laps (see measure.py)
    measure_chunk: int = 1000
    measure_groups: int = 1000

    def __post_init__(self) -> None:
        for name in ("records", "groups", "chunk_size", "max_demand", "buffer_size", "measure_chunk", "measure_groups"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.query_failures < self.query_failures_of:
            raise UsageError(f"query_failures must be below query_failures_of ({self.query_failures_of}), got {self.query_failures}")
        if not 0 <= self.pause_s < 60 or self.measure_records < 0:
            raise UsageError("pause_s must be from 0 to 60 s, and measure_records not negative")
        if checked_faults(self.network) and self.store != "http":
            raise UsageError(f"network is for the store 'http', whose rows come over one; the store is {self.store!r}")
        for function in self.aggregations:
            if function not in FUNCTIONS:
                raise UsageError(f"no aggregation {function!r}; there are: {', '.join(FUNCTIONS)}")
