"""A bus behind a circuit breaker, and perhaps another one to go to while the breaker is open.

Closed: publishes go to the first bus. After `failure_limit` failures in a row it is open: they go to the second bus at once, or are refused
at once when there is none. After `open_s` it is half open: the first bus is tried again, and after `success_limit` successes closed.
What was given to the first bus and not done is given up when the breaker opens, and goes the second way before anybody hears of an error.

What publishers are told: an acknowledged event stands in the log of this process, so whoever is subscribed here has it, once, whichever way
it came. INVARIANT: the events of one channel are never under way on both buses, so they keep their order when the way changes.
Events that took the second way reach only what that bus reaches: with memory, the subscribers of this very process; `mode` says so.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from floodmark.core.breaker import BreakerState, CircuitBreaker
from floodmark.systems.hub.bus.base import Bus, tell_failure
from floodmark.systems.hub.errors import EventBusError
from floodmark.systems.hub.intake import PublishJob

_START_AGAIN_S = 1.0


class _Line:
    """The publishes of one channel: how many are under way on which bus, and those that wait for the other bus to be done."""

    __slots__ = ("held", "on_first", "on_second")

    def __init__(self) -> None:
        self.on_first = 0
        self.on_second = 0
        self.held: deque[PublishJob] = deque()


class GuardedBus:
    """The first bus if it works, else the second if there is one."""

    takes_mixed = False  # so that a channel goes over to the second bus as a whole

    def __init__(
        self, first: Bus, second: Bus | None, breaker: CircuitBreaker | None = None, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._first, self._second = first, second
        self.breaker = breaker or CircuitBreaker()
        self._clock_s = clock_s
        self._first_up = False
        self._starting: asyncio.Task[None] | None = None
        self._lines: dict[str, _Line] = {}
        self._held_count = 0
        self.fallback_count = 0  # events that took the second way
        self.opened_count = 0

    @property
    def mode(self) -> str:
        """The bus that the next publish takes."""
        if self._second is None or (self._first_up and self.breaker.state is not BreakerState.OPEN):
            return self._first.mode
        return f"{self._second.mode} (fallback)"

    @property
    def full(self) -> bool:
        """True when either is, or somebody waits for one of them to be done."""
        return bool(self._held_count) or self._first.full or (self._second is not None and self._second.waiting_count > 0)

    @property
    def waiting_count(self) -> int:
        """Those of both, and between them."""
        return self._held_count + self._first.waiting_count + (self._second.waiting_count if self._second is not None else 0)

    @property
    def retried_count(self) -> int:
        """Messages that the first bus sent again."""
        return self._first.retried_count

    async def start(self) -> None:
        """Start both. With a second one the first need not come up, and is tried again from time to time.

        Raises: EventBusError when there is no bus then.
        """
        if self._second is None:
            await self._first.start()
            self._first_up = True
            return
        await self._second.start()
        try:
            await self._first.start()
            self._first_up = True
        except EventBusError:
            self._starting = asyncio.create_task(self._start_first())  # parent: this bus; stop() cancels and awaits it
            self._starting.add_done_callback(tell_failure)

    async def _start_first(self) -> None:
        while not self._first_up:
            await asyncio.sleep(_START_AGAIN_S)
            try:
                await self._first.start()
            except EventBusError:
                continue
            self._first_up = True

    async def stop(self) -> None:
        """Stop both."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)  # gather: cancelled by us, or told by `tell_failure`
        if self._first_up:
            await self._first.stop()
        if self._second is not None:
            await self._second.stop()

    async def healthy(self) -> bool:
        """One of them is enough."""
        return (self._first_up and await self._first.healthy()) or (self._second is not None and await self._second.healthy())

    def give_up(self, error: EventBusError) -> None:
        """Fail what is pending."""
        self._first.give_up(error)
        if self._second is not None:
            self._second.give_up(error)

    def publish(self, job: PublishJob) -> bool:
        """Take a job behind those of its channel that are under way; True if it was done before this returned."""
        if not job.events:
            job.done(job, None)
            return True
        channel = job.events[0].channel
        line = self._lines.get(channel)
        if line is None:
            line = self._lines[channel] = _Line()
        told: list[Exception | None] = []
        done = job.done

        def note(_job: PublishJob, error: Exception | None) -> None:
            told.append(error)
            done(job, error)

        job.done = note
        line.held.append(job)
        self._held_count += 1
        self._move(channel, line)
        return bool(told) and told[0] is None

    def _move(self, channel: str, line: _Line) -> None:
        """Send on what may go now, oldest first."""
        while line.held:
            if not line.held[0].cancelled:
                if line.on_second if self._wants_first() else line.on_first:
                    return
                self._held_count -= 1
                self._send(channel, line, line.held.popleft())
            else:
                line.held.popleft()
                self._held_count -= 1
        if not (line.on_first or line.on_second):
            self._lines.pop(channel, None)

    def _wants_first(self) -> bool:
        """Tell where the next publish is to go, without asking the breaker, which counts how often it is asked."""
        return self._first_up and (self.breaker.state is not BreakerState.OPEN or self._second is None)

    def _send(self, channel: str, line: _Line, job: PublishJob) -> None:
        if not self._first_up or not self.breaker.allows(self._clock_s()):
            self._fall_back(channel, line, job, EventBusError("the bus is down; it is tried again in a while"))
            return
        line.on_first += 1

        def done(attempt: PublishJob, error: Exception | None) -> None:
            line.on_first -= 1
            job.admitted_count = attempt.admitted_count
            if error is None:
                self.breaker.succeeded()
                self._finish(job, None)
            else:
                self._count_failure()
                self._fall_back(channel, line, job, error)
            self._move(channel, line)

        self._first.publish(PublishJob(job.events, done))  # it is not cancelled with the job: it is on its way

    def _count_failure(self) -> None:
        was = self.breaker.state
        self.breaker.failed(self._clock_s())
        if self.breaker.state is BreakerState.OPEN and was is not BreakerState.OPEN:
            self.opened_count += 1
            asyncio.get_running_loop().call_soon(self._first.give_up, EventBusError("the bus is down"))

    def _fall_back(self, channel: str, line: _Line, job: PublishJob, error: Exception) -> None:
        """Give the second bus what the first one did not take of a job."""
        if self._second is None or job.cancelled:
            self._finish(job, error)
            return
        line.on_second += 1
        count = len(job.events) - job.admitted_count
        self.fallback_count += count

        def done(_attempt: PublishJob, failure: Exception | None) -> None:
            job.withdraw = None
            line.on_second -= 1
            if failure is not None:  # it was not taken there either
                self.fallback_count -= count
            self._finish(job, failure)
            self._move(channel, line)

        attempt = PublishJob(job.events, done)
        attempt.admitted_count = job.admitted_count

        def withdraw() -> None:
            job.withdraw = None
            attempt.cancel()
            line.on_second -= 1
            self._move(channel, line)

        job.withdraw = withdraw
        self._second.publish(attempt)

    @staticmethod
    def _finish(job: PublishJob, error: Exception | None) -> None:
        if not job.cancelled:
            job.done(job, error)
