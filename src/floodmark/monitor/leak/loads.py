"""Put one load or two together into a verdict on one column.

One load is judged by itself. With a second, identical one after a drain three looks are taken: the first load, the second, and both as one
stretch, since no messages pass in the drain. What comes once (a cache, a pool, a warm-up) shows in the first load only; what comes and goes
(teeth, trimming, drift) shows least in the longest stretch. A leak shows in all three.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from floodmark.model.verdict import Verdict
from floodmark.monitor.leak.growth import Scale, judge_column
from floodmark.monitor.leak.result import Growth
from floodmark.monitor.leak.trace import Flags, Floats, Trace

SETTLED_COUNT = 5  # samples whose least one is the level before a load or after a drain
WARM_AGAIN = 0.05  # of the second load: buffers that the rest gave back; what warms up once has done so
QUARTER = 0.25


class Decided(NamedTuple):
    """What the loads say together; `shown` is the look that the verdict rests on."""

    verdict: Verdict
    reason: str
    first: Growth
    shown: Growth
    second: Growth | None = None
    ratio: float | None = None

    @property
    def growth(self) -> Growth:
        """The figures of the look that decided, under the verdict of all."""
        return msgspec.structs.replace(self.shown, verdict=self.verdict, reason=self.reason)


def decide(trace: Trace, y: Floats, scale: Scale, seed: int) -> Decided:
    """Judge a column by the first load and, where there is one, the second."""
    x, _ = trace.driver()
    usable = ~trace.disturbed()
    load, again = loads(trace)
    warm = None
    if trace.warm_until_ns is not None and len(x):
        warm = float(np.interp(trace.warm_until_ns, trace.t_ns, x))
    first = judge_column(x[usable & load], y[usable & load], scale, warm_until=warm, seed=seed)
    if again is None:
        return Decided(first.verdict, first.reason, first, first)
    return _with_second(x, y, usable, load, again, first, scale, seed)


def _with_second(x: Floats, y: Floats, usable: Flags, load: Flags, again: Flags, first: Growth, scale: Scale, seed: int) -> Decided:
    run = float(x[again][-1] - x[again][0]) if np.any(again) else 0.0
    before, between, after = (_level(y, usable & part, end) for part, end in ((load, False), (load, True), (again, True)))
    if before is None or between is None or after is None or run <= 0:
        return Decided(Verdict.UNKNOWN, "the second load has no readable figures", first, first)
    passed = float(x[load][-1] - x[load][0])
    warm = float(x[again][0]) + WARM_AGAIN * run
    second = judge_column(x[usable & again], y[usable & again], scale, warm_until=warm, seed=seed, before=passed)
    whole = usable & (load | again)
    both = judge_column(x[whole], y[whole], scale, warm_until=None, seed=seed)
    ratio = (after - between) / (between - before) if between > before else None
    told = f"the second load added {(after - between):,.6g} to {(between - before):,.6g} of the first"
    rate, hidden = (after - between) / run, scale.grain / run
    floors = _floor_rate(x[usable & again], y[usable & again], run)
    # Each look, what confirms it, and which others may not speak against it.
    grows = [
        (second, floors > scale.limit, (both,)),
        (both, floors > scale.limit, (second,)),
        (first, rate - hidden > scale.limit, (second, both)),
    ]
    stays = [
        (second, floors < scale.limit, ()),
        (both, floors < scale.limit, (second,)),
        (first, rate + hidden < scale.limit, (second, both)),
    ]
    failing = _agreed(grows, Verdict.FAIL, Verdict.PASS)
    passing = _agreed(stays, Verdict.PASS, Verdict.FAIL)
    if failing is not None and passing is None:
        return Decided(Verdict.FAIL, f"{told}: {failing.reason}", first, failing, second, ratio)
    if passing is not None and failing is None:
        return Decided(Verdict.PASS, f"{told}: {passing.reason}", first, passing, second, ratio)
    return Decided(Verdict.UNKNOWN, f"{told}, which does not settle it: {second.reason}", first, second, second, ratio)


def _agreed(looks: list[tuple[Growth, bool, tuple[Growth, ...]]], verdict: Verdict, against: Verdict) -> Growth | None:
    for look, confirmed, others in looks:
        if look.verdict is verdict and confirmed and all(other.verdict is not against for other in others):
            return look
    return None


def loads(trace: Trace) -> tuple[Flags, Flags | None]:
    """Mark the samples of the first and of the second load."""
    if trace.second_load is None:
        return trace.inside(trace.load), None
    before = np.asarray(np.asarray(trace.t_ns, dtype=np.int64) < trace.second_load.start_ns)
    return trace.inside(trace.load) & before, trace.inside(trace.second_load)


def _level(y: Floats, part: Flags, end: bool) -> float | None:
    """Return the floor at one end of a load: the least of a twentieth of its samples."""
    figures = y[part]
    figures = figures[np.isfinite(figures)]
    if not len(figures):
        return None
    count = max(SETTLED_COUNT, len(figures) // 20)
    return float(figures[-count:].min() if end else figures[:count].min())


def _floor_rate(x: Floats, y: Floats, run: float) -> float:
    """Return what the least of a load's last quarter lies above the least of its first, per x: teeth fall to their floor in either."""
    readable = np.isfinite(y)
    x, y = x[readable], y[readable]
    early, late = x <= x[0] + QUARTER * run, x >= x[-1] - QUARTER * run
    if not np.any(early) or not np.any(late):
        return float("nan")
    return float(y[late].min() - y[early].min()) / ((1 - QUARTER) * run)
