"""Whose doing the lost connections and ended subscriptions are: a fault's that was in force at that moment, or else the target's.

A fault on the wire or in the target's processes is in force from its strike until GRACE_NS after it was lifted; one that ended the target
for good, and one that stood from the beginning, to the end of the run; so is one that threw bytes away or damaged them, for connections
that are older than its lift: half a frame, or a ping that never came, may break one long after. A loss belongs to the newest strike in
force. Faults in the clients excuse nothing: whom they hit is known to the agents, which do not report those. Pure: evidence in, the same
evidence settled out; it may be settled again when there is more.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

import msgspec

from floodmark.faults import CLIENT_FAULTS
from floodmark.ledger.inbox import NEVER_NS
from floodmark.model.result import CriterionResult, ScenarioResult
from floodmark.model.scenario import Scenario
from floodmark.model.verdict import Verdict, worst
from floodmark.runner.evidence import Blow, Evidence
from floodmark.runner.wire import Outcome

GRACE_NS = 2_000_000_000


def settle(scenario: Scenario, evidence: Evidence) -> None:
    """Share the losses out among the faults; what is left in each outcome's `disconnects`, `ended`, `unanswered` accuses the target.

    `unanswered` is excused only of publishers that came back: who is cut off for good leaves the question open.
    """
    blows = sorted((blow for blow in evidence.blows if blow.kind not in CLIENT_FAULTS), key=lambda blow: blow.struck_ns)
    for blow in blows:
        blow.reconnects, blow.away, blow.worst_s = 0, 0, None
    strikes = [blow.struck_ns for blow in blows]
    evidence.outcomes = [_settled(outcome, blows, strikes, come_back=scenario.reconnect is not None) for outcome in evidence.outcomes]
    for blow in blows:
        if blow.healed:
            blow.back = 0 if blow.away else blow.hits
    if evidence.target_gone:
        for blow in blows:
            if blow.ended_target:
                blow.back = 0
    evidence.fault_back = sum(blow.back for blow in evidence.blows)
    evidence.fault_worst_s = max((blow.worst_s for blow in evidence.blows if blow.worst_s is not None), default=0.0)


def _settled(outcome: Outcome, blows: list[Blow], strikes: list[int], *, come_back: bool) -> Outcome:
    disconnects = reconnects = away = excused_unanswered = 0
    for loss in outcome.losses:
        back = loss.back_ns > 0
        reconnects += back
        away += not back
        blow = _in_force(loss.at_ns, blows, strikes, since_ns=loss.since_ns)
        if blow is None:
            disconnects += not loss.ours
            continue
        if back:
            blow.reconnects += 1
            blow.worst_s = max(blow.worst_s or 0.0, (loss.back_ns - blow.struck_ns) / 1e9)
            excused_unanswered += loss.unanswered
        else:
            blow.away += 1
    if not come_back:
        away = excused_unanswered = 0
    excused_ended = sum(_in_force(at_ns, blows, strikes) is not None for at_ns in outcome.ended_ns)
    ended = outcome.figures.get("ended", 0) + outcome.figures.get("ended_by_fault", 0)
    unanswered = outcome.figures.get("unanswered", 0) + outcome.figures.get("unanswered_by_fault", 0)
    figures = {
        **outcome.figures,
        "disconnects": disconnects + outcome.figures.get("losses_forgotten", 0),
        "reconnects": reconnects,
        "away": away,
        "ended": ended - excused_ended,
        "ended_by_fault": excused_ended,
        "unanswered": unanswered - excused_unanswered,
        "unanswered_by_fault": excused_unanswered,
    }
    return msgspec.structs.replace(outcome, figures=figures)


def _in_force(at_ns: int, blows: list[Blow], strikes: list[int], *, since_ns: int = NEVER_NS) -> Blow | None:
    """The newest of the faults in force at that moment, for a connection that was there since `since_ns`."""
    for place in range(bisect_right(strikes, at_ns) - 1, -1, -1):
        blow = blows[place]
        if blow.standing or blow.ended_target or not blow.healed or at_ns <= blow.lifted_ns + GRACE_NS:
            return blow
        if blow.damages and since_ns <= blow.lifted_ns:
            return blow
    return None


def with_the_missing(result: ScenarioResult, scenario: Scenario, evidence: Evidence) -> ScenarioResult:
    """Fail a run at whose end somebody is missing who should be there: the target itself, or clients that come back by themselves.

    Nothing is said of a run that was broken off, nor of clients while a fault that stood from the beginning still stands.
    """
    if evidence.interrupted or evidence.broken_off or not evidence.loaded:
        return result
    found: list[CriterionResult] = []
    if evidence.target_gone:
        found.append(CriterionResult(text="the target is there at the end", observed=0.0, verdict=Verdict.FAIL, note=evidence.target_gone))
    away = _sum(evidence.outcomes, "away")
    if away and scenario.reconnect is not None and not any(blow.standing for blow in evidence.blows):
        note = f"{away:,} of the connections that were lost had not come back by the end of the drain"
        found.append(CriterionResult(text="lost connections away == 0", observed=float(away), verdict=Verdict.FAIL, note=note))
    if not found:
        return result
    criteria = (*result.criteria, *found)
    return msgspec.structs.replace(result, criteria=criteria, verdict=worst(criterion.verdict for criterion in criteria))


def _sum(outcomes: Iterable[Outcome], name: str) -> int:
    return int(sum(outcome.figures.get(name, 0) for outcome in outcomes))
