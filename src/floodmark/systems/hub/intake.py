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

    __slots__ = ("admitted_count", "cancelled", "done", "events", "parts")

    def __init__(self, events: list[Event], done: Callable[[PublishJob, Exception | None], None]) -> None:
        self.events = events
        self.done = done  # called once, with None when all events are in the log
        self.admitted_count = 0
        self.cancelled = False
        self.parts: list[PublishJob] = []  # see `split`

    def cancel(self) -> None:
        """Let go of what is not in a log yet; `done` is not called any more."""
        self.cancelled = True
        for part in self.parts:
            part.cancelled = True

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
    """The door to the logs."""

    def __init__(self, dispatcher: Dispatcher, append: Callable[[Event], None]) -> None:
        self._dispatcher = dispatcher
        self._append = append
        self.parked_count = 0
        self._waking = False
        dispatcher.on_room = self.wake

    def submit(self, job: PublishJob) -> bool:
        """Admit a publish as far as there is room; True if all of it went in, otherwise `done` is called later."""
        full = self._advance(job)
        if full is None:
            job.done(job, None)
            return True
        if full.waiters is None:
            full.waiters = deque()
        full.waiters.append(job)
        self.parked_count += 1
        return False

    def _advance(self, job: PublishJob) -> ChannelLog | None:
        """Admit events until one does not fit; the log that is full, or None."""
        events = job.events
        while job.admitted_count < len(events):
            event = events[job.admitted_count]
            full = self._dispatcher.room(event.channel, len(event.data))
            if full is not None:
                return full
            self._append(event)
            job.admitted_count += 1
        return None

    def refuse_all(self, log: ChannelLog, error: Exception) -> None:
        """Turn away what waits for a log: the hub is going down."""
        while log.waiters:
            job = log.waiters.popleft()
            self.parked_count -= 1
            if not job.cancelled:
                job.done(job, error)

    def wake(self, log: ChannelLog) -> None:
        """Admit what waits for a log, oldest first, as far as there is room now."""
        if self._waking:  # room made by an admission itself: the loop below sees it
            return
        self._waking = True
        try:
            while log.waiters:
                job = log.waiters[0]
                full = None if job.cancelled else self._advance(job)
                if full is log:
                    return
                log.waiters.popleft()
                if full is not None:  # the other of its two logs is full now: wait there
                    if full.waiters is None:
                        full.waiters = deque()
                    full.waiters.append(job)
                    continue
                self.parked_count -= 1
                if not job.cancelled:
                    job.done(job, None)
            log.waiters = None
        finally:
            self._waking = False
