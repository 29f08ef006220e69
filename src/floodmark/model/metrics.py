"""Every metric that a criterion may name, with its dimension and where its figure comes from.

A metric that a run cannot provide is UNKNOWN, never 0. Adding one: an entry here, and its figure in `judge/observe.py`.
Beside them `target.NAME` is the number that the target's own statistics give under NAME, as the driver reads them; the unit ends the name.
"""

from __future__ import annotations

import re

import msgspec

from floodmark.core.units import UNITS, Dimension


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """`needs_delivery`: without a single delivery the figure proves nothing, so its criterion is UNKNOWN."""

    name: str
    dimension: Dimension
    text: str
    needs_delivery: bool = False


def _table(*metrics: Metric) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


def _count(name: str, text: str, *, needs_delivery: bool = True) -> Metric:
    return Metric(name=name, dimension=Dimension.COUNT, text=text, needs_delivery=needs_delivery)


def _time(name: str, text: str, *, needs_delivery: bool = False) -> Metric:
    return Metric(name=name, dimension=Dimension.TIME, text=text, needs_delivery=needs_delivery)


def _latencies(prefix: str, text: str) -> list[Metric]:
    return [_time(f"{prefix}_{p}", f"{p} of {text}", needs_delivery=True) for p in ("p50", "p90", "p99", "p999", "max")]


METRICS: dict[str, Metric] = _table(
    _count("attempted", "deliveries that should happen: messages sent, times the subscriptions they are for"),
    _count("acknowledged", "of these, the ones whose message the target acknowledged"),
    _count("delivered", "distinct intact deliveries", needs_delivery=False),
    _count("lost", "acknowledged, wanted and never seen"),
    _count("duplicated", "seen again after the first time"),
    _count("reordered", "seen after a later message of the same publisher (RFC 4737)"),
    _count("corrupted", "seen with a checksum that does not fit"),
    _count("unexpected", "seen where it does not belong: another channel, another run, never sent"),
    _count("indeterminate", "not acknowledged, or in flight at the edge of a subscription: no claim either way"),
    _count("published", "messages sent", needs_delivery=False),
    _count("refused", "messages that the target refused", needs_delivery=False),
    _count("unanswered", "messages that the target neither acknowledged nor refused by the end of the drain", needs_delivery=False),
    Metric(name="delivery_ratio", dimension=Dimension.RATIO, text="delivered / acknowledged", needs_delivery=True),
    Metric(
        name="error_ratio",
        dimension=Dimension.RATIO,
        text="failed operations (connects, subscribes, publishes, lost deliveries) / all of them",
    ),
    Metric(
        name="success_ratio",
        dimension=Dimension.RATIO,
        text="connections that connected and whose subscriptions all became active / connections asked for",
    ),
    _count("connections", "connections open at the start of the load", needs_delivery=False),
    _count("subscriptions", "subscriptions active at the start of the load", needs_delivery=False),
    _count("connect_failures", "connections that could not be opened", needs_delivery=False),
    _count("disconnects", "connections that the target closed without being asked", needs_delivery=False),
    _count("ended", "subscriptions that the target ended without being asked", needs_delivery=False),
    _time("connect_time", "from the first connect to the last subscription active"),
    _time("duration", "from the first message meant to be sent to the end of the drain"),
    _time("load_time", "from the first send meant to be to the last delivery, less the rest before a second load", needs_delivery=True),
    _time("total_time", "from the first connect to the end of the drain"),
    Metric(
        name="throughput",
        dimension=Dimension.RATE,
        text="deliveries per second, from the first send to the last delivery",
        needs_delivery=True,
    ),
    Metric(name="publish_rate", dimension=Dimension.RATE, text="messages sent per second"),
    *_latencies("latency", "the response latency: intended send to delivery"),
    *_latencies("service_latency", "the service latency: actual send to delivery"),
    *_latencies("ack_latency", "the time from the actual send to the acknowledgement"),
    *_latencies(
        "ttft", "the time to first token: intended send of a request to the first whole token (of unknown text: to any) of its answer"
    ),
    *_latencies("token_gap", "the gap between two chunks of one answer, those of one read being 0 apart"),
    *_latencies("stream_time", "the time of an answer that ended properly: intended send to its terminal event"),
    _count("tokens_per_chunk", "tokens that arrived / chunks in which they did"),
    _count("tokens_per_chunk_max", "most tokens in one chunk"),
    _count("streams", "requests sent, each for one answer", needs_delivery=False),
    _count("streams_completed", "answers that ended with exactly one proper terminal event", needs_delivery=False),
    _count("streams_failed", "answers that were accepted and ended otherwise, or not at all", needs_delivery=False),
    _count("stalls", "gaps within an answer that were longer than the driver's `stall_s`, a hung end included", needs_delivery=False),
    _count("gaps_unread", "gaps in which this client itself did not read: only the time it read in counts", needs_delivery=False),
    _count("odd_events", "events of an answer after its end, second terminal events, events nobody can read", needs_delivery=False),
    _count("usage_wrong", "answers that told another number of tokens than arrived", needs_delivery=False),
    Metric(
        name="goodput",
        dimension=Dimension.RATE,
        text="tokens per second of answers that were complete, right and within the stated service level",
        needs_delivery=True,
    ),
    Metric(name="goodput_ratio", dimension=Dimension.RATIO, text="answers that were so / requests sent"),
    _time("close_time_max", "how long the slowest clean close of a connection took"),
    Metric(
        name="pace_error",
        dimension=Dimension.RATIO,
        text="by how much a paced answer's time from the send to its last token differed from what its rate makes it, the worst answer",
        needs_delivery=True,
    ),
    _time("generator_lag_p99", "how late the generator itself was, 99th percentile"),
    Metric(name="rss_peak", dimension=Dimension.BYTES, text="largest resident memory of the target's process tree"),
    Metric(name="rss_end", dimension=Dimension.BYTES, text="resident memory of the target's process tree after the drain"),
    Metric(name="rss_growth", dimension=Dimension.FACTOR, text="target's resident memory after the drain / at the start of the load"),
    Metric(name="rss_rise", dimension=Dimension.BYTES, text="target's peak resident memory less that at the start of the load"),
    Metric(name="rss_kept", dimension=Dimension.BYTES, text="target's resident memory after the drain less that at the start of the load"),
    Metric(
        name="rss_per_delivery", dimension=Dimension.BYTES, text="rss_kept / deliveries: bytes kept for each message", needs_delivery=True
    ),
    Metric(
        name="leak_bytes_per_message",
        dimension=Dimension.BYTES,
        text="what the target surely keeps, or surely does not, of each delivery: the deciding end of the slope's confidence interval",
        needs_delivery=True,
    ),
    _count("leak_descriptors_per_thousand", "the same for open descriptors, per 1,000 deliveries"),
    _count("leak_threads_per_thousand", "the same for threads, per 1,000 deliveries"),
    Metric(name="leak_slope", dimension=Dimension.BYTES, text="growth of the target's memory per delivery", needs_delivery=True),
    Metric(name="leak_slope_lower", dimension=Dimension.BYTES, text="the lower end of its 99 % interval", needs_delivery=True),
    Metric(name="leak_slope_upper", dimension=Dimension.BYTES, text="the upper end of its 99 % interval", needs_delivery=True),
    Metric(name="rss_per_connection", dimension=Dimension.BYTES, text="target's memory once connected less before, / connections"),
    Metric(
        name="rss_kept_per_connection",
        dimension=Dimension.BYTES,
        text="target's memory after all connections have left less that before they came, / connections",
    ),
    Metric(name="rss_total_peak", dimension=Dimension.BYTES, text="largest resident memory of target and harness together"),
    Metric(name="harness_rss_peak", dimension=Dimension.BYTES, text="largest resident memory of the harness"),
    Metric(name="harness_rss_per_connection", dimension=Dimension.BYTES, text="agents' memory once connected less before, / connections"),
    Metric(name="cpu", dimension=Dimension.TIME, text="processor time of the target"),
    _count("target_exits", "times the target ended by itself during the load", needs_delivery=False),
    _count("fds_peak", "most descriptors open in the target", needs_delivery=False),
    _count("threads_peak", "most threads in the target", needs_delivery=False),
    _time(
        "recovery",
        "from a fault to the last of its victims being back, the longest of all faults; where none takes victims, as `full_rate`",
    ),
    _time("first_delivery", "from the end of a fault to the first delivery after it, the longest of all faults"),
    _time(
        "full_rate",
        "from the end of a fault until deliveries were back at 90 % of what the load asks for, and stayed there, the longest of all faults",
    ),
    _time("backlog_drained", "from the end of a fault until what was published meanwhile had been delivered, the longest of all faults"),
    _count(
        "degraded",
        "1 if the rate never came back after any one of the faults although that was gone and the load went on for 3 s, else 0",
        needs_delivery=False,
    ),
    _count("reconnects", "connections opened again after a fault had cut them off, all faults together", needs_delivery=False),
    Metric(
        name="recovered_ratio",
        dimension=Dimension.RATIO,
        text="connections back after the faults at a time of their own / connections they hit",
    ),
    _count("fault_hits", "connections or operations that faults touched", needs_delivery=False),
    Metric(
        name="stats_error", dimension=Dimension.RATIO, text="largest relative difference between the target's own statistics and the ledger"
    ),
)


STATISTIC = "target."
_STATISTIC = re.compile(r"target\.[a-z]\w*")
_ENDINGS = {"s": Dimension.TIME, "bytes": Dimension.BYTES, "hz": Dimension.RATE, "ratio": Dimension.RATIO}


def metric_of(name: str) -> Metric | None:
    """A metric by its name, also a number of the target's own statistics; None for a name that can be neither.

    >>> metric_of("target.first_record_s").dimension.value
    'a duration'
    """
    if _STATISTIC.fullmatch(name) is None:
        return METRICS.get(name)
    dimension = _ENDINGS.get(name.rpartition("_")[2], Dimension.COUNT)
    return Metric(name=name, dimension=dimension, text=f"`{name.removeprefix(STATISTIC)}` of the target's own statistics")


def reference() -> str:
    """Write every metric as one Markdown table, in the registry's order; `docs/criteria.md` holds exactly this text."""
    rows = [
        f"| `{name}` | {metric.text} | {metric.dimension.value}: {_units(metric.dimension)} | {'yes' if metric.needs_delivery else 'no'} |"
        for name, metric in METRICS.items()
    ]
    return "\n".join(["| metric | what it is | takes | needs a delivery |", "|---|---|---|---|", *rows, ""])


def _units(dimension: Dimension) -> str:
    return ", ".join(f"`{unit}`" if unit else "no unit" for unit in UNITS[dimension])
