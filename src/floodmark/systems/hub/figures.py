"""The figures of one hub process, gathered from its parts at the moment they are asked for.

What is counted stands in `metrics.py`; gauges are not counted but looked up, so they cannot drift from what they describe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from floodmark.systems.hub.bus.base import Bus
from floodmark.systems.hub.bus.guarded import GuardedBus
from floodmark.systems.hub.metrics import BREAKER_LEVELS, Snapshot
from floodmark.systems.hub.protocol import ConnectionState

if TYPE_CHECKING:
    from floodmark.systems.hub.hub import Hub


def snapshot_of(hub: Hub) -> Snapshot:
    """Read every figure now."""
    counters = hub.counters
    snapshot = Snapshot(
        mode=hub.bus.mode,
        counters={
            "total_connections": counters.accepted_connections,
            "total_subscriptions": counters.subscriptions,
            "total_events_published": counters.published,
            "total_events_delivered": counters.delivered,
            "total_events_dropped": counters.dropped,
            "documents_parsed": hub.documents.parsed_count,
            **_bus_counters(hub.bus),
        },
        gauges={
            "active_connections": sum(1 for each in hub.connections if each.state <= ConnectionState.CONNECTED),
            "active_subscriptions": hub.active_subscriptions,
            "lagging_subscriptions": hub.dispatcher.lagging_count(),
            "waiting_publishes": hub.bus.waiting_count,
            "channels": len(hub.dispatcher.logs),
        },
        maxima={
            "per_connection_max": max((each.subscription_count for each in hub.connections), default=0),
            "queue_depth_max": hub.dispatcher.queue_depth_max(),
            "bus_breaker_state": BREAKER_LEVELS.index(hub.bus.breaker.state.value) if isinstance(hub.bus, GuardedBus) else 0,
        },
        labelled={
            "events_by_type": dict(counters.events_by_type),
            "errors": dict(counters.errors),
            "closes": {str(code): times for code, times in counters.closes.items()},
            "rate_limit_rejections": dict(hub.limits.violations),
        },
        histograms={
            "latency_seconds": msgspec.structs.replace(counters.acknowledge_latency),
            "event_delivery_latency_seconds": msgspec.structs.replace(counters.delivery_latency),
            "message_size_bytes": msgspec.structs.replace(counters.event_bytes),
            "connection_uptime_seconds": msgspec.structs.replace(counters.connection_uptime),
        },
    )
    return hub.conduct.told(snapshot)


def _bus_counters(bus: Bus) -> dict[str, int]:
    """What became of publishes that a bus did not take at once; all of them 0 for memory, which takes everything."""
    guarded = bus if isinstance(bus, GuardedBus) else None
    return {
        "bus_retries": bus.retried_count,
        "bus_breaker_opened": guarded.opened_count if guarded is not None else 0,
        "bus_breaker_rejected": guarded.breaker.rejected_count if guarded is not None else 0,
        "bus_fallback_events": guarded.fallback_count if guarded is not None else 0,
    }
