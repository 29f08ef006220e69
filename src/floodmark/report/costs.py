"""Where the time and the memory of a scenario went: figures worked out from what was measured, each None when its parts were not.

Input: a scenario's result and what was sampled. Output: one `Costs`, plus one `Stretch` for each phase. Pure. What is worked out from
samples is as sharp as they are (a quarter of a second for rates and latencies, a tenth for processes).
"""

from __future__ import annotations

import bisect
import itertools
import math
import statistics
from collections.abc import Sequence

import msgspec

from floodmark.model.result import ScenarioResult
from floodmark.report.series import Curve, Timeline

MILLION = 1_000_000
_NOTHING = Curve([], [])


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """One phase of the load, from the samples that lie in it; `response_ns_p99` is the median of what its intervals had as their p99."""

    name: str
    from_s: float
    to_s: float
    delivered_hz: float | None = None
    response_ns_p99: float | None = None
    rss_bytes: float | None = None


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What a scenario cost, in base units; the name of each is the name that reports give it, and that advice refers to."""

    target_cpu_s: float | None = None
    target_cpu_s_per_million: float | None = None
    target_cores: float | None = None
    harness_cpu_s: float | None = None
    harness_cpu_share: float | None = None
    rss_bytes_start: float | None = None
    rss_bytes_peak: float | None = None
    rss_bytes_end: float | None = None
    rss_peak_factor: float | None = None
    rss_kept_factor: float | None = None
    rss_bytes_per_connection: float | None = None
    rss_bytes_per_delivery: float | None = None
    leak_bytes_per_message: float | None = None
    harness_rss_bytes_per_connection: float | None = None
    waited_ns_p99: float | None = None
    lag_share: float | None = None
    tail_factor: float | None = None
    backlog_ratio: float | None = None
    latency_growth_factor: float | None = None
    slowest_recovery_s: float | None = None
    degraded_count: float | None = None


def costs(scenario: ScenarioResult, seen: Timeline | None, phases: Sequence[str] = ()) -> Costs:
    """Work out what a scenario cost.

    Args:
        seen: what was sampled, if anything was.
        phases: the names of the scenario's phases, oldest first.
    """
    target, harness, response = scenario.target, scenario.generator, scenario.latency_ns.response
    metrics = scenario.metrics
    delivered = scenario.delivery.delivered
    stretches = [stretch for stretch in phases_of(seen, phases) if stretch.response_ns_p99] if seen is not None else []
    recoveries = [one.full_rate_s for one in scenario.faults if one.full_rate_s is not None]
    told = [one.degraded for one in scenario.faults if one.degraded is not None]
    return Costs(
        target_cpu_s=target.cpu_s or None,
        target_cpu_s_per_million=None if (spent_s := _spent_s(seen)) is None else _per(spent_s * MILLION, delivered),
        target_cores=_busy(seen),
        harness_cpu_s=harness.cpu_s or None,
        harness_cpu_share=_per(harness.cpu_s, harness.cpu_s + target.cpu_s) if target.cpu_s else None,
        rss_bytes_start=target.rss_bytes_start or None,
        rss_bytes_peak=target.rss_bytes_peak or None,
        rss_bytes_end=target.rss_bytes_end or None,
        rss_peak_factor=_per(target.rss_bytes_peak, target.rss_bytes_start),
        rss_kept_factor=metrics.get("rss_growth"),
        rss_bytes_per_connection=metrics.get("rss_per_connection"),
        rss_bytes_per_delivery=metrics.get("rss_per_delivery"),
        leak_bytes_per_message=metrics.get("leak_bytes_per_message"),
        harness_rss_bytes_per_connection=metrics.get("harness_rss_per_connection"),
        waited_ns_p99=max(0.0, response.p99 - scenario.latency_ns.service.p99) if response.count else None,
        lag_share=_per(harness.lag_ns_p99, response.p99) if harness.lag_ns_p99 else None,
        tail_factor=_per(response.max, response.p50),
        backlog_ratio=_backlog(seen),
        latency_growth_factor=_per(stretches[-1].response_ns_p99 or 0.0, stretches[0].response_ns_p99) if len(stretches) > 1 else None,
        slowest_recovery_s=max(recoveries, default=None),
        degraded_count=float(sum(told)) if told else None,
    )


def phases_of(seen: Timeline, names: Sequence[str]) -> list[Stretch]:
    """The phases that began, in order; each ends where the next begins, the last one with the drain."""
    begun = [(mark.t_s, mark.text) for mark in seen.marks if mark.text in names or mark.text == "drain"]
    return [
        Stretch(
            name=name,
            from_s=from_s,
            to_s=to_s,
            delivered_hz=_mean(seen, "delivered_hz", from_s, to_s),
            response_ns_p99=_median(seen, "response_p99_ns", from_s, to_s),
            rss_bytes=_last(seen, "target_rss_bytes", from_s, to_s),
        )
        for (from_s, name), (to_s, _) in itertools.pairwise(begun)
        if name != "drain"
    ]


def _spent_s(seen: Timeline | None) -> float | None:
    """The processor time of the target from the start of the load on: what starting and connecting cost is left out."""
    curve = seen.curves.get("target_cpu_ratio", _NOTHING) if seen is not None else _NOTHING
    spans = zip(itertools.pairwise(curve.t_s), curve.values[1:], strict=True) if len(curve.t_s) > 1 else ()
    parts = [(to_s - max(from_s, 0.0)) * busy for (from_s, to_s), busy in spans if to_s > 0]
    return sum(parts) if parts else None


def _busy(seen: Timeline | None) -> float | None:
    """How many cores the target kept busy on average while the load lasted."""
    end_s = _drain_s(seen)
    return _mean(seen, "target_cpu_ratio", 0.0, end_s) if seen is not None and end_s is not None else None


def _backlog(seen: Timeline | None) -> float | None:
    """The share of all deliveries that came only after the last message had been sent; of a load that is played twice, the first time."""
    end_s = _drain_s(seen)
    if seen is None or end_s is None:
        return None
    next_s = next((mark.t_s for mark in seen.marks if mark.t_s > end_s), math.inf)
    late = sum(_between(seen, "delivered_hz", end_s, next_s))
    return _per(late, sum(_between(seen, "delivered_hz", 0.0, next_s)))


def _drain_s(seen: Timeline | None) -> float | None:
    return next((mark.t_s for mark in seen.marks if mark.text == "drain"), None) if seen is not None else None


def _between(seen: Timeline, series: str, from_s: float, to_s: float) -> list[float]:
    curve = seen.curves.get(series, _NOTHING)
    return curve.values[bisect.bisect_left(curve.t_s, from_s) : bisect.bisect_left(curve.t_s, to_s)]


def _mean(seen: Timeline, series: str, from_s: float, to_s: float) -> float | None:
    values = _between(seen, series, from_s, to_s)
    return statistics.fmean(values) if values else None


def _median(seen: Timeline, series: str, from_s: float, to_s: float) -> float | None:
    values = _between(seen, series, from_s, to_s)
    return statistics.median(values) if values else None


def _last(seen: Timeline, series: str, from_s: float, to_s: float) -> float | None:
    values = _between(seen, series, from_s, to_s)
    return values[-1] if values else None


def _per(part: float, whole: float | None) -> float | None:
    """A quotient of two figures; nothing was measured where the whole is 0."""
    return part / whole if whole and part >= 0 else None
