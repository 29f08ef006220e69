"""What became of the stream after each fault: one `FaultResult` an occasion, put together from blows, rates, samples and the ledger.

A fault's losses are those of what was sent from its strike to the next one's, so that over all faults they add up to what was lost since
the first. Its clocks run from its lift to the next strike; faults that overlap come to their end together, with the last lift among them.
What is usual is what was seen before the first fault: a stream that a fault has made slow must not become the measure for the next one.
Memory and work: one entry an occasion up to `TOLD_OCCASIONS` of a slot, the further ones are one entry together.
Not here: when faults strike (blows), how a clock is read (judge/recovery).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import msgspec

from floodmark.faults import plan as plan_fault
from floodmark.faults.drop import Drop
from floodmark.judge.recovery import Bin, Clocks, clocks, usual
from floodmark.load.arrivals import FAR_NS, Schedule, schedule
from floodmark.model.arrival import Flood
from floodmark.model.result import Delivery, FaultResult, FaultStretch
from floodmark.model.scenario import Phase, Scenario
from floodmark.runner import usage
from floodmark.runner.evidence import Blow, Evidence
from floodmark.runner.timeline import BIN_NS

TOLD_OCCASIONS = 10
ANOMALIES = ("lost", "duplicated", "reordered", "corrupted")
_SUMMED = ("hits", "back", "reconnects", "away", "unplaced")
_SUMMED_IF_KNOWN = (*ANOMALIES, "indeterminate")
_WORST = ("recovery_s", "first_delivery_s", "full_rate_s", "backlog_drained_s")


def timed(evidence: Evidence) -> list[Blow]:
    """The blows that struck at a time of their own, in the order of their strikes."""
    return sorted((blow for blow in evidence.blows if not blow.standing), key=lambda blow: blow.struck_ns)


def windows(evidence: Evidence, never_ns: int) -> list[tuple[str, int, int]]:
    """The stretches that the ledger shall count apart: from each strike to the next one, (name, from_ns, to_ns).

    Neighbours that end up in one entry are one stretch, however many they are.
    """
    found: list[tuple[str, int, int]] = []
    blows = timed(evidence)
    if not blows:
        return []
    merged = (-1, -1)
    for blow, end_ns in zip(blows, [*(later.struck_ns for later in blows[1:]), never_ns], strict=True):
        place = (blow.index, min(blow.occasion, TOLD_OCCASIONS))
        if place == merged and blow.occasion > TOLD_OCCASIONS:
            name, start_ns, _ = found.pop()
            found.append((name, start_ns, end_ns))
        else:
            found.append((_window_name(blow), blow.struck_ns, end_ns))
        merged = place
    return found


def fault_results(scenario: Scenario, evidence: Evidence, *, seed: int, now_ns: int) -> tuple[FaultResult, ...]:
    """Tell of each fault, in the order of their strikes; those that stood all the while come first."""
    origin_ns = evidence.first_intended_ns
    if not origin_ns:
        return ()
    end_ns = evidence.load_end_ns or now_ns
    course = _Course(scenario, evidence, seed, end_ns)
    told = [_standing(blow, evidence, end_ns) for blow in evidence.blows if blow.standing]
    return (*told, *_merged([course.told(blow) for blow in timed(evidence)]))


class _Course:
    """The course of a run's faults: which of them overlap, and the stream around them."""

    def __init__(self, scenario: Scenario, evidence: Evidence, seed: int, end_ns: int) -> None:
        self._evidence, self._end_ns, self._origin_ns = evidence, end_ns, evidence.first_intended_ns
        self._blows = timed(evidence)
        self._gone_for_good = [isinstance(plan, Drop) and not plan.back for plan in map(plan_fault, scenario.faults)]
        self._connections = scenario.population.connections
        self._groups = _overlapping(self._blows)
        self._group_of = {id(blow): number for number, group in enumerate(self._groups) for blow in group}
        self._resident = usage.Resident(evidence, "target")
        self._bins = bins(scenario, evidence, seed) if self._blows else []
        self._usual = usual(self._bins, until_s=self._s(self._blows[0].struck_ns)) if self._blows else None

    def told(self, blow: Blow) -> FaultResult:
        number = self._group_of[id(blow)]
        lifted_ns = max(one.lifted_ns for one in self._groups[number])
        until_ns = self._end_ns
        if number + 1 < len(self._groups):
            until_ns = min(until_ns, self._groups[number + 1][0].struck_ns)
        calm_ns = max((one.lifted_ns for one in self._groups[number - 1]), default=0) if number else self._origin_ns
        read = self._clocks(self._groups[number], lifted_ns, until_ns)
        sure, more = self._counted(blow)
        after = self._stretch(lifted_ns, until_ns)
        return FaultResult(
            kind=blow.kind,
            index=blow.index,
            occasion=blow.occasion,
            struck_s=self._s(blow.struck_ns),
            lifted_s=self._s(blow.lifted_ns),
            hits=blow.hits,
            back=blow.back,
            reconnects=blow.reconnects,
            away=blow.away,
            recovery_s=_recovery_s(blow),
            first_delivery_s=read.first_delivery_s,
            full_rate_s=read.full_rate_s,
            backlog_drained_s=read.backlog_s,
            degraded=read.degraded,
            **({name: getattr(sure, name) for name in (*ANOMALIES, "indeterminate")} if sure is not None else {}),
            unplaced=sum(getattr(more, name) for name in ANOMALIES) if more is not None else 0,
            before=self._stretch(calm_ns, blow.struck_ns),
            during=self._stretch(blow.struck_ns, blow.lifted_ns),
            after=msgspec.structs.replace(after, duration_s=min(after.duration_s, read.watched_s)) if self._usual is not None else after,
        )

    def _clocks(self, group: Sequence[Blow], lifted_ns: int, until_ns: int) -> Clocks:
        away = sum(one.hits for one in self._blows if one.struck_ns <= lifted_ns and self._gone_for_good[one.index])
        return clocks(
            self._bins,
            self._usual,
            struck_s=self._s(group[0].struck_ns),
            lifted_s=self._s(lifted_ns),
            until_s=self._s(until_ns),
            away_ratio=min(1.0, away / self._connections),
        )

    def _counted(self, blow: Blow) -> tuple[Delivery | None, Delivery | None]:
        reckoning, name = self._evidence.reckoning, _window_name(blow)
        if reckoning is None or not reckoning.windows:
            return None, None
        # A blow without a window of its own is a part of its neighbour's, where it is counted.
        return reckoning.windows.get(name, Delivery()), reckoning.unplaced.get(name, Delivery())

    def _stretch(self, from_ns: int, to_ns: int) -> FaultStretch:
        to_ns = min(to_ns, self._end_ns)
        seen, rss_bytes_peak = self._evidence.timeline.stretch(from_ns, to_ns), self._resident.peak_bytes(from_ns, to_ns)
        if not seen.duration_s:
            return FaultStretch(rss_bytes_peak=rss_bytes_peak)
        timed_count = seen.response.count if seen.response is not None else 0
        return FaultStretch(
            duration_s=seen.duration_s,
            published_hz=seen.published / seen.duration_s,
            delivered_hz=seen.delivered / seen.duration_s,
            response_ns_p99=seen.response.percentile(99) if seen.response is not None and timed_count else None,
            rss_bytes_peak=rss_bytes_peak,
        )

    def _s(self, at_ns: int) -> float:
        return (at_ns - self._origin_ns) / 1e9


def bins(scenario: Scenario, evidence: Evidence, seed: int) -> list[Bin]:
    """The rates as the recovery clocks read them, with what the schedules of the phases meant for each bin."""
    origin_ns = evidence.first_intended_ns
    starts_ns = _starts_ns(scenario.phases, evidence)
    spans = [
        (phase, _schedule(phase, seed), start_ns, end_ns)
        for phase, (start_ns, end_ns) in zip(scenario.phases, pairwise([*starts_ns, FAR_NS]), strict=False)
    ]
    return [bin_._replace(wanted=_wanted(spans, origin_ns + round(bin_.t_s * 1e9))) for bin_ in evidence.timeline.bins(origin_ns)]


def _wanted(spans: Sequence[tuple[Phase, Schedule | None, int, int]], begin_ns: int) -> float | None:
    total = 0.0
    for phase, meant, start_ns, end_ns in spans:
        low_ns, high_ns = max(begin_ns, start_ns), min(begin_ns + BIN_NS, end_ns)
        if low_ns >= high_ns:
            continue
        if meant is None:
            return None
        total += _due(phase, meant, high_ns - start_ns) - _due(phase, meant, low_ns - start_ns)
    return total


def _due(phase: Phase, meant: Schedule, elapsed_ns: int) -> int:
    """Count the messages meant to go out before a moment."""
    last_ns = elapsed_ns if phase.duration_s is None else min(elapsed_ns, round(phase.duration_s * 1e9))
    due = meant.due(last_ns - 1)
    return due if phase.messages is None else min(due, phase.messages)


def _schedule(phase: Phase, seed: int) -> Schedule | None:
    return None if isinstance(phase.arrival, Flood) else schedule(phase.arrival, duration_s=phase.duration_s, seed=seed)


def _starts_ns(phases: Iterable[Phase], evidence: Evidence) -> list[int]:
    """When each phase began, as far as they came."""
    starts_ns: list[int] = []
    since_ns = evidence.first_intended_ns
    for phase in phases:
        at_ns = evidence.timeline.marked_ns(phase.name, since_ns)
        if at_ns is None:
            break
        starts_ns.append(at_ns)
        since_ns = at_ns + 1
    return starts_ns


def _overlapping(blows: Sequence[Blow]) -> list[list[Blow]]:
    """Sort blows into groups of which each is over when the next one begins."""
    groups: list[list[Blow]] = []
    over_ns = 0
    for blow in blows:
        if groups and blow.struck_ns < over_ns:
            groups[-1].append(blow)
        else:
            groups.append([blow])
        over_ns = max(over_ns, blow.lifted_ns)
    return groups


def _recovery_s(blow: Blow) -> float | None:
    """Until the last victim was back, from the strike on; None when one stayed away, and for a fault that takes nobody away."""
    if blow.away or (blow.clients and blow.back < blow.hits):
        return None
    return blow.worst_s or None


def _window_name(blow: Blow) -> str:
    return f"fault#{blow.index}.{blow.occasion}"


def _standing(blow: Blow, evidence: Evidence, end_ns: int) -> FaultResult:
    """A fault that was there before the load: there is no time without it to compare with."""
    origin_ns = evidence.first_intended_ns
    whole = evidence.reckoning.delivery if evidence.reckoning is not None else None
    return FaultResult(
        kind=blow.kind,
        index=blow.index,
        standing=True,
        struck_s=0.0,
        lifted_s=(max(blow.lifted_ns, end_ns) - origin_ns) / 1e9,
        hits=blow.hits,
        back=blow.back,
        reconnects=blow.reconnects,
        away=blow.away,
        **({name: getattr(whole, name) for name in (*ANOMALIES, "indeterminate")} if whole is not None else {}),
    )


def _merged(told: Sequence[FaultResult]) -> list[FaultResult]:
    """Make one entry of the occasions of a slot beyond the first ones, at the place of the first of those."""
    kept: list[FaultResult] = []
    place: dict[int, int] = {}
    for one in told:
        if one.occasion < TOLD_OCCASIONS:
            kept.append(one)
        elif one.index not in place:
            place[one.index] = len(kept)
            kept.append(one)
        else:
            kept[place[one.index]] = _both(kept[place[one.index]], one)
    return kept


def _if_both(one: float | None, other: float | None, join: Callable[[tuple[float, float]], float]) -> float | None:
    return None if one is None or other is None else join((one, other))


def _both(first: FaultResult, later: FaultResult) -> FaultResult:
    """Two occasions in one entry: sums, and the worst of what was seen of both, None where one was not seen."""
    sums = {name: getattr(first, name) + getattr(later, name) for name in _SUMMED}
    known = {name: _if_both(getattr(first, name), getattr(later, name), sum) for name in _SUMMED_IF_KNOWN}
    worst = {name: _if_both(getattr(first, name), getattr(later, name), max) for name in _WORST}
    if True in (first.degraded, later.degraded):
        degraded: bool | None = True
    else:
        degraded = later.degraded
    return msgspec.structs.replace(
        first, occasions=first.occasions + 1, lifted_s=later.lifted_s, degraded=degraded, after=later.after, **sums, **known, **worst
    )
