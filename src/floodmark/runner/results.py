"""From evidence to a result: figures, criteria, caveats, verdict. Pure but for the clock that ends the scenario's duration.

Whatever the criteria say, a run that proves nothing is UNKNOWN: nothing delivered, a generator that was late, a fault that touched
nothing, a load that was not the one asked for, a course that was broken off.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

import msgspec

from floodmark.faults import CLIENT_FAULTS
from floodmark.judge.observe import Answers, Record, observe
from floodmark.judge.verdict import Observations, judge, with_implied
from floodmark.ledger.histogram import Histogram
from floodmark.ledger.inbox import NEVER_NS
from floodmark.model.arrival import Flood
from floodmark.model.checks import FAULT_WINDOWS
from floodmark.model.criterion import Criterion, parse
from floodmark.model.metrics import STATISTIC
from floodmark.model.result import CriterionResult, Delivery, FaultResult, Latencies, ScenarioResult
from floodmark.model.scenario import Scenario
from floodmark.model.verdict import Verdict, worst
from floodmark.runner import usage
from floodmark.runner.aftermath import fault_results, timed
from floodmark.runner.evidence import Evidence
from floodmark.runner.interrupted import held_back
from floodmark.runner.leaks import figures_of, leak_of
from floodmark.runner.remains import at_least, responses, services
from floodmark.runner.undone import unprovoked
from floodmark.runner.wire import Outcome

FINDINGS_SHOWN = 50
REASONS_SHOWN = 5
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def result_of(scenario: Scenario, evidence: Evidence, *, agents: int, seed: int, now_ns: int) -> tuple[ScenarioResult, Observations]:
    """Judge what there is. An interrupted or broken-off run has less evidence, and is judged by that.

    Returns: the result, and the figures behind it by which more criteria can be judged.
    """
    record = record_of(scenario, evidence, fault_results(scenario, evidence, seed=seed, now_ns=now_ns))
    criteria = _criteria(scenario, evidence)
    observations = at_least(observe(record), evidence.agents_lost) if evidence.loaded else _nothing(criteria, evidence)
    judged = judge(criteria, observations)
    late = _late(scenario, record)
    judged = tuple(
        _unproven(result) if late or spoilt_by_lag(criterion, result, record) else result
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


def record_of(scenario: Scenario, evidence: Evidence, faults: tuple[FaultResult, ...]) -> Record:
    """Gather the figures of all agents and of the watch into one record."""
    population = scenario.population
    outcomes, remains = evidence.outcomes, evidence.remains
    figures: Counter[str] = Counter()
    for outcome in outcomes:
        figures.update(outcome.figures)
    largest = usage.peak(evidence, "target")
    started_by_us = evidence.target is not None and evidence.target.pid is not None
    each = population.subscriptions_per_connection
    leaks, leaks_unknown = figures_of(scenario, leak_of(scenario, evidence))
    return Record(
        delivery=evidence.reckoning.delivery if evidence.reckoning is not None else Delivery(),
        asked_connections=population.connections,
        connected=evidence.connected,
        subscriptions_seen=evidence.seen if scenario.warmup else evidence.connected * each,
        asked_subscriptions=population.subscriptions,
        connect_s=evidence.connect_s,
        first_intended_ns=evidence.first_intended_ns,
        last_received_ns=max((outcome.last_received_ns for outcome in outcomes), default=0),
        drained_ns=evidence.drained_ns,
        first_connect_ns=evidence.first_connect_ns,
        published=int(figures["published"]) + sum(one.published for one in remains),
        refused=int(figures["refused"]),
        unanswered=int(figures["unanswered"]),
        # Whether a fault explains them is not known of those that a lost agent had reported.
        disconnects=int(figures["disconnects"]) + (0 if scenario.faults else sum(one.disconnects for one in remains)),
        ended=int(figures["ended"]),
        response=_merged([*(data for outcome in outcomes for data in outcome.response.values()), *responses(remains)]).summary(),
        service=_merged([*(data for outcome in outcomes for data in outcome.service.values()), *services(remains)]).summary(),
        ack=_merged(outcome.ack for outcome in outcomes).summary(),
        lag=_merged([*(outcome.lag for outcome in outcomes), *(one.lag for one in remains)]).summary(),
        phases={
            phase.name: _merged(
                [*(outcome.response[phase.name] for outcome in outcomes if phase.name in outcome.response), *responses(remains, index)]
            ).summary()
            for index, phase in enumerate(scenario.phases)
            if any(phase.name in outcome.response for outcome in outcomes)
        },
        windows=_around_faults(evidence.reckoning.windows) if evidence.reckoning is not None else {},
        unplaced=_around_faults(evidence.reckoning.unplaced) if evidence.reckoning is not None else {},
        window_published=_published(evidence),
        window_peak=_window_peaks(evidence),
        window_response={
            name: _merged(outcome.window_response[name] for outcome in outcomes if name in outcome.window_response).summary()
            for name in FAULT_WINDOWS
        },
        window_s=_window_lengths(evidence),
        faults=faults,
        leaks=leaks,
        leaks_unknown=leaks_unknown,
        rested_s=_rested_s(evidence),
        target=usage.memory(evidence, "target"),
        harness=usage.memory(evidence, "harness"),
        total_peak_bytes=usage.total_peak_bytes(evidence),
        target_cpu_s=largest.cpu_s if largest is not None else None,
        fds_peak=largest.descriptors if largest is not None else None,
        threads_peak=largest.threads if largest is not None else None,
        fault_hits=evidence.fault_hits if scenario.faults else None,
        fault_back=evidence.fault_back,
        statistics=evidence.statistics,
        shortfall=evidence.shortfall,
        statistics_wanted={
            "delivered": figures["frames"],
            "published": figures["published"] + evidence.probes + figures["fault_publishes"],
            **_held(scenario, outcomes, int(figures["connections"])),
        },
        target_exits=evidence.target_exits if started_by_us else None,
        closed_loop=all(isinstance(phase.arrival, Flood) for phase in scenario.phases),
        answers=_answers(evidence),
    )


def _held(scenario: Scenario, outcomes: Sequence[Outcome], connections: int) -> dict[str, float]:
    """What a target's statistics should say of what is open at the end. Who asks has no publisher connections, and what a channel is to
    the target, if anything, is the driver's to know."""
    if any(outcome.answered is not None for outcome in outcomes):
        return {"connections": connections}
    population = scenario.population
    return {"connections": connections + population.publishers, "subscriptions": connections * population.subscriptions_per_connection}


def _answers(evidence: Evidence) -> Answers | None:
    """What all agents together know of their answers; None where the driver does not ask."""
    parts = [outcome.answered for outcome in evidence.outcomes if outcome.answered is not None]
    if not parts:
        return None
    figures: Counter[str] = Counter()
    for part in parts:
        figures.update(part.figures)
    return Answers(
        ttft=_merged(part.ttft for part in parts).summary(),
        token_gap=_merged(part.token_gap for part in parts).summary(),
        stream_time=_merged(part.stream_time for part in parts).summary(),
        tokens_per_chunk_max=max(part.worst["tokens_per_chunk"] for part in parts),
        pace_error=max(part.worst["pace_error"] for part in parts),
        close_worst_s=evidence.close_worst_s,
        **{name: int(figures[name]) for name in Answers.__struct_fields__ if name in figures},
    )


def caveats(scenario: Scenario, evidence: Evidence, record: Record) -> list[CriterionResult]:
    """What makes a run prove nothing, whatever its criteria say."""
    found: list[CriterionResult] = []

    def note(text: str, observed: float | None, why: str) -> None:
        found.append(CriterionResult(text=text, observed=observed, verdict=Verdict.UNKNOWN, note=why))

    limit_s = scenario.lag_limit_s
    if _late(scenario, record):
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


OWN_TIME = (
    *("latency_", "throughput", "publish_rate", "load_time", "duration"),
    *("recovery", "first_delivery", "full_rate", "degraded", "backlog_drained"),
)
"""Metrics whose figures a late generator spoils; the service latency is counted from the actual send and is not among them."""


def _late(scenario: Scenario, record: Record) -> bool:
    return record.lag.count > 0 and record.lag.p99 > scenario.lag_limit_s * 1e9


def spoilt_by_lag(criterion: Criterion, result: CriterionResult, record: Record) -> bool:
    """Whether this limit of a response latency was kept but for our lateness: counted from the actual send, and with our lag taken off.

    What the target holds up is no lag of ours, so a target that stalls its publishers is not excused by it.
    """
    whole = criterion.metric.startswith("latency_") and not criterion.phase and criterion.operator in ("<", "<=")
    if not whole or not record.lag.count or result.observed is None:
        return False
    name = criterion.metric.removeprefix("latency_")
    lag_s, service_s = (getattr(times, name) / 1e9 for times in (record.lag, record.service))
    return bool(service_s < criterion.limit and result.observed - lag_s < criterion.limit)


BETWEEN_CLOCKS = ("latency_", "service_latency_", "recovery", "first_delivery", "full_rate", "backlog_drained", "load_time")
"""Metrics that compare times of two agents, or of an agent and the runner."""


def undecided_by_clocks(criterion: Criterion, result: CriterionResult, error_ns: int) -> CriterionResult:
    """A time between two clocks is known to `error_ns`: where the limit lies within that of it, nobody can say whether it was kept.

    Every latency may be wrong by that much, so a percentile may be by no more. Between two phases both sides may be, one upwards.
    """
    if not error_ns or result.observed is None or not criterion.metric.startswith(BETWEEN_CLOCKS):
        return result
    error_s = error_ns / 1e9
    limit_s = criterion.limit if not criterion.reference else 0.0
    near = abs(result.observed - limit_s) <= error_s if not criterion.reference else 20 * error_s > result.observed
    if not near:
        return result
    why = f"the agents' clocks are compared to {error_ns / 1e6:.3g} ms, and the limit lies within that of the figure"
    return msgspec.structs.replace(result, verdict=Verdict.UNKNOWN, note=why)


def _unproven(result: CriterionResult) -> CriterionResult:
    """A failed criterion about times that the generator itself spoilt accuses nobody."""
    if result.verdict is not Verdict.FAIL or not result.text.startswith(OWN_TIME):
        return result
    why = f"{result.note}, but the generator itself was late, so this says nothing about the target"
    return msgspec.structs.replace(result, verdict=Verdict.UNKNOWN, note=why)


CALM = (
    ("connect_failures == 0", ("success_ratio", "error_ratio"), True),
    ("refused == 0", ("error_ratio",), False),
    ("unanswered == 0", ("error_ratio",), False),
    ("disconnects == 0", (), False),
    ("ended == 0", (), False),
)
CALM_ANSWERS: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    ("streams_failed == 0", ("streams_completed", "goodput_ratio", "error_ratio"), True),
    ("odd_events == 0", (), False),
)
"""The same as `CALM` where streams are answers; a fault on the wire or in the target excuses the answers that it cuts off."""
"""What a target does that is well, unless the scenario says something about it, or about one of the metrics behind it, itself; and whether
a fault excuses it that holds from before the first connection. Of the lost and the ended, what a fault explains by its time is out of the
count already (losses), as is what faults in the clients do. What is done to subscribers excuses nobody from answering publishers: a target
that refuses all would lose nothing."""


def _criteria(scenario: Scenario, evidence: Evidence) -> tuple[Criterion, ...]:
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


Counted = TypeVar("Counted")


def _around_faults(counts: Mapping[str, Counted]) -> dict[str, Counted]:
    """Of all that the ledger counted apart, what criteria may name."""
    return {name: counts[name] for name in FAULT_WINDOWS if name in counts}


def _published(evidence: Evidence) -> dict[str, int]:
    """What was sent in each window; nothing where the edges between them are not exact."""
    reckoning = evidence.reckoning
    if any(outcome.answered is not None for outcome in evidence.outcomes):
        return {}  # the ledger counts the tokens of an answer, `published` the requests
    return _around_faults(reckoning.published) if reckoning is not None and not reckoning.edge_error_count else {}


def _timed(evidence: Evidence) -> tuple[int, int] | None:
    """From the first blow at a time of its own to the last one lifted."""
    blows = timed(evidence)
    return (blows[0].struck_ns, max(blow.lifted_ns for blow in blows)) if blows else None


def _window_peaks(evidence: Evidence) -> dict[str, int]:
    """The target's largest resident memory before, during and after the faults; the drain is after them."""
    around = _timed(evidence)
    if around is None:
        return {}
    resident = usage.Resident(evidence, "target")
    edges = (evidence.first_intended_ns, *around, NEVER_NS)
    peaks = {name: resident.peak_bytes(start, end) for name, (start, end) in zip(FAULT_WINDOWS, pairwise(edges), strict=True)}
    return {name: peak for name, peak in peaks.items() if peak is not None}


def _window_lengths(evidence: Evidence) -> dict[str, float]:
    """How long the load went on before, during and after the faults, seconds; a second load is after them."""
    timed = _timed(evidence)
    if timed is None or not evidence.load_end_ns:
        return {}
    struck_ns, lifted_ns = timed
    edges = (evidence.first_intended_ns, struck_ns, lifted_ns, evidence.load_end_ns)
    lengths = {name: max(0, end - start) / 1e9 for name, start, end in zip(FAULT_WINDOWS, edges, edges[1:], strict=False)}
    lengths["after"] += max(0, evidence.second_end_ns - evidence.second_start_ns) / 1e9
    return lengths


def _rested_s(evidence: Evidence) -> float:
    """How long the target was left alone between two loads; the first one's drain is part of that load."""
    return (evidence.second_start_ns - evidence.first_drained_ns) / 1e9 if evidence.second_start_ns else 0.0


def _timed_early(evidence: Evidence) -> int:
    """How many deliveries bear a time of sending that lies behind their arrival."""
    return sum(Histogram.from_wire(data).negative_count for outcome in evidence.outcomes for data in outcome.response.values())


def _merged(parts: Iterable[bytes]) -> Histogram:
    whole = Histogram()
    for part in parts:
        whole.merge(Histogram.from_wire(part))
    return whole
