"""Times that prove nothing of the target: spoilt by a generator that was late itself, or between clocks that nobody can compare so well.

Pure; each takes a judged criterion and leaves it, or makes it UNKNOWN with the reason.
"""

from __future__ import annotations

import msgspec

from floodmark.judge.observe import Record
from floodmark.model.criterion import Criterion
from floodmark.model.result import CriterionResult
from floodmark.model.scenario import Scenario
from floodmark.model.verdict import Verdict

OWN_TIME = (
    *("latency_", "throughput", "publish_rate", "load_time", "duration"),
    *("recovery", "first_delivery", "full_rate", "degraded", "backlog_drained"),
)
"""Metrics whose figures a late generator spoils; the service latency is counted from the actual send and is not among them."""


def was_late(scenario: Scenario, record: Record) -> bool:
    """Whether the generator's own lag is beyond the scenario's limit."""
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


def unproven(result: CriterionResult) -> CriterionResult:
    """A failed criterion about times that the generator itself spoilt accuses nobody."""
    if result.verdict is not Verdict.FAIL or not result.text.startswith(OWN_TIME):
        return result
    why = f"{result.note}, but the generator itself was late, so this says nothing about the target"
    return msgspec.structs.replace(result, verdict=Verdict.UNKNOWN, note=why)
