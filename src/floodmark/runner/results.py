"""From evidence to a result: figures (`gathering.py`), criteria (`implied.py`), caveats, verdict. Pure.

Whatever the criteria say, a run that proves nothing is UNKNOWN: nothing delivered, a generator that was late, a fault that touched
nothing, a load that was not the one asked for, a course that was broken off.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from floodmark.judge.observe import observe
from floodmark.judge.verdict import Observations, judge
from floodmark.model.criterion import Criterion
from floodmark.model.metrics import STATISTIC
from floodmark.model.result import Latencies, ScenarioResult
from floodmark.model.scenario import Scenario
from floodmark.model.verdict import Verdict, worst
from floodmark.runner import usage
from floodmark.runner.aftermath import fault_results
from floodmark.runner.caveats import caveats
from floodmark.runner.evidence import Evidence
from floodmark.runner.gathering import record_of
from floodmark.runner.implied import criteria_of
from floodmark.runner.interrupted import held_back
from floodmark.runner.lateness import spoilt_by_lag, undecided_by_clocks, unproven, was_late
from floodmark.runner.remains import at_least
from floodmark.runner.undone import unprovoked

FINDINGS_SHOWN = 50
REASONS_SHOWN = 5
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def result_of(scenario: Scenario, evidence: Evidence, *, agents: int, seed: int, now_ns: int) -> tuple[ScenarioResult, Observations]:
    """Judge what there is. An interrupted or broken-off run has less evidence, and is judged by that.

    Returns: the result, and the figures behind it by which more criteria can be judged.
    """
    record = record_of(scenario, evidence, fault_results(scenario, evidence, seed=seed, now_ns=now_ns))
    criteria = criteria_of(scenario, evidence)
    observations = at_least(observe(record), evidence.agents_lost) if evidence.loaded else _nothing(criteria, evidence)
    judged = judge(criteria, observations)
    late = was_late(scenario, record)
    judged = tuple(
        unproven(result) if late or spoilt_by_lag(criterion, result, record) else result
        for criterion, result in zip(criteria, judged, strict=True)
    )
    judged = tuple(unprovoked(*pair, evidence.shortfall) for pair in zip(criteria, judged, strict=True))
    judged = tuple(undecided_by_clocks(*pair, evidence.clock_error_ns) for pair in zip(criteria, judged, strict=True))
    if evidence.interrupted or (evidence.broken_off and not evidence.target_exits):
        judged = held_back(judged, evidence.notes[0])
    judged = (*judged, *caveats(scenario, evidence, record))
    verdict = worst(criterion.verdict for criterion in judged)
    if verdict is Verdict.PASS and evidence.reckoning is None:
        verdict = Verdict.UNKNOWN
    reasons = [f"{count:,} x {reason}" for reason, count in _alike(evidence.all_reasons)[:REASONS_SHOWN]]
    target = evidence.target
    result = ScenarioResult(
        id=scenario.id,
        title=scenario.title,
        plan=scenario.plan,
        verdict=verdict,
        scale=scenario.scale,
        duration_s=(now_ns - evidence.started_ns) / 1e9 if evidence.started_ns else 0.0,
        criteria=judged,
        delivery=record.delivery,
        latency_ns=Latencies(response=record.response, service=record.service),
        throughput_hz=observations.values.get("throughput", 0.0),
        target=usage.target_usage(evidence),
        generator=usage.generator_usage(evidence, lag_ns_p99=record.lag.p99, agents=agents),
        findings=evidence.reckoning.findings[:FINDINGS_SHOWN] if evidence.reckoning is not None else (),
        metrics={
            **{
                name: value
                for name, value in sorted(observations.values.items())
                if math.isfinite(value) and name not in observations.at_least
            },
            **{STATISTIC + name: value for name, value in sorted((record.statistics or {}).items()) if math.isfinite(value)},
        },
        note="; ".join([*evidence.notes, *reasons]),
        log_tail=target.log_tail() if target is not None and verdict is not Verdict.PASS else (),
        faults=record.faults,
        agents=evidence.agents,
    )
    return result, observations


def _nothing(criteria: Sequence[Criterion], evidence: Evidence) -> Observations:
    """A run that never came to its load has measured nothing, whatever else was counted."""
    why = evidence.notes[0] if evidence.notes else "the load never began"
    return Observations(missing={criterion.metric: why for criterion in criteria})


def _alike(reasons: Counter[str]) -> list[tuple[str, int]]:
    """Reasons that differ in a number only counted as one, told by the first of them; the most frequent first."""
    kinds: dict[str, tuple[str, int]] = {}
    for reason, count in reasons.most_common():
        kind = _NUMBER.sub("#", reason)
        told, so_far = kinds.get(kind, (reason, 0))
        kinds[kind] = (told, so_far + count)
    return sorted(kinds.values(), key=lambda kind: -kind[1])
