"""A circuit breaker: after enough failures it stops trying for a while, then lets single attempts through.

Closed -> Open after `failure_limit` failures in a row -> HalfOpen after `open_s` -> Closed after `success_limit` successes; any failure
while half open opens it again. Pure: the clock is handed in.
"""

from __future__ import annotations

import enum


class BreakerState(enum.Enum):
    """Where a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreaker:
    """Guards calls to something that may be down."""

    __slots__ = ("_failures", "_opened_s", "_successes", "failure_limit", "open_s", "rejected_count", "state", "success_limit")

    def __init__(self, *, failure_limit: int = 5, success_limit: int = 2, open_s: float = 30.0) -> None:
        self.failure_limit = failure_limit
        self.success_limit = success_limit
        self.open_s = open_s
        self.state = BreakerState.CLOSED
        self.rejected_count = 0
        self._failures = 0
        self._successes = 0
        self._opened_s = 0.0

    def allows(self, now_s: float) -> bool:
        """Tell if a call may be made now; counts the refusal if not."""
        if self.state is BreakerState.OPEN:
            if now_s - self._opened_s < self.open_s:
                self.rejected_count += 1
                return False
            self.state = BreakerState.HALF_OPEN
            self._successes = 0
        return True

    def succeeded(self) -> None:
        """A call went well."""
        self._failures = 0
        if self.state is BreakerState.HALF_OPEN:
            self._successes += 1
            if self._successes >= self.success_limit:
                self.state = BreakerState.CLOSED

    def failed(self, now_s: float) -> None:
        """A call failed."""
        self._failures += 1
        if self.state is BreakerState.HALF_OPEN or self._failures >= self.failure_limit:
            self.state = BreakerState.OPEN
            self._opened_s = now_s
            self._failures = 0
