"""What makes a run prove nothing, whatever its criteria say: each a criterion of its own, UNKNOWN, with the reason. Pure.

A generator that was late, a fault that touched nothing, a load that was not the one asked for, forged stamps, a course that was broken off.
"""

from __future__ import annotations

from collections import Counter

from floodmark.drivers.sockets import OUR_LIMITS
from floodmark.judge.observe import Record
from floodmark.ledger.histogram import Histogram
from floodmark.model.result import CriterionResult
from floodmark.model.scenario import Scenario
from floodmark.model.verdict import Verdict
from floodmark.runner.evidence import Evidence
from floodmark.runner.lateness import was_late


def caveats(scenario: Scenario, evidence: Evidence, record: Record) -> list[CriterionResult]:
    """What makes a run prove nothing, whatever its criteria say."""
    found: list[CriterionResult] = []

    def note(text: str, observed: float | None, why: str) -> None:
        found.append(CriterionResult(text=text, observed=observed, verdict=Verdict.UNKNOWN, note=why))

    limit_s = scenario.lag_limit_s
    if was_late(scenario, record):
        why = "the generator itself was late, so the figures say more about it than about the target; lower the rate or add agents"
        note(f"generator_lag_p99 <= {limit_s * 1000:g}ms", record.lag.p99 / 1e9, why)
    if record.fault_hits == 0:
        note("fault_hits > 0", 0.0, "the fault touched nothing, so the run says nothing about it")
    elif idle := _idle(scenario, evidence):
        why = f"of the {len(scenario.faults)} faults these touched nothing, so the run says nothing about them: {idle}"
        note("fault_hits > 0", 0.0, why)
    if evidence.shortfall is not None:
        count = evidence.shortfall.count
        note("undone == 0", float(count) if count is not None else None, evidence.shortfall.why)
    asked_for = any(outcome.figures.get("failed_by_fault") for outcome in evidence.outcomes)
    if record.delivery.dropped_by_us and not (asked_for and all(not outcome.figures["dropped_unasked"] for outcome in evidence.outcomes)):
        why = "the harness had no connection left to send these through, so the load was not the one asked for"
        note("dropped_by_us == 0", float(record.delivery.dropped_by_us), why)
    if ours := sum(count for reason, count in evidence.reasons.items() if any(limit in reason for limit in OUR_LIMITS)):
        why = "this machine had no descriptor or no local port left for these connections, so the target was not asked for them"
        note("not_opened_by_us == 0", float(ours), f"{why}; floodmark doctor says how to get more")
    if not record.delivery.delivered:
        note("delivered > 0", 0.0, evidence.notes[0] if evidence.notes else "no delivery was seen, so the run proves nothing")
    wanted = evidence.connected * scenario.population.subscriptions_per_connection
    if scenario.warmup and evidence.loaded and evidence.seen < wanted:
        note(
            f"subscriptions == {wanted}",
            float(evidence.seen),
            "not every subscription saw a warm-up message, so some may never have been active",
        )
    if record.delivery.delivered and not record.delivery.acknowledged:
        note(
            "acknowledged > 0",
            0.0,
            "the target took responsibility for no message that a subscription was there for, so none could be lost",
        )
    early = _timed_early(evidence)
    if early:
        why = "these arrived before they were sent by their own stamps: stamps were forged or clocks differ, so no latency here is proven"
        note("latency_min >= 0s", None, f"{early:,} of {record.response.count + early:,} latencies are negative; {why}")
    if evidence.broken_off or evidence.target_exits:
        note("the run came to its end", None, evidence.notes[-1 if evidence.target_exits else 0])
    return found


def _idle(scenario: Scenario, evidence: Evidence) -> str:
    """Name the faults that touched nothing on any occasion; none where a run did not come to its end: they may not have struck yet."""
    if evidence.broken_off or evidence.target_exits:
        return ""
    hits = Counter[int]()
    for blow in evidence.blows:
        hits[blow.index] += blow.hits
    return ", ".join(f"{fault.kind} at {fault.at_s:g} s" for index, fault in enumerate(scenario.faults) if not hits[index])


def _timed_early(evidence: Evidence) -> int:
    """How many deliveries bear a time of sending that lies behind their arrival."""
    return sum(Histogram.from_wire(data).negative_count for outcome in evidence.outcomes for data in outcome.response.values())
