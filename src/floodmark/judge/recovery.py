"""Recovery clocks: how long after a fault the stream was back, from rates in bins of time.

Three questions, three clocks, all counted from the moment the fault was lifted (for a blow without duration, from the blow):
first delivery (anything at all arrives), full rate (deliveries are back at what the load asks for), backlog drained (what was published
meanwhile has been caught up with). A stream that stays below its rate although the fault is gone and the load goes on is degraded:
metastable, in the word of Bronson and others (HotOS 2021).
The rate that is asked for is what the schedule meant to send in a bin times the deliveries each message brought before the first fault, so
a load that falls by itself accuses nobody, and a target that holds its publishers up is not excused by what they could not send. A closed
loop has no schedule; there it is the rate of deliveries before the first fault.
Pure. Resolution: one bin. A clock whose moment was never seen is None, which is not the same as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

FULL_RATIO = 0.9
STEADY_BINS = 4
SETTLE_S = 3.0
"""So long must the load go on after a fault before a stream that is still slow counts as degraded and not merely as not back yet."""
_DRAINED_RATIO = 0.999


class Bin(NamedTuple):
    """One bin of the run: when it began, how many messages were published and delivered in it, and how many the schedule meant for it.

    `wanted` is None where there is no schedule.
    """

    t_s: float
    published: float
    delivered: float
    wanted: float | None = None


class Clocks(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds after the fault was lifted; None where the moment was not seen before the run ended.

    `degraded` says that the rate never came back although the load went on for `watched_s`; None when too little was seen to tell.
    """

    first_delivery_s: float | None = None
    full_rate_s: float | None = None
    backlog_s: float | None = None
    degraded: bool | None = None
    watched_s: float = 0.0


class Usual(msgspec.Struct, frozen=True, kw_only=True):
    """The stream before the first fault: deliveries a bin, and deliveries for each message published."""

    delivered: float
    fan_out: float


def usual(bins: Sequence[Bin], *, until_s: float) -> Usual | None:
    """Learn what is usual from the whole bins of the load before `until_s`; None when there was nothing to learn from."""
    width_s = _width_s(bins)
    before = [bin_ for bin_ in bins if bin_.t_s >= 0 and bin_.t_s + width_s <= until_s and bin_.published > 0]
    delivered = sum(bin_.delivered for bin_ in before)
    if not delivered:
        return None
    return Usual(delivered=delivered / len(before), fan_out=delivered / sum(bin_.published for bin_ in before))


def clocks(
    bins: Sequence[Bin], before: Usual | None, *, struck_s: float, lifted_s: float, until_s: float, away_ratio: float = 0.0
) -> Clocks:
    """Read the clocks of one fault.

    Args:
        bins: oldest first, of equal width, with the drain.
        before: the stream before the first fault of the run.
        struck_s, lifted_s: when the fault began and ended; equal for a blow.
        until_s: when publishing ended or another fault struck; what happens later says nothing about the rate after this one.
        away_ratio: share of the connections that faults took away for good on purpose, 0 .. 1; no deliveries are expected of them.
    """
    if before is None:
        return Clocks()
    width_s, fan_out = _width_s(bins), before.fan_out * (1 - away_ratio)
    loaded: list[tuple[Bin, float]] = []
    for bin_ in bins:
        if lifted_s <= bin_.t_s and bin_.t_s + width_s <= until_s:
            asked = before.delivered * (1 - away_ratio) if bin_.wanted is None else bin_.wanted * fan_out
            loaded.append((bin_, asked))
    while loaded and not loaded[-1][1]:  # the schedule was over, and what came late says nothing about the rate
        loaded.pop()
    watched_s = len(loaded) * width_s
    kept = _kept(loaded)
    full_s = _full_rate_s(loaded, lifted_s)
    first_s = next((bin_.t_s - lifted_s for bin_ in bins if bin_.t_s >= lifted_s and bin_.delivered > 0), None)
    return Clocks(
        first_delivery_s=first_s,
        full_rate_s=full_s if kept else None,
        backlog_s=_caught_up(bins, struck_s, lifted_s, fan_out),
        degraded=False if kept else True if kept is False and watched_s >= SETTLE_S else None,
        watched_s=watched_s,
    )


def _width_s(bins: Sequence[Bin]) -> float:
    return bins[1].t_s - bins[0].t_s if len(bins) > 1 else 0.0


def _enough(stretch: Sequence[tuple[Bin, float]]) -> bool | None:
    """Whether deliveries were at their rate over a stretch; None where none were asked for."""
    asked = sum(asked for _, asked in stretch)
    return sum(bin_.delivered for bin_, _ in stretch) >= asked * FULL_RATIO if asked else None


def _kept(loaded: Sequence[tuple[Bin, float]]) -> bool | None:
    """Whether the stream was at its rate when the stretch ended: in its last bins or over its second half. None when it was too short.

    Two looks, since a load that swings may end in a trough of its deliveries, and a stream that came back late has a slow half.
    """
    if len(loaded) < STEADY_BINS:
        return None
    last = _enough(loaded[-STEADY_BINS:])
    return last or _enough(loaded[-max(STEADY_BINS, len(loaded) // 2) :])


def _full_rate_s(loaded: Sequence[tuple[Bin, float]], since_s: float) -> float | None:
    """When the rate was first reached, in that bin and over the few that follow."""
    for number in range(len(loaded) - STEADY_BINS + 1):
        if _enough(loaded[number : number + 1]) and _enough(loaded[number : number + STEADY_BINS]):
            return max(0.0, loaded[number][0].t_s - since_s)
    return None


def _caught_up(bins: Sequence[Bin], struck_s: float, lifted_s: float, fan_out: float) -> float | None:
    """When the deliveries since the blow had caught up with what was published since, to within one bin's worth.

    Where nothing was published meanwhile nothing is owed, but a stream of which nothing has arrived since has caught up with nothing.
    """
    published = delivered = 0.0
    for bin_ in bins:
        if bin_.t_s < struck_s:
            continue
        owed = published * fan_out  # of the bins before this one: what was published in it may still be on its way
        published += bin_.published
        delivered += bin_.delivered
        if bin_.t_s >= lifted_s and published > 0 and delivered > 0 and delivered >= owed * _DRAINED_RATIO:
            return max(0.0, bin_.t_s - lifted_s)
    return None
