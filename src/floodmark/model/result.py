"""The result of a run, in the shape that `--json` and `run.json` have: fields may be added, never renamed.

All latencies are integer nanoseconds, sizes are bytes, durations float seconds. Delivery counts are in deliveries, that is (message,
subscription) pairs: one message to a hundred subscriptions is a hundred attempted deliveries.
"""

from __future__ import annotations

import msgspec

from floodmark.model.finding import Finding
from floodmark.model.mark import Mark
from floodmark.model.verdict import Verdict

SCHEMA = 1


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """The account of a scenario, observed at the subscriber's handler."""

    attempted: int = 0
    acknowledged: int = 0
    delivered: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    corrupted: int = 0
    unexpected: int = 0
    indeterminate: int = 0
    dropped_by_us: int = 0


class LatencySummary(msgspec.Struct, frozen=True, kw_only=True):
    """Percentiles of one histogram, nanoseconds; all 0 when `count` is 0."""

    p50: int = 0
    p90: int = 0
    p99: int = 0
    p999: int = 0
    max: int = 0
    count: int = 0


class Latencies(msgspec.Struct, frozen=True, kw_only=True):
    """`response` counts from the intended send, `service` from the actual one; their difference is the generator's own lag."""

    response: LatencySummary = LatencySummary()
    service: LatencySummary = LatencySummary()


class TargetUsage(msgspec.Struct, frozen=True, kw_only=True):
    """The process tree under test seen from outside; all 0 when it could not be read (a URL on another machine)."""

    rss_bytes_start: int = 0
    rss_bytes_peak: int = 0
    rss_bytes_end: int = 0
    cpu_s: float = 0.0
    fds_peak: int = 0
    threads_peak: int = 0


class GeneratorUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What floodmark itself cost: runner and agents together; of agents on other machines, see `agents`. `agents_lost` counts those."""

    rss_bytes_peak: int = 0
    cpu_s: float = 0.0
    lag_ns_p99: int = 0
    processes: int = 1
    agents_lost: int = 0


class AgentResult(msgspec.Struct, frozen=True, kw_only=True):
    """An agent on another machine: its clock is `offset_ns` ahead of the runner's, give or take `uncertainty_ns`, drift included.

    One that came by the name of a lost one is another, with a row of its own. `slices` are those that it played, `lost` those of them that
    were lost with it. `rss_bytes_peak` and `cpu_s` are what it cost in this scenario, its slices' processes included; `GeneratorUsage` has
    the runner alone.
    """

    name: str
    host: str
    offset_ns: int
    uncertainty_ns: int
    drift_ppm: float = 0.0
    slices: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    rss_bytes_peak: int = 0
    cpu_s: float = 0.0


class CriterionResult(msgspec.Struct, frozen=True, kw_only=True):
    """One criterion and what was seen; `observed` is in base units (s, bytes, /s, ratio), None when there was no evidence."""

    text: str
    observed: float | None
    verdict: Verdict
    note: str = ""


class FaultStretch(msgspec.Struct, frozen=True, kw_only=True):
    """The stream before, during or after one fault, as far as the load went on in it; None is what was not seen.

    Counted in the bins of the agents' reports, so its edges are as sharp as one of those (0.25 s). Latencies are of what arrived in it.
    """

    duration_s: float = 0.0
    published_hz: float | None = None
    delivered_hz: float | None = None
    response_ns_p99: int | None = None
    rss_bytes_peak: int | None = None


class FaultResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one occasion of a fault did to the stream, and how the stream came back; times count from the start of the load.

    `index` is the fault's slot in the scenario, `occasion` counts its repeats from 0; beyond the first ten, all further `occasions` are
    one entry with sums and worst cases. A `standing` one was there before the load and never lifted. Of the connections lost to it,
    `reconnects` came back and `away` did not. Clocks count from `lifted_s`, but `recovery_s`, until the last victim was back, from
    `struck_s`; one whose moment was not seen is None, as is `recovery_s` of a fault that takes no connection away. The deliveries
    counted are those sent from `struck_s` to the next strike of any fault, or the end; up to `unplaced` more anomalies may belong there,
    or elsewhere.
    """

    kind: str
    index: int
    occasion: int = 0
    occasions: int = 1
    standing: bool = False
    struck_s: float
    lifted_s: float
    hits: int = 0
    back: int = 0
    reconnects: int = 0
    away: int = 0
    recovery_s: float | None = None
    first_delivery_s: float | None = None
    full_rate_s: float | None = None
    backlog_drained_s: float | None = None
    degraded: bool | None = None
    lost: int | None = None
    duplicated: int | None = None
    reordered: int | None = None
    corrupted: int | None = None
    indeterminate: int | None = None
    unplaced: int = 0
    before: FaultStretch = FaultStretch()
    during: FaultStretch = FaultStretch()
    after: FaultStretch = FaultStretch()


class ScenarioResult(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario's outcome. `note` says why a verdict is UNKNOWN; `log_tail` holds the target's last lines when that helps."""

    id: str
    plan: str
    verdict: Verdict
    scale: float
    duration_s: float
    criteria: tuple[CriterionResult, ...] = ()
    delivery: Delivery = Delivery()
    latency_ns: Latencies = Latencies()
    throughput_hz: float = 0.0
    target: TargetUsage = TargetUsage()
    generator: GeneratorUsage = GeneratorUsage()
    findings: tuple[Finding, ...] = ()
    metrics: dict[str, float] = {}
    note: str = ""
    log_tail: tuple[str, ...] = ()
    title: str = ""
    faults: tuple[FaultResult, ...] = ()
    agents: tuple[AgentResult, ...] = ()


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run: the one document that `--json` prints.

    With `mark`, of a search for the breaking point, the verdict is that of the search: its scenarios are trials, and some have to break.
    """

    schema: int = SCHEMA
    version: str
    seed: int
    scale: float
    verdict: Verdict
    run: str
    scenarios: tuple[ScenarioResult, ...] = ()
    interrupted: bool = False
    duration_s: float = 0.0
    mark: Mark | None = None
