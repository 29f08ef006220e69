"""How a comparison is written, whichever the format: each cell as text, and the sentence that opens it.

Input: values in base units. Output: text without markup. A change is told as now / baseline with its interval (as a signed difference
where there is no ratio), so that nobody has to know which way is better; what became of it stands beside it.
"""

from __future__ import annotations

import statistics
from collections import Counter
from typing import NamedTuple

from floodmark.judge.comparison import VERDICT, Change, Compared, Comparison
from floodmark.model.baseline import Subject
from floodmark.model.gauges import GAUGES
from floodmark.model.verdict import Verdict
from floodmark.report import figures

HEADS = ("scenario", "figure", "baseline", "now", "now / baseline", "lets pass", "runs", "verdict", "why")
MARKS: dict[Change, str] = {Change.BETTER: "▲", Change.SAME: "=", Change.WORSE: "✗", Change.UNKNOWN: "?"}
SHOWN = ("figure", "median", "least", "most", "runs")


class Cells(NamedTuple):
    """One comparison as text, in the order of HEADS."""

    scenario: str
    figure: str
    baseline: str
    now: str
    change: str
    tolerance: str
    runs: str
    verdict: str
    why: str


def cells(row: Comparison) -> Cells:
    """Write one comparison."""
    return Cells(
        scenario=row.scenario,
        figure=row.metric,
        baseline=_passed(row.repetitions[0]) if row.metric == VERDICT else quantity(row.metric, row.baseline),
        now=_PASSES[row.verdict] if row.metric == VERDICT else quantity(row.metric, row.now),
        change=_change(row),
        tolerance="" if row.tolerance_ratio is None else f"{row.tolerance_ratio * 100:.3g} %",
        runs=f"{row.repetitions[0]} : {row.repetitions[1]}" if any(row.repetitions) else "",
        verdict=f"{MARKS[row.verdict]} {row.verdict.value}",
        why=row.reason,
    )


_PASSES = {Change.SAME: Verdict.PASS.value, Change.WORSE: Verdict.FAIL.value, Change.BETTER: figures.NONE, Change.UNKNOWN: figures.NONE}


def _passed(count: int) -> str:
    """What a baseline says of a scenario: only what passed is in it."""
    return Verdict.PASS.value if count else figures.NONE


def quantity(metric: str, value: float | None) -> str:
    """A value of a figure in its own unit; a dash where there is none."""
    if value is None:
        return figures.NONE
    gauge = GAUGES.get(metric)
    return f"{value:.6g}" if gauge is None else figures.quantity(value, gauge.dimension)


def _change(row: Comparison) -> str:
    if row.ratio is not None and row.ratio_interval is not None:
        low, high = row.ratio_interval
        return f"{_factor(row.ratio)} [{_factor(low)} … {_factor(high)}]"
    if row.difference is not None and row.difference_interval is not None:
        low, high = row.difference_interval
        return f"{_signed(row, row.difference)} [{_signed(row, low)} … {_signed(row, high)}]"
    return figures.NONE


def _signed(row: Comparison, difference: float) -> str:
    return f"{'+' if difference >= 0 else ''}{quantity(row.metric, difference)}"


_SIZE_ALONE = 1e6


def _factor(ratio: float) -> str:
    """Three digits: 1.05, 12.3, 1,234; beyond a million the size alone: 8e+57."""
    if ratio >= _SIZE_ALONE:
        return f"{ratio:.0e}"
    return f"{ratio:.3f}" if 0.9 <= ratio < 1.1 else figures.three(ratio)


def headline(compared: Compared) -> str:
    """One sentence that says what the comparison came to."""
    tally = Counter(row.verdict for row in compared.comparisons)
    if not compared.comparisons:
        return "Nothing was compared, so nothing is known."
    said = ", ".join(
        f"{tally[change]} {change.value}" for change in (Change.WORSE, Change.UNKNOWN, Change.SAME, Change.BETTER) if tally[change]
    )
    return {
        Verdict.FAIL: f"A regression: {said}.",
        Verdict.UNKNOWN: f"Whether there is a regression cannot be told: {said}.",
        Verdict.PASS: f"No regression: {said}.",
    }[compared.verdict]


def by_weight(compared: Compared) -> list[Comparison]:
    """The comparisons in the order in which they are of interest: worse first, and those that say nothing new last."""
    weight = {Change.WORSE: 0, Change.UNKNOWN: 1, Change.BETTER: 2, Change.SAME: 3}
    return sorted(compared.comparisons, key=lambda row: weight[row.verdict])


def contents(subject: Subject) -> list[tuple[str, ...]]:
    """What a baseline holds of a scenario, as rows in the order of SHOWN."""
    place = {name: number for number, name in enumerate(GAUGES)}
    rows: list[tuple[str, ...]] = []
    for name, figure in sorted(subject.figures.items(), key=lambda item: place.get(item[0], len(place))):
        told = (quantity(name, value) for value in (statistics.median(figure.values), min(figure.values), max(figure.values)))
        rows.append((name, *told, str(len(figure.values))))
    return rows
