"""A criterion: text with a unit, such as `latency_p99 < 100ms`, parsed once and checked against the known metrics.

Grammar: METRIC [@ PHASE] OPERATOR VALUE. A wrong one is a usage error that names the nearest metric or the units allowed.
Judging is not here: see `judge/`.
"""

from __future__ import annotations

import difflib
import re

import msgspec

from floodmark.core import units
from floodmark.core.errors import UsageError
from floodmark.model.metrics import METRICS, Metric

OPERATORS = ("<=", ">=", "==", "!=", "<", ">")
_CRITERION = re.compile(r"\s*([A-Za-z_][\w]*)\s*(?:@\s*([\w-]+))?\s*(<=|>=|==|!=|<|>)\s*(.+?)\s*")


class Criterion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One parsed criterion; `limit` is in the metric's base unit."""

    text: str
    metric: str
    operator: str
    limit: float
    phase: str = ""

    @property
    def known(self) -> Metric:
        """The metric's registry entry."""
        return METRICS[self.metric]


def parse(text: str) -> Criterion:
    """Parse one criterion.

    Raises: UsageError when the form, the metric or the unit is wrong; it says what is allowed.

    >>> parse("latency_p99 < 100ms").limit
    0.1
    """
    match = _CRITERION.fullmatch(text)
    if match is None:
        raise UsageError(
            f"criterion {text!r} is not METRIC OPERATOR VALUE (operators {' '.join(OPERATORS)}), for example: latency_p99 < 100ms"
        )
    name, phase, operator, value = match.groups()
    metric = METRICS.get(name)
    if metric is None:
        near = difflib.get_close_matches(name, METRICS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known metrics: {', '.join(METRICS)}"
        raise UsageError(f"criterion {text!r}: unknown metric {name!r}; {hint} (floodmark list metrics shows them all)")
    limit = units.parse(value, metric.dimension, where=f"criterion {text!r}")
    return Criterion(text=text.strip(), metric=name, operator=operator, limit=limit, phase=phase or "")
