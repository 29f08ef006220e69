"""One bounded log of events per channel, shared by reference by all its subscriptions; a subscription is a cursor into it.

Positions are counted from 1 in each log and are dense; an event's `offset` is the bus's number and need only rise. A subscription that
is caught up has no cursor of its own: it stands at `flushed`. Only laggards are tracked, by the three minima `floor`, `gate` and
`gate_bytes`, which are kept pessimistic and measured anew only when they say that there is no room. No sockets and no clock here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING

from floodmark.systems.hub.errors import OffsetExpired
from floodmark.systems.hub.event import Event

if TYPE_CHECKING:
    from floodmark.systems.hub.intake import PublishJob
    from floodmark.systems.hub.subscription import Group, GroupKey, Subscription

_TRIM_EVENTS = 64  # trimming moves the rest of the list, so it is done in strides
_TRIM_BYTES = 1 << 20


class ChannelLog:
    """The events of one channel that somebody may still need."""

    __slots__ = (
        "end_bytes",
        "ends",
        "entries",
        "first",
        "floor",
        "flushed",
        "flushed_bytes",
        "gate",
        "gate_bytes",
        "gone_offset",
        "groups",
        "head",
        "history_bytes",
        "history_events",
        "laggards",
        "name",
        "waiters",
    )

    def __init__(self, name: str, *, history_events: int, history_bytes: int, newest_offset: int = 0) -> None:
        self.name = name
        self.gone_offset = newest_offset  # offset of the newest event that came before the oldest one held
        self.history_events = history_events
        self.history_bytes = history_bytes
        self.entries: list[Event] = []
        self.ends: list[int] = []  # ends[i]: bytes of all events ever appended up to and including entries[i]
        self.first = 1  # position of entries[0]
        self.head = 0  # position of the newest event
        self.flushed = 0  # position up to which caught-up subscriptions have been served
        self.end_bytes = 0
        self.flushed_bytes = 0  # end_bytes as of `flushed`
        self.groups: dict[GroupKey, Group] = {}
        self.laggards: dict[Subscription, None] = {}
        self.floor = 1  # INVARIANT: no laggard's cursor is below it
        self.gate = 1  # INVARIANT: no laggard's queue starts below it
        self.gate_bytes = 0  # bytes before the queue that holds most of them
        self.waiters: deque[PublishJob] | None = None  # publishes that found no room, oldest first

    def append(self, event: Event) -> None:
        """Put an event at the head; the caller has made sure that there is room."""
        self.head += 1
        self.end_bytes += len(event.data)
        self.entries.append(event)
        self.ends.append(self.end_bytes)

    def bytes_before(self, position: int) -> int:
        """Count the bytes of everything ever appended before a position that is held, or the next to come."""
        index = position - self.first
        if index >= len(self.entries):
            return self.end_bytes
        return self.ends[index] - len(self.entries[index].data)

    def cursor_after(self, offset: int, newest_offset: int) -> int:
        """Find where a resume behind an offset starts.

        Raises: OffsetExpired if events between the offset and the oldest one held are gone, or the offset lies in the future.
        """
        if offset == newest_offset:
            return self.head + 1
        span = {"oldest": self.entries[0].offset if self.entries else None, "newest": newest_offset}
        if offset > newest_offset or offset < 0:
            raise OffsetExpired(f"offset {offset} has not been reached on channel {self.name!r}; the newest is {newest_offset}", span)
        if offset < self.gone_offset:
            raise OffsetExpired(f"the events behind offset {offset} of channel {self.name!r} are gone; {self._held()}", span)
        index = bisect_right(self.entries, offset, key=lambda event: event.offset)
        return self.first + index

    def _held(self) -> str:
        return f"held are {self.entries[0].offset} to {self.entries[-1].offset}" if self.entries else "none are held"

    # Laggards

    def add_laggard(self, subscription: Subscription) -> None:
        """Track a subscription that is not at the head any more; its cursor is set."""
        if not self.laggards:
            self.floor = subscription.cursor
            self.gate, self.gate_bytes = subscription.queue_start(), subscription.queue_start_bytes()
        else:
            self.floor = min(self.floor, subscription.cursor)
            self.gate = min(self.gate, subscription.queue_start())
            self.gate_bytes = min(self.gate_bytes, subscription.queue_start_bytes())
        self.laggards[subscription] = None

    def measure(self) -> None:
        """Find the true minima over all laggards."""
        if not self.laggards:
            return
        self.floor = min(subscription.cursor for subscription in self.laggards)
        self.gate = min(subscription.queue_start() for subscription in self.laggards)
        self.gate_bytes = min(subscription.queue_start_bytes() for subscription in self.laggards)

    def room(self, size_bytes: int, queue_events: int, queue_bytes: int) -> bool:
        """Tell if one more event fits into the queue of every subscription."""
        if not self.laggards or self._fits(size_bytes, queue_events, queue_bytes):
            return True
        self.measure()
        return self._fits(size_bytes, queue_events, queue_bytes)

    def _fits(self, size_bytes: int, queue_events: int, queue_bytes: int) -> bool:
        depth = self.head + 1 - self.gate
        return depth < 1 or (depth < queue_events and self.end_bytes - self.gate_bytes + size_bytes <= queue_bytes)

    # What is kept

    def trim(self) -> None:
        """Let go of events that neither a laggard nor the history needs."""
        held = len(self.entries)
        if not held:
            return
        if not self.history_events and not self.laggards and self.flushed == self.head:  # HOT: nobody needs any of them
            self.gone_offset = self.entries[-1].offset
            self.entries.clear()
            self.ends.clear()
            self.first = self.head + 1
            return
        limit = self.flushed + 1
        if self.laggards:
            if self.floor < limit and held > self.history_events:
                self.measure()
            limit = min(limit, self.floor)
        drop = min(limit - self.first, held)
        if self.history_events and drop > 0:
            over = held - self.history_events
            budget = self.end_bytes - self.history_bytes
            over = max(over, bisect_right(self.ends, budget) if budget > 0 else 0)
            drop = min(drop, over)
        if drop <= 0:
            return
        if 2 * drop < held and drop < _TRIM_EVENTS and self.ends[drop - 1] - self.bytes_before(self.first) < _TRIM_BYTES:
            return
        self.gone_offset = self.entries[drop - 1].offset
        del self.entries[:drop], self.ends[:drop]
        self.first += drop

    @property
    def idle(self) -> bool:
        """True if nobody would miss this log."""
        return not (self.groups or self.entries or self.waiters)
