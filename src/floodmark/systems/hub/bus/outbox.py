"""Publishes on their way into a stream: gathered into messages, sent one per channel at a time, repeated, done when they have come back.

The events of one channel that come up together travel as one message, of which one per channel is in flight: so order is kept, and one
answer stands for many publishes. A publish is done when its message has come back out of the stream and stands in this process's own log:
whoever is subscribed here has it then, whatever becomes of the stream. A message is repeated under the same id, by which the stream knows
it again. Pure of NATS: `transmit` sends, and the bus tells what it hears.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

from floodmark.systems.hub.bus.base import Retry
from floodmark.systems.hub.errors import EventBusError
from floodmark.systems.hub.event import Event
from floodmark.systems.hub.intake import PublishJob

EVENTS_PER_MESSAGE = 4096
_MESSAGE_BYTES = 512 * 1024  # a message is closed when it has this many bytes of data
_BACKLOG_BYTES = 4 * 1024 * 1024  # of ours, not yet done, before publishers have to wait
_ANSWER_LIMIT_S = 5.0
_ABANDONED_MAX = 100_000  # messages given up that may come back yet


class Message:
    """Events of one channel on their way, with the jobs they belong to: how many of them are whose, and whose end they carry."""

    __slots__ = ("answered", "channel", "ends", "events", "id", "pauses", "sent_s", "shares", "size_bytes")

    def __init__(self, message_id: str, channel: str, pauses: Iterator[float]) -> None:
        self.id = message_id
        self.channel = channel
        self.pauses = pauses
        self.events: list[Event] = []
        self.shares: list[tuple[PublishJob, int]] = []
        self.ends: list[PublishJob] = []
        self.size_bytes = 0
        self.sent_s = 0.0  # inf: a repetition is due by itself
        self.answered = False  # the stream has it; now it must come back


class Outbox:
    """All that this process publishes and that has not come back yet."""

    def __init__(self, transmit: Callable[[Message], Awaitable[None]], *, retry: Retry, rng: random.Random) -> None:
        self._transmit = transmit
        self._retry = retry
        self._rng = rng
        self._waiting: dict[str, deque[PublishJob]] = {}  # per channel, oldest first
        self._taken: dict[PublishJob, int] = {}  # events of a waiting job that are in messages already
        self._messages: dict[str, Message] = {}  # per channel, the one in flight or to be repeated
        self._ready: dict[str, None] = {}  # channels with something to send now
        self._abandoned: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._backlog_bytes = 0
        self._landing_count = 0  # publishes whose message is back and waits for room in the log
        self._ids = map("{}-{}".format, itertools.repeat(uuid.uuid4().hex), itertools.count())
        self.retried_count = 0

    @property
    def full(self) -> bool:
        """True when so much waits that publishers should too."""
        return self._backlog_bytes >= _BACKLOG_BYTES

    @property
    def waiting_count(self) -> int:
        """Publishes that are not done."""
        return self._landing_count + sum(map(len, self._waiting.values())) + sum(len(each.ends) for each in self._messages.values())

    def put(self, job: PublishJob) -> None:
        """Take a job with at least one event; they are all of one channel."""
        channel = job.events[0].channel
        self._waiting.setdefault(channel, deque()).append(job)
        self._backlog_bytes += sum(len(event.data) for event in job.events)
        if channel not in self._messages:
            self._send_soon(channel)

    async def send_all(self) -> None:
        """Send one message per ready channel, round after round, and repeat what was not answered in time. Ends when cancelled."""
        while True:
            try:
                async with asyncio.timeout(1.0):
                    await self._wake.wait()
            except TimeoutError:
                self._repeat_unanswered()
            self._wake.clear()
            ready, self._ready = self._ready, {}
            for channel in ready:
                message = self._messages.get(channel) or self._next(channel)
                if message is not None:
                    message.sent_s = time.monotonic()
                    await self._transmit(message)

    def _send_soon(self, channel: str) -> None:
        self._ready[channel] = None
        self._wake.set()

    def _next(self, channel: str) -> Message | None:
        """Take as many events of a channel as fit into one message."""
        jobs = self._waiting.get(channel)
        message = Message(next(self._ids), channel, self._retry.pauses(self._rng))
        room = True
        while jobs and room:
            job = jobs[0]
            taken = start = self._taken.pop(job, 0)
            if job.cancelled and not taken:
                jobs.popleft()
                self._backlog_bytes -= sum(len(event.data) for event in job.events)
                continue
            while taken < len(job.events) and (room := self._fits(message, job.events[taken])):
                message.events.append(job.events[taken])
                message.size_bytes += len(job.events[taken].data)
                taken += 1
            if taken > start:
                message.shares.append((job, taken - start))
            if taken == len(job.events):
                message.ends.append(jobs.popleft())
            else:
                self._taken[job] = taken
        if not jobs:
            self._waiting.pop(channel, None)
        if not message.events:
            return None
        self._messages[channel] = message
        return message

    @staticmethod
    def _fits(message: Message, event: Event) -> bool:
        size_bytes = message.size_bytes + len(event.data)
        return not message.events or (len(message.events) < EVENTS_PER_MESSAGE and size_bytes <= _MESSAGE_BYTES)

    # what the bus hears

    def answered(self, message: Message) -> None:
        """The stream has it: no more repetitions, unless it loses its memory."""
        message.answered = True

    def failed(self, message: Message, error: BaseException) -> None:
        """Repeat a message after a pause, a few times; then give it up."""
        if self._messages.get(message.channel) is not message:
            return
        pause_s = next(message.pauses, None)
        if pause_s is None:
            self._give_up(message, EventBusError(f"the bus did not take the event: {error}"))
            return
        self.retried_count += 1
        self.again_in(pause_s, message)

    def again_in(self, pause_s: float, message: Message) -> None:
        """Send a message once more after a pause, without counting it as a failure."""
        message.sent_s, message.answered = float("inf"), False

        def again() -> None:
            if self._messages.get(message.channel) is message:
                self._send_soon(message.channel)

        asyncio.get_running_loop().call_later(pause_s, again)

    def arrived(self, message_id: str, events: list[Event]) -> list[PublishJob]:
        """A message has come out of the stream, with the numbers of its events. If it is ours it goes into the log now, whatever happens.

        Returns: the jobs that are done when it stands there; see `landed`.
        """
        message = self._messages.get(events[0].channel)
        if message is None or message.id != message_id:
            return []
        for ours, theirs in zip(message.events, events, strict=True):
            ours.offset = theirs.offset
        for job, count in message.shares:
            job.admitted_count += count
        self._landing_count += len(message.ends)
        self._close(message)
        return message.ends

    def landed(self, jobs: list[PublishJob]) -> None:
        """They stand in the log."""
        self._landing_count -= len(jobs)
        for job in jobs:
            if not job.cancelled:
                job.done(job, None)

    def is_abandoned(self, message_id: str) -> bool:
        """True for a message that was given up here: whoever published it was told so, or it went another way; it must not appear now."""
        return message_id in self._abandoned

    def lost_touch(self, error: Exception) -> None:
        """The connection broke: nothing that was sent over it is sure to come back."""
        for message in list(self._messages.values()):
            if message.sent_s != float("inf"):
                self.failed(message, error)

    def repeat_all(self) -> None:
        """The connection is back: send everything once more, under the same ids."""
        for channel, message in self._messages.items():
            message.answered = False
            self._send_soon(channel)

    def give_up_all(self, error: EventBusError) -> None:
        """Be done with everything, in order: it goes another way, or nowhere."""
        for message in list(self._messages.values()):
            self._give_up(message, error)
        for channel in list(self._waiting):
            for job in self._waiting.pop(channel):
                self._fail(job, error)
        self._taken.clear()
        self._ready.clear()

    def _repeat_unanswered(self) -> None:
        now_s = time.monotonic()
        for message in list(self._messages.values()):
            if not message.answered and now_s - message.sent_s > _ANSWER_LIMIT_S:
                self.failed(message, TimeoutError(f"no answer within {_ANSWER_LIMIT_S:g} s"))

    def _close(self, message: Message) -> None:
        """Go on with the channel."""
        del self._messages[message.channel]
        self._backlog_bytes -= message.size_bytes
        if message.channel in self._waiting:
            self._send_soon(message.channel)

    def _give_up(self, message: Message, error: EventBusError) -> None:
        """Fail every job with a share in a message; what such a job has still waiting goes with it."""
        self._abandoned[message.id] = None
        if len(self._abandoned) > _ABANDONED_MAX:
            del self._abandoned[next(iter(self._abandoned))]
        jobs = self._waiting.get(message.channel)
        unfinished = jobs.popleft() if jobs and jobs[0] in self._taken else None
        if unfinished is not None:
            rest = unfinished.events[self._taken.pop(unfinished) :]
            self._backlog_bytes -= sum(len(event.data) for event in rest)
            if not jobs:
                del self._waiting[message.channel]
        self._close(message)
        for job in (*message.ends, *([unfinished] if unfinished is not None else [])):
            if not job.cancelled:
                job.done(job, error)

    def _fail(self, job: PublishJob, error: EventBusError) -> None:
        rest = job.events[self._taken.pop(job, 0) :]
        self._backlog_bytes -= sum(len(event.data) for event in rest)
        if not job.cancelled:
            job.done(job, error)
