"""Counters of the hub, exact and live; their snapshot, which can be added to another process's; and their Prometheus text.

A counter is a plain integer that whoever causes the event adds to; nothing is sampled and nothing is rounded.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Self

import msgspec

PREFIX = "floodmark_hub_"
SECONDS_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
UPTIME_BOUNDS = (0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 86400.0)
SIZE_BOUNDS = (64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0)
BREAKER_LEVELS = ("closed", "half_open", "open")  # the values of `bus_breaker_state`
_LABELS_MAX = 1000  # distinct event types that are told apart; the rest is counted as "other"


class Histogram(msgspec.Struct):
    """A Prometheus histogram over fixed bounds; `buckets` are not cumulative, the last one is +Inf."""

    bounds: tuple[float, ...]
    buckets: list[int]
    count: int = 0
    sum: float = 0.0

    @classmethod
    def over(cls, bounds: tuple[float, ...]) -> Self:
        """Make an empty one."""
        return cls(bounds, [0] * (len(bounds) + 1))

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, `times` times over."""
        self.buckets[bisect_left(self.bounds, value)] += times
        self.count += times
        self.sum += value * times

    def observe_since(self, start_ns: int, now_ns: int, times: int = 1) -> None:
        """Count the time passed between two readings of the monotonic clock, in seconds."""
        self.observe((now_ns - start_ns) / 1e9, times)

    def add(self, other: Histogram) -> None:
        """Count what another one over the same bounds has counted."""
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, other.buckets, strict=True)]
        self.count += other.count
        self.sum += other.sum


class Counters:
    """What happened in one hub process since it started."""

    __slots__ = (
        "accepted_connections",
        "acknowledge_latency",
        "closes",
        "connection_uptime",
        "delivered",
        "delivery_latency",
        "dropped",
        "errors",
        "event_bytes",
        "events_by_type",
        "published",
        "subscriptions",
    )

    def __init__(self) -> None:
        self.published = 0  # events that stand in a log
        self.delivered = 0  # events handed to a subscription's socket or stream
        self.dropped = 0  # events skipped by the policy drop_oldest
        self.accepted_connections = 0
        self.subscriptions = 0
        self.closes: dict[int, int] = {}
        self.errors: dict[str, int] = {}
        self.events_by_type: dict[str, int] = {}
        self.acknowledge_latency = Histogram.over(SECONDS_BOUNDS)
        self.delivery_latency = Histogram.over(SECONDS_BOUNDS)
        self.connection_uptime = Histogram.over(UPTIME_BOUNDS)
        self.event_bytes = Histogram.over(SIZE_BOUNDS)

    def count_type(self, event_type: str, times: int) -> None:
        """Count events by type, of which only so many are told apart."""
        if event_type not in self.events_by_type and len(self.events_by_type) >= _LABELS_MAX:
            event_type = "other"
        self.events_by_type[event_type] = self.events_by_type.get(event_type, 0) + times


class Snapshot(msgspec.Struct, kw_only=True):
    """The figures of one hub process at one moment, or the sum over several."""

    mode: str
    counters: dict[str, int]  # only ever rise
    gauges: dict[str, int]
    maxima: dict[str, int]  # gauges whose sum over processes is their maximum
    labelled: dict[str, dict[str, int]]  # metric -> label value -> count; the label's name is in LABELS
    histograms: dict[str, Histogram]

    def add(self, other: Snapshot) -> None:
        """Add the figures of another process."""
        for mine, theirs in ((self.counters, other.counters), (self.gauges, other.gauges)):
            for name, value in theirs.items():
                mine[name] = mine.get(name, 0) + value
        for name, value in other.maxima.items():
            self.maxima[name] = max(self.maxima.get(name, 0), value)
        for name, values in other.labelled.items():
            into = self.labelled.setdefault(name, {})
            for label, value in values.items():
                into[label] = into.get(label, 0) + value
        for name, histogram in other.histograms.items():
            self.histograms[name].add(histogram)

    def stats(self) -> dict[str, int | str]:
        """The answer to the `stats` query."""
        return {
            "totalEvents": self.counters["total_events_published"],
            "totalDelivered": self.counters["total_events_delivered"],
            "totalSubscriptions": self.counters["total_subscriptions"],
            "activeSubscribers": self.gauges["active_subscriptions"],
            "activeConnections": self.gauges["active_connections"],
            "mode": self.mode,
            "breaker": BREAKER_LEVELS[self.maxima["bus_breaker_state"]],
        }

    def prometheus(self) -> str:
        """The text that `/metrics` answers."""
        lines: list[str] = []
        for kind, values in (("counter", self.counters), ("gauge", self.gauges), ("gauge", self.maxima)):
            for name, value in values.items():
                lines += (f"# TYPE {PREFIX}{name} {kind}", f"{PREFIX}{name} {value}")
        for name, labels in self.labelled.items():
            lines.append(f"# TYPE {PREFIX}{name} counter")
            lines += [f'{PREFIX}{name}{{{LABELS[name]}="{_escape(label)}"}} {value}' for label, value in sorted(labels.items())]
        for name, histogram in self.histograms.items():
            lines.append(f"# TYPE {PREFIX}{name} histogram")
            seen = 0
            for bound, times in zip((*histogram.bounds, "+Inf"), histogram.buckets, strict=True):
                seen += times
                lines.append(f'{PREFIX}{name}_bucket{{le="{bound}"}} {seen}')
            lines += (f"{PREFIX}{name}_sum {histogram.sum:.9g}", f"{PREFIX}{name}_count {histogram.count}")
        return "\n".join(lines) + "\n"


LABELS = {"events_by_type": "event_type", "errors": "code", "closes": "code", "rate_limit_rejections": "limit"}


def _escape(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
