"""A search for the mark on the terminal: one line for each trial that stays, and the table at the end.

Text from a target is shown as text, as in `terminal.py`.
"""

from __future__ import annotations

from rich import box
from rich.console import Console, Group
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from floodmark.judge.mark_trial import trial_of
from floodmark.model.mark import Mark, MarkTrial, Outcome
from floodmark.model.result import RunResult, ScenarioResult
from floodmark.model.verdict import Verdict
from floodmark.report import figures
from floodmark.report.mark import cells, ordered
from floodmark.report.terminal import Progress, stderr_console, verdict_text

_STYLES = {Outcome.HELD: "green", Outcome.BROKE: "red", Outcome.UNKNOWN: "yellow"}
_WIDE_COLUMNS = 90


class MarkProgress(Progress):
    """Shows the trial that is running; of each that ended, what it found and why."""

    def line_of(self, result: ScenarioResult) -> Text:
        """A trial ended: one line about it stays."""
        trial = trial_of(0.0, result)
        row = cells(_NOTHING, trial)
        line = Text.assemble(
            (f"{row.what:<10}", f"bold {_STYLES[trial.outcome]}"),
            f" {figures.clean(result.id)}  ",
            (f"{row.took} · {row.delivered} delivered · p99 {row.p99}", "dim"),
        )
        return line.append(f"\n           {row.why}", style="yellow") if row.why else line


_NOTHING = Mark(vary="", held=None, broke=None, why="", verdict=Verdict.UNKNOWN, lo=0, hi=0, precision=0, confirm=0)


def show_mark(result: RunResult, *, command: str, console: Console | None = None) -> None:
    """Print the end of a search: the mark, its trials, the run folder, and the command that searches again."""
    out = console or stderr_console()
    assert result.mark is not None
    parts: list[Rule | Table | Text] = [
        Rule(style="dim"),
        Text.assemble(verdict_text(result.verdict), "  ", (figures.clean(figures.headline(result)), "bold")),
        Text(""),
    ]
    if result.mark.trials:
        parts += [_table(result.mark, wide=out.width >= _WIDE_COLUMNS), Text("")]
    parts += [Text.assemble((f"{name:<15}", "dim"), text) for name, text in (("run folder", result.run), ("run it again", command))]
    out.print(Group(*parts))


def _table(mark: Mark, *, wide: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", no_wrap=True)
    for name in (mark.vary, *(["delivered", "p99"] if wide else [])):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold", ratio=1)
    for trial in ordered(mark):
        row = cells(mark, trial)
        figures_shown = [row.delivered, row.p99] if wide else []
        table.add_row(Text(row.what, style=_STYLES[trial.outcome]), row.trial, *figures_shown, Text(_brief(trial, row.why), style="dim"))
    return table


def _brief(trial: MarkTrial, why: str) -> str:
    """What broke is told by its criterion; the line of the trial and the report have the sentence."""
    return trial.by or why
