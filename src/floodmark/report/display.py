"""What a run tells of itself while it goes on, and to whom: the protocol of a display, and several displays as one.

The runner calls a display at every step and with every report of its agents, up to a hundred times a second; each display decides by itself
how much of that it shows. None of them may wait, and none may fail a run: what cannot be shown is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from floodmark.model.finding import Finding
from floodmark.model.result import ScenarioResult

FOUND_COUNT = 5  # findings that are told by name while a scenario goes on


class Planned(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A scenario that a run is going to play. `parts` are the ids that it is played under: a trial has an honest and a lying one.

    `load_s` is how long its load is meant to take; None when that is not known beforehand.
    """

    id: str
    title: str = ""
    parts: tuple[str, ...] = ()
    load_s: float | None = None


class Display(Protocol):
    """Whoever is told."""

    def opened(self, folder: Path, planned: Sequence[Planned], *, seed: int, command: str) -> None:
        """The run begins: its folder, and what it is going to play."""

    def scenario(self, scenario_id: str, title: str = "") -> None:
        """A scenario starts; what was told of the one before is over."""

    def update(
        self,
        *,
        phase: str | None = None,
        connections: int | None = None,
        published: int | None = None,
        delivered: int | None = None,
        offered_hz: float | None = None,
        published_hz: float | None = None,
        rate_hz: float | None = None,
        p50_ns: int | None = None,
        p99_ns: int | None = None,
        rss_bytes: int | None = None,
        harness_rss_bytes: int | None = None,
    ) -> None:
        """Figures as they are by now; what is left out keeps its last value.

        `offered_hz` is what the schedule asks for, `published_hz` what was sent, `rate_hz` what was delivered; `rss_bytes` is the target's.
        """

    def mark(self, text: str) -> None:
        """Something happened: a fault struck or was lifted."""

    def found(self, findings: Sequence[Finding]) -> None:
        """Anomalies that are certain already, before the scenario is judged."""

    def done(self, result: ScenarioResult) -> None:
        """A scenario ended."""

    def apart(self) -> int | None:
        """The process that only shows, whose memory and processor time are not the harness's own; None when there is none."""


class Displays:
    """Several displays as one, told in order."""

    def __init__(self, *displays: Display) -> None:
        self._displays = displays

    def opened(self, folder: Path, planned: Sequence[Planned], *, seed: int, command: str) -> None:
        """Tell all of them."""
        for display in self._displays:
            display.opened(folder, planned, seed=seed, command=command)

    def scenario(self, scenario_id: str, title: str = "") -> None:
        """Tell all of them."""
        for display in self._displays:
            display.scenario(scenario_id, title)

    def update(
        self,
        *,
        phase: str | None = None,
        connections: int | None = None,
        published: int | None = None,
        delivered: int | None = None,
        offered_hz: float | None = None,
        published_hz: float | None = None,
        rate_hz: float | None = None,
        p50_ns: int | None = None,
        p99_ns: int | None = None,
        rss_bytes: int | None = None,
        harness_rss_bytes: int | None = None,
    ) -> None:
        """Tell all of them."""
        for display in self._displays:
            display.update(
                phase=phase,
                connections=connections,
                published=published,
                delivered=delivered,
                offered_hz=offered_hz,
                published_hz=published_hz,
                rate_hz=rate_hz,
                p50_ns=p50_ns,
                p99_ns=p99_ns,
                rss_bytes=rss_bytes,
                harness_rss_bytes=harness_rss_bytes,
            )

    def mark(self, text: str) -> None:
        """Tell all of them."""
        for display in self._displays:
            display.mark(text)

    def found(self, findings: Sequence[Finding]) -> None:
        """Tell all of them."""
        for display in self._displays:
            display.found(findings)

    def done(self, result: ScenarioResult) -> None:
        """Tell all of them."""
        for display in self._displays:
            display.done(result)

    def apart(self) -> int | None:
        """The first process that only shows."""
        return next((pid for display in self._displays if (pid := display.apart()) is not None), None)
