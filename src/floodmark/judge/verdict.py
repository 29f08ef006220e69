"""Hold what was observed against the criteria: PASS, FAIL, or UNKNOWN where there is no evidence.

Input: parsed criteria and the figures of one scenario, in base units. Output: one result per criterion, in their order, each with the
figure and, unless it passed, a sentence that says why. Pure: no I/O, no clock. Where figures come from is `judge/observe.py`'s matter.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable

import msgspec

from floodmark.core import units
from floodmark.core.units import Dimension
from floodmark.model.checks import FAULT_WINDOWS
from floodmark.model.criterion import Criterion, parse
from floodmark.model.finding import Guarantee, Order
from floodmark.model.metrics import STATISTIC, Metric
from floodmark.model.result import CriterionResult
from floodmark.model.shortfall import Shortfall
from floodmark.model.verdict import Verdict

# Dividing two counts and reading the limit from text are each off by one bit at most (1.1e-16). One loss in 10^12 must still show.
_SAME_RATIO = 1e-14
_ANOMALIES = frozenset({"lost", "duplicated", "reordered", "corrupted", "unexpected"})
_BEHIND = {"delivery_ratio": ("lost", "corrupted")}  # metrics made of anomaly counts
_ORDERINGS: dict[str, Callable[[float, float], bool]] = {"<": operator.lt, ">": operator.gt, "<=": operator.lt, ">=": operator.gt}


class Observations(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one scenario showed.

    `values`: metric name to its figure in the base unit. `missing`: metric name to half a sentence saying why there is none.
    `at_least`: metrics whose figure is only known to be no less than their value, each with why: the end of what lasted was not seen.
    `delivered`: intact deliveries seen. `phases`: the same as `values` for each phase, and each window around the faults, by name; one
    has its own `delivered` in there, without which its delivery metrics prove nothing. `unplaced`: of a phase or window, how many more
    than the count in `phases` may belong to it; a criterion is judged only when that cannot change the answer. `statistics`: the target's
    own numbers, None where it has none. `shortfall`: what was to be done to the target and was not, for which some of them say nothing.
    """

    values: dict[str, float] = {}
    missing: dict[str, str] = {}
    at_least: dict[str, str] = {}
    delivered: int = 0
    statistics: dict[str, float] | None = None
    shortfall: Shortfall | None = None
    phases: dict[str, dict[str, float]] = {}
    unplaced: dict[str, dict[str, float]] = {}


class _Bounds(msgspec.Struct, frozen=True):
    """A figure that lies in [low, high]; nearly always both are the same."""

    low: float
    high: float


def judge(criteria: Iterable[Criterion], observations: Observations) -> tuple[CriterionResult, ...]:
    """Judge each criterion on its own, in the given order.

    A figure that is missing, not a number, or that needs deliveries when none were seen is UNKNOWN. One exception: anomalies that were
    counted are evidence themselves, so a target that acknowledges everything and delivers nothing FAILs `lost == 0`.
    """
    return tuple(_judged(criterion, observations) for criterion in criteria)


def implied(guarantee: Guarantee, order: Order) -> tuple[Criterion, ...]:
    """The criteria that a declared guarantee amounts to.

    >>> [criterion.text for criterion in implied(Guarantee.AT_MOST_ONCE, Order.NONE)]
    ['duplicated == 0', 'corrupted == 0', 'unexpected == 0']
    """
    forbidden = {
        "lost": guarantee is not Guarantee.AT_MOST_ONCE,
        "duplicated": guarantee is not Guarantee.AT_LEAST_ONCE,
        "reordered": order is not Order.NONE,
        "corrupted": True,
        "unexpected": True,
    }
    return tuple(parse(f"{metric} == 0") for metric, applies in forbidden.items() if applies)


def with_implied(criteria: Iterable[Criterion], guarantee: Guarantee, order: Order) -> tuple[Criterion, ...]:
    """The stated criteria, then those of the guarantee whose metric is not stated for the whole run.

    A criterion about one phase does not replace the promise about all of them, nor does one that only compares with a phase.
    """
    stated = tuple(criteria)
    covered = {criterion.metric for criterion in stated if not criterion.phase and not criterion.reference}
    return stated + tuple(criterion for criterion in implied(guarantee, order) if criterion.metric not in covered)


def _judged(criterion: Criterion, seen: Observations) -> CriterionResult:
    metric = criterion.known
    value, why = _figure(metric, criterion.phase, seen)
    if value is None:
        return _unknown(criterion, None, why)
    limit, why = _limit(criterion, seen)
    if limit is None:
        return _unknown(criterion, value, why)
    more = _more(metric, criterion.phase, seen)
    holds = _holds_between(_Bounds(value, value + more), criterion.operator, limit, metric.dimension)
    if holds is None:
        return _unknown(criterion, value, _undecided(criterion, value, more, seen))
    values, delivered = _there(criterion.phase, seen)
    if metric.needs_delivery and not delivered > 0 and (holds or not _is_evidence(metric, values)):
        return _unknown(criterion, value, f"no delivery was seen{_in_phase(criterion.phase)}, so {metric.name} proves nothing")
    if holds and math.isinf(value):  # a division by nothing may break a promise, but cannot keep one
        return _unknown(criterion, None, f"{metric.name} came out infinite, so it proves nothing")
    if holds:
        return CriterionResult(text=criterion.text, observed=value, verdict=Verdict.PASS)
    rather = " or more" if more == math.inf else ""
    note = f"{metric.name} was {units.show(value, metric.dimension)}{rather}, wanted {criterion.operator} {_wanted(criterion, limit)}"
    return CriterionResult(text=criterion.text, observed=value, verdict=Verdict.FAIL, note=note)


def _there(phase: str, seen: Observations) -> tuple[dict[str, float], float]:
    """The figures of a phase, or of the whole run, and the deliveries that stand behind them."""
    if phase:
        values = seen.phases[phase]
        return values, values.get("delivered", 0)
    return seen.values, seen.delivered


def _figure(metric: Metric, phase: str, seen: Observations) -> tuple[float | None, str]:
    """The metric's figure, or None and why there is none."""
    if phase and phase not in seen.phases:
        what = f"the time {phase} the faults" if phase in FAULT_WINDOWS else f"the phase {phase!r}"
        return None, f"{what} was not measured"
    statistic = metric.name.removeprefix(STATISTIC) if metric.name.startswith(STATISTIC) else None
    if statistic is not None and seen.shortfall is not None and statistic not in seen.shortfall.stands:
        return None, f"{metric.name} says nothing here: {seen.shortfall.why}"
    value = _there(phase, seen)[0].get(metric.name)
    if statistic is not None and not phase and seen.statistics is not None:
        value = seen.statistics.get(statistic)
    if value is None:
        reason = _why_no_statistic(seen) if statistic is not None else seen.missing.get(metric.name)
        return None, f"{metric.name} was not observed{_in_phase(phase)}" + (f": {reason}" if reason else "")
    if math.isnan(value):
        return None, f"{metric.name} came out as no number{_in_phase(phase)}, so it proves nothing"
    return value, ""


def _why_no_statistic(seen: Observations) -> str:
    if seen.statistics is None:
        return "the driver knows no statistics of this target"
    return f"the target's statistics, taken once at the end of the run, have: {', '.join(seen.statistics) or 'nothing'}"


def _limit(criterion: Criterion, seen: Observations) -> tuple[_Bounds | None, str]:
    """What the figure is held against: the limit as stated, or the multiple of the reference; None and why when that says nothing."""
    if not criterion.reference:
        return _Bounds(criterion.limit, criterion.limit), ""
    metric, phase = criterion.known, criterion.reference
    base, why = _figure(metric, phase, seen)
    if base is None:
        return None, f"nothing to compare with: {why}"
    if metric.needs_delivery and not _there(phase, seen)[1] > 0:
        return None, f"nothing to compare with: no delivery was seen{_in_phase(phase)}, so {metric.name} proves nothing there"
    if not _comparable(base, criterion.operator, metric.dimension):
        return None, f"nothing to compare with: {metric.name} was {units.show(base, metric.dimension)}{_in_phase(phase)}"
    return _Bounds(criterion.limit * base, criterion.limit * (base + _more(metric, phase, seen))), ""


def _comparable(base: float, sign: str, dimension: Dimension) -> bool:
    """Whether a multiple of this figure can be broken and kept. Zero is a fine count to stay at, but not one to stay above or go below."""
    if base == 0:
        return dimension in (Dimension.COUNT, Dimension.RATIO) and sign not in (">=", "<")
    return 0 < base < math.inf


def _more(metric: Metric, phase: str, seen: Observations) -> float:
    if not phase:
        return math.inf if metric.name in seen.at_least else 0.0
    return seen.unplaced.get(phase, {}).get(metric.name, 0.0)


def _holds_between(value: _Bounds, sign: str, limit: _Bounds, dimension: Dimension) -> bool | None:
    """Compare all that the two may be; None when the answer depends on which."""
    if sign in ("==", "!=") and (value.low, limit.low) != (value.high, limit.high) and value.low <= limit.high and limit.low <= value.high:
        return None
    answers = {_holds(one, sign, other, dimension) for one in (value.low, value.high) for other in (limit.low, limit.high)}
    return answers.pop() if len(answers) == 1 else None


def _undecided(criterion: Criterion, value: float, more: float, seen: Observations) -> str:
    """Say of which figure it is not known how much of it there is."""
    metric, text = criterion.known, ""
    if more == math.inf:
        return f"{metric.name} was {units.show(value, metric.dimension)} or more: {seen.at_least[metric.name]}"
    if more:
        text = f"{metric.name} was {units.show(value, metric.dimension)}{_in_phase(criterion.phase)}, and up to "
        text += f"{units.show(more, metric.dimension)} more may belong there"
    else:
        text = f"how much {metric.name} was{_in_phase(criterion.reference)} is not known exactly enough"
    return f"{text}: when they were sent cannot be told"


def _wanted(criterion: Criterion, limit: _Bounds) -> str:
    """The limit; for a multiple also of what."""
    dimension = criterion.known.dimension
    shown = units.show(limit.low, dimension)
    if not criterion.reference:
        return shown
    base = units.show(limit.low / criterion.limit, dimension)
    return f"{shown} ({units.show(criterion.limit, Dimension.FACTOR)} the {base}{_in_phase(criterion.reference)})"


def _holds(value: float, sign: str, limit: float, dimension: Dimension) -> bool:
    """Compare; two figures that differ by no more than rounding count as equal, except counts, which are exact."""
    same = value == limit or (dimension is not Dimension.COUNT and math.isclose(value, limit, rel_tol=_SAME_RATIO))
    if sign in ("==", "!="):
        return same == (sign == "==")
    return sign in ("<=", ">=") if same else _ORDERINGS[sign](value, limit)


def _is_evidence(metric: Metric, values: dict[str, float]) -> bool:
    """Whether a broken promise was seen although nothing was delivered."""
    counted = _BEHIND.get(metric.name, (metric.name,))
    return any(name in _ANOMALIES and values.get(name, 0) > 0 for name in counted)


def _in_phase(phase: str) -> str:
    """Half a sentence on where; a window around the faults is no phase."""
    if phase in FAULT_WINDOWS:
        return f" {phase} the faults"
    return f" in the phase {phase!r}" if phase else ""


def _unknown(criterion: Criterion, value: float | None, why: str) -> CriterionResult:
    return CriterionResult(text=criterion.text, observed=value, verdict=Verdict.UNKNOWN, note=why)
