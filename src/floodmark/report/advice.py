"""What to try: if this figure is beyond that threshold, then this advice. One table, so that nobody has to guess where a sentence is from.

Input: the costs of one scenario. Output: the rules that apply, with the figure that called them. Thresholds are rules of thumb; each
report prints the figure and the threshold beside the advice, so that a reader can disagree.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import NamedTuple

from floodmark.core.units import Dimension
from floodmark.report import figures
from floodmark.report.costs import Costs


class Rule(NamedTuple):
    """`figure` names a field of `Costs`; the rule applies where it is beyond `threshold`."""

    figure: str
    sign: str
    threshold: float
    dimension: Dimension
    means: str
    advice: str


class Advice(NamedTuple):
    """A rule that applies, and the figure that called it."""

    rule: Rule
    value: float


_BEYOND: dict[str, Callable[[float, float], bool]] = {">": operator.gt, "<": operator.lt}

RULES: tuple[Rule, ...] = (
    Rule(
        "degraded_count",
        ">",
        0,
        Dimension.COUNT,
        "after so many faults the old rate never came back although the fault was gone",
        "look for work that feeds on itself (retries, full queues, reconnecting clients): bound it, shed load, add jitter to retries",
    ),
    Rule(
        "slowest_recovery_s",
        ">",
        2.0,
        Dimension.TIME,
        "time from the end of a fault to the full rate",
        "see which clock is slow: reconnects (spread them, let more in at once), or the backlog (bound what is kept, send it in batches)",
    ),
    Rule(
        "leak_bytes_per_message",
        ">",
        0,
        Dimension.BYTES,
        "bytes that the target surely keeps of each delivery",
        "a leak, or history without a bound: run again with --profile memory and read the largest allocators",
    ),
    Rule(
        "backlog_ratio",
        ">",
        0.02,
        Dimension.RATIO,
        "share of the deliveries that came after the last message was sent",
        "where the latency grew while the load went on, the target takes less than was offered: lower the rate until this is near 0, that "
        "is the rate it holds; where it did not, what came late was only under way (a slow line, a burst at the end)",
    ),
    Rule(
        "latency_growth_factor",
        ">",
        2.0,
        Dimension.FACTOR,
        "p99 latency in the last phase, of that in the first",
        "compare what the phases offered: at equal load this is a queue or a structure that grows; else it is the price of the higher load",
    ),
    Rule(
        "target_cores",
        ">",
        0.85,
        Dimension.COUNT,
        "cores that the target kept busy on average during the load",
        "the processor is the limit if the target uses one core: take work out of each delivery (encode an event once for all receivers, "
        "write in batches), then spread connections over processes; run with --profile cpu to see where",
    ),
    Rule(
        "rss_peak_factor",
        ">",
        2.0,
        Dimension.FACTOR,
        "peak memory of the target, of that before the first connection",
        "compare it with the memory per connection: what that does not explain is queued, so bound the queues by bytes",
    ),
    Rule(
        "rss_kept_factor",
        ">",
        1.2,
        Dimension.FACTOR,
        "memory after the drain, of that at the start of the load",
        "what is kept is history, a cache, or an allocator that does not give back: run longer and see whether it levels off",
    ),
    Rule(
        "rss_bytes_per_connection",
        ">",
        65_536,
        Dimension.BYTES,
        "memory of the target for each connection",
        "look at what each connection reserves: read and write buffers, a compression context (32 KiB and more), a queue, a task",
    ),
    Rule(
        "tail_factor",
        ">",
        100,
        Dimension.FACTOR,
        "largest response latency, of the median",
        "rare long waits: look in the plot when they come; together with faults or phases, or by themselves (collector, sweep, log)",
    ),
    Rule(
        "harness_cpu_share",
        ">",
        0.5,
        Dimension.RATIO,
        "floodmark's own share of the processor time of both",
        "the generator needs more of this machine than the target: give the target a machine of its own before tuning by these figures",
    ),
    Rule(
        "lag_share",
        ">",
        0.1,
        Dimension.RATIO,
        "the generator's own lag, p99, of the response latency, p99",
        "so much of the latency may be ours: read the service latency, lower the rate, or give floodmark more cores and agents",
    ),
)


def advice(spent: Costs) -> list[Advice]:
    """The rules that apply to one scenario, in the order of the table."""
    found = []
    for rule in RULES:
        value = getattr(spent, rule.figure)
        if value is not None and _BEYOND[rule.sign](value, rule.threshold):
            found.append(Advice(rule, value))
    return found


def threshold(rule: Rule) -> str:
    """The condition, with its unit.

    >>> threshold(RULES[1])
    '> 2.00 s'
    """
    return f"{rule.sign} {shown(rule, rule.threshold)}"


def shown(rule: Rule, value: float) -> str:
    """A figure in the unit of its rule."""
    if rule.dimension is Dimension.RATIO:
        return f"{figures.three(value * 100)} %"
    if rule.dimension is Dimension.COUNT:
        return f"{value:.3g}"
    return figures.quantity(value, rule.dimension)
