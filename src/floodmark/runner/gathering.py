"""From evidence to one record: the figures of all agents, of the watch and of the target's own statistics, put together.

Pure. What the figures are held against, and what makes them prove nothing, is for `results.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

from floodmark.judge.observe import Answers, Record
from floodmark.ledger.histogram import Histogram
from floodmark.ledger.inbox import NEVER_NS
from floodmark.model.arrival import Flood
from floodmark.model.checks import FAULT_WINDOWS
from floodmark.model.result import Delivery, FaultResult
from floodmark.model.scenario import Scenario
from floodmark.runner import usage
from floodmark.runner.aftermath import timed
from floodmark.runner.evidence import Evidence
from floodmark.runner.leaks import figures_of, leak_of
from floodmark.runner.remains import responses, services
from floodmark.runner.wire import Outcome


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


def _merged(parts: Iterable[bytes]) -> Histogram:
    whole = Histogram()
    for part in parts:
        whole.merge(Histogram.from_wire(part))
    return whole
