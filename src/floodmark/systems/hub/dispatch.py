"""Fan-out: events go into channel logs, and once per turn of the loop everything new is written, one write per connection.

The caught-up subscriptions of a group share one run of bytes. A connection whose socket is full leaves its groups and becomes a laggard:
its subscriptions keep a cursor each and are served from the log when the socket drains, so a slow reader costs its queue bound and no
copy. What a full queue does to a publish is the policy's decision and is taken here, before the event enters the log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from floodmark.systems.hub.errors import EventsLagged, SubscriptionRejected
from floodmark.systems.hub.event import Event
from floodmark.systems.hub.log import ChannelLog
from floodmark.systems.hub.metrics import Counters
from floodmark.systems.hub.settings import HubSettings, Policy
from floodmark.systems.hub.subscription import Group, Receiver, Subscription

WILDCARD = "*"
_RUN_BYTES = 64 * 1024  # a laggard is served in runs of about this many bytes
_PENDING_BYTES = 256 * 1024  # of one channel in one turn, before they are written without waiting for its end
_FRESH_LOGS = 2048  # channels with something new in one turn, before it is written: one turn may read many megabytes
_REFILL_S = 0.02  # how often throttled subscriptions are served
_NO_LIMIT = 1 << 60
_TURN_BYTES = 512 * 1024  # and at most this many per connection and turn, so that nobody starves


class Dispatcher:
    """All logs and all pending output of one hub."""

    def __init__(self, settings: HubSettings, counters: Counters, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self.counters = counters
        self.logs: dict[str, ChannelLog] = {}
        self.newest_offsets: dict[str, int] = {}
        self._wildcard: ChannelLog | None = None
        self._loop = loop
        self._scheduled = False
        self._fresh: list[ChannelLog] = []  # logs with events newer than their `flushed`
        self._dirty: list[Receiver] = []  # connections with output to write this turn
        self._behind: dict[Receiver, None] = {}  # connections that can take more right now
        self._runs: dict[tuple[Group, int], tuple[Any, int, int]] = {}
        self._rendered: dict[tuple[Event, tuple[object, ...]], bytes] = {}
        self._waited: dict[int, int] = {}  # deliveries of this turn by the arrival of the event that stands for them
        self._pending_bytes = min(_PENDING_BYTES, settings.queue_bytes)
        self._throttled: dict[Receiver, None] = {}
        self.throttled_count = 0
        if settings.rate_limits and settings.events_per_subscription_hz:
            self._deliver = self._deliver_paced  # type: ignore[method-assign]  # chosen once, so that the fast path has no test for it
        self.on_room: Callable[[ChannelLog], None] = lambda log: None  # the intake's: waiters of this log may try again

    # Logs

    def open_log(self, channel: str) -> ChannelLog:
        """Find or make the log of a channel."""
        log = self.logs.get(channel)
        if log is None:
            if len(self.logs) >= self.settings.channels_max:
                raise SubscriptionRejected(f"the hub holds {len(self.logs)} channels, its limit", {"limit": self.settings.channels_max})
            history = self.settings.history_events if channel != WILDCARD else 0
            log = self.logs[channel] = ChannelLog(
                channel,
                history_events=history,
                history_bytes=self.settings.history_bytes,
                newest_offset=self.newest_offsets.get(channel, 0),
            )
            if channel == WILDCARD:
                self._wildcard = log
        return log

    def lagging_count(self) -> int:
        """Count the subscriptions that are behind now."""
        return sum(len(log.laggards) for log in self.logs.values())

    def has_unserved(self) -> bool:
        """True while somebody has not got everything that is in a log."""
        return any(each.cursor <= log.head for log in self.logs.values() for each in log.laggards)

    def queue_depth_max(self) -> int:
        """Find the deepest queue of a subscription now."""
        deepest = 0
        for log in self.logs.values():
            deepest = max(deepest, log.head - log.flushed, *(each.queue_depth() for each in log.laggards))
        return deepest

    def _close_if_idle(self, log: ChannelLog) -> None:
        if log.idle and log.flushed == log.head:
            self.logs.pop(log.name, None)
            if log.name == WILDCARD:
                self._wildcard = None

    # Events in

    def room(self, channel: str, size_bytes: int) -> ChannelLog | None:
        """Make sure that an event of a channel can be appended, by the policy's means; else give the log that is full."""
        named = self.logs.get(channel)
        if (named is None or not named.laggards) and self._wildcard is None:  # HOT: nobody is behind
            return None
        settings = self.settings
        for log in (named, self._wildcard):
            if log is None or not log.laggards or log.room(size_bytes, settings.queue_events, settings.queue_bytes):
                continue
            if settings.policy is Policy.BLOCK:
                return log
            self._relieve(log, size_bytes)
        return None

    def _relieve(self, log: ChannelLog, size_bytes: int) -> None:
        """Take the subscriptions without room out of the way: end them, or let them skip their oldest events."""
        settings = self.settings
        for subscription in list(log.laggards):
            while subscription.queue_depth() > 0 and (
                subscription.queue_depth() >= settings.queue_events
                or log.end_bytes - subscription.queue_start_bytes() + size_bytes > settings.queue_bytes
            ):
                if settings.policy is Policy.LAG:
                    depth = subscription.queue_depth()
                    error = EventsLagged(
                        f"the subscription fell {depth} events behind, its queue holds no more", {"queued": depth, "channel": log.name}
                    )
                    subscription.connection.fail_operation(subscription, error)
                    break
                skipped = subscription.queue_start() + 1 - subscription.cursor
                subscription.cursor += skipped
                subscription.cursor_bytes = log.bytes_before(subscription.cursor)
                subscription.dropped_count += skipped
                self.counters.dropped += skipped
        log.measure()

    def append(self, event: Event) -> None:
        """Put an event into its log and the wildcard's; it is written at the end of this turn."""
        channel = event.channel
        log = self.logs.get(channel)
        if log is None and self.settings.history_events:
            log = self.open_log(channel)
        self.newest_offsets[channel] = event.offset
        if log is not None:
            self._append(log, event)
        if self._wildcard is not None:
            self._append(self._wildcard, event)

    def _append(self, log: ChannelLog, event: Event) -> None:
        if log.head == log.flushed:
            self._fresh.append(log)
        log.append(event)
        if not self._scheduled:
            self.schedule()
        # The caught-up ones queue here until the turn ends, and their bound holds here too.
        if (
            log.head - log.flushed >= self.settings.queue_events
            or log.end_bytes - log.flushed_bytes >= self._pending_bytes
            or len(self._fresh) >= _FRESH_LOGS
        ):
            self.flush()

    # Bytes out

    def schedule(self) -> None:
        """See to it that `flush` runs at the end of this turn."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)

    def send(self, connection: Receiver, data: bytes) -> None:
        """Queue control bytes (answers, errors) behind whatever this turn has already queued for the connection."""
        if not connection.out:
            self._dirty.append(connection)
            self.schedule()
        connection.out.append(data)

    def flush(self) -> None:
        """Serve every caught-up subscription, then write, then let the laggards that have room catch up."""
        self._scheduled = False
        fresh, self._fresh = self._fresh, []
        for log in fresh:
            batch = log.entries[log.flushed + 1 - log.first :]
            log.flushed, log.flushed_bytes = log.head, log.end_bytes
            for group in log.groups.values():
                if group.live:
                    self._deliver(group, batch)
        self._write()
        if self._waited:
            self._count_waits()
        if self._behind:
            self._catch_up_all()
        for log in fresh:
            log.trim()
            if not log.groups:
                self._close_if_idle(log)
        self._runs.clear()
        self._rendered.clear()

    def _count_waits(self) -> None:
        """Put the latencies of a turn into the histogram: one look-up for all that arrived in one message."""
        now_ns, observe = time.monotonic_ns(), self.counters.delivery_latency.observe_since
        for received_ns, deliveries in self._waited.items():
            observe(received_ns, now_ns, deliveries)
        self._waited.clear()

    def _deliver(self, group: Group, batch: list[Event]) -> None:
        """HOT: once per group and turn; the loop at the end runs once per subscription and turn."""
        predicate = group.predicate
        if predicate is not None:
            batch = [event for event in batch if predicate(event)]
            if not batch:
                return
        shared = len(group.log.groups) > 1 or self._wildcard is not None
        blob = group.encode(batch, self._rendered if shared else None)
        deliveries, received_ns = len(batch) * len(group.live), batch[0].received_ns
        self.counters.delivered += deliveries
        self._waited[received_ns] = self._waited.get(received_ns, 0) + deliveries
        dirty = self._dirty
        for connection in group.live.values():
            out = connection.out
            if not out:
                dirty.append(connection)
            out.append(blob)

    def _deliver_paced(self, group: Group, batch: list[Event]) -> None:
        """The same for a hub with a rate per subscription: whoever has used it up falls behind and is served as its bucket refills."""
        accepted = [event for event in batch if group.predicate is None or group.predicate(event)]
        if not accepted:
            return
        blob = group.encode(accepted, self._rendered)
        now_s, cursor, served = self._loop.time(), group.log.flushed + 1 - len(batch), 0
        for subscription, connection in list(group.live.items()):
            if subscription.bucket is not None and not subscription.bucket.take(len(accepted), now_s):
                self.fall_behind(subscription, cursor)
                self._throttle(connection)
                continue
            if not connection.out:
                self._dirty.append(connection)
            connection.out.append(blob)
            served += 1
        self.count(accepted[0], len(accepted) * served)

    def _throttle(self, connection: Receiver) -> None:
        """Serve a connection again in a moment; one timer for all of them."""
        self.throttled_count += 1
        if not self._throttled:
            self._loop.call_later(_REFILL_S, self._refilled)
        self._throttled[connection] = None

    def _refilled(self) -> None:
        throttled, self._throttled = self._throttled, {}
        for connection in throttled:
            self.can_take_more(connection)

    def count(self, event: Event, deliveries: int) -> None:
        """Count deliveries of a run; its first event, the one that waited longest, stands for the latency."""
        self.counters.delivered += deliveries
        self.counters.delivery_latency.observe_since(event.received_ns, time.monotonic_ns(), deliveries)

    def _write(self) -> None:
        while self._dirty:
            dirty, self._dirty = self._dirty, []
            for connection in dirty:
                connection.write_out()

    # Laggards

    def fall_behind(self, subscription: Subscription, cursor: int) -> None:
        """Take a subscription out of its group; it is served from `cursor` on when its connection can take more."""
        group = subscription.group
        log = group.log
        group.live.pop(subscription, None)
        subscription.lagging = True
        subscription.cursor = cursor
        subscription.cursor_bytes = log.bytes_before(cursor)
        log.add_laggard(subscription)
        subscription.connection.lagging[subscription] = None

    def remove(self, subscription: Subscription) -> None:
        """Forget a subscription: the only one of its group or one of many, caught up or not."""
        group = subscription.group
        log = group.log
        group.live.pop(subscription, None)
        group.member_count -= 1
        if not group.member_count:
            log.groups.pop(group.key, None)
        if subscription.lagging:
            self._no_longer_lagging(subscription)
        log.trim()
        self._close_if_idle(log)

    def _no_longer_lagging(self, subscription: Subscription) -> None:
        log = subscription.group.log
        subscription.lagging = False
        log.laggards.pop(subscription, None)
        subscription.connection.lagging.pop(subscription, None)
        if log.waiters:
            self.on_room(log)

    def can_take_more(self, connection: Receiver) -> None:
        """The socket of a connection has drained, or it has just got its first laggard: serve it this turn."""
        self._behind[connection] = None
        self.schedule()

    def _catch_up_all(self) -> None:
        behind, self._behind = self._behind, {}
        for connection in behind:
            self._catch_up(connection)

    def _catch_up(self, connection: Receiver) -> None:
        """Serve the laggards of one connection in turns until its socket is full, its share of this turn is used up, or all is sent."""
        budget = _TURN_BYTES
        while connection.lagging and not connection.paused:
            if budget <= 0:
                self.can_take_more(connection)
                return
            served = False
            for subscription in list(connection.lagging):
                if connection.paused or budget <= 0:
                    served = True
                    break
                sent_bytes = self._serve(subscription)
                budget -= sent_bytes
                served = served or sent_bytes > 0 or not subscription.lagging
            if not served:
                return  # all that is left is throttled

    def _serve(self, subscription: Subscription) -> int:
        """Send the next run of events to a laggard, and put it back into its group when that was the last one."""
        group = subscription.group
        log = group.log
        allowed = _NO_LIMIT
        if subscription.bucket is not None:
            allowed = int(subscription.bucket.available(self._loop.time()))
            if allowed < 1:
                self._throttle(subscription.connection)
                return 0
        blob, count, following = self._run(group, subscription.cursor, allowed)
        if subscription.bucket is not None:
            subscription.bucket.take(count, self._loop.time())
        was_at, was_bytes = subscription.cursor, subscription.cursor_bytes
        if count:
            if was_at > subscription.boundary:
                self.count(log.entries[was_at - log.first], count)
            else:  # a replay; the age of history is not a latency
                self.counters.delivered += count
        subscription.cursor = following
        subscription.cursor_bytes = log.bytes_before(following)
        if count:
            # INVARIANT: written before anything below can let new events in, which may be flushed on the spot
            subscription.connection.write_now(blob)
        if following > log.flushed and not subscription.connection.paused:
            group.live[subscription] = subscription.connection
            self._no_longer_lagging(subscription)
        elif log.waiters and was_at <= log.gate:
            self.on_room(log)
        sent_bytes = subscription.cursor_bytes - was_bytes
        log.trim()
        return sent_bytes + 1

    def _run(self, group: Group, cursor: int, allowed: int) -> tuple[Any, int, int]:
        """Build the run of a group that starts at a position: bytes, number of events in it, position behind it."""
        known = self._runs.get((group, cursor)) if allowed == _NO_LIMIT else None
        if known is not None:
            return known
        log = group.log
        start = cursor - log.first
        stop = log.flushed + 1 - log.first
        end, size_bytes = start, 0
        while end < stop and end - start < allowed and size_bytes < _RUN_BYTES:
            size_bytes += len(log.entries[end].data) + 64
            end += 1
        events = log.entries[start:end]
        if group.predicate is not None:
            events = [event for event in events if group.predicate(event)]
        blob = group.encode(events, self._rendered) if events else None
        known = (blob, len(events), log.first + end)
        if allowed == _NO_LIMIT:
            self._runs[group, cursor] = known
        return known
