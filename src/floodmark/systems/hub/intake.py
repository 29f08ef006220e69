"""Publishes on their way into the logs: admitted at once, or parked un-acknowledged until every queue has room.

A connection with a parked publish stops reading, so the publisher feels the pressure through its socket; what it had already sent and we
had already read waits in the connection, at most one read buffer of it. Parked publishes of a log are admitted first come, first served.
A publisher that is also the slow subscriber cannot deadlock the hub: its subscription is served whenever its socket drains, whatever its
publishes wait for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from floodmark.systems.hub.dispatch import Dispatcher
from floodmark.systems.hub.event import Event
from floodmark.systems.hub.log import ChannelLog


class PublishJob:
    """One publish operation: its events, how many of them stand in the log already, and whom to tell."""

    __slots__ = ("admitted_count", "append", "cancelled", "done", "events", "parts", "withdraw")

    def __init__(self, events: list[Event], done: Callable[[PublishJob, Exception | None], None]) -> None:
        self.events = events
        self.done = done  # called once, with None when all events are in the log
        self.admitted_count = 0
        self.cancelled = False
        self.append: Callable[[Event], None]  # how its bus puts an event into the log; see `Intake.submit`
        self.withdraw: Callable[[], None] | None = None  # while it waits for room
        self.parts: list[PublishJob] = []  # see `split`

    def cancel(self) -> None:
        """Let go of what is not in a log yet; `done` is not called any more."""
        self.cancelled = True
        if self.withdraw is not None:
            self.withdraw()
        for part in self.parts:
            part.cancel()

    def split(self) -> list[PublishJob]:
        """Make one job per channel, for a bus that takes no other; this one is done when all of them are, with the last error if any."""
        by_channel: dict[str, list[Event]] = {}
        for event in self.events:
            by_channel.setdefault(event.channel, []).append(event)
        open_count = len(by_channel)
        failure: Exception | None = None

        def done(part: PublishJob, error: Exception | None) -> None:
            nonlocal open_count, failure
            open_count -= 1
            failure = error or failure
            self.admitted_count += len(part.events) if error is None else 0
            if not open_count and not self.cancelled:
                self.done(self, failure)

        self.parts = [PublishJob(events, done) for events in by_channel.values()]
        return self.parts


class Intake:
    """The door to the logs, one for all buses of a hub: what came first for a log goes in first, whichever way it came."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.parked_count = 0
        self._waking = False
        dispatcher.on_room = self.wake

    def submit(self, job: PublishJob, append: Callable[[Event], None]) -> bool:
        """Admit a publish as far as there is room; True if all of it went in, otherwise `done` is called later.

        Args:
            append: puts one event into the dispatcher, numbered in the way of the bus.
        """
        job.append = append
        first = self._dispatcher.logs.get(job.events[0].channel) if job.events else None
        full = first if first is not None and first.waiters else self._advance(job)  # nobody overtakes those who wait
        if full is None:
            job.done(job, None)
            return True
        self._park(job, full)
        self.parked_count += 1
        return False

    def _park(self, job: PublishJob, log: ChannelLog) -> None:
        if log.waiters is None:
            log.waiters = deque()
        log.waiters.append(job)
        job.withdraw = lambda: self._withdraw(job, log)

    def _withdraw(self, job: PublishJob, log: ChannelLog) -> None:
        """Let go of a cancelled publish at once, with its events; what stands behind it may find room where it did not."""
        job.withdraw = None
        if log.waiters and job in log.waiters:
            log.waiters.remove(job)
            self.parked_count -= 1
            self.wake(log)

    def _advance(self, job: PublishJob) -> ChannelLog | None:
        """Admit events until one does not fit; the log that is full, or None."""
        events, append = job.events, job.append
        while job.admitted_count < len(events):
            event = events[job.admitted_count]
            full = self._dispatcher.room(event.channel, len(event.data))
            if full is not None:
                return full
            append(event)
            job.admitted_count += 1
        return None

    def wake(self, log: ChannelLog) -> None:
        """Admit what waits for a log, oldest first, as far as there is room now."""
        if self._waking:  # room made by an admission itself: the loop below sees it
            return
        self._waking = True
        try:
            while log.waiters:
                job = log.waiters[0]
                full = self._advance(job)
                if full is log:
                    return
                log.waiters.popleft()
                if full is not None:  # the other of its two logs is full now: wait there
                    self._park(job, full)
                    continue
                self.parked_count -= 1
                job.withdraw = None
                job.done(job, None)
            log.waiters = None
        finally:
            self._waking = False
