"""Counters of the hub, exact and live, and their Prometheus text.

A counter is a plain integer attribute that the owner of the event adds to; nothing is sampled and nothing is rounded.
"""

from __future__ import annotations

from bisect import bisect_left

PREFIX = "floodmark_hub_"
LATENCY_BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LATENCY_BOUNDS_NS = tuple(int(bound * 1e9) for bound in LATENCY_BOUNDS_S)


class Histogram:
    """A Prometheus histogram over fixed bounds."""

    __slots__ = ("bounds", "buckets", "count", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)  # the last one is +Inf; not cumulative
        self.count = 0
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, `times` times over."""
        self.buckets[bisect_left(self.bounds, value)] += times
        self.count += times
        self.sum += value * times

    def observe_since(self, start_ns: int, now_ns: int, times: int = 1) -> None:
        """Count the time passed between two readings of the monotonic clock, in seconds."""
        self.observe((now_ns - start_ns) / 1e9, times)


class Counters:
    """What happened in one hub process since it started."""

    __slots__ = (
        "accepted_connections",
        "closes",
        "delivered",
        "delivered_bytes",
        "delivery_latency",
        "dropped",
        "errors",
        "published",
        "subscriptions",
    )

    def __init__(self) -> None:
        self.published = 0
        self.delivered = 0
        self.delivered_bytes = 0
        self.dropped = 0
        self.accepted_connections = 0
        self.subscriptions = 0
        self.closes: dict[int, int] = {}
        self.errors: dict[str, int] = {}
        self.delivery_latency = Histogram(LATENCY_BOUNDS_S)
