"""What two runs are compared by: each figure, which way is better, and how large a change must be to matter.

`tolerance_ratio` is the change that is let pass, `grain` the absolute one below which it is no change at all (what the figure is read in: a
page, a bin of the clock); the larger of the two holds. The tolerances follow from 31 repetitions of two small scenarios on a shared machine
with two busy cores (`docs/baselines.md`): resident memory varied by 0.1 % from run to run, processor time by 7 %, latencies by 40 to 60 %.
A tolerance is not a noise level, though: noise widens the interval, and with it the number of repetitions, not what counts as a change.

Adding one: an entry here; its figure is the metric of that name, or is worked out in `figure`.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping

import msgspec

from floodmark.core.units import Dimension
from floodmark.model.metrics import METRICS


class Better(enum.Enum):
    """Which way is better."""

    LOWER = "lower"
    HIGHER = "higher"


class Gauge(msgspec.Struct, frozen=True, kw_only=True):
    """One figure to compare.

    `series` is what of samples.parquet tells how much it moved within a run; empty where nothing does. `is_usual`: compared unless others
    are asked for. `of_machine`: it says as much about the machine as about the target, so it is compared on one machine only.
    """

    name: str
    dimension: Dimension
    better: Better = Better.LOWER
    tolerance_ratio: float = 0.10
    grain: float = 0.0
    series: str = ""
    is_usual: bool = True
    of_machine: bool = True


CPU_PER_DELIVERY = "cpu_per_delivery"
"""Worked out: processor time of the target / distinct intact deliveries."""


def _gauge(
    name: str,
    tolerance_ratio: float,
    *,
    grain: float = 0.0,
    series: str = "",
    usual: bool = True,
    higher: bool = False,
    anywhere: bool = False,
) -> Gauge:
    return Gauge(
        name=name,
        dimension=METRICS[name].dimension,
        better=Better.HIGHER if higher else Better.LOWER,
        tolerance_ratio=tolerance_ratio,
        grain=grain,
        series=series,
        is_usual=usual,
        of_machine=not anywhere,
    )


_TIMER_S = 1e-4  # two wake-ups of a loaded scheduler: a median of 0.1 ms that is 0.2 ms another time tells of that
_BIN_S = 0.25  # the resolution of the clocks of faults
_MIB = 1024.0**2

GAUGES: dict[str, Gauge] = {
    gauge.name: gauge
    for gauge in (
        _gauge("throughput", 0.10, series="delivered_hz", higher=True),
        _gauge("goodput", 0.10, higher=True),
        _gauge("latency_p50", 0.25, grain=_TIMER_S, series="response_p50_ns"),
        _gauge("latency_p99", 0.50, grain=_TIMER_S, series="response_p99_ns"),
        _gauge("service_latency_p50", 0.25, grain=_TIMER_S, series="service_p50_ns"),
        _gauge("service_latency_p99", 0.50, grain=_TIMER_S, series="service_p99_ns"),
        _gauge("ttft_p50", 0.25, grain=_TIMER_S),
        _gauge("ttft_p99", 0.50, grain=_TIMER_S),
        _gauge("recovery", 0.25, grain=_BIN_S),
        Gauge(name=CPU_PER_DELIVERY, dimension=Dimension.TIME, tolerance_ratio=0.15),
        _gauge("rss_peak", 0.05, grain=_MIB, anywhere=True),
        _gauge("rss_per_connection", 0.15, grain=1024.0, anywhere=True),
        _gauge("fds_peak", 0.05, grain=2.0, anywhere=True),
        _gauge("leak_slope", 0.25, grain=5.0, anywhere=True),
        # On request: they follow from others, or vary too much to be watched without a reason.
        _gauge("latency_p90", 0.50, grain=_TIMER_S, usual=False),
        _gauge("latency_p999", 1.00, grain=_TIMER_S, usual=False),
        _gauge("latency_max", 1.00, grain=_TIMER_S, usual=False),
        _gauge("ack_latency_p50", 0.25, grain=_TIMER_S, usual=False),
        _gauge("ack_latency_p99", 0.50, grain=_TIMER_S, usual=False),
        _gauge("token_gap_p50", 0.25, grain=_TIMER_S, usual=False),
        _gauge("token_gap_p99", 0.50, grain=_TIMER_S, usual=False),
        _gauge("stream_time_p50", 0.25, grain=_TIMER_S, usual=False),
        _gauge("stream_time_p99", 0.50, grain=_TIMER_S, usual=False),
        _gauge("publish_rate", 0.10, series="published_hz", usual=False, higher=True),
        _gauge("connect_time", 0.50, grain=_TIMER_S, usual=False),
        _gauge("load_time", 0.10, grain=_TIMER_S, usual=False),
        _gauge("first_delivery", 0.25, grain=_BIN_S, usual=False),
        _gauge("full_rate", 0.25, grain=_BIN_S, usual=False),
        _gauge("backlog_drained", 0.25, grain=_BIN_S, usual=False),
        _gauge("cpu", 0.15, grain=0.02, usual=False),
        _gauge("rss_end", 0.05, grain=_MIB, usual=False, anywhere=True),
        _gauge("rss_rise", 0.25, grain=_MIB, usual=False, anywhere=True),
        _gauge("rss_kept", 0.25, grain=_MIB, usual=False, anywhere=True),
        _gauge("threads_peak", 0.05, grain=1.0, usual=False, anywhere=True),
        _gauge("delivery_ratio", 0.001, usual=False, anywhere=True, higher=True),
        _gauge("error_ratio", 0.10, grain=0.001, usual=False, anywhere=True),
    )
}


def figure(gauge: Gauge, metrics: Mapping[str, float]) -> float | None:
    """The figure of a gauge in a scenario's metrics; None where it was not measured.

    >>> figure(GAUGES["cpu_per_delivery"], {"cpu": 0.5, "delivered": 1000.0})
    0.0005
    """
    if gauge.name != CPU_PER_DELIVERY:
        value = metrics.get(gauge.name)
    else:
        cpu_s, delivered = metrics.get("cpu"), metrics.get("delivered")
        value = cpu_s / delivered if cpu_s is not None and delivered else None
    return None if value is None or not math.isfinite(value) else value
