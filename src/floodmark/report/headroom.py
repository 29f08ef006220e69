"""How near each criterion came to its limit: the share of the limit that was used.

Input: criteria as they were judged. Output: one `Use` for each that has a limit which can be come near to; 1.0 is at the limit, above 1 is
broken. Left out, since nothing can be near: an exact demand (`lost == 0`), a limit of 0, a least count or least time (`delivered >= 1000`
asks for a load, not for room), a multiple of another window, and whatever could not be judged. For a least share (`delivery_ratio >= 99%`)
what counts is the share that was missing, of the share that might be.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from floodmark.core.errors import UsageError
from floodmark.core.units import Dimension
from floodmark.model import criterion
from floodmark.model.result import CriterionResult, ScenarioResult
from floodmark.model.verdict import Verdict
from floodmark.report import figures


class Use(NamedTuple):
    """One criterion of one scenario and the share of its limit that was used."""

    scenario: ScenarioResult
    criterion: CriterionResult
    used_ratio: float


def used_ratio(judged: CriterionResult) -> float | None:
    """The share of a limit that was used, or None where that means nothing.

    >>> used_ratio(CriterionResult(text="latency_p99 < 100ms", observed=0.025, verdict=Verdict.PASS))
    0.25
    >>> used_ratio(CriterionResult(text="lost == 0", observed=0.0, verdict=Verdict.PASS)) is None
    True
    """
    if judged.observed is None or judged.verdict is Verdict.UNKNOWN:
        return None
    try:
        known = criterion.parse(judged.text)
    except UsageError:  # what a trial says of itself, or a metric of another version
        return None
    if known.reference:
        return None
    observed, limit = judged.observed, known.limit
    if known.operator in ("<", "<="):
        return observed / limit if limit > 0 and observed >= 0 else None
    if known.operator not in (">", ">="):
        return None
    if known.known.dimension is Dimension.RATIO:
        return (1 - observed) / (1 - limit) if limit < 1 and observed <= 1 else None
    if known.known.dimension is Dimension.RATE and observed > 0:
        return limit / observed
    return None


def uses(scenarios: Iterable[ScenarioResult]) -> list[Use]:
    """Every use that means something, the fullest first."""
    found = [
        Use(scenario, judged, used)
        for scenario in scenarios
        if not scenario.id.startswith(figures.LIARS)  # a target that is broken on purpose has no limits to come near to
        for judged in scenario.criteria
        if (used := used_ratio(judged)) is not None
    ]
    return sorted(found, key=lambda use: -use.used_ratio)


def wanted(judged: CriterionResult) -> str:
    """What a criterion asked for, as it is written: operator and value."""
    text = judged.text
    for sign in criterion.OPERATORS:
        if sign in text:
            return f"{sign} {text.partition(sign)[2].strip()}"
    return figures.NONE


def share(ratio: float) -> str:
    """A share as a percentage, to three digits.

    >>> share(0.123456), share(12.5), share(0)
    ('12.3 %', '1,250 %', '0 %')
    """
    return f"{figures.three(ratio * 100)} %" if ratio else "0 %"
