"""Baselines and comparisons as tables on a terminal.

Text that comes from files (ids, targets, notes) is shown as text: no markup and no terminal escape in it takes effect.
"""

from __future__ import annotations

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from floodmark.judge.comparison import Change, Compared, Comparison
from floodmark.model.baseline import Baseline
from floodmark.model.verdict import Verdict
from floodmark.report import figures
from floodmark.report.compare_figures import SHOWN, cells, contents, headline

_STYLES: dict[Change, str] = {
    Change.BETTER: "bold green",
    Change.SAME: "green",
    Change.WORSE: "bold red",
    Change.UNKNOWN: "bold yellow",
}
_OVERALL: dict[Verdict, str] = {Verdict.PASS: "bold green", Verdict.FAIL: "bold red", Verdict.UNKNOWN: "bold yellow"}
_WIDE_COLUMNS = 100
_CHANGE = "now / baseline, 95 %"


def comparison(compared: Compared, *, columns: int = _WIDE_COLUMNS) -> Group:
    """What `floodmark compare` prints on a terminal that is `columns` wide: the verdict, a table for each scenario, remarks."""
    parts: list[Table | Text] = [
        Text.assemble(
            (f"{figures.MARKS[compared.verdict]} {compared.verdict.value}", _OVERALL[compared.verdict]), f"  {headline(compared)}"
        ),
        Text(figures.clean(f"baseline {compared.baseline} · now {', '.join(compared.runs)}"), style="dim"),
    ]
    for scenario in dict.fromkeys(row.scenario for row in compared.comparisons):
        rows = [row for row in compared.comparisons if row.scenario == scenario]
        parts += [Text(""), Text(figures.clean(scenario), style="bold"), _table(rows, wide=columns >= _WIDE_COLUMNS)]
        parts += [Text(figures.clean(f"{', '.join(names)}: {why}"), style="dim") for why, names in _reasons(rows).items()]
    if compared.remarks:
        parts.append(Text(""))
    parts += [Text(figures.clean(remark), style="dim") for remark in compared.remarks]
    return Group(*parts)


def _table(rows: list[Comparison], *, wide: bool) -> Table:
    table = _plain()
    table.add_column("verdict", no_wrap=True)
    table.add_column("figure", no_wrap=True, min_width=max(len(row.metric) for row in rows))
    for name in ("baseline", "now", _CHANGE, *(("lets pass", "runs") if wide else ())):
        table.add_column(name, justify="right", no_wrap=name != _CHANGE)
    for row in rows:
        shown = cells(row)
        told = (shown.figure, shown.baseline, shown.now, shown.change, *((shown.tolerance, shown.runs) if wide else ()))
        table.add_row(Text(shown.verdict, style=_STYLES[row.verdict]), *(Text(figures.clean(cell)) for cell in told))
    return table


def _reasons(rows: list[Comparison]) -> dict[str, list[str]]:
    """Why a figure is what it is, those with one reason together."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.reason and row.verdict is not Change.SAME:
            found.setdefault(row.reason, []).append(row.metric)
    return found


def baseline(shown: Baseline) -> Group:
    """What `floodmark baseline show` prints."""
    size = f"{_counted(len(shown.runs), 'run')}, {_counted(len(shown.scenarios), 'scenario')}"
    parts: list[Table | Text] = [
        Text(figures.clean(f"{shown.name}: {size}"), style="bold"),
        Text(figures.clean(f"{shown.machine.text} · {shown.machine.kernel} · {shown.machine.python}"), style="dim"),
    ]
    for scenario, subject in sorted(shown.scenarios.items()):
        beside = f"  {subject.target} · scale {subject.scale:g} · load {subject.configuration}"
        parts += [Text(""), Text.assemble((figures.clean(scenario), "bold"), (figures.clean(beside), "dim"))]
        table = _plain()
        for place, name in enumerate(SHOWN):
            table.add_column(name, no_wrap=True, justify="right" if place else "left")
        for row in contents(subject):
            table.add_row(*(Text(figures.clean(cell)) for cell in row))
        parts.append(table)
    runs = (f"{one.run} · {figures.started(one.started)} · seed {one.seed} · floodmark {one.version}" for one in shown.runs)
    return Group(*parts, Text(""), *(Text(figures.clean(run), style="dim") for run in runs))


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'s' if count != 1 else ''}"


def _plain() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0), header_style="dim")
