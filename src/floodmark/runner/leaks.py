"""Ask the leak verdict about the target, when a scenario has a criterion about it.

The figure handed to the judge is the end of the confidence interval that decides: for a PASS its upper end, for a FAIL its lower one, so
that the criterion's own comparison comes to the same verdict. An UNKNOWN leaves the figure missing, with the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from floodmark.model.scenario import Scenario
from floodmark.model.verdict import Verdict
from floodmark.monitor.sample import ProcessSample
from floodmark.runner.evidence import Evidence

if TYPE_CHECKING:
    from floodmark.monitor.leak.result import LeakResult

METRIC = "leak_bytes_per_message"


def leak_of(scenario: Scenario, evidence: Evidence) -> LeakResult | None:
    """Judge the target's memory over the load; None when no criterion asks or the target cannot be seen."""
    limits = [criterion.limit for criterion in scenario.criteria if criterion.metric == METRIC]
    watch, target = evidence.watch, evidence.target
    if not limits or watch is None or target is None or target.pid is None or not evidence.load_end_ns:
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
    load = Window(start_ns=evidence.first_intended_ns, end_ns=evidence.drained_ns or evidence.load_end_ns)
    trace = trace_of(samples, evidence.timeline.progress(), left_out=blown, load=load)
    return judge_leak(trace, limit_bytes_per_message=min(limits))


def figure_of(result: LeakResult | None) -> tuple[float | None, str]:
    """The figure to compare with the limit, or why there is none."""
    if result is None:
        return None, "the target's memory could not be followed over the load"
    growth = result.memory
    bound = {Verdict.PASS: growth.upper, Verdict.FAIL: growth.lower, Verdict.UNKNOWN: None}[result.verdict]
    if bound is None or (result.verdict is Verdict.FAIL and growth.verdict is not Verdict.FAIL):
        return None, result.reason
    return bound, ""
