"""What faults did, in figures and in sentences that hold nothing but figures; every report takes them from here.

Input: the fault results of a scenario. Output: text without markup. A figure that was not seen is a dash in a table, and is named as not
measured in a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from floodmark.model.result import FaultResult, FaultStretch
from floodmark.report import figures
from floodmark.report.headroom import share

ACCOUNT = ("struck", "held for", "hits", "back", "reconnects", "lost", "duplicated", "reordered", "corrupted", "indeterminate")
COURSE = (
    "rate before",
    "rate during",
    "rate after",
    "p99 before",
    "p99 during",
    "p99 after",
    "memory before",
    "memory during",
    "memory after",
)
CLOCKS = ("first delivery", "full rate", "backlog drained", "all back", "degraded")


def slots(faults: Sequence[FaultResult]) -> list[tuple[FaultResult, ...]]:
    """The occasions of each fault slot together, in the scenario's order."""
    ordered = sorted(faults, key=lambda one: (one.index, one.occasion))
    return [tuple(group) for _, group in groupby(ordered, key=lambda one: one.index)]


def name(one: FaultResult) -> str:
    """Which blow: its kind, and its number where there were several.

    >>> name(FaultResult(kind="drop", index=0, occasion=2, struck_s=1.0, lifted_s=1.0))
    'drop, 3rd time'
    """
    if one.occasions > 1:
        return f"{one.kind}, {one.occasion + 1} to {one.occasion + one.occasions}"
    return f"{one.kind}, {_ordinal(one.occasion + 1)} time" if one.occasion else one.kind


def account(one: FaultResult) -> tuple[str, ...]:
    """The cells under ACCOUNT."""
    counts = (one.reconnects, one.lost, one.duplicated, one.reordered, one.corrupted, one.indeterminate)
    struck = "before the load" if one.standing else time_s(one.struck_s)
    held = "to the end" if one.standing else time_s(one.lifted_s - one.struck_s)
    return (struck, held, figures.count(one.hits), figures.count(one.back), *map(_count, counts))


def course(one: FaultResult) -> tuple[str, ...]:
    """The cells under COURSE."""
    three = (one.before, one.during, one.after)
    return (
        *(_rate(each.delivered_hz) for each in three),
        *(_latency(each) for each in three),
        *(figures.size(each.rss_bytes_peak or 0) for each in three),
    )


def clocks(one: FaultResult) -> tuple[str, ...]:
    """The cells under CLOCKS."""
    seen = (one.first_delivery_s, one.full_rate_s, one.backlog_drained_s, one.recovery_s)
    return (*map(_time, seen), {True: "yes", False: "no", None: figures.NONE}[one.degraded])


def degradation(one: FaultResult) -> str:
    """How the system got worse, as far as that was measured."""
    said = [*_change_of_rate(one), *_change_of_latency(one), *_losses(one)]
    if not one.hits:
        said.insert(0, "It touched nothing, so what follows cannot be its doing")
    words = f"{'; '.join(said)}."
    return f"By these figures it did not: {words}" if _unharmed(one) else words[:1].upper() + words[1:]


def recovery(one: FaultResult) -> str:
    """How the system came back, by each clock; those that never came to their moment are named."""
    if one.standing:
        return "It stood to the end of the run, so there was nothing to recover from."
    named = (
        ("the first delivery", "came", one.first_delivery_s),
        ("the full rate", "was back", one.full_rate_s),
        ("the end of the backlog", "came", one.backlog_drained_s),
    )
    seen = [f"{what} {came} {_after(value)}" for what, came, value in named if value is not None]
    unseen = [what for what, _, value in named if value is None]
    if one.recovery_s is not None:
        seen.append(f"the last that was hit was back {time_s(one.recovery_s)} after the blow")
    told = f"After it was lifted, {', '.join(seen)}." if seen else "No moment of the recovery was seen."
    return f"{told} Not seen: {', '.join(unseen)}." if unseen and seen else told


def lasting(one: FaultResult) -> str:
    """Whether the damage stayed."""
    if one.degraded is None:
        return "Whether it stayed degraded was not measured: too little load before it to compare with, or too little after it."
    rates = ""
    if one.before.delivered_hz and one.after.delivered_hz is not None:
        rates = f" ({figures.rate(one.before.delivered_hz)} before, {_rate(one.after.delivered_hz)} after)"
    if one.degraded:
        return f"It stayed degraded: the load went on, and the old rate did not come back{rates}."
    return f"It did not stay degraded: the old rate came back while the load went on{rates}."


def worst(faults: Sequence[FaultResult]) -> FaultResult:
    """The occasion to tell of where one stands for all: degraded before lossy before slow before the first."""
    return max(
        faults, key=lambda one: (one.degraded is True, one.lost or 0, one.full_rate_s is None and not one.standing, one.full_rate_s or 0)
    )


def time_s(seconds: float) -> str:
    """A moment or a length that was observed: 0 is one.

    >>> time_s(0.0), time_s(1.5)
    ('0 s', '1.50 s')
    """
    return figures.time_s(seconds)


def _unharmed(one: FaultResult) -> bool:
    """Whether rate, latency and account were all measured, and none of them was worse than before."""
    held = one.during if one.during.delivered_hz is not None else one.after
    rates = (one.before.delivered_hz, held.delivered_hz)
    latencies = (one.before.response_ns_p99, held.response_ns_p99)
    counts = (one.lost, one.duplicated, one.reordered, one.corrupted, one.unplaced)
    if not one.hits or None in (*rates, *latencies, *counts):
        return False
    return (rates[1] or 0.0) >= (rates[0] or 0.0) and (latencies[1] or 0) <= (latencies[0] or 0) and not any(counts)


def _change_of_rate(one: FaultResult) -> list[str]:
    before, during, where = one.before.delivered_hz, one.during.delivered_hz, "while it held"
    if during is None:
        during, where = one.after.delivered_hz, "afterwards"
    if before is None or during is None or not before:
        return ["how the rate of deliveries changed was not measured"]
    return [f"deliveries went from {figures.rate(before)} to {_rate(during)} {where} ({share(during / before)} of before)"]


def _change_of_latency(one: FaultResult) -> list[str]:
    before, during, where = one.before.response_ns_p99, one.during.response_ns_p99, "while it held"
    if not during:
        during, where = one.after.response_ns_p99, "afterwards"
    if not before or not during:
        return ["how the latency changed was not measured"]
    factor = figures.three(during / before)
    return [f"the response latency p99 went from {figures.latency(before)} to {figures.latency(during)} {where} ({factor}x)"]


def _losses(one: FaultResult) -> list[str]:
    counts = {"lost": one.lost, "duplicated": one.duplicated, "reordered": one.reordered, "corrupted": one.corrupted}
    if all(value is None for value in counts.values()):
        return ["what was lost was not counted for this fault alone"]
    wrong = [f"{value:,} {what}" for what, value in counts.items() if value]
    text = f"of the deliveries sent from the strike on: {', '.join(wrong)}" if wrong else "no delivery sent from the strike on went wrong"
    return [f"{text} (up to {one.unplaced:,} more may belong here)" if one.unplaced else text]


def _after(seconds: float) -> str:
    return f"after {time_s(seconds)}" if seconds else "at once"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _count(number: int | None) -> str:
    return figures.NONE if number is None else figures.count(number)


def _rate(rate_hz: float | None) -> str:
    return figures.NONE if rate_hz is None else (figures.rate(rate_hz) if rate_hz else "0 /s")


def _time(seconds: float | None) -> str:
    return figures.NONE if seconds is None else time_s(seconds)


def _latency(stretch: FaultStretch) -> str:
    return figures.latency(stretch.response_ns_p99 or 0)
