"""What a driver was to do to the target and did not: what that makes of criteria that want its doing to be felt. Pure.

What it makes of the target's own statistics is for `judge/verdict.py`; that the run proves nothing then, for `results.py`.
"""

from __future__ import annotations

import msgspec

from floodmark.model.criterion import Criterion
from floodmark.model.result import CriterionResult
from floodmark.model.shortfall import Shortfall
from floodmark.model.verdict import Verdict

PROVOKED = ("disconnects", "ended", "unanswered", "refused")
"""Metrics of which a scenario may want some, to see that what it does to the target was felt."""


def unprovoked(criterion: Criterion, result: CriterionResult, shortfall: Shortfall | None) -> CriterionResult:
    """Where something was not done to the target, that it was not felt accuses nobody."""
    wanted = criterion.metric in PROVOKED and criterion.operator in (">", ">=")
    if shortfall is None or not wanted or result.verdict is not Verdict.FAIL:
        return result
    return msgspec.structs.replace(result, verdict=Verdict.UNKNOWN, note=f"{result.note}, but {shortfall.why}")
