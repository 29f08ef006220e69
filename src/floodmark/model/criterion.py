"""A criterion: text with a unit, such as `latency_p99 < 100ms`, parsed once and checked against the known metrics.

Grammar: METRIC [@ WINDOW] OPERATOR VALUE, where WINDOW is a phase, or `before`, `during` or `after` the faults, and VALUE is a quantity, or
a multiple of the same metric in another window: `latency_p99 @ after < 2x before`. METRIC may be `target.NAME` for a number of the
target's own statistics. A wrong one is a usage error that names the nearest
metric or the units allowed. Whether a scenario has such a window is the scenario's matter (`checks.window`).
Judging is not here: see `judge/`.
"""

from __future__ import annotations

import difflib
import re

import msgspec

from floodmark.core import units
from floodmark.core.errors import UsageError
from floodmark.core.units import Dimension
from floodmark.model.checks import FAULT_WINDOWS
from floodmark.model.metrics import METRICS, Metric, metric_of

OPERATORS = ("<=", ">=", "==", "!=", "<", ">")
_CRITERION = re.compile(r"\s*((?:target\.)?[A-Za-z_][\w]*)\s*(?:@\s*([\w-]+))?\s*(<=|>=|==|!=|<|>)\s*(.+?)\s*")
_RELATIVE = re.compile(r"(\S+?)\s*x\s+([\w-]+)")
_LONE_WINDOW = re.compile(r"(?:.*\s)?([A-Za-z_][\w-]*)")


class Criterion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One parsed criterion; `limit` is in the metric's base unit or, with a `reference`, the multiple of the metric's figure there.

    `phase` is the window that is judged, empty for the whole run.
    """

    text: str
    metric: str
    operator: str
    limit: float
    phase: str = ""
    reference: str = ""

    @property
    def known(self) -> Metric:
        """The metric's registry entry."""
        known = metric_of(self.metric)
        assert known is not None, self.metric  # `parse` made sure
        return known


def parse(text: str) -> Criterion:
    """Parse one criterion.

    Raises: UsageError when the form, the metric or the unit is wrong; it says what is allowed.

    >>> parse("latency_p99 < 100ms").limit
    0.1
    >>> parse("latency_p99 @ after < 2x before").reference
    'before'
    """
    match = _CRITERION.fullmatch(text)
    if match is None:
        raise UsageError(
            f"criterion {text!r} is not METRIC OPERATOR VALUE (operators {' '.join(OPERATORS)}), for example: latency_p99 < 100ms"
        )
    name, phase, operator, value = match.groups()
    metric = metric_of(name)
    if metric is None:
        near = difflib.get_close_matches(name, METRICS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known metrics: {', '.join(METRICS)}"
        raise UsageError(f"criterion {text!r}: unknown metric {name!r}; {hint} (floodmark list metrics shows them all)")
    limit, reference = _limit(value, metric, phase or "", f"criterion {text!r}")
    return Criterion(text=text.strip(), metric=name, operator=operator, limit=limit, phase=phase or "", reference=reference)


def _limit(value: str, metric: Metric, phase: str, where: str) -> tuple[float, str]:
    """Read what stands behind the operator: a quantity, or a factor and the window it refers to."""
    relative = _RELATIVE.fullmatch(value)
    if relative is None:
        _refuse_half(value, metric, where)
        return units.parse(value, metric.dimension, where=where), ""
    number, reference = relative.groups()
    factor = units.parse(f"{number}x", Dimension.FACTOR, where=where)
    if factor <= 0:
        raise UsageError(f"{where}: a multiple of another window must be greater than 0x, got {number}x")
    if reference == phase:
        raise UsageError(f"{where} compares {metric.name} in {phase!r} with itself; name two windows")
    return factor, reference


def _refuse_half(value: str, metric: Metric, where: str) -> None:
    """Refuse a value that is meant to be relative and lacks its factor or its window."""
    lone = _LONE_WINDOW.fullmatch(value)
    if lone is not None and lone[1] in FAULT_WINDOWS:
        raise UsageError(
            f"{where}: {value!r} is no multiple of another window; write the factor, an x and the window, such as 2x {lone[1]}"
        )
    if metric.dimension is not Dimension.FACTOR and re.fullmatch(r"[\d._]+\s*x", value):
        raise UsageError(f"{where}: {value!r} does not say of what; name the window it refers to, such as {value} before")
