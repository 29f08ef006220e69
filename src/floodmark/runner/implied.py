"""The criteria that a result is judged by: the scenario's own, those of its guarantee, and what goes without saying. Pure."""

from __future__ import annotations

from floodmark.faults import CLIENT_FAULTS
from floodmark.judge.verdict import with_implied
from floodmark.model.criterion import Criterion, parse
from floodmark.model.scenario import Scenario
from floodmark.runner.evidence import Evidence

CALM = (
    ("connect_failures == 0", ("success_ratio", "error_ratio"), True),
    ("refused == 0", ("error_ratio",), False),
    ("unanswered == 0", ("error_ratio",), False),
    ("disconnects == 0", (), False),
    ("ended == 0", (), False),
)
"""What a target does that is well, unless the scenario says something about it, or about one of the metrics behind it, itself; and whether
a fault excuses it that holds from before the first connection. Of the lost and the ended, what a fault explains by its time is out of the
count already (losses), as is what faults in the clients do. What is done to subscribers excuses nobody from answering publishers: a target
that refuses all would lose nothing."""
CALM_ANSWERS: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    ("streams_failed == 0", ("streams_completed", "goodput_ratio", "error_ratio"), True),
    ("odd_events == 0", (), False),
)
"""The same as `CALM` where streams are answers; a fault on the wire or in the target excuses the answers that it cuts off."""


def criteria_of(scenario: Scenario, evidence: Evidence) -> tuple[Criterion, ...]:
    """The scenario's own, those of its guarantee, and what goes without saying.

    A load of which half was refused, or cut off, would otherwise pass on the strength of the other half.
    """
    criteria = with_implied(scenario.criteria, scenario.guarantee, scenario.order)
    stated = {criterion.metric for criterion in criteria if not criterion.phase}
    lenient = any(fault.from_connect for fault in scenario.faults)
    asked: list[tuple[str, tuple[str, ...]]] = [(text, others) for text, others, excused in CALM if not (lenient and excused)]
    if any(outcome.answered is not None for outcome in evidence.outcomes):
        struck = any(fault.kind not in CLIENT_FAULTS for fault in scenario.faults)
        asked += [(text, others) for text, others, excused in CALM_ANSWERS if not (struck and excused)]
    implied = [text for text, others in asked if not stated & {text.split()[0], *others}]
    started_by_us = evidence.target is not None and evidence.target.pid is not None
    if started_by_us and "target_exits" not in stated:
        implied.append("target_exits == 0")
    return (*criteria, *(parse(text) for text in implied))
