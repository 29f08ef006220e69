"""How well a consumer does: its failures in a row, when they call for a new durable, and how long to pause before the next attempt."""

from __future__ import annotations

from collections import deque
from random import Random

from floodmark.systems.fleet.consumer.settings import ConsumerSettings
from floodmark.systems.fleet.metrics import Metric, Metrics


class Health:
    """Counts failures; a pull that brings something, or nothing in time, clears those of the pulls."""

    def __init__(self, settings: ConsumerSettings, metrics: Metrics, rng: Random) -> None:
        self.pull_failures = 0  # in a row
        self.recreation_failures = 0  # in a row
        self._settings = settings
        self._metrics = metrics
        self._rng = rng
        self._recent: deque[float] = deque(maxlen=settings.escalation_count)
        self._escalated_s = float("-inf")

    @property
    def healthy(self) -> bool:
        """Tell if the failures in a row stay within the limit."""
        return max(self.pull_failures, self.recreation_failures) <= self._settings.health_count

    def pull_failed(self, now_s: float) -> bool:
        """Count it; tell if it calls for a new consumer: so many within the window, and none was called for in it yet."""
        self.pull_failures += 1
        self._recent.append(now_s)
        self._tell()
        window_s = self._settings.escalation_window_s
        many = len(self._recent) == self._settings.escalation_count and now_s - self._recent[0] <= window_s
        if not many or now_s - self._escalated_s < window_s:
            return False
        self._escalated_s = now_s
        self._metrics.count(Metric.CONSUMER_ESCALATIONS)
        return True

    def pulled(self) -> None:
        """A pull went well."""
        if self.pull_failures:
            self.pull_failures = 0
            self._tell()

    def recreated(self, *, ok: bool) -> None:
        """A missing consumer was made again, or could not be."""
        self.recreation_failures = 0 if ok else self.recreation_failures + 1
        self._metrics.count(Metric.CONSUMER_RECREATIONS, label="success" if ok else "failure")
        self._tell()

    def pause_s(self, attempt: int) -> float:
        """Draw the pause before the next attempt; the first attempt is number 0."""
        settings = self._settings
        most_s = settings.jitter_cap_s
        # INVARIANT: the exponent is bounded, a float would overflow after some hundred failures
        mean_s = min(most_s, settings.jitter_s * settings.jitter_factor ** min(attempt, 64))
        pause_s = min(most_s, mean_s * self._rng.uniform(0.5, 1.5))
        self._metrics.duration(Metric.CONSUMER_BACKOFF_S, pause_s)
        return pause_s

    def _tell(self) -> None:
        self._metrics.gauge(Metric.CONSUMER_FAILURES_IN_A_ROW, self.pull_failures)
        self._metrics.gauge(Metric.CONSUMER_HEALTHY, float(self.healthy))
