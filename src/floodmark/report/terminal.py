"""What a person sees on stderr: one line that is updated in place while a scenario runs, and the table at the end.

`Progress` takes figures whenever the runner has some and decides itself how often to paint: a terminal gets one line in place, anything
else (a log file, a build server) a plain line every 5 s. It starts no thread and no task. Nothing is ever written to stdout. While another
program has the terminal, `hide` keeps it off; the lines that stay are written afterwards.
Text that comes from a target (ids, details, log lines) is shown as text: no markup and no terminal escape in it takes effect.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from floodmark.model.finding import Finding
from floodmark.model.result import RunResult, ScenarioResult
from floodmark.model.verdict import Verdict
from floodmark.report import figures
from floodmark.report.display import Planned

PLAIN_EVERY_S = 5.0
PAINT_EVERY_S = 0.1
_WIDE_COLUMNS = 100
_MIDDLE_COLUMNS = 90
_STYLES: dict[Verdict, str] = {Verdict.PASS: "bold green", Verdict.FAIL: "bold red", Verdict.UNKNOWN: "bold yellow"}


def stderr_console() -> Console:
    """The console for progress and summary."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


class Progress:
    """Shows the scenario that is running. A context manager: on leaving it, the line in place is taken away.

    Args:
        console: where to; the default is stderr.
        clock: monotonic seconds.
        quiet: shows nothing at all.
    """

    def __init__(self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic, quiet: bool = False) -> None:
        self._console = console or stderr_console()
        self._clock = clock
        self._quiet = quiet
        self._live: Live | None = None
        self._started_s = 0.0
        self._painted_s = 0.0
        self._id = ""
        self._seen: dict[str, str] = {}
        self._hidden = False
        self._kept: list[Text] = []  # lines that stay, for when it is shown again

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.show()
        self._end()

    def hide(self) -> None:
        """Leave the terminal to another program."""
        self._end()
        self._hidden = True

    def show(self) -> None:
        """Take the terminal back, and write what would have stayed on it."""
        if not self._hidden:
            return
        self._hidden = False
        for line in self._kept:
            self._console.print(line, soft_wrap=True)
        self._kept.clear()
        self._begin()

    def _begin(self) -> None:
        if self._console.is_terminal and not self._quiet:
            self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False)
            self._live.start()

    def _end(self) -> None:
        if self._live is not None:
            self._live.update(Text(""), refresh=True)
            self._live.stop()
            self._live = None

    def opened(self, folder: Path, planned: Sequence[Planned], *, seed: int, command: str) -> None:
        """The run begins; nothing to show yet."""

    def scenario(self, scenario_id: str, title: str = "") -> None:
        """A scenario starts; what was shown of the one before is gone."""
        self._started_s = self._painted_s = self._clock()
        self._id = figures.clean(scenario_id)
        self._seen = {}
        if self._live is None:
            self._plain(f"{self._id}: {figures.clean(title)}" if title else self._id)
        else:
            self._live.update(self._line(), refresh=True)

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
        """Take what is known by now; what is left out keeps its last value. Cheap enough to call with every sample.

        One line has no room for all of it: the rates offered and published, the median and floodmark's own memory are not shown.
        """
        shown = {
            "phase": None if phase is None else figures.clean(phase),
            "connections": None if connections is None else f"{figures.count(connections)} connections",
            "published": None if published is None else f"{figures.count(published)} published",
            "delivered": None if delivered is None else f"{figures.count(delivered)} delivered",
            "rate": None if rate_hz is None else figures.rate(rate_hz),
            "p99": None if p99_ns is None else f"p99 {figures.latency(p99_ns)}",
            "rss": None if rss_bytes is None else figures.size(rss_bytes),
        }
        self._seen.update({name: text for name, text in shown.items() if text is not None})
        now_s = self._clock()
        if self._live is not None and now_s - self._painted_s >= PAINT_EVERY_S:
            self._painted_s = now_s
            self._live.update(self._line(), refresh=True)
        elif self._live is None and now_s - self._painted_s >= PLAIN_EVERY_S:
            self._painted_s = now_s
            self._plain(self._line().plain)

    def done(self, result: ScenarioResult) -> None:
        """A scenario ended: one line about it stays."""
        line = self.line_of(result)
        self._seen = {}
        if self._live is not None:
            self._live.update(Text(""), refresh=True)
        self._stay(line)

    def line_of(self, result: ScenarioResult) -> Text:
        """What stays of a scenario."""
        line = Text.assemble(
            verdict_text(result.verdict),
            f"  {figures.clean(result.id)}  ",
            (
                f"{figures.time_s(result.duration_s)} · {figures.count(result.delivery.delivered)} delivered"
                f" · {figures.count(result.delivery.lost)} lost · p99 {figures.latency(result.latency_ns.response.p99)}",
                "dim",
            ),
        )
        if result.verdict is not Verdict.PASS:
            line.append(f"\n           {_why(result)}", style="yellow")
        return line

    def mark(self, text: str) -> None:
        """Something happened; the line in place has no room for it, and the report tells it."""

    def found(self, findings: Sequence[Finding]) -> None:
        """Anomalies before the verdict; the table at the end names the first."""

    def apart(self) -> int | None:
        """It is drawn by the run itself."""
        return None

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self._stay(Text(figures.clean(text), style="yellow"))

    def _stay(self, line: Text) -> None:
        if self._hidden:
            self._kept.append(line)
        elif not self._quiet:
            self._console.print(line, soft_wrap=True)

    def _line(self) -> Text:
        elapsed = f"{self._clock() - self._started_s:.0f} s"
        order = ("phase", "connections", "published", "delivered", "rate", "p99", "rss")
        parts = [elapsed, *(self._seen[name] for name in order if name in self._seen)]
        return Text.assemble(("▸ ", "cyan"), (self._id, "bold"), "  ", " · ".join(parts), no_wrap=True, overflow="ellipsis")

    def _plain(self, text: str) -> None:
        if not self._quiet and not self._hidden:
            self._console.print(Text(text), soft_wrap=True)


def show_result(result: RunResult, *, command: str, console: Console | None = None) -> None:
    """Print the end of a run: verdict, scenarios, first anomaly, run folder, and the command that runs it again."""
    out = console or stderr_console()
    out.print(summary(result, command=command, columns=out.width))


def summary(result: RunResult, *, command: str, columns: int) -> Group:
    """What `show_result` prints on a terminal that is `columns` wide."""
    parts: list[Rule | Table | Text] = [
        Rule(style="dim"),
        Text.assemble(verdict_text(result.verdict), "  ", (figures.headline(result), "bold")),
    ]
    if result.scenarios:
        parts += [Text(""), _table(result, memory=columns >= _WIDE_COLUMNS, throughput=columns >= _MIDDLE_COLUMNS), Text("")]
    found = figures.first_anomaly(result)
    if found is not None:
        scenario, finding = found
        parts.append(_fact("first anomaly", f"{finding.count:,} {finding.anomaly.value} in {scenario.id}: {finding.detail}"))
    parts.append(_fact("run folder", result.run))
    parts.append(_fact("run it again", command))
    return Group(*parts)


def _fact(name: str, text: str) -> Text:
    return Text.assemble((f"{name:<15}", "dim"), " ".join(figures.clean(text).split()))


def _why(scenario: ScenarioResult) -> str:
    """What kept a scenario from passing, on one line."""
    return " ".join(figures.clean(scenario.note or figures.criteria_summary(scenario)).split())


def _table(result: RunResult, *, memory: bool, throughput: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("verdict", no_wrap=True)
    table.add_column("scenario", overflow="fold", ratio=1, min_width=min(32, max((len(one.id) for one in result.scenarios), default=0)))
    for name in ("delivered", "lost", *(["throughput"] if throughput else []), "p99", *(["memory"] if memory else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for scenario in result.scenarios:
        what = Text(figures.clean(scenario.id))
        if scenario.verdict is not Verdict.PASS:
            what.append(f"\n{_why(scenario)}", style="dim")
        lost = figures.delivered(scenario, "lost")
        cells: list[str | Text] = [
            figures.delivered(scenario, "delivered"),
            Text(lost, style="bold" if scenario.delivery.lost else "dim"),
            *([figures.rate(scenario.throughput_hz)] if throughput else []),
            figures.latency(scenario.latency_ns.response.p99),
        ]
        if memory:
            cells.append(figures.size(scenario.target.rss_bytes_peak))
        table.add_row(verdict_text(scenario.verdict), what, *cells)
    return table


def verdict_text(verdict: Verdict) -> Text:
    """A verdict with its sign, in its colour, as wide as any other."""
    return Text(f"{figures.MARKS[verdict]} {verdict.value:<7}", style=_STYLES[verdict])
