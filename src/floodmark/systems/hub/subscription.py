"""A subscription and the group of subscriptions that receive identical bytes.

Subscriptions of one channel with the same operation id, the same selection and the same filter form a group: what one of them is sent,
all are sent, so it is built once. Clients that number their operations 1, 2, 3 make large groups; clients with random ids make groups
of one, for which only the frame heads are built anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from floodmark.systems.hub.event import Event
from floodmark.systems.hub.filters import Predicate
from floodmark.systems.hub.protocol import SUBSCRIPTION_MOVES, SubscriptionState
from floodmark.systems.hub.selection import Selection
from floodmark.systems.hub.wire import Dialect, header

if TYPE_CHECKING:
    from floodmark.systems.hub.errors import HubError
    from floodmark.systems.hub.limits import TokenBucket
    from floodmark.systems.hub.log import ChannelLog

GroupKey = tuple[str, str, tuple[object, ...], bytes]  # operation id, dialect, selection, filter


class Receiver(Protocol):
    """Who takes a subscription's output: a connection, or a stream inside this process."""

    out: list[Any]  # runs of this turn, as the receiver's groups encode them
    lagging: dict[Subscription, None]
    paused: bool

    def write_out(self) -> None:
        """Take everything in `out`."""

    def write_now(self, run: Any) -> None:
        """Take one more run."""

    def fail_operation(self, subscription: Subscription, error: HubError) -> None:
        """A subscription ends with an error."""


class Group:
    """The subscriptions of one channel that receive the same bytes; `live` are those that are caught up."""

    __slots__ = ("key", "live", "log", "member_count", "predicate", "prefix", "render")

    def __init__(self, key: GroupKey, log: ChannelLog, dialect: Dialect, selection: Selection, predicate: Predicate | None) -> None:
        self.key = key
        self.log = log
        self.prefix = dialect.next_prefix(key[0])
        self.render: Callable[[Event], bytes] = selection.render
        self.predicate = predicate
        self.live: dict[Subscription, Receiver] = {}
        self.member_count = 0

    def encode(self, events: list[Event], rendered: dict[tuple[Event, tuple[object, ...]], bytes] | None) -> Any:
        """Build the frames of a run of events, one after the other.

        Args:
            events: at least one, in order, all of them accepted by the filter.
            rendered: payloads of this turn, by event and selection, shared by all groups; None when nobody else gets these events.
        Returns: bytes; a group of streams gives the events themselves.
        """
        prefix, selection = self.prefix, self.key[2]
        fixed = len(prefix) + 1
        if rendered is None and len(events) == 1:  # HOT: a channel with one subscription, an event a turn
            body = self.render(events[0])
            return b"%b%b%b}" % (header(fixed + len(body)), prefix, body)
        rendered = {} if rendered is None else rendered
        parts: list[bytes] = []
        for event in events:
            payload = rendered.get((event, selection))
            if payload is None:
                payload = rendered[event, selection] = self.render(event)
            parts += (header(fixed + len(payload)), prefix, payload, b"}")
        return b"".join(parts)


class Subscription:
    """One operation of one connection. `cursor` is the position of the next event it gets; valid only while it lags."""

    __slots__ = (
        "boundary",
        "boundary_bytes",
        "bucket",
        "connection",
        "cursor",
        "cursor_bytes",
        "dropped_count",
        "expires_s",
        "group",
        "id",
        "lagging",
        "state",
        "throttled",
    )

    def __init__(self, operation_id: str, connection: Receiver, group: Group) -> None:
        self.id = operation_id
        self.connection = connection
        self.group = group
        self.state = SubscriptionState.PENDING
        self.lagging = False
        self.throttled = False
        self.cursor = 0
        self.cursor_bytes = 0
        self.boundary = 0  # replay ends here: what lies before was history and does not count as queued
        self.boundary_bytes = 0
        self.dropped_count = 0
        self.bucket: TokenBucket | None = None
        self.expires_s = 0.0

    def move(self, state: SubscriptionState) -> None:
        """Change state; INVARIANT: only along SUBSCRIPTION_MOVES."""
        assert state in SUBSCRIPTION_MOVES[self.state], f"{self.state.name} -> {state.name}"
        self.state = state

    def queue_start(self) -> int:
        """Position from which its queue is counted."""
        return max(self.cursor, self.boundary + 1)

    def queue_start_bytes(self) -> int:
        """Bytes of the log before its queue."""
        return max(self.cursor_bytes, self.boundary_bytes)

    def queue_depth(self) -> int:
        """Events that wait for it."""
        log = self.group.log
        return log.head + 1 - self.queue_start() if self.lagging else log.head - log.flushed
