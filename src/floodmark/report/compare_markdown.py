"""A comparison as Markdown, made to be put into the comment of a pull request: what changed on top, the rest folded away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from floodmark.judge.comparison import Change, Compared, Comparison
from floodmark.report import figures
from floodmark.report.compare_figures import by_weight, cells, headline
from floodmark.report.markup import code, table, text

_HEADS = ("verdict", "scenario", "figure", "why", "baseline", "now", "now / baseline, 95 %", "lets pass", "runs")
_LEFT = 4


def render(compared: Compared) -> str:
    """Render a whole comment."""
    return "\n\n".join(_blocks(compared)) + "\n"


def _blocks(compared: Compared) -> Iterator[str]:
    yield f"### {figures.MARKS[compared.verdict]} {compared.verdict.value}: {text(headline(compared))}"
    yield f"Baseline {code(compared.baseline)}, now {', '.join(map(code, compared.runs))}."
    rows = by_weight(compared)
    loud = [row for row in rows if row.verdict in (Change.WORSE, Change.BETTER)]
    if loud:
        yield _table(loud)
    for change, words in ((Change.UNKNOWN, "cannot be told"), (Change.SAME, "the same")):
        quiet = [row for row in rows if row.verdict is change]
        if quiet:
            yield f"<details><summary>{len(quiet)} {words}</summary>"
            yield _table(quiet)
            yield "</details>"
    for remark in compared.remarks:
        yield f"> {text(remark)}"


def _table(rows: Sequence[Comparison]) -> str:
    written = [
        (
            shown.verdict,
            code(shown.scenario),
            code(shown.figure),
            text(shown.why),
            *map(text, (shown.baseline, shown.now, shown.change, shown.tolerance, shown.runs)),
        )
        for shown in map(cells, rows)
    ]
    return table(_HEADS, written, left=_LEFT)
