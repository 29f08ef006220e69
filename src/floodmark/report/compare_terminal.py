"""Baselines and comparisons as tables on a terminal.

Text that comes from files (ids, targets, notes) is shown as text: no markup and no terminal escape in it takes effect.
"""

from __future__ import annotations

from rich import box
from rich.console import Group
from rich.rule import Rule
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
_LEFT_OF_SHOWN = 2


def comparison(compared: Compared) -> Group:
    """What `floodmark compare` prints: the verdict, one table for each scenario, and what is good to know beside."""
    parts: list[Rule | Table | Text] = [
        Text.assemble(
            (f"{figures.MARKS[compared.verdict]} {compared.verdict.value}", _OVERALL[compared.verdict]), f"  {headline(compared)}"
        ),
        Text(figures.clean(f"baseline {compared.baseline} · now {', '.join(compared.runs)}"), style="dim"),
    ]
    scenarios = dict.fromkeys(row.scenario for row in compared.comparisons)
    for scenario in scenarios:
        parts += [Text(""), Text(figures.clean(scenario), style="bold")]
        parts.append(_table([row for row in compared.comparisons if row.scenario == scenario]))
    if compared.remarks:
        parts.append(Text(""))
    parts += [Text(figures.clean(remark), style="dim") for remark in compared.remarks]
    return Group(*parts)


def _table(rows: list[Comparison]) -> Table:
    table = _plain()
    table.add_column("verdict", no_wrap=True)
    table.add_column("figure", overflow="fold", ratio=1)
    for name in ("baseline", "now", "now / baseline, 95 %", "lets pass", "runs"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        shown = cells(row)
        what = Text(figures.clean(shown.figure))
        if shown.why and row.verdict is not Change.SAME:
            what.append(f"\n{figures.clean(shown.why)}", style="dim")
        table.add_row(
            Text(shown.verdict, style=_STYLES[row.verdict]),
            what,
            *(Text(figures.clean(cell)) for cell in (shown.baseline, shown.now, shown.change, shown.tolerance, shown.runs)),
        )
    return table


def baseline(shown: Baseline) -> Group:
    """What `floodmark baseline show` prints."""
    versions = ", ".join(sorted({played.version for played in shown.runs}))
    table = _plain()
    for place, name in enumerate(SHOWN):
        if place < _LEFT_OF_SHOWN:
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, justify="right", overflow="fold")
    for row in contents(shown):
        table.add_row(*(Text(figures.clean(cell)) for cell in row))
    return Group(
        Text(figures.clean(f"{shown.name}: {len(shown.runs)} runs, {len(shown.scenarios)} scenarios"), style="bold"),
        Text(figures.clean(f"{shown.machine.text} · {shown.machine.kernel} · {shown.machine.python} · floodmark {versions}"), style="dim"),
        Text(""),
        table,
    )


def _plain() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0), header_style="dim")
