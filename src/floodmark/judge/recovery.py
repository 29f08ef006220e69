"""Recovery clocks: how long after a fault the stream was back, from rates in bins of time.

Three questions, three clocks, all counted from the moment the fault was lifted (for a blow without duration, from the blow):
first delivery (anything at all arrives), full rate (deliveries are back at what they were before), backlog drained (what was published
meanwhile has been caught up with). A stream that never gets back to its old rate although the fault is gone is degraded: metastable.
Pure. Resolution: one bin. A clock whose moment was never seen is None, which is not the same as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

FULL_RATIO = 0.9
STEADY_BINS = 3


class Bin(NamedTuple):
    """One bin of the run: when it began, and how many messages were published and delivered in it."""

    t_s: float
    published: float
    delivered: float


class Clocks(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds after the fault was lifted; None where the moment was not seen before the run ended.

    `degraded` says that the rate never came back although the load went on; None when too little was seen to tell.
    """

    first_delivery_s: float | None
    full_rate_s: float | None
    backlog_s: float | None
    degraded: bool | None


def clocks(bins: Sequence[Bin], *, struck_s: float, lifted_s: float, load_end_s: float) -> Clocks:
    """Read the clocks of one fault.

    Args:
        bins: oldest first, of equal width.
        struck_s, lifted_s: when the fault began and ended; equal for a blow.
        load_end_s: when publishing ended; what happens later is the drain and says nothing about the rate.
    """
    before = [bin_ for bin_ in bins if bin_.t_s < struck_s and bin_.published > 0]
    if not before:
        return Clocks(first_delivery_s=None, full_rate_s=None, backlog_s=None, degraded=None)
    usual = sum(bin_.delivered for bin_ in before) / len(before)
    fan_out = sum(bin_.delivered for bin_ in before) / sum(bin_.published for bin_ in before)
    after = [bin_ for bin_ in bins if bin_.t_s >= lifted_s]
    first = next((bin_.t_s - lifted_s for bin_ in after if bin_.delivered > 0), None)
    loaded = [bin_ for bin_ in after if bin_.t_s < load_end_s]
    full = _steady(loaded, usual * FULL_RATIO, lifted_s)
    return Clocks(
        first_delivery_s=first,
        full_rate_s=full,
        backlog_s=_caught_up(bins, struck_s, lifted_s, fan_out),
        degraded=None if len(loaded) < STEADY_BINS else full is None,
    )


def _steady(bins: Sequence[Bin], rate: float, since_s: float) -> float | None:
    """When a rate was reached and held for a few bins."""
    run = 0
    for number, bin_ in enumerate(bins):
        run = run + 1 if bin_.delivered >= rate else 0
        if run == STEADY_BINS:
            return max(0.0, bins[number - STEADY_BINS + 1].t_s - since_s)
    return None


def _caught_up(bins: Sequence[Bin], struck_s: float, lifted_s: float, fan_out: float) -> float | None:
    """When the deliveries since the blow had caught up with what was published since, to within one bin's worth."""
    published = delivered = 0.0
    for bin_ in bins:
        if bin_.t_s < struck_s:
            continue
        owed = published * fan_out  # of the bins before this one: what was published in it may still be on its way
        published += bin_.published
        delivered += bin_.delivered
        if bin_.t_s >= lifted_s and published > 0 and delivered >= owed * 0.999:
            return max(0.0, bin_.t_s - lifted_s)
    return None
