"""One trial of a search for the mark, judged: held, broke, or neither.

Input: the scenario that was played and its result. Output: the result with one more criterion, and the `MarkTrial` made of it. Pure.

The further criterion is that the target carried the load *in its time*. Whoever takes every message and delivers it in the end meets
`lost == 0` at any rate at all, by a queue that only the end of the load stops growing. So when the last delivery comes later after the load
than is usual for this target, by more than a share of the load's length, the value is not one it can be given for long.
"""

from __future__ import annotations

import msgspec

from floodmark.model.arrival import Flood
from floodmark.model.mark import MarkTrial, Outcome
from floodmark.model.result import CriterionResult, ScenarioResult
from floodmark.model.scenario import Fast, Scenario
from floodmark.model.verdict import Verdict, worst

CARRIED = "the load is carried in its time"
BEHIND_RATIO = 0.05  # of the load's length; a queue that grows throughout is twice as long at its end as at its middle
BEHIND_LEAST_S = 0.5  # a hiccup of the machine at the very end of a short trial is no queue
_OURS = ("generator_lag_p99 <=", "dropped_by_us ==", "not_opened_by_us ==")
_LATE = "the generator itself was late"


def with_carried(scenario: Scenario, result: ScenarioResult) -> ScenarioResult:
    """Judge whether the load was carried in its time, where that can be said: an open loop of known length, no faults, read at once."""
    judged = _carried(scenario, result)
    if judged is None:
        return result
    verdict = worst([result.verdict, judged.verdict])
    return msgspec.structs.replace(result, criteria=(*result.criteria, judged), verdict=verdict)


def trial_of(value: float, result: ScenarioResult) -> MarkTrial:
    """Make a trial of a result. A generator that was the bottleneck decides nothing, whatever else broke in its trial."""
    ours = next((one for one in result.criteria if _is_ours(one)), None)
    broken = next((one for one in result.criteria if one.verdict is Verdict.FAIL), None)
    trial = MarkTrial(
        value=value,
        outcome=Outcome.UNKNOWN,
        scenario=result.id,
        p99_ns=result.latency_ns.response.p99,
        throughput_hz=result.throughput_hz,
        duration_s=result.duration_s,
    )
    replace = msgspec.structs.replace
    if ours is not None:
        return replace(trial, generator=True, why=ours.note or ours.text)
    if result.verdict is Verdict.FAIL:
        return replace(trial, outcome=Outcome.BROKE, by=broken.text if broken else "", why=broken.note if broken else result.note)
    if result.verdict is Verdict.PASS:
        return replace(trial, outcome=Outcome.HELD)
    unknown = next((one for one in result.criteria if one.verdict is Verdict.UNKNOWN), None)
    return replace(trial, why=result.note or (f"{unknown.text}: {unknown.note}" if unknown else "there was no evidence"))


def _is_ours(one: CriterionResult) -> bool:
    return one.verdict is Verdict.UNKNOWN and (one.text.startswith(_OURS) or _LATE in one.note)


def _carried(scenario: Scenario, result: ScenarioResult) -> CriterionResult | None:
    lengths = [phase.duration_s for phase in scenario.played if phase.messages is None and not isinstance(phase.arrival, Flood)]
    asks = "streams" in result.metrics  # an answer goes on for as long as it is long, whatever the load
    simple = isinstance(scenario.population.consumer, Fast) and not scenario.faults and not asks and not scenario.second_load
    took_s = result.metrics.get("load_time")
    if not simple or took_s is None or len(lengths) < len(scenario.phases):
        return None
    load_s = sum(length for length in lengths if length is not None)
    usual_s = (result.latency_ns.response.p50 + result.generator.lag_ns_p99) / 1e9
    behind_s = took_s - load_s - usual_s
    limit_s = max(BEHIND_RATIO * load_s, BEHIND_LEAST_S)
    if behind_s <= limit_s:
        return CriterionResult(text=CARRIED, observed=max(0.0, behind_s), verdict=Verdict.PASS)
    late_s = took_s - load_s
    note = f"the last delivery came {late_s:.3g} s after a load of {load_s:.3g} s, half of all within {usual_s:.2g} s: a queue grew"
    return CriterionResult(text=CARRIED, observed=behind_s, verdict=Verdict.FAIL, note=note)
