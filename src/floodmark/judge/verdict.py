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
from floodmark.model.criterion import Criterion, parse
from floodmark.model.finding import Guarantee, Order
from floodmark.model.metrics import Metric
from floodmark.model.result import CriterionResult
from floodmark.model.verdict import Verdict

# Dividing two counts and reading the limit from text are each off by one bit at most (1.1e-16). One loss in 10^12 must still show.
_SAME_RATIO = 1e-14
_ANOMALIES = frozenset({"lost", "duplicated", "reordered", "corrupted", "unexpected"})
_BEHIND = {"delivery_ratio": ("lost", "corrupted")}  # metrics made of anomaly counts
_ORDERINGS: dict[str, Callable[[float, float], bool]] = {"<": operator.lt, ">": operator.gt, "<=": operator.lt, ">=": operator.gt}


class Observations(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one scenario showed.

    `values`: metric name to its figure in the base unit. `missing`: metric name to half a sentence saying why there is none.
    `delivered`: intact deliveries seen. `phases`: the same as `values` for each phase by name; a phase has its own `delivered` in there,
    without which its delivery metrics prove nothing.
    """

    values: dict[str, float] = {}
    missing: dict[str, str] = {}
    delivered: int = 0
    phases: dict[str, dict[str, float]] = {}


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

    A criterion about one phase does not replace the promise about all of them.
    """
    stated = tuple(criteria)
    covered = {criterion.metric for criterion in stated if not criterion.phase}
    return stated + tuple(criterion for criterion in implied(guarantee, order) if criterion.metric not in covered)


def _judged(criterion: Criterion, seen: Observations) -> CriterionResult:
    metric = criterion.known
    if criterion.phase and criterion.phase not in seen.phases:
        return _unknown(criterion, None, f"the phase {criterion.phase!r} was not measured")
    values = seen.phases[criterion.phase] if criterion.phase else seen.values
    value = values.get(criterion.metric)
    if value is None:
        return _unknown(criterion, None, _why_missing(criterion, seen))
    if math.isnan(value):
        return _unknown(criterion, None, f"{metric.name} came out as no number, so it proves nothing")
    holds = _holds(value, criterion.operator, criterion.limit, metric.dimension)
    delivered = values.get("delivered", 0) if criterion.phase else seen.delivered
    if metric.needs_delivery and not delivered > 0 and (holds or not _is_evidence(metric, values)):
        where = f" in the phase {criterion.phase!r}" if criterion.phase else ""
        return _unknown(criterion, value, f"no delivery was seen{where}, so {metric.name} proves nothing")
    if holds and math.isinf(value):  # a division by nothing may break a promise, but cannot keep one
        return _unknown(criterion, None, f"{metric.name} came out infinite, so it proves nothing")
    if holds:
        return CriterionResult(text=criterion.text, observed=value, verdict=Verdict.PASS)
    wanted = f"{criterion.operator} {units.show(criterion.limit, metric.dimension)}"
    note = f"{metric.name} was {units.show(value, metric.dimension)}, wanted {wanted}"
    return CriterionResult(text=criterion.text, observed=value, verdict=Verdict.FAIL, note=note)


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


def _why_missing(criterion: Criterion, seen: Observations) -> str:
    reason = seen.missing.get(criterion.metric)
    where = f" in the phase {criterion.phase!r}" if criterion.phase else ""
    return f"{criterion.metric} was not observed{where}: {reason}" if reason else f"{criterion.metric} was not observed{where}"


def _unknown(criterion: Criterion, value: float | None, why: str) -> CriterionResult:
    return CriterionResult(text=criterion.text, observed=value, verdict=Verdict.UNKNOWN, note=why)
