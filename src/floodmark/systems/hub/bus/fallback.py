"""A chain of two buses: while the first one's breaker is open, publishes go to the second.

Events published to the second bus reach only what that bus reaches: with memory, the subscribers of this very process. That is stated by
`mode` for as long as it lasts. A publish that the first bus refused is tried on the second before the client hears of an error.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from floodmark.core.breaker import BreakerState, CircuitBreaker
from floodmark.systems.hub.bus.base import Bus
from floodmark.systems.hub.errors import EventBusError
from floodmark.systems.hub.intake import PublishJob


class FallbackBus:
    """Tries the first bus, then the second."""

    takes_mixed = False  # so that a channel goes over to the second bus as a whole

    def __init__(
        self, first: Bus, second: Bus, breaker: CircuitBreaker | None = None, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._first, self._second = first, second
        self.breaker = breaker or CircuitBreaker()
        self._clock_s = clock_s
        self._first_up = False
        self.fallback_count = 0  # events that took the second way

    @property
    def mode(self) -> str:
        """The bus that the next publish takes."""
        on_first = self._first_up and self.breaker.state is not BreakerState.OPEN
        return self._first.mode if on_first else f"{self._second.mode} (fallback)"

    @property
    def full(self) -> bool:
        """As full as the one in use."""
        return self._first.full if self._first_up and self.breaker.state is BreakerState.CLOSED else self._second.full

    @property
    def waiting_count(self) -> int:
        """Those of both."""
        return self._first.waiting_count + self._second.waiting_count

    async def start(self) -> None:
        """Start both; only the second one must come up."""
        await self._second.start()
        try:
            await self._first.start()
            self._first_up = True
        except EventBusError:
            self._first_up = False

    async def stop(self) -> None:
        """Stop both."""
        if self._first_up:
            await self._first.stop()
        await self._second.stop()

    async def healthy(self) -> bool:
        """One of them is enough."""
        return (self._first_up and await self._first.healthy()) or await self._second.healthy()

    def publish(self, job: PublishJob) -> bool:
        """Publish to the first bus if its breaker lets us, otherwise or on failure to the second."""
        if not self._first_up or not self.breaker.allows(self._clock_s()):
            return self._fall_back(job)

        def done(attempt: PublishJob, error: Exception | None) -> None:
            if error is None:
                self.breaker.succeeded()
                job.admitted_count = attempt.admitted_count
                job.done(job, None)
            else:
                self.breaker.failed(self._clock_s())
                if not job.cancelled:
                    self._fall_back(job)

        return self._first.publish(PublishJob(job.events, done))

    def _fall_back(self, job: PublishJob) -> bool:
        self.fallback_count += len(job.events)
        return self._second.publish(job)
