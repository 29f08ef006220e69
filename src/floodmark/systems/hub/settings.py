"""Every knob of the hub, its default and its unit, and the three presets.

Frozen and validated: a setting that makes no sense is a UsageError that names the setting, not a surprise at the first connection.
Zero means "no limit" where the comment says so, and nowhere else.
"""

from __future__ import annotations

import enum
import math
from typing import Any

import msgspec

from floodmark.core.errors import UsageError
from floodmark.systems.hub.lies import parse_lie

_AT_LEAST_ONE = (
    *("connections_max", "queue_events", "queue_bytes", "message_bytes", "write_buffer_bytes", "documents_cached"),
    *("breaker_failures", "breaker_successes"),
)
OWN_NATS = "nats"  # as the name of a bus: a nats-server of the hub's own


class Policy(enum.Enum):
    """What happens to a publish when a subscription's queue is full."""

    BLOCK = "block"  # the publish waits, un-acknowledged, until there is room: nothing is lost
    LAG = "lag"  # the slow subscription ends with EVENTS_LAGGED
    DROP_OLDEST = "drop_oldest"  # the slow subscription skips its oldest events; each is counted


class HubSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one hub process; the defaults are those of the requirements, groups as there."""

    # server
    host: str = "127.0.0.1"
    port: int = 0  # 0: the OS chooses
    reuse_port: bool = False  # several processes on one port
    connections_max: int = 10_000
    subscriptions_per_connection: int = 100
    filter_complexity_max: int = 10  # conditions in one filter
    event_payload_bytes: int = 1_000_000
    query_bytes: int = 100_000
    selected_fields_max: int = 500
    documents_cached: int = 1000  # distinct query texts kept parsed
    # WebSocket
    init_limit_s: float = 5.0
    ping_interval_s: float = 30.0
    pong_limit_s: float = 10.0
    shutdown_grace_s: float = 5.0
    message_bytes: int = 64 * 1024
    write_buffer_bytes: int = 128 * 1024  # a connection with more than this unsent is slow
    socket_send_bytes: int = 0  # SO_SNDBUF of each connection; 0: the kernel's own choice
    socket_receive_bytes: int = 0  # SO_RCVBUF: what a publisher may have sent and we have not read, and so what one read may bring
    # queues
    policy: Policy = Policy.BLOCK
    queue_events: int = 1000  # per subscription
    queue_bytes: int = 10_000_000  # per subscription
    history_events: int = 0  # kept per channel for resume
    history_bytes: int = 10_000_000  # kept per channel for resume, whichever of the two is reached first
    channels_max: int = 1_000_000  # channels with history or subscriptions held at once
    # rates; all of them off with rate_limits=False
    rate_limits: bool = True
    subscriptions_per_user_per_min: int = 100
    subscriptions_per_user: int = 100
    connections_per_user: int = 10
    events_per_subscription_hz: float = 100.0  # 0: unlimited
    bucket_refill_hz: float = 100.0  # operations per user
    bucket_capacity: int = 1000
    # life time and credentials
    subscription_lifetime_s: float = 0.0  # 0: as long as the connection
    token: str = ""  # empty: anyone may connect
    token_lifetime_s: float = 0.0  # 0: for ever
    # bus
    bus: str = "memory"
    bus_fallback: str = ""  # empty: no fallback
    bus_store: str = ""  # directory of our own nats-server's store, which stays; empty: one that goes with it
    breaker_failures: int = 5  # in a row, before the bus is left alone
    breaker_successes: int = 2  # in a row, before it is trusted again
    breaker_open_s: float = 30.0  # before it is tried again
    seed: int = 0
    lies: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if (
                isinstance(value, (int, float)) and not isinstance(value, bool) and not 0 <= value < math.inf
            ):  # phrased so that NaN is refused too
                raise UsageError(f"{name} must be finite and not negative, got {value!r}")
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)!r}")
        for name in ("init_limit_s", "ping_interval_s", "pong_limit_s"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} must be more than 0 s, got {getattr(self, name)!r}")
        for text in self.lies:
            parse_lie(text)
        if self.port > 65535:
            raise UsageError(f"port must be 0..65535, got {self.port}")


PRESETS: dict[str, dict[str, Any]] = {
    "development": {
        "host": "127.0.0.1",
        "subscriptions_per_connection": 10,
        "connections_max": 100,
        "filter_complexity_max": 50,
        "query_bytes": 64 * 1024,
        "events_per_subscription_hz": 0.0,
        "bucket_refill_hz": 1000.0,
        "bucket_capacity": 10_000,
        "init_limit_s": 10.0,
        "ping_interval_s": 30.0,
        "pong_limit_s": 5.0,
        "message_bytes": 256 * 1024,
    },
    "production": {
        "subscriptions_per_connection": 5,
        "connections_max": 500,
        "subscriptions_per_user": 50,
        "events_per_subscription_hz": 100.0,
        "connections_per_user": 5,
        "ping_interval_s": 20.0,
        "pong_limit_s": 5.0,
    },
    "high_performance": {
        "subscriptions_per_connection": 20,
        "connections_max": 2000,
        "subscriptions_per_user": 100,
        "events_per_subscription_hz": 1000.0,
        "connections_per_user": 20,
        "bucket_refill_hz": 1000.0,
        "bucket_capacity": 10_000,
        "ping_interval_s": 10.0,
    },
}


def settings_from(preset: str | None, chosen: dict[str, Any]) -> HubSettings:
    """Lay what was chosen over a preset.

    Args:
        preset: a name of PRESETS, or None for the plain defaults.
        chosen: settings by name; None stands for "not given" and leaves the preset's value.
    Raises: UsageError for an unknown preset, an unknown setting or a value out of range.
    """
    if preset is not None and preset not in PRESETS:
        raise UsageError(f"no preset {preset!r}; there are: {', '.join(PRESETS)}")
    merged = dict(PRESETS[preset]) if preset else {}
    merged.update({name: value for name, value in chosen.items() if value is not None})
    unknown = merged.keys() - set(HubSettings.__struct_fields__)
    if unknown:
        raise UsageError(f"no setting {', '.join(sorted(unknown))}; there are: {', '.join(HubSettings.__struct_fields__)}")
    return HubSettings(**merged)
