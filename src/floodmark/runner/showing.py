"""What a running scenario shows of itself: the step that it takes, and what its agents report, as figures of this moment.

For a person who watches: no verdict rests on it. The agents' totals are kept on the way, in the evidence's timeline.
"""

from __future__ import annotations

import time

from floodmark.model.scenario import Phase
from floodmark.report.display import Display
from floodmark.runner.evidence import Evidence
from floodmark.runner.pace import Pace, rate_at
from floodmark.runner.wire import Progress


class Showing:
    """What one scenario tells its display."""

    def __init__(self, display: Display, evidence: Evidence) -> None:
        self._display = display
        self._evidence = evidence
        self._pace = Pace()
        self._phase_now: tuple[Phase, int] | None = None  # the phase being played, and when it began
        self._told_marks = 0

    def step(self, name: str) -> None:
        """Something other than a phase of the load begins."""
        self._display.update(phase=name)

    def begin(self, phase: Phase, start_ns: int) -> None:
        """A phase begins."""
        self._display.update(phase=phase.name)
        self._phase_now = phase, start_ns

    def load_over(self) -> None:
        """The last phase of a load was played."""
        self._phase_now = None

    def heard(self, agent: int, progress: Progress) -> None:
        """Take an agent's report."""
        timeline, watch = self._evidence.timeline, self._evidence.watch
        totals = timeline.add(agent, progress)
        rates = self._pace.add(agent, progress)
        target = watch.latest("target") if watch is not None else None
        harness = watch.latest("harness") if watch is not None else None
        for text in timeline.marks_since(self._told_marks):
            self._told_marks += 1
            self._display.mark(text)
        self._display.update(
            connections=totals.connections,
            published=totals.published,
            delivered=totals.received,
            offered_hz=self._offered_hz(),
            published_hz=rates.published_hz,
            rate_hz=rates.delivered_hz,
            p50_ns=totals.response_p50_ns or None,
            p99_ns=totals.response_p99_ns or None,
            rss_bytes=target.resident_bytes if target is not None else None,
            harness_rss_bytes=harness.resident_bytes if harness is not None else None,
        )

    def _offered_hz(self) -> float | None:
        """What the load asks for at this moment; None for a flood."""
        if self._phase_now is None:
            return 0.0
        phase, start_ns = self._phase_now
        return rate_at(phase, (time.monotonic_ns() - start_ns) / 1e9)
