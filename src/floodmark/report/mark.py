"""The mark in every report: its facts and the table of its trials as text, for the formats to dress.

Input: a `Mark`. Output: rows without markup. The sentence itself is the mark's own (`judge/mark_words.py`).
"""

from __future__ import annotations

from typing import NamedTuple

from floodmark.core import units
from floodmark.core.units import Dimension
from floodmark.model.mark import Mark, MarkTrial, Outcome, amount
from floodmark.model.verdict import Verdict
from floodmark.report import figures
from floodmark.report.figures import Row

SIGNS: dict[Outcome, str] = {Outcome.HELD: "✓", Outcome.BROKE: "✗", Outcome.UNKNOWN: "?"}
LOOKS: dict[Outcome, Verdict] = {Outcome.HELD: Verdict.PASS, Outcome.BROKE: Verdict.FAIL, Outcome.UNKNOWN: Verdict.UNKNOWN}
HEADS = ("what", "trial", "why", "delivered", "p99", "took")
LEFT = 3


class Cells(NamedTuple):
    """One trial as a row."""

    what: str
    trial: str
    why: str
    delivered: str
    p99: str
    took: str


def facts(mark: Mark) -> list[Row]:
    """The ends of the bracket, and how the search was made."""
    held, broke = (figures.NONE if value is None else amount(value, mark.unit) for value in (mark.held, mark.broke))
    return [
        Row("held", held),
        Row("broke", broke),
        Row("by", mark.by or figures.NONE),
        Row("searched", f"{amount(mark.lo, mark.unit)} to {amount(mark.hi, mark.unit)}"),
        Row("precision", units.show(mark.precision, Dimension.RATIO)),
        Row("confirmed", "once" if mark.confirm == 1 else f"{mark.confirm} times"),
        Row("trials", figures.count(len(mark.trials))),
    ]


def ordered(mark: Mark) -> list[MarkTrial]:
    """The trials by their value, those of one value in the order in which they were played."""
    return sorted(mark.trials, key=lambda trial: trial.value)


def cells(mark: Mark, trial: MarkTrial) -> Cells:
    """One row of the table of trials."""
    return Cells(
        what=f"{SIGNS[trial.outcome]} {trial.outcome.value}",
        trial=amount(trial.value, mark.unit),
        why=" ".join(figures.clean(trial.why or trial.by).split()),
        delivered=figures.rate(trial.throughput_hz),
        p99=figures.latency(trial.p99_ns),
        took=figures.time_s(trial.duration_s),
    )
