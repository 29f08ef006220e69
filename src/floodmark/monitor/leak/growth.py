"""Judge one column over one load: does its floor climb faster than a limit, for good?

Input: what drives growth (x) and a figure (y), NaN where unreadable. Output: a `Growth`. The questions, in order: is there
enough to go by; does it climb, steadily and to the end (FAIL); is every part of it surely below the limit (PASS); and if neither, what
stands in the way.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from floodmark.model.verdict import Verdict
from floodmark.monitor.leak import shape
from floodmark.monitor.leak.envelope import CYCLES_LEAST, Floor, floor
from floodmark.monitor.leak.result import Growth
from floodmark.monitor.leak.slope import Line, line
from floodmark.monitor.leak.trace import Floats

SAMPLES_LEAST = 40
READABLE_LEAST = 0.5
LATE_SHARES = (1.0, 1 / 2, 1 / 3, 1 / 4)  # parts of the usable stretch, up to its end, in which a leak may have begun
BOTTOMS_OF_A_PART = 6
STEADY_RATIO = 0.75  # growth of the second half / of the first; a leak has 1, a warm-up of tau = 1.2 loads has 0.66
RISING_SHARE = 0.65
SLACK_GRAINS = 3.5  # what an allocator may hold free and fill before it asks for more: a PASS needs a limit that would have filled it
IN_HAND = 0.9  # of the limit: a PASS keeps a tenth for a machine that drifted downwards meanwhile
LATE_GRAINS = 3.0  # a short part is all slope to a slow drift: what must be out of doubt there is three times as much
TWICE = 2.2  # a buffer that doubled at message m doubles again by 2 m; a tenth more, to have seen it


class Scale(NamedTuple):
    """What a column is measured in.

    `limit` in y per x; `grain` in y; `shown` turns y per x into `unit`.
    """

    limit: float
    grain: float
    unit: str
    span_unit: str
    shown: float = 1.0


class _Part(NamedTuple):
    floor: Floor
    line: Line

    @property
    def span(self) -> float:
        return float(self.floor.x[-1] - self.floor.x[0])


def judge_column(x: Floats, y: Floats, scale: Scale, *, warm_until: float | None, seed: int, before: float = 0.0) -> Growth:
    """Judge a column.

    Args:
        x: (n,) not falling; y: (n,) NaN where unreadable.
        warm_until: x at which warm-up ended; None: look for it.
        before: of x, what an earlier load has put through already: it filled what an allocator held free.
    """
    readable = np.isfinite(y)
    if len(y) == 0:
        return _unknown(scale, "no samples")
    if np.mean(readable) < READABLE_LEAST:
        return _unknown(scale, f"figures unreadable: only {int(readable.sum())} of {len(y)} samples have one")
    x, y = x[readable], y[readable]
    if len(x) < SAMPLES_LEAST or x[-1] <= x[0]:
        return _unknown(
            scale, f"too short: {len(x)} samples over {x[-1] - x[0]:,.6g} {scale.span_unit}; at least {SAMPLES_LEAST} are needed"
        )
    load = floor(x, y, swing=math.inf)
    warm = shape.WarmUp(warm_until, "given by the caller") if warm_until is not None else shape.warm_up(load.x, load.y)
    used = x >= warm.end
    if int(used.sum()) < SAMPLES_LEAST or x[-1] <= warm.end:
        return _unknown(scale, f"too short: {int(used.sum())} samples are left after warm-up; at least {SAMPLES_LEAST} are needed")
    if (gap := float(np.diff(x[used]).max())) > (x[-1] - warm.end) / 2:
        return _unknown(scale, f"figures missing: nothing was read over {gap:,.6g} of {x[-1] - warm.end:,.6g} {scale.span_unit}")
    return _Column(x, y, load, warm, scale, seed, before).judge()


class _Column:
    """One column with enough in it to be judged."""

    def __init__(self, x: Floats, y: Floats, load: Floor, warm: shape.WarmUp, scale: Scale, seed: int, before: float) -> None:
        self.x, self.y, self.load, self.warm, self.scale, self.seed, self.before = x, y, load, warm, scale, seed, before
        self.whole = self._part(warm.end)

    def judge(self) -> Growth:
        whole = self.whole
        if math.isnan(whole.line.slope):
            return self._result(whole, Verdict.UNKNOWN, "too few points after warm-up", more=float(self.x[-1] - self.warm.end))
        if 0 < whole.floor.cycles < CYCLES_LEAST and not self._is_below(self.warm.end):
            reason = (
                f"memory was given back only {whole.floor.cycles} times; {CYCLES_LEAST} times are needed to see what it falls back to: "
                f"{self._said(whole.line)}"
            )
            return self._result(whole, Verdict.UNKNOWN, reason, more=(CYCLES_LEAST / whole.floor.cycles - 1) * whole.span)
        lasting = self._lasting(self.load, whole.floor)
        for share in LATE_SHARES if not 0 < whole.floor.cycles < CYCLES_LEAST else ():
            part = self._late(share)
            if part is not None and self._climbs(part, lasting):
                since = "" if share == 1.0 else f" over the last {share:.0%}, where growth began"
                return self._result(part, Verdict.FAIL, f"the floor climbs steadily{since}: {self._said(part.line)}")
        beside = self._beside_jumps()
        if beside is not None:
            return self._result(beside, Verdict.FAIL, f"the floor climbs steadily between its jumps: {self._said(beside.line)}")
        if self._is_below(self.warm.end):
            return self._result(whole, Verdict.PASS, f"surely below the limit: {self._said(whole.line)}")
        return self._after_jump() or self._why_unknown(lasting)

    # -- parts -------------------------------------------------------------------------------------------------------------------------

    def _part(self, start: float) -> _Part:
        used = self.x >= start
        x, y = self.x[used], self.y[used]
        swing = max(self.scale.grain, 0.25 * self.scale.limit * float(x[-1] - x[0]))
        return self._fitted(floor(x, y, swing=swing))

    def _fitted(self, points: Floor) -> _Part:
        if len(points.x) < 3:
            return _Part(points, Line(math.nan, math.nan, math.nan))
        return _Part(points, line(points.x, points.y, grain=self.scale.grain, seed=self.seed))

    def _late(self, share: float) -> _Part | None:
        """Return the last part of the usable stretch; None where it holds too little to say anything.

        Where memory is given back in cycles, the part keeps the bottoms of the whole: within a single rise it would look like a leak.
        """
        if share == 1.0:
            return self.whole
        start = float(self.x[-1] - share * (self.x[-1] - self.warm.end))
        if self.whole.floor.released:
            late = self.whole.floor.x >= start
            if int(late.sum()) < BOTTOMS_OF_A_PART:
                return None
            return self._fitted(Floor(self.whole.floor.x[late], self.whole.floor.y[late], int(late.sum())))
        if int((self.x >= start).sum()) < SAMPLES_LEAST:
            return None
        part = self._part(start)
        return None if part.floor.released or math.isnan(part.line.slope) else part

    # -- FAIL --------------------------------------------------------------------------------------------------------------------------

    def _beside_jumps(self) -> _Part | None:
        """Return the whole with its jumps taken off when it climbs even so: a leak beside caches that filled."""
        points = shape.without_jumps(self.whole.floor.x, self.whole.floor.y, least=2 * self.scale.grain)
        if points is None or 0 < self.whole.floor.cycles < CYCLES_LEAST:
            return None
        part = self._fitted(self.whole.floor._replace(y=points))
        load = shape.without_jumps(self.load.x, self.load.y, least=2 * self.scale.grain)
        lasting = self._lasting(self.load if load is None else self.load._replace(y=load), part.floor)
        return part if self._climbs(part, lasting) else None

    def _lasting(self, load: Floor, whole: Floor) -> float | None:
        """Return the slope that surely remains of growth that dies away; None where it does not die away."""
        lows = []
        begun = load.x >= load.x[0] + 0.05 * (load.x[-1] - load.x[0])
        for points in (Floor(load.x[begun], load.y[begun], 0), whole):
            if len(points.x) < 8:
                continue
            first, second = shape.halves(points.x, points.y)
            if first > self.scale.limit / 2 and second < STEADY_RATIO * first:
                lows.append(shape.lasting_slope(points.x, points.y)[0])
        return min(lows) if lows else None

    def _climbs(self, part: _Part, lasting: float | None) -> bool:
        limit = self.scale.limit
        surely = part.line.lower if part is self.whole else part.line.lower - (LATE_GRAINS - 1) * self.scale.grain / part.span
        if not surely > limit or (lasting is not None and not lasting > limit):
            return False
        spread = shape.climb(part.floor.x, part.floor.y)
        first, second = shape.halves(part.floor.x, part.floor.y)
        if not (spread.without_jumps > limit / 2 and spread.rising_share >= RISING_SHARE and second > limit):
            return False
        return second >= STEADY_RATIO * first or (lasting is not None and lasting > limit)

    # -- PASS --------------------------------------------------------------------------------------------------------------------------

    def _is_below(self, start: float) -> bool:
        part = self._part(start)
        if self.scale.limit * (self.before + part.span) < SLACK_GRAINS * self.scale.grain:
            return False
        if not part.line.upper < IN_HAND * self.scale.limit or self._rises_late(part):
            return False
        for share in LATE_SHARES[1:]:
            late_start = float(self.x[-1] - share * (self.x[-1] - start))
            if self.whole.floor.released or self.scale.grain > 0.5 * self.scale.limit * (self.x[-1] - late_start):
                continue
            late = self._part(late_start)
            if not late.floor.released and not late.line.upper < self.scale.limit:
                return False
        return True

    def _rises_late(self, part: _Part) -> bool:
        """Say whether the end lies so far above any earlier point as a leak that began there would have lifted it."""
        x, y = part.floor.x, part.floor.y
        away = y - part.line.slope * x
        noise = 1.4826 * float(np.median(np.abs(away - np.median(away))))
        end = float(y[-3:].min()) if len(y) >= 12 else float(y[-1])
        run = x[-1] - x
        far = run >= part.span / 8
        rise = end - y
        return bool(np.any(far & (rise > 0.8 * self.scale.limit * run) & (rise > self.scale.grain + 3 * noise)))

    def _after_jump(self) -> Growth | None:
        """PASS for growth that came at once and then stopped for longer than it took to come."""
        spread = shape.climb(self.whole.floor.x, self.whole.floor.y)
        behind = spread.jump_at + self.whole.span / shape.SEGMENTS_COUNT
        begun, ended = float(self.x[0]), float(self.x[-1])
        if ended - begun < TWICE * (behind - begun) or int((self.x >= behind).sum()) < SAMPLES_LEAST or not self._is_below(behind):
            return None
        part = self._part(behind)
        return self._result(
            part,
            Verdict.PASS,
            f"growth came by {behind - begun:,.6g} {self.scale.span_unit} and ended there, although the load went on for more than as much "
            f"again: {self._said(part.line)}",
        )

    # -- UNKNOWN -----------------------------------------------------------------------------------------------------------------------

    def _why_unknown(self, lasting: float | None) -> Growth:
        whole, limit = self.whole, self.scale.limit
        spread = shape.climb(whole.floor.x, whole.floor.y)
        begun, ended = float(self.x[0]), float(self.x[-1])
        said = self._said(whole.line)
        first, second = shape.halves(whole.floor.x, whole.floor.y)
        jumped = spread.total > limit * whole.span / 2 and spread.without_jumps < limit / 2
        if jumped:
            until = TWICE * (spread.jump_at + whole.span / shape.SEGMENTS_COUNT - begun)
            more = max(until - (ended - begun), 0.1 * (ended - begun))
            return self._result(
                whole, Verdict.UNKNOWN, f"growth came in a few jumps, so it may be over or may come again: {said}", more=more
            )
        if lasting is not None:
            fall = math.log(max(first, 1e-300) / second) if first > second > 0 else math.inf
            more = whole.span / 2 * max(1.0, math.log(max(2 * second / limit, math.e)) / fall) if second > 0 else whole.span / 2
            return self._result(whole, Verdict.UNKNOWN, f"still warming up: growth is dying away but not over: {said}", more=more)
        filled = SLACK_GRAINS * self.scale.grain / limit
        if self.before + whole.span < filled and not whole.line.lower > limit:
            reason = f"too short: what an allocator may hold free takes {filled:,.6g} {self.scale.span_unit} at the limit to fill: {said}"
            return self._result(whole, Verdict.UNKNOWN, reason, more=1.3 * (filled - self.before - whole.span))
        if whole.line.upper < IN_HAND * limit:
            return self._result(whole, Verdict.UNKNOWN, f"the last part rises faster than the whole: {said}", more=whole.span / 2)
        half = (whole.line.upper - whole.line.lower) / 2
        distance = abs(whole.line.slope - limit)
        more = min(max(0.25, half / distance - 1) * 1.25, 100.0) * whole.span if distance > 0 else 100.0 * whole.span
        hidden = self.scale.grain / whole.span
        if hidden > half / 2:
            stretch = f"{whole.span:,.6g} {self.scale.span_unit}"
            reason = f"too short: an allocator can hide {hidden * self.scale.shown:,.3g} {self.scale.unit} over {stretch}: {said}"
        elif whole.line.lower > limit:
            reason = f"growth is above the limit but not steady: {said}"
        else:
            reason = f"noise hides the limit: {said}"
        return self._result(whole, Verdict.UNKNOWN, reason, more=more)

    # -- words -------------------------------------------------------------------------------------------------------------------------

    def _said(self, found: Line) -> str:
        slope, lower, upper, limit = (value * self.scale.shown for value in (*found, self.scale.limit))
        return f"{slope:,.3g} {self.scale.unit} ({lower:,.3g} to {upper:,.3g}), limit {limit:,.3g}"

    def _result(self, part: _Part, verdict: Verdict, reason: str, *, more: float | None = None) -> Growth:
        known = not math.isnan(part.line.slope)
        if more is not None:
            more = math.ceil(more) if self.scale.span_unit == "messages" else more
            reason += f"; about {more:,.6g} more {self.scale.span_unit} should decide it"
        return Growth(
            verdict=verdict,
            reason=reason,
            unit=self.scale.unit,
            limit=self.scale.limit * self.scale.shown,
            span_unit=self.scale.span_unit,
            slope=part.line.slope * self.scale.shown if known else None,
            lower=part.line.lower * self.scale.shown if known else None,
            upper=part.line.upper * self.scale.shown if known else None,
            span=part.span,
            points=len(part.floor.x),
            cycles=part.floor.cycles,
            warm_up=self.warm.end - float(self.x[0]),
            warm_up_why=self.warm.why,
            more=more,
        )


def _unknown(scale: Scale, reason: str) -> Growth:
    return Growth(verdict=Verdict.UNKNOWN, reason=reason, unit=scale.unit, limit=scale.limit * scale.shown, span_unit=scale.span_unit)
