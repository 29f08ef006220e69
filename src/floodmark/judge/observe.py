"""Work out every metric of a scenario from what was recorded, or say why there is none.

Input: plain records of a finished (or broken off) scenario. Output: `Observations` under the names of `model/metrics.py`, in base units.
Pure: no I/O, no clock. A figure that was not measured is missing, never 0.
"""

from __future__ import annotations

import math

import msgspec

from floodmark.judge.verdict import Observations
from floodmark.model.metrics import METRICS
from floodmark.model.result import Delivery, FaultResult, LatencySummary
from floodmark.model.shortfall import Shortfall


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Resident bytes at the marks of a scenario; None where it could not be read."""

    before_connect: int | None = None
    connected: int | None = None
    peak: int | None = None
    end: int | None = None
    left: int | None = None  # after all connections have left
    starts: int = 1  # of the process; after more than one, what it has at the end says nothing about what it had at the beginning


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What came of requests, where streams are answers. `usages`: answers of which a number of tokens was told; `paced`: those that were
    asked to keep a pace and came whole; `good`: those within the service level. `close_worst_s` is None where nobody looked."""

    ttft: LatencySummary = LatencySummary()
    token_gap: LatencySummary = LatencySummary()
    stream_time: LatencySummary = LatencySummary()
    streams: int = 0
    streams_completed: int = 0
    streams_failed: int = 0
    stalls: int = 0
    gaps_unread: int = 0
    odd_events: int = 0
    usages: int = 0
    usage_wrong: int = 0
    chunks: int = 0
    tokens: int = 0
    tokens_per_chunk_max: float = 0.0
    good_streams: int = 0
    good_tokens: int = 0
    paced: int = 0
    pace_error: float = 0.0
    close_worst_s: float | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What a scenario left behind. Times are monotonic nanoseconds, 0 or None where the moment never came."""

    delivery: Delivery = Delivery()
    asked_connections: int = 0
    connected: int = 0
    subscriptions_seen: int | None = None
    asked_subscriptions: int = 0
    connect_s: float | None = None
    first_intended_ns: int = 0
    last_received_ns: int = 0
    drained_ns: int = 0
    first_connect_ns: int = 0
    published: int = 0
    refused: int = 0
    unanswered: int = 0
    disconnects: int = 0
    ended: int = 0
    response: LatencySummary = LatencySummary()
    service: LatencySummary = LatencySummary()
    ack: LatencySummary = LatencySummary()
    lag: LatencySummary = LatencySummary()
    phases: dict[str, LatencySummary] = {}
    windows: dict[str, Delivery] = {}
    unplaced: dict[str, Delivery] = {}
    window_response: dict[str, LatencySummary] = {}
    window_s: dict[str, float] = {}
    faults: tuple[FaultResult, ...] = ()
    window_published: dict[str, int] = {}
    window_peak: dict[str, int] = {}  # largest resident bytes of the target, where it was seen
    leaks: dict[str, float] = {}  # metric -> figure, of those that leak verdicts gave
    leaks_unknown: dict[str, str] = {}  # metric -> why there is none
    rested_s: float = 0.0  # between the drain of a first load and the second one
    target: Memory | None = None
    harness: Memory | None = None
    total_peak_bytes: int | None = None
    target_cpu_s: float | None = None
    fds_peak: int | None = None
    threads_peak: int | None = None
    fault_hits: int | None = None
    fault_back: int | None = None
    statistics: dict[str, float] | None = None
    shortfall: Shortfall | None = None
    statistics_wanted: dict[str, float] = {}
    target_exits: int | None = None
    closed_loop: bool = False
    answers: Answers | None = None  # None: the driver does not ask


_COUNTED = ("delivered",)  # statistics that do not count deliveries prove nothing about them
CLOCKS = {
    "recovery": "recovery_s",
    "first_delivery": "first_delivery_s",
    "full_rate": "full_rate_s",
    "backlog_drained": "backlog_drained_s",
}
"""Metric -> the field of each fault's result that it is the worst of."""
_PERCENTILES = ("p50", "p90", "p99", "p999", "max")
_NO_TARGET = "floodmark did not start the target, so its process cannot be seen"
_UNREADABLE = "it could not be read at that moment"
_TWO_PROCESSES = "it was started again, so what it had at first and what it has at the end are of two processes"
_REASONS = {
    "delivery_ratio": "nothing was acknowledged",
    "error_ratio": "no operation was tried",
    "success_ratio": "no connection was asked for",
    "subscriptions": "nobody looked whether they became active",
    "rss_kept_per_connection": "nobody asked for it, or the target was gone when the connections had left",
}


def observe(record: Record) -> Observations:
    """Turn a record into the figures that criteria name."""
    values: dict[str, float] = {}
    missing: dict[str, str] = {}
    _account(record, values)
    _times(record, values, missing)
    _latencies(record, values, missing)
    _answers(record, values, missing)
    _memory(record, values, missing)
    _leaks(record, values, missing)
    at_least: dict[str, str] = {}
    _faults(record, values, missing, at_least)
    _statistics(record, values, missing)
    for name in METRICS:  # INVARIANT: a metric has a figure or a reason why it has none
        if name not in values:
            missing.setdefault(name, _REASONS.get(name, _UNREADABLE))
    return Observations(
        values=values,
        missing=missing,
        at_least=at_least,
        delivered=record.delivery.delivered,
        statistics=record.statistics,
        shortfall=record.shortfall,
        phases={
            **{name: _phase(summary) for name, summary in record.phases.items()},
            **{name: _window(record, name, delivery) for name, delivery in record.windows.items()},
        },
        unplaced={name: _counts(delivery) for name, delivery in record.unplaced.items()},
    )


def _account(record: Record, values: dict[str, float]) -> None:
    delivery = record.delivery
    for name in ("attempted", "acknowledged", "delivered", "lost", "duplicated", "reordered", "corrupted", "unexpected", "indeterminate"):
        values[name] = getattr(delivery, name)
    values |= {
        "published": record.published,
        "refused": record.refused,
        "unanswered": record.unanswered,
        "disconnects": record.disconnects,
        "ended": record.ended,
    }
    values["connections"] = record.connected
    values["connect_failures"] = record.asked_connections - record.connected
    if record.subscriptions_seen is not None:
        values["subscriptions"] = record.subscriptions_seen
    if delivery.acknowledged:
        values["delivery_ratio"] = (delivery.acknowledged - delivery.lost - delivery.corrupted) / delivery.acknowledged
    operations = record.asked_connections + record.published + delivery.acknowledged
    failures = record.asked_connections - record.connected + record.refused + record.unanswered + delivery.lost + delivery.corrupted
    if operations:
        values["error_ratio"] = failures / operations
    if record.asked_connections:
        reached = record.connected
        if record.subscriptions_seen is not None and record.asked_subscriptions:
            each = record.asked_subscriptions / record.asked_connections
            reached = min(reached, int(record.subscriptions_seen / each))
        values["success_ratio"] = reached / record.asked_connections
    if record.target_exits is not None:
        values["target_exits"] = record.target_exits


def _times(record: Record, values: dict[str, float], missing: dict[str, str]) -> None:
    if record.connect_s is None:
        missing["connect_time"] = "not all connections were opened"
    else:
        values["connect_time"] = record.connect_s
    first, last = record.first_intended_ns, record.last_received_ns
    if first and record.drained_ns:
        values["duration"] = (record.drained_ns - first) / 1e9
    if record.first_connect_ns and record.drained_ns:
        values["total_time"] = (record.drained_ns - record.first_connect_ns) / 1e9
    if first and last > first:
        values["load_time"] = (last - first) / 1e9 - record.rested_s
        values["throughput"] = record.delivery.delivered / values["load_time"]
        values["publish_rate"] = record.published / values["load_time"]
    for name in ("duration", "total_time", "load_time", "throughput", "publish_rate"):
        if name not in values:
            missing[name] = "the load did not come to its end"


def _latencies(record: Record, values: dict[str, float], missing: dict[str, str]) -> None:
    groups = (("latency", record.response), ("service_latency", record.service), ("ack_latency", record.ack))
    for prefix, summary in groups:
        for percentile in _PERCENTILES:
            if summary.count:
                values[f"{prefix}_{percentile}"] = getattr(summary, percentile) / 1e9
            else:
                missing[f"{prefix}_{percentile}"] = "nothing was timed"
    if record.lag.count:
        values["generator_lag_p99"] = record.lag.p99 / 1e9
    elif record.closed_loop:
        missing["generator_lag_p99"] = "a closed loop has no schedule to be late for"
    else:
        missing["generator_lag_p99"] = "the generator sent nothing that the target did not hold up"


_OF_ANSWERS = ("streams_completed", "streams_failed", "stalls", "gaps_unread", "odd_events")
_TIMES_OF_ANSWERS = ("ttft", "token_gap", "stream_time")
ANSWERS = (
    *("streams", *_OF_ANSWERS, "usage_wrong", "tokens_per_chunk", "tokens_per_chunk_max"),
    *("goodput", "goodput_ratio", "pace_error", "close_time_max"),
    *(f"{prefix}_{percentile}" for prefix in _TIMES_OF_ANSWERS for percentile in _PERCENTILES),
)
"""Metrics of streams that are answers."""
_WHY_NOT_ANSWERED = {
    "usage_wrong": "no answer told how many tokens it has",
    "tokens_per_chunk": "nobody can tell how many tokens there were",
    "tokens_per_chunk_max": "nobody can tell how many tokens a chunk had",
    "goodput": "the load did not come to its end",
    "pace_error": "no answer that was asked to keep a pace came whole",
    "close_time_max": "no connection was closed in the clean way while somebody looked",
}


def _answers(record: Record, values: dict[str, float], missing: dict[str, str]) -> None:
    answers = record.answers
    if answers is None:
        missing |= dict.fromkeys(ANSWERS, "the driver does not ask")
        return
    values["streams"] = answers.streams
    if answers.close_worst_s is not None:
        values["close_time_max"] = answers.close_worst_s
    if answers.streams:
        values |= {name: float(getattr(answers, name)) for name in _OF_ANSWERS}
        values["goodput_ratio"] = answers.good_streams / answers.streams
        if "load_time" in values:
            values["goodput"] = answers.good_tokens / values["load_time"]
    for prefix in _TIMES_OF_ANSWERS:
        summary: LatencySummary = getattr(answers, prefix)
        if summary.count:
            values |= {f"{prefix}_{percentile}": getattr(summary, percentile) / 1e9 for percentile in _PERCENTILES}
    if answers.usages:
        values["usage_wrong"] = answers.usage_wrong
    if answers.chunks and answers.tokens:
        values["tokens_per_chunk"] = answers.tokens / answers.chunks
    if answers.tokens_per_chunk_max:
        values["tokens_per_chunk_max"] = answers.tokens_per_chunk_max
    if answers.paced:
        values["pace_error"] = answers.pace_error
    for name in ANSWERS:
        if name not in values:
            nothing = "no answer came that far" if answers.streams else "nothing was asked"
            missing[name] = _WHY_NOT_ANSWERED.get(name, nothing) if answers.streams or name == "close_time_max" else nothing
    if answers.gaps_unread and not answers.token_gap.count:
        missing |= {f"token_gap_{percentile}": "in every gap there was, this client itself did not read" for percentile in _PERCENTILES}


def _phase(summary: LatencySummary) -> dict[str, float]:
    figures = {"delivered": float(summary.count)}
    if summary.count:
        figures |= {f"latency_{percentile}": getattr(summary, percentile) / 1e9 for percentile in _PERCENTILES}
    return figures


_PLACED = ("attempted", "acknowledged", "delivered", "lost", "duplicated", "reordered", "corrupted", "indeterminate")


def _counts(delivery: Delivery) -> dict[str, float]:
    return {name: float(getattr(delivery, name)) for name in _PLACED}


def _window(record: Record, name: str, delivery: Delivery) -> dict[str, float]:
    """A stretch of time around the faults: what was sent in it, and how it arrived."""
    summary = record.window_response.get(name, LatencySummary())
    figures = _phase(summary) | _counts(delivery)
    unplaced = record.unplaced.get(name, Delivery())
    if delivery.acknowledged and not unplaced.lost and not unplaced.corrupted:
        figures["delivery_ratio"] = (delivery.acknowledged - delivery.lost - delivery.corrupted) / delivery.acknowledged
    length_s = record.window_s.get(name, 0.0)
    if length_s > 0:
        figures["throughput"] = delivery.delivered / length_s
    if name in record.window_published:
        figures["published"] = float(record.window_published[name])
        if length_s > 0:
            figures["publish_rate"] = record.window_published[name] / length_s
    if name in record.window_peak:
        figures["rss_peak"] = float(record.window_peak[name])
    return figures


def _memory(record: Record, values: dict[str, float], missing: dict[str, str]) -> None:
    target = record.target
    names = ("rss_peak", "rss_end", "rss_growth", "rss_rise", "rss_kept", "rss_per_delivery", "rss_per_connection", "cpu")
    if target is None:
        for name in (*names, "fds_peak", "threads_peak", "rss_total_peak", "target_exits"):
            missing[name] = _NO_TARGET
    else:
        _target_memory(record, target, values)
        for name in names:
            if name not in values:
                missing[name] = f"the target's memory: {_UNREADABLE if target.starts == 1 else _TWO_PROCESSES}"
    harness = record.harness
    if harness is not None:
        if harness.peak is not None:
            values["harness_rss_peak"] = harness.peak
        if harness.connected is not None and harness.before_connect is not None and record.connected:
            values["harness_rss_per_connection"] = (harness.connected - harness.before_connect) / record.connected


def _target_memory(record: Record, target: Memory, values: dict[str, float]) -> None:
    optional = {
        "rss_peak": target.peak,
        "rss_end": target.end,
        "cpu": record.target_cpu_s,
        "fds_peak": record.fds_peak,
        "threads_peak": record.threads_peak,
        "rss_total_peak": record.total_peak_bytes,
    }
    values |= {name: float(value) for name, value in optional.items() if value is not None}
    alone = target.starts == 1
    if target.connected:
        if target.end is not None and alone:
            values["rss_growth"] = target.end / target.connected
            values["rss_kept"] = target.end - target.connected
            if record.delivery.delivered:
                values["rss_per_delivery"] = (target.end - target.connected) / record.delivery.delivered
        if target.peak is not None:
            values["rss_rise"] = target.peak - target.connected
        if target.before_connect is not None and record.connected:
            values["rss_per_connection"] = (target.connected - target.before_connect) / record.connected
    if alone and target.left is not None and target.before_connect is not None and record.connected:
        values["rss_kept_per_connection"] = (target.left - target.before_connect) / record.connected


LEAKS = tuple(name for name in METRICS if name.startswith("leak_"))


def _leaks(record: Record, values: dict[str, float], missing: dict[str, str]) -> None:
    values |= record.leaks
    for name in LEAKS:
        if name not in values:
            missing[name] = record.leaks_unknown.get(name) or "nobody asked for it"


def _faults(record: Record, values: dict[str, float], missing: dict[str, str], at_least: dict[str, str]) -> None:
    if record.fault_hits is None:
        missing |= dict.fromkeys((*CLOCKS, "degraded", "reconnects", "recovered_ratio", "fault_hits"), "the scenario has no fault")
        return
    values["fault_hits"] = record.fault_hits
    if record.fault_hits == 0:
        missing |= dict.fromkeys((*CLOCKS, "degraded", "reconnects", "recovered_ratio"), "the fault touched nothing")
        return
    standing_count = sum(fault.hits for fault in record.faults if fault.standing)
    if record.fault_hits > standing_count:  # what holds to the end lets nobody come back before it
        values["recovered_ratio"] = (record.fault_back or 0) / (record.fault_hits - standing_count)
    else:
        missing["recovered_ratio"] = "no fault struck at a time of its own"
    timed = [fault for fault in record.faults if fault.hits and not fault.standing]
    victims = [fault for fault in timed if fault.recovery_s is not None or fault.away or fault.back < fault.hits]
    for name, field in CLOCKS.items():
        if name != "recovery":
            _worst_of(timed, name, field, values, missing, at_least)
        elif victims:
            _worst_of(victims, name, field, values, missing, at_least)
        else:  # nobody was taken away: the stream has recovered when its rate has
            _worst_of(timed, name, CLOCKS["full_rate"], values, missing, at_least)
    _degraded(timed, values, missing)
    values["reconnects"] = sum(fault.reconnects for fault in record.faults)


def _worst_of(
    timed: list[FaultResult], name: str, field: str, values: dict[str, float], missing: dict[str, str], at_least: dict[str, str]
) -> None:
    """The longest of all faults. With one of which the moment was not seen it was at least as long as the others, or as anybody looked."""
    seen = [getattr(fault, field) for fault in timed]
    unseen = [fault for fault, value in zip(timed, seen, strict=True) if value is None]
    bounds = [value for value in seen if value is not None]
    if timed and not unseen:
        values[name] = max(bounds)
        return
    if not timed:
        missing[name] = "no fault struck at a time of its own"
        return
    why = f"{_which(unseen[0])}: {_unseen(unseen[0], name)}"
    if field in (CLOCKS["first_delivery"], CLOCKS["full_rate"]):
        bounds += [fault.after.duration_s for fault in unseen if fault.degraded]
    if bounds:
        values[name], at_least[name] = max(bounds), why
    else:
        missing[name] = why


def _degraded(timed: list[FaultResult], values: dict[str, float], missing: dict[str, str]) -> None:
    """One fault after which the rate stayed down is enough; a stream that was at its rate after the last one stayed down after none."""
    if any(fault.degraded for fault in timed):
        values["degraded"] = 1.0
    elif timed and timed[-1].degraded is False:
        values["degraded"] = 0.0
    else:
        missing["degraded"] = f"{_which(timed[-1])}: {_unseen(timed[-1], 'degraded')}" if timed else "no fault struck at a time of its own"


def _which(fault: FaultResult) -> str:
    return f"the {fault.kind} at {fault.struck_s:.3g} s"


def _unseen(fault: FaultResult, name: str) -> str:
    if name == "recovery" and fault.away:
        return f"{fault.away} of the connections lost to it did not come back"
    if name == "recovery" and fault.back < fault.hits:
        return f"only {fault.back} of {fault.hits} victims came back"
    if not fault.after.duration_s:
        return "that moment was not seen: no load before the faults, or none after this one"
    return f"that moment was not seen in the {fault.after.duration_s:.3g} s of load before the next fault or the end"


def _statistics(record: Record, values: dict[str, float], missing: dict[str, str]) -> None:
    """The largest relative difference over the counters that both sides have."""
    if record.statistics is None:
        missing["stats_error"] = "the driver knows no statistics of this target"
        return
    shared = [name for name in record.statistics_wanted if name in record.statistics]
    if not shared:
        missing["stats_error"] = "the target's statistics have none of the ledger's counters"
        return
    silent = [name for name in shared if math.isnan(record.statistics[name])]
    silent += [name for name in _COUNTED if name in record.statistics_wanted and name not in shared]
    if silent:  # what a target leaves out cannot be right, and a NaN would hide behind any other figure
        missing["stats_error"] = f"the target's statistics give no number for: {', '.join(silent)}"
        return
    errors = [
        abs(record.statistics[name] - record.statistics_wanted[name]) / max(abs(record.statistics_wanted[name]), 1.0) for name in shared
    ]
    values["stats_error"] = max(errors)
