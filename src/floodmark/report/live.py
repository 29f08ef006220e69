"""`live.jsonl`: what a run tells of itself while it goes on, one JSON object a line, for whoever watches it from another process.

Written by the run as it goes, each line in one write, figures at most four times a second and once a second in a scenario of an hour: 20 MB
in a day. It is taken away when the run has ended in order, since run.json and samples.parquet then hold all of it and more; a run that was
killed leaves it behind, and its last lines say how far it came. A line that cannot be written ends the writing and nothing else.

    {"kind": "opened", "run": "20260131-142501-first", "seed": 7, "pid": 4711, "planned": [{"id": "first.rooms"}], ...}
    {"kind": "began", "t_s": 0.01, "id": "first.rooms"}
    {"kind": "figures", "t_s": 2.3, "phase": "steady", "connections": 100, "offered_hz": 500.0, "published_hz": 499.2, ...}
    {"kind": "done", "t_s": 8.8, "result": {...}}
    {"kind": "closed", "t_s": 9.1}

A search for the mark plans nothing beforehand, and its last line has the verdict and the sentence of the mark: those of its trials are not
the run's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from msgspec.structs import replace

from floodmark import __version__
from floodmark.model.finding import Finding
from floodmark.model.result import RunResult, ScenarioResult
from floodmark.model.verdict import Verdict
from floodmark.report import figures
from floodmark.report.display import FOUND_COUNT, Planned
from floodmark.report.folder import RESULT

LIVE = "live.jsonl"
EVERY_S = 0.25
SLOWEST_S = 1.0
SLOWED = 3600.0  # the pause between figures is this part of the scenario's time, between the two above


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag=str.lower):
    """Any line; `t_s` counts from the start of the run."""

    t_s: float = 0.0


class Opened(Line, frozen=True, kw_only=True):
    """The first line. `pid` is the run's process; `started_s` is the time of day, seconds since 1970."""

    run: str
    version: str
    seed: int
    command: str
    pid: int
    started_s: float
    planned: tuple[Planned, ...] = ()


class Began(Line, frozen=True, kw_only=True):
    """A scenario, or a part of a trial, starts."""

    id: str
    title: str = ""


class Figures(Line, frozen=True, kw_only=True):
    """What is known of the scenario that is running; what is left out is not known (any more)."""

    phase: str = ""
    connections: int | None = None
    published: int | None = None
    delivered: int | None = None
    offered_hz: float | None = None
    published_hz: float | None = None
    delivered_hz: float | None = None
    p50_ns: int | None = None
    p99_ns: int | None = None
    target_rss_bytes: int | None = None
    harness_rss_bytes: int | None = None


class Marked(Line, frozen=True, kw_only=True):
    """Something happened: a fault struck or was lifted."""

    text: str


class Found(Line, frozen=True, kw_only=True):
    """Anomalies that are certain before the scenario is judged: the first few, by name."""

    findings: tuple[Finding, ...]


class Done(Line, frozen=True, kw_only=True):
    """A scenario ended; of its findings the first few are kept."""

    result: ScenarioResult


class Closed(Line, frozen=True, kw_only=True):
    """The last line. `trouble` says what ended the run, if it was not its end.

    `verdict` is the run's where it does not follow from those of its scenarios, and `why` the sentence on it.
    """

    trouble: str = ""
    verdict: Verdict | None = None
    why: str = ""


def closed(result: RunResult, *, t_s: float) -> Closed:
    """The last line of a run that has come to a result."""
    if result.mark is None:
        return Closed(t_s=t_s, trouble="interrupted" if result.interrupted else "")
    return Closed(t_s=t_s, verdict=result.verdict, why=figures.headline(result))


AnyLine = Opened | Began | Figures | Marked | Found | Done | Closed


class LiveFile:
    """A display that writes `live.jsonl`. A context manager: on leaving it, the run is over.

    Args: clock: monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._encoder = msgspec.json.Encoder()
        self._path: Path | None = None
        self._descriptor = -1
        self._opened_s = self._began_s = self._written_s = 0.0
        self._figures = Figures()
        self._fresh = False  # figures that are not written yet
        self._mark: RunResult | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._write_figures()
        if value is None and self._mark is not None:
            self._write(closed(self._mark, t_s=self._t_s()))
        else:
            self._write(Closed(t_s=self._t_s(), trouble="" if value is None else f"{type(value).__name__}: {value}"))
        self._close()
        if self._path is not None and (self._path.parent / RESULT).exists():
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def opened(self, folder: Path, planned: Sequence[Planned], *, seed: int, command: str) -> None:
        """Make the file."""
        self._opened_s = self._clock()
        self._path = folder / LIVE
        with suppress(OSError):
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._write(
            Opened(
                run=folder.name,
                version=__version__,
                seed=seed,
                command=command,
                pid=os.getpid(),
                started_s=time.time(),
                planned=tuple(planned),
            )
        )

    def scenario(self, scenario_id: str, title: str = "") -> None:
        """Write that it begins."""
        self._began_s = self._clock()
        self._figures, self._fresh = Figures(), False
        self._write(Began(t_s=self._t_s(), id=scenario_id, title=title))

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
        """Take figures; they are written when it is time, and at once when a phase begins."""
        given = {
            "phase": phase,
            "connections": connections,
            "published": published,
            "delivered": delivered,
            "offered_hz": offered_hz,
            "published_hz": published_hz,
            "delivered_hz": rate_hz,
            "p50_ns": p50_ns,
            "p99_ns": p99_ns,
            "target_rss_bytes": rss_bytes,
            "harness_rss_bytes": harness_rss_bytes,
        }
        self._figures = replace(self._figures, **{name: value for name, value in given.items() if value is not None})
        self._fresh = True
        now_s = self._clock()
        pause_s = min(max((now_s - self._began_s) / SLOWED, EVERY_S), SLOWEST_S)
        if phase is not None or now_s - self._written_s >= pause_s:
            self._write_figures()

    def mark(self, text: str) -> None:
        """Write what happened."""
        self._write(Marked(t_s=self._t_s(), text=text))

    def found(self, findings: Sequence[Finding]) -> None:
        """Write the first few."""
        if findings:
            self._write(Found(t_s=self._t_s(), findings=tuple(findings[:FOUND_COUNT])))

    def done(self, result: ScenarioResult) -> None:
        """Write how it ended."""
        self._write_figures()
        self._write(Done(t_s=self._t_s(), result=replace(result, findings=result.findings[:FOUND_COUNT])))

    def conclude(self, result: RunResult) -> None:
        """Take the end of a search for the mark, for the last line."""
        self._mark = result

    def apart(self) -> int | None:
        """No process of its own."""
        return None

    def _write_figures(self) -> None:
        if self._fresh:
            self._fresh = False
            self._written_s = self._clock()
            self._write(replace(self._figures, t_s=self._t_s()))

    def _write(self, line: Line) -> None:
        if self._descriptor < 0:
            return
        content = self._encoder.encode(line) + b"\n"
        try:
            complete = os.write(self._descriptor, content) == len(content)
        except OSError:
            complete = False
        if not complete:  # the disk is full, most likely; what keeps the results will say so
            self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _t_s(self) -> float:
        return round(self._clock() - self._opened_s, 3)
