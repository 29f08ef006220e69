"""Make of a run folder that is complete the lines that its run would have written, so that a finished run is shown as a running one is.

Figures come from samples.parquet, thinned to `POINTS` of each curve with its peaks kept; what the samples do not hold, such as how many
messages had been sent by then, is left out. Rates that the load asked for come from the configuration in run.json, where it can be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import msgspec
from msgspec.structs import replace

from floodmark.core.errors import UsageError
from floodmark.model.finding import Finding
from floodmark.model.result import ScenarioResult
from floodmark.model.scenario import Scenario
from floodmark.report.display import FOUND_COUNT, Planned
from floodmark.report.document import RunDocument
from floodmark.report.folder import RunFolder
from floodmark.report.live import AnyLine, Began, Done, Figures, Marked, Opened, closed
from floodmark.report.series import Timeline, thin
from floodmark.runner.pace import rate_at

POINTS = 400
SERIES = {  # of samples.parquet: the field of a line
    "connections": "connections",
    "published_hz": "published_hz",
    "delivered_hz": "delivered_hz",
    "response_p50_ns": "p50_ns",
    "response_p99_ns": "p99_ns",
    "target_rss_bytes": "target_rss_bytes",
    "harness_rss_bytes": "harness_rss_bytes",
}
WHOLE = frozenset({"connections", "p50_ns", "p99_ns", "target_rss_bytes", "harness_rss_bytes"})


def lines(folder: RunFolder) -> Iterator[AnyLine]:
    """Tell a finished run. Raises: UsageError when its result or its samples cannot be read."""
    document, timelines = folder.result(), folder.timelines()
    planned = tuple(Planned(id=one.id, title=one.title) for one in document.scenarios)
    yield Opened(
        run=folder.id,
        version=document.version,
        seed=document.seed,
        command=document.command,
        pid=0,
        started_s=_started_s(document),
        planned=planned,
    )
    scenarios = {one.id: one for one in _configured(document)}
    at_s = 0.0
    for result in document.scenarios:
        yield Began(t_s=at_s, id=result.id, title=result.title)
        if result.id in timelines:
            yield from _course(timelines[result.id], scenarios.get(result.id), at_s)
        at_s += result.duration_s
        yield Done(t_s=at_s, result=replace(result, findings=_told(result)))
    yield closed(document, t_s=document.duration_s or at_s)


def _told(result: ScenarioResult) -> tuple[Finding, ...]:
    return result.findings[:FOUND_COUNT]


def _course(timeline: Timeline, scenario: Scenario | None, at_s: float) -> Iterator[Figures | Marked]:
    """The figures of one scenario in time order, each with the newest of all others."""
    changes: list[tuple[float, str, float | str]] = [(mark.t_s, "", mark.text) for mark in timeline.marks]
    for series, name in SERIES.items():
        if series in timeline.curves:
            curve = thin(timeline.curves[series], points=POINTS)
            changes += [(t_s, name, value) for t_s, value in zip(curve.t_s, curve.values, strict=True)]
    changes.sort(key=lambda change: change[0])
    if not changes:
        return
    origin_s = changes[0][0]
    offer = _Offer(scenario)
    figures = Figures(phase="connecting" if origin_s < 0 else "")
    for place, (t_s, name, value) in enumerate(changes):
        if isinstance(value, str):
            figures = replace(figures, phase=offer.mark(value, t_s) or figures.phase)
            yield Marked(t_s=at_s + t_s - origin_s, text=value)
        else:
            figures = replace(figures, **{name: round(value) if name in WHOLE else value})
        if place + 1 == len(changes) or changes[place + 1][0] > t_s:
            yield replace(figures, t_s=at_s + t_s - origin_s, offered_hz=offer.rate_hz(t_s))


class _Offer:
    """What the phases of a scenario ask for, found by the marks at their beginnings."""

    def __init__(self, scenario: Scenario | None) -> None:
        self._phases = {} if scenario is None else {phase.name: phase for phase in scenario.phases}
        self._now: tuple[str, float] | None = None

    def mark(self, text: str, t_s: float) -> str:
        """Take a mark; returns the phase that it begins, or nothing."""
        if text in self._phases or text == "drain":
            self._now = text, t_s
            return text
        return ""

    def rate_hz(self, t_s: float) -> float | None:
        if self._now is None or self._now[0] not in self._phases:
            return 0.0 if self._phases else None
        name, began_s = self._now
        return rate_at(self._phases[name], t_s - began_s)


def _configured(document: RunDocument) -> list[Scenario]:
    """The scenarios of run.json that this version can read."""
    found: list[Scenario] = []
    for plain in document.configuration:
        try:
            found.append(msgspec.convert(plain, Scenario))
        except (msgspec.ValidationError, UsageError):
            continue
    return found


def _started_s(document: RunDocument) -> float:
    try:
        return datetime.fromisoformat(document.started).timestamp()
    except ValueError:
        return 0.0
