"""Ask the leak verdict about the target, when a scenario has a criterion about it: its memory, its descriptors, its threads.

The figure handed to the judge is the end of the confidence interval that decides: for a PASS its upper end, for a FAIL its lower one, so
that the criterion's own comparison comes to the same verdict. An UNKNOWN leaves the figure missing, with the reason. The slope and both
ends are figures of their own, whatever the verdict.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from floodmark.core.errors import UsageError
from floodmark.model.scenario import Scenario
from floodmark.model.verdict import Verdict
from floodmark.monitor.sample import ProcessSample
from floodmark.runner.evidence import Evidence

if TYPE_CHECKING:
    from floodmark.monitor.leak.result import Growth, LeakResult
    from floodmark.monitor.leak.trace import Window

MEMORY, DESCRIPTORS, THREADS = "leak_bytes_per_message", "leak_descriptors_per_thousand", "leak_threads_per_thousand"
SLOPES = ("leak_slope", "leak_slope_lower", "leak_slope_upper")
UNSEEN = "no one process of the target could be followed over all of the load"
ANY_BYTES = 10.0  # the limit where only the slope or another column is asked for


def require_limits(scenario: Scenario) -> None:
    """Refuse a criterion that no process could keep. Raises: UsageError."""
    for criterion in scenario.criteria:
        if criterion.metric in (MEMORY, DESCRIPTORS, THREADS) and not criterion.limit > 0:
            raise UsageError(
                f"scenario {scenario.id!r}: criterion {criterion.text!r} needs a limit above 0: no growth at all cannot be measured"
            )


def leak_of(scenario: Scenario, evidence: Evidence) -> LeakResult | None:
    """Judge the target over the load, or both; None when no criterion asks or no one process of it was there to be seen all the time."""
    asked = {criterion.metric for criterion in scenario.criteria}
    watch, target = evidence.watch, evidence.target
    if asked.isdisjoint((MEMORY, DESCRIPTORS, THREADS, *SLOPES)) or watch is None or target is None or target.pid is None:
        return None
    if target.starts_count > 1:
        return None
    if not evidence.load_end_ns:
        return None
    # Only now: the statistics behind it take 60 MB, which no other run should pay for.
    from floodmark.monitor.leak.trace import Window, trace_of
    from floodmark.monitor.leak.verdict import judge_leak

    samples = [
        ProcessSample(**{name: getattr(row, name) for name in ProcessSample.__struct_fields__})
        for row in watch.rows()
        if row.tree == "target"
    ]
    timed = [blow for blow in evidence.blows if not blow.standing and blow.lifted_ns > blow.struck_ns]
    blown = [Window(start_ns=blow.struck_ns, end_ns=blow.lifted_ns) for blow in timed]
    first, again = _loads(evidence)
    trace = trace_of(
        samples,
        evidence.timeline.progress(),
        left_out=blown,
        load=first,
        second_load=again,
        descriptors=DESCRIPTORS in asked,
        threads=THREADS in asked,
    )
    return judge_leak(
        trace,
        limit_bytes_per_message=_limit(scenario, MEMORY, ANY_BYTES),
        limit_descriptors_per_thousand=_limit(scenario, DESCRIPTORS, 1.0),
        limit_threads_per_thousand=_limit(scenario, THREADS, 1.0),
        peak_limit_bytes=_limit(scenario, "rss_peak", math.inf),
    )


def figures_of(scenario: Scenario, result: LeakResult | None) -> tuple[dict[str, float], dict[str, str]]:
    """The figures by metric, and the reasons where there is none."""
    asked = [name for name in (MEMORY, DESCRIPTORS, THREADS, *SLOPES) if any(criterion.metric == name for criterion in scenario.criteria)]
    if result is None:
        return {}, dict.fromkeys(asked, UNSEEN)
    values: dict[str, float] = {}
    missing: dict[str, str] = {}
    for name, growth in ((MEMORY, result.decided), (DESCRIPTORS, result.descriptors), (THREADS, result.threads)):
        if growth is None or name not in asked:
            continue
        bound = _bound(growth)
        if bound is None:
            missing[name] = growth.reason
        else:
            values[name] = bound
    ends = (result.decided.slope, result.decided.lower, result.decided.upper)
    for name, value in zip(SLOPES, ends, strict=True):
        if value is None:
            missing[name] = result.decided.reason
        else:
            values[name] = value
    return values, missing


def _bound(growth: Growth) -> float | None:
    return {Verdict.PASS: growth.upper, Verdict.FAIL: growth.lower, Verdict.UNKNOWN: None}[growth.verdict]


def _limit(scenario: Scenario, metric: str, otherwise: float) -> float:
    """The strictest upper bound that a criterion sets for the whole run."""
    limits = [one.limit for one in scenario.criteria if one.metric == metric and not one.phase and not one.reference]
    return min((limit for limit in limits if limit > 0), default=otherwise)


def _loads(evidence: Evidence) -> tuple[Window, Window | None]:
    """The first load and, where it was played, the second; each with its drain."""
    from floodmark.monitor.leak.trace import Window

    end_ns = evidence.drained_ns or evidence.load_end_ns
    if not evidence.second_end_ns:
        return Window(start_ns=evidence.first_intended_ns, end_ns=evidence.first_drained_ns or end_ns), None
    first = Window(start_ns=evidence.first_intended_ns, end_ns=evidence.first_drained_ns)
    return first, Window(start_ns=evidence.second_start_ns, end_ns=max(end_ns, evidence.second_end_ns))
