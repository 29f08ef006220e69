"""What an interrupted scenario may still claim: what was seen stands, what was not seen proves nothing.

A message that was on its way when the run was broken off is not lost, and a criterion that the whole load was to meet was never put to
the test. Anomalies that did arrive (duplicated, reordered, corrupted, unexpected, odd events, wrong usage) are evidence at any time. Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import msgspec

from floodmark.ledger.reconcile import Reckoning
from floodmark.model.criterion import parse
from floodmark.model.finding import Anomaly
from floodmark.model.result import CriterionResult
from floodmark.model.verdict import Verdict

_SEEN = frozenset({"duplicated", "reordered", "corrupted", "unexpected", "odd_events", "usage_wrong"})


def in_flight(reckoning: Reckoning) -> Reckoning:
    """Count what is missing as indeterminate: it may have been on its way."""
    delivery = reckoning.delivery
    return dataclasses.replace(
        reckoning,
        delivery=msgspec.structs.replace(delivery, lost=0, indeterminate=delivery.indeterminate + delivery.lost),
        findings=tuple(finding for finding in reckoning.findings if finding.anomaly is not Anomaly.LOST),
    )


def held_back(judged: Iterable[CriterionResult], why: str) -> tuple[CriterionResult, ...]:
    """Turn every judgement into UNKNOWN but the failures by what was really seen; the figures stay."""
    return tuple(one if _stands(one) else msgspec.structs.replace(one, verdict=Verdict.UNKNOWN, note=why) for one in judged)


def _stands(result: CriterionResult) -> bool:
    return result.verdict is Verdict.UNKNOWN or (result.verdict is Verdict.FAIL and parse(result.text).metric in _SEEN)
