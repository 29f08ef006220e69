"""The time that the parts with waits of their own go by: the real one, or one that a test moves by hand.

A clock offers the time now and a call at a later time; sleeping and limits are built on these two, so that a test with a
`ManualClock` sees the same code wait 1, 2 and 4 seconds without waiting. Seconds throughout; `now_s` only ever grows, `wall_s` is
the time of day. Not here: latencies in nanoseconds, which the load measures itself.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol


class Timer(Protocol):
    """A call that has not happened yet."""

    def cancel(self) -> None:
        """Let it never happen; without effect on one that has."""


class Clock(Protocol):
    """What a part that waits needs to know."""

    def now_s(self) -> float:
        """Seconds since some moment; never goes back."""

    def wall_s(self) -> float:
        """Seconds since 1970."""

    def call_later(self, delay_s: float, call: Callable[[], object]) -> Timer:
        """Call something from the event loop once `delay_s` has passed."""


class RealClock:
    """The time of this machine."""

    def now_s(self) -> float:
        return time.monotonic()

    def wall_s(self) -> float:
        return time.time()

    def call_later(self, delay_s: float, call: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_later(delay_s, call)


class _Due:
    __slots__ = ("call", "cancelled")

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class ManualClock:
    """A clock that stands still until it is told to go on; `sleeps_s` remembers every wait that was asked for."""

    def __init__(self, *, start_s: float = 1000.0) -> None:
        self._now_s = start_s
        self._due: list[tuple[float, int, _Due]] = []
        self._order = itertools.count()
        self.sleeps_s: list[float] = []

    def now_s(self) -> float:
        return self._now_s

    def wall_s(self) -> float:
        return self._now_s

    def call_later(self, delay_s: float, call: Callable[[], object]) -> Timer:
        timer = _Due(call)
        self.sleeps_s.append(delay_s)
        heapq.heappush(self._due, (self._now_s + delay_s, next(self._order), timer))
        return timer

    @property
    def waiting_count(self) -> int:
        """Calls that are still to come."""
        return sum(not timer.cancelled for _, _, timer in self._due)

    async def advance(self, seconds: float) -> None:
        """Let time pass; what falls due happens in order, and the tasks it wakes run before the clock moves on."""
        until_s = self._now_s + seconds
        await settle()
        while self._due and self._due[0][0] <= until_s:
            at_s, _, timer = heapq.heappop(self._due)
            self._now_s = max(self._now_s, at_s)
            if not timer.cancelled:
                timer.call()
                await settle()
        self._now_s = until_s
        await settle()


async def settle(*, turns: int = 25) -> None:
    """Give every task that can run the chance to; `turns` bounds how long a chain of wake-ups may be."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def sleep(clock: Clock, seconds: float) -> None:
    """Wait on a clock. Cancelled half-way, it leaves nothing behind."""
    woken = asyncio.Event()
    timer = clock.call_later(seconds, woken.set)
    try:
        await woken.wait()
    finally:
        timer.cancel()


@asynccontextmanager
async def limit(clock: Clock, seconds: float | None) -> AsyncIterator[asyncio.Timeout]:
    """`asyncio.timeout` on a clock: cancels the block after `seconds` and raises TimeoutError; None sets no limit."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as scope:
        timer = None if seconds is None else clock.call_later(seconds, lambda: scope.reschedule(loop.time()))
        try:
            yield scope
        finally:
            if timer is not None:
                timer.cancel()
