"""What a comparison with a baseline is asked for, and what it says.

Plain data. How it comes about stands in `judge/compare.py`, how it is written in `report/compare_*.py`.
"""

from __future__ import annotations

import difflib
import enum
import math
from collections.abc import Mapping

import msgspec

from floodmark.core.errors import UsageError
from floodmark.model.gauges import GAUGES, Gauge
from floodmark.model.verdict import Verdict

VERDICT = "verdict"
"""The name under which the verdict of a whole scenario is compared."""


class Change(enum.Enum):
    """What became of a figure."""

    BETTER = "better"
    SAME = "same"
    WORSE = "worse"
    UNKNOWN = "unknown"


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of one scenario, or its verdict.

    `baseline` and `now` are medians in base units. `ratio` is now / baseline and `ratio_interval` holds it with 95 %; where a value is not
    above 0 there is no ratio, and `difference` and its interval stand there. `tolerance_ratio` is the least change that counts, grain
    included. `settled_by` is how many repetitions on either side would tell, None where nobody can say.
    """

    scenario: str
    metric: str
    verdict: Change
    baseline: float | None = None
    now: float | None = None
    ratio: float | None = None
    ratio_interval: tuple[float, float] | None = None
    difference: float | None = None
    difference_interval: tuple[float, float] | None = None
    tolerance_ratio: float | None = None
    repetitions: tuple[int, int] = (0, 0)
    method: str = ""
    p_worse: float | None = None
    is_no_worse: bool = False
    settled_by: int | None = None
    reason: str = ""


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """All comparisons. FAIL: at least one is worse; PASS: there is at least one, and none is worse or may be."""

    baseline: str
    runs: tuple[str, ...]
    verdict: Verdict
    comparisons: tuple[Comparison, ...]
    remarks: tuple[str, ...] = ()


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What to compare: figures by name (none: the usual ones), tolerances by name, and one for all others."""

    metrics: tuple[str, ...] = ()
    tolerance_ratio: float | None = None
    tolerances: Mapping[str, float] = {}
    across_machines: bool = False

    def __post_init__(self) -> None:
        for name in (*self.metrics, *self.tolerances):
            if name not in GAUGES:
                near = difflib.get_close_matches(name, GAUGES, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(GAUGES)}"
                raise UsageError(f"{name!r} is no figure to compare by; {hint}")
        for value in (self.tolerance_ratio, *self.tolerances.values()):
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"a tolerance must be finite and greater than 0, got {value:g}; write for example 10%")

    def tolerance_of(self, gauge: Gauge) -> float:
        """The tolerance that holds for a figure."""
        return self.tolerances.get(gauge.name, gauge.tolerance_ratio if self.tolerance_ratio is None else self.tolerance_ratio)
