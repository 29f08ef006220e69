"""Put the columns of a trace together into one verdict.

Resident memory decides, held against messages (against time when none were counted). A second identical load, where there is one, is the
tie-break: a leak grows again, a cache does not. Unique memory must not contradict a FAIL. Descriptors and threads are leaks of their own.
Pure and deterministic: the same trace and seed give the same result.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec
import numpy as np

from floodmark.core.errors import UsageError
from floodmark.model.verdict import Verdict, worst
from floodmark.monitor.leak.growth import SAMPLES_LEAST, Scale, judge_column
from floodmark.monitor.leak.result import Growth, LeakResult, Retained
from floodmark.monitor.leak.trace import Flags, Floats, Trace, Window, column

ALLOCATOR_GRAIN_BYTES = 1024 * 1024
DESCRIPTORS_GRAIN_COUNT = 8
THREADS_GRAIN_COUNT = 4
SETTLED_COUNT = 5  # samples whose least one is the level before a load or after a drain


def judge_leak(
    trace: Trace,
    *,
    limit_bytes_per_message: float = 10.0,
    limit_bytes_per_hour: float = 10e6,
    limit_descriptors_per_thousand: float = 0.1,
    limit_threads_per_thousand: float = 0.1,
    limit_count_per_hour: float = 100.0,
    peak_limit_bytes: float = math.inf,
    grain_bytes: float = ALLOCATOR_GRAIN_BYTES,
    seed: int = 0,
) -> LeakResult:
    """Say whether a process leaks.

    Args:
        trace: see `Trace`.
        limit_bytes_per_message: growth of the floor that is still taken for none, > 0.
        limit_bytes_per_hour: the same where the trace counts no messages.
        limit_descriptors_per_thousand, limit_threads_per_thousand: the same per thousand messages.
        limit_count_per_hour: for descriptors and threads where the trace counts no messages.
        peak_limit_bytes: a ceiling for every sample, those in windows that are left out too; above it is FAIL.
        grain_bytes: what an allocator may take or hide at once; the interval of every slope is wider by it over the span.
        seed: of the bootstrap.
    Returns: FAIL when memory, descriptors or threads surely grow faster than their limit, PASS when all that were given surely do not.
    Raises: UsageError for a limit that is not above 0.
    """
    limits = {
        "limit_bytes_per_message": limit_bytes_per_message,
        "limit_bytes_per_hour": limit_bytes_per_hour,
        "limit_descriptors_per_thousand": limit_descriptors_per_thousand,
        "limit_threads_per_thousand": limit_threads_per_thousand,
        "limit_count_per_hour": limit_count_per_hour,
        "peak_limit_bytes": peak_limit_bytes,
    }
    for name, value in limits.items():
        if not value > 0:
            raise UsageError(f"{name} must be above 0, got {value!r}; no process grows by exactly nothing")
    if not 0 <= grain_bytes < math.inf:
        raise UsageError(f"grain_bytes must be finite and at least 0, got {grain_bytes!r}")
    _, counted = trace.driver()
    if counted:
        memory_scale = Scale(limit_bytes_per_message, grain_bytes, "B/message", "messages")
        descriptor_scale = Scale(limit_descriptors_per_thousand / 1000, DESCRIPTORS_GRAIN_COUNT, "per 1,000 messages", "messages", 1000.0)
        thread_scale = Scale(limit_threads_per_thousand / 1000, THREADS_GRAIN_COUNT, "per 1,000 messages", "messages", 1000.0)
    else:
        memory_scale = Scale(limit_bytes_per_hour, grain_bytes, "B/h", "hours")
        descriptor_scale = Scale(limit_count_per_hour, DESCRIPTORS_GRAIN_COUNT, "per hour", "hours")
        thread_scale = Scale(limit_count_per_hour, THREADS_GRAIN_COUNT, "per hour", "hours")

    resident = column(trace.resident_bytes)
    resident[~(resident > 0)] = math.nan  # a living process has memory: 0 is a reading that failed
    decided = _decided(trace, resident, memory_scale, seed)
    unique = None
    if decided.verdict is Verdict.FAIL and trace.unique_bytes is not None:
        unique = _second_opinion(trace, column(trace.unique_bytes), memory_scale, seed)
        if unique is not None and unique.verdict is Verdict.PASS:
            reason = f"resident memory grows, unique memory does not, so shared or file-backed pages do: {unique.reason}"
            decided = decided._replace(verdict=Verdict.UNKNOWN, reason=reason)
    descriptors = None if trace.descriptors is None else _decided(trace, column(trace.descriptors), descriptor_scale, seed)
    threads = None if trace.threads is None else _decided(trace, column(trace.threads), thread_scale, seed)
    peak = None if not np.isfinite(resident).any() else int(np.nanmax(resident))
    parts = [
        ("memory", decided),
        *((name, part) for name, part in (("descriptors", descriptors), ("threads", threads)) if part is not None),
    ]
    verdict = worst(part.verdict for _, part in parts)
    reason = "; ".join(f"{name}: {part.reason}" for name, part in parts if part.verdict is verdict)
    if peak is not None and peak > peak_limit_bytes:
        verdict, reason = Verdict.FAIL, f"memory: peak of {peak:,} bytes, limit {peak_limit_bytes:,.0f}"
    shown = decided.latest
    rate = _per_hour(trace, counted)
    return LeakResult(
        verdict=verdict,
        reason=reason,
        memory=decided.first,
        decided=_one(decided),
        bytes_per_message=shown.slope if counted else (shown.slope / rate if shown.slope is not None and rate else None),
        bytes_per_hour=shown.slope if not counted else (shown.slope * rate if shown.slope is not None and rate else None),
        second=decided.second,
        second_ratio=decided.ratio,
        unique=unique,
        descriptors=None if descriptors is None else _one(descriptors),
        threads=None if threads is None else _one(threads),
        retained=_retained(trace, resident),
        peak_bytes=peak,
    )


class _Decided(NamedTuple):
    verdict: Verdict
    reason: str
    first: Growth
    second: Growth | None = None
    ratio: float | None = None

    @property
    def latest(self) -> Growth:
        return self.first if self.second is None or self.second.slope is None else self.second


def _decided(trace: Trace, y: Floats, scale: Scale, seed: int) -> _Decided:
    """Judge a column by the first load and, where there is one, the second."""
    x, _ = trace.driver()
    usable = ~trace.disturbed()
    load, again = _loads(trace)
    warm = None
    if trace.warm_until_ns is not None and len(x):
        warm = float(np.interp(trace.warm_until_ns, trace.t_ns, x))
    first = judge_column(x[usable & load], y[usable & load], scale, warm_until=warm, seed=seed)
    if again is None:
        return _Decided(first.verdict, first.reason, first)
    second = judge_column(x[usable & again], y[usable & again], scale, warm_until=None, seed=seed)
    before, between, after = (_level(y, usable & part, end) for part, end in ((load, False), (load, True), (again, True)))
    run = float(x[again][-1] - x[again][0]) if np.any(again) else 0.0
    if before is None or between is None or after is None or run <= 0:
        return _Decided(Verdict.UNKNOWN, "the second load has no readable figures", first, second)
    ratio = (after - between) / (between - before) if between > before else None
    rate, hidden = (after - between) / run, scale.grain / run
    told = f"the second load added {(after - between):,.6g} to {(between - before):,.6g} of the first"
    if rate - hidden > scale.limit and Verdict.FAIL in (first.verdict, second.verdict) and second.verdict is not Verdict.PASS:
        return _Decided(Verdict.FAIL, f"{told}: {(second if second.verdict is Verdict.FAIL else first).reason}", first, second, ratio)
    if rate + hidden < scale.limit and Verdict.PASS in (first.verdict, second.verdict) and second.verdict is not Verdict.FAIL:
        return _Decided(Verdict.PASS, f"{told}: {(second if second.verdict is Verdict.PASS else first).reason}", first, second, ratio)
    return _Decided(Verdict.UNKNOWN, f"{told}, which does not settle it: {second.reason}", first, second, ratio)


def _one(decided: _Decided) -> Growth:
    """Return a column's figures under the verdict that both loads gave."""
    return msgspec.structs.replace(decided.latest, verdict=decided.verdict, reason=decided.reason)


def _loads(trace: Trace) -> tuple[Flags, Flags | None]:
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


def _second_opinion(trace: Trace, unique: Floats, scale: Scale, seed: int) -> Growth | None:
    """Judge unique memory by the readings there are; None when they are too few to have an opinion."""
    x, _ = trace.driver()
    load, again = _loads(trace)
    use = ~trace.disturbed() & (load if again is None else again) & np.isfinite(unique)
    if int(use.sum()) < SAMPLES_LEAST:
        return None
    return judge_column(x[use], unique[use], scale, warm_until=None, seed=seed)


def _per_hour(trace: Trace, counted: bool) -> float | None:
    """Return messages per hour over the load; None where none were counted."""
    if not counted or trace.messages is None:
        return None
    part = np.flatnonzero(trace.inside(trace.load))
    if len(part) < 2:
        return None
    hours: float = (trace.t_ns[part[-1]] - trace.t_ns[part[0]]) / 3.6e12
    return float(trace.messages[part[-1]] - trace.messages[part[0]]) / hours


def _retained(trace: Trace, resident: Floats) -> Retained | None:
    """Hold memory after the last drain against memory before the load; None without a sample on either side."""
    last: Window | None = trace.second_load or trace.load
    if trace.load is None or last is None:
        return None
    times = np.asarray(trace.t_ns, dtype=np.int64)
    readable = np.isfinite(resident)
    before = resident[readable & (times <= trace.load.start_ns)][-SETTLED_COUNT:]
    after = resident[readable & (times > last.end_ns)][-SETTLED_COUNT:]
    if not len(before) or not len(after):
        return None
    kept = int(after.min() - before.min())
    count = 0 if trace.messages is None else trace.messages[-1] - trace.messages[0]
    return Retained(total_bytes=kept, bytes_per_message=kept / count if count else None)
