"""A dispatcher that breaks its promises on purpose, a known number of times.

It takes the place of the honest one when lies are asked for; every delivery goes through `_tell`, one at a time, which is slow and is
meant to be. What it did is in `planted()`, to be compared with what the ledger found. What a hub does to clients that come back is not
its business but that of `misconduct.py`.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

from floodmark.systems.hub.dispatch import Dispatcher
from floodmark.systems.hub.event import Event
from floodmark.systems.hub.lies import OF_DELIVERIES, OF_PUBLISHES, Due, flip_bit, parse_lie
from floodmark.systems.hub.log import ChannelLog
from floodmark.systems.hub.metrics import Counters
from floodmark.systems.hub.settings import HubSettings
from floodmark.systems.hub.subscription import Group, Subscription

_PAUSE_S = 0.25  # without a publish, after which a hub that has become slow is well again
_HOLD_S = 0.5  # a delivery held back for a swap goes out after this long when nothing follows it; the hit is then owed again


class Liar(Dispatcher):
    """Lies as `settings.lies` says, at places drawn from `settings.seed`."""

    def __init__(self, settings: HubSettings, counters: Counters, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(settings, counters, loop)
        lies = [parse_lie(text) for text in settings.lies]
        self._due = {lie.name: Due(lie, settings.seed) for lie in lies if lie.name in OF_DELIVERIES + OF_PUBLISHES}
        self._stall = next((lie for lie in lies if lie.name == "stall"), None)
        self._leak_bytes = sum(lie.leak_bytes for lie in lies)
        self._bounded = all(lie.name != "queue" for lie in lies)
        self._beyond_events = 0  # that were taken in although a queue was full
        self._slow: _Slow | None = None
        self._slow_count = 0
        self._deliveries = 0
        self._publishes = 0
        self._leaked: list[bytearray] = []
        self._held: dict[Subscription, Event] = {}
        self._hold_timer: asyncio.TimerHandle | None = None
        self._stalled = False
        self._stalled_count = 0
        self._kept: list[tuple[Subscription, Event]] = []  # deliveries of this turn that the stall caught

    def planted(self) -> dict[str, dict[str, float]]:
        """What was really done, by lie."""
        done: dict[str, dict[str, float]] = {name: {"planted": due.planted, "owed": due.owed} for name, due in self._due.items()}
        if self._stall is not None or self._stalled_count:
            done["stall"] = {"planted": self._stalled_count}
        if self._leak_bytes:
            done["leak"] = {"planted": len(self._leaked), "bytes": len(self._leaked) * self._leak_bytes}
        if self._slow_count:
            done["slow"] = {"planted": self._slow_count}
        if not self._bounded:
            done["queue"] = {"planted": self._beyond_events}
        return done

    # publishes

    def append(self, event: Event) -> None:
        """Acknowledge and forget, now and then."""
        self._publishes += 1
        due = self._due.get("forget")
        if due is not None and due.reach(self._publishes):
            due.paid()
            self.newest_offsets[event.channel] = event.offset
            return
        super().append(event)

    def room(self, channel: str, size_bytes: int) -> ChannelLog | None:
        """A stalled or slow hub fills up to the bound like an honest one; one without bounds takes everything in, at no one's expense."""
        log = self.logs.get(channel)
        if not self._bounded:
            settings = self.settings
            full = log is not None and not log.room(size_bytes, settings.queue_events, settings.queue_bytes)
            self._beyond_events += full
            return None
        if (self._stalled or self._slow is not None) and log is not None and log.head - log.flushed >= self.settings.queue_events:
            return log
        return super().room(channel, size_bytes)

    # deliveries

    def flush(self) -> None:
        """While stalled, only answers leave the hub."""
        if self._stalled:
            self._scheduled = False
            self._write()
        elif self._slow is not None:
            self._scheduled = False
            self._flush_some(self._slow)
        else:
            super().flush()

    def _deliver(self, group: Group, batch: list[Event]) -> None:
        events = [event for event in batch if group.predicate is None or group.predicate(event)]
        for event in events:
            for subscription in list(group.live):
                self._tell(subscription, event)
        if events:
            self.count(events[0], len(events) * len(group.live))

    def _serve(self, subscription: Subscription) -> int:
        """A laggard is served one event at a time, not at all during a stall, and not ahead of the others while the hub is slow."""
        log, group = subscription.group.log, subscription.group
        if self._stalled or subscription.cursor > log.flushed + 1:
            return 0
        event = log.entries[subscription.cursor - log.first] if subscription.cursor <= log.flushed else None
        if event is not None:
            subscription.cursor += 1
            subscription.cursor_bytes += len(event.data)
            if group.predicate is None or group.predicate(event):
                self._tell(subscription, event)
                self.count(event, 1)
        if subscription.cursor > log.flushed:
            group.live[subscription] = subscription.connection
            self._no_longer_lagging(subscription)
        elif log.waiters:
            self.on_room(log)
        self._write()
        log.trim()
        return 1 + (len(event.data) if event is not None else 0)

    def _tell(self, subscription: Subscription, event: Event) -> None:
        """Make one delivery, or do something else instead."""
        if self._stalled:
            self._kept.append((subscription, event))
            return
        self._deliveries += 1
        number = self._deliveries
        if self._stall is not None and number == self._stall.at:
            self._begin_stall(self._stall.stall_s)
            self._deliveries -= 1  # it is made, under this number, when the stall ends
            self._kept.append((subscription, event))
            return
        if self._leak_bytes:
            self._leaked.append(bytearray(self._leak_bytes))
        owed = {name for name, due in self._due.items() if name != "forget" and due.reach(number)}
        if "drop" in owed:
            self._due["drop"].paid()
            return
        if "flip" in owed and (changed := flip_bit(event.data)) is not None:
            self._due["flip"].paid()
            event = event.with_data(changed)
        if "misroute" in owed and (other := self._someone_else(subscription)) is not None:
            self._due["misroute"].paid()
            self._put(other, event)
            return
        held = self._held.pop(subscription, None)
        if held is None and "reorder" in owed and self._due["reorder"].owed > len(self._held):
            self._hold(subscription, event)
            return
        self._put(subscription, event)
        if held is not None:
            self._due["reorder"].paid()
            self._put(subscription, held)
        if "duplicate" in owed:
            self._due["duplicate"].paid()
            self._put(subscription, event)

    def _put(self, subscription: Subscription, event: Event) -> None:
        """Queue one event for a subscription, in its own words."""
        run: Any = subscription.group.encode([event], {})
        receiver = subscription.connection
        if not receiver.out:
            self._dirty.append(receiver)
            self.schedule()
        receiver.out.append(run)

    def _someone_else(self, subscription: Subscription) -> Subscription | None:
        """Find a caught-up subscription of another channel."""
        for log in self.logs.values():
            if log is not subscription.group.log:
                for group in log.groups.values():
                    for other in group.live:
                        return other
        return None

    # reorder

    def _hold(self, subscription: Subscription, event: Event) -> None:
        self._held[subscription] = event
        if self._hold_timer is None:
            self._hold_timer = self._loop.call_later(_HOLD_S, self._release)

    def _release(self) -> None:
        """Nothing followed: what is held goes out in order, and its hit stays owed."""
        self._hold_timer = None
        held, self._held = self._held, {}
        for subscription, event in held.items():
            self._put(subscription, event)

    def remove(self, subscription: Subscription) -> None:
        """A subscription that ends takes what was held for it along."""
        self._held.pop(subscription, None)
        super().remove(subscription)

    # slow

    def slow_down(self, factor: float) -> None:
        """From now on deliver one event for `factor` that come in, until nothing comes in for a moment: a metastable system."""
        self._slow = _Slow(factor, self._publishes)
        self._slow_count += 1
        self._loop.call_later(_PAUSE_S, self._look_for_a_pause, self._publishes)

    def _look_for_a_pause(self, published_then: int) -> None:
        if self._publishes != published_then:
            self._loop.call_later(_PAUSE_S, self._look_for_a_pause, self._publishes)
            return
        self._slow = None
        waiting = list(self._fresh)
        self.flush()
        self._let_on(waiting)

    def _flush_some(self, slow: _Slow) -> None:
        """Serve as many of the events that wait as are due, a channel at a time, each channel in its turn."""
        due = int((self._publishes - slow.since) / slow.factor) - slow.served
        waiting, self._fresh = self._fresh, []
        served = []
        for log in waiting:
            stop = min(log.head, log.flushed + due)
            if stop > log.flushed:
                batch = log.entries[log.flushed + 1 - log.first : stop + 1 - log.first]
                due -= len(batch)
                slow.served += len(batch)
                log.flushed, log.flushed_bytes = stop, log.bytes_before(stop + 1)
                for group in log.groups.values():
                    if group.live:
                        self._deliver(group, batch)
                served.append(log)
            if log.flushed < log.head and log not in served:
                self._fresh.append(log)
        self._fresh += [log for log in served if log.flushed < log.head]
        self._write()
        self._let_on(served)

    def _let_on(self, logs: list[ChannelLog]) -> None:
        """Something that stood still has moved: laggards and publishes that wait for these logs may go on."""
        for receiver in {subscription.connection for log in logs for subscription in log.laggards}:
            self.can_take_more(receiver)
        self._catch_up_all()
        for log in logs:
            log.trim()
            if log.waiters:
                self.on_room(log)

    # stall

    def _begin_stall(self, stall_s: float) -> None:
        self._stalled = True
        self._stall = None
        self._stalled_count += 1
        if math.isfinite(stall_s):
            self._loop.call_later(stall_s, self._end_stall)

    def _end_stall(self) -> None:
        self._stalled = False
        kept, self._kept = self._kept, []
        for subscription, event in kept:
            self._tell(subscription, event)
        for receiver in {subscription.connection for log in self.logs.values() for subscription in log.laggards}:
            self.can_take_more(receiver)
        self.flush()
        for log in list(self.logs.values()):
            if log.waiters:
                self.on_room(log)


class _Slow:
    """How slow the hub has become, since which publish, and how many events it has served since."""

    __slots__ = ("factor", "served", "since")

    def __init__(self, factor: float, since: int) -> None:
        self.factor, self.since, self.served = factor, since, 0
