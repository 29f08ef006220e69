"""Put the columns of a trace together into one verdict.

Resident memory decides, held against messages (against time when none were counted). A second identical load, where there is one, is the
tie-break: a leak grows again, a cache does not. Unique memory must not contradict a FAIL. Descriptors and threads are leaks of their own.
Pure and deterministic: the same trace and seed give the same result.
"""

from __future__ import annotations

import math

import numpy as np

from floodmark.core.errors import UsageError
from floodmark.model.verdict import Verdict, worst
from floodmark.monitor.leak.growth import SAMPLES_LEAST, Scale, judge_column
from floodmark.monitor.leak.loads import SETTLED_COUNT, decide, loads
from floodmark.monitor.leak.result import Growth, LeakResult, Retained
from floodmark.monitor.leak.trace import Floats, Trace, Window, column

ALLOCATOR_GRAIN_BYTES = 1024 * 1024
DESCRIPTORS_GRAIN_COUNT = 8
THREADS_GRAIN_COUNT = 4


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
    decided = decide(trace, resident, memory_scale, seed)
    unique = None
    if decided.verdict is Verdict.FAIL and trace.unique_bytes is not None:
        unique = _second_opinion(trace, column(trace.unique_bytes), memory_scale, seed)
        if unique is not None and unique.verdict is Verdict.PASS:
            reason = f"resident memory grows, unique memory does not, so shared or file-backed pages do: {unique.reason}"
            decided = decided._replace(verdict=Verdict.UNKNOWN, reason=reason)
    descriptors = None if trace.descriptors is None else decide(trace, column(trace.descriptors), descriptor_scale, seed)
    threads = None if trace.threads is None else decide(trace, column(trace.threads), thread_scale, seed)
    peak = None if not np.isfinite(resident).any() else int(np.nanmax(resident))
    parts = [
        ("memory", decided),
        *((name, part) for name, part in (("descriptors", descriptors), ("threads", threads)) if part is not None),
    ]
    verdict = worst(part.verdict for _, part in parts)
    reason = "; ".join(f"{name}: {part.reason}" for name, part in parts if part.verdict is verdict)
    if peak is not None and peak > peak_limit_bytes:
        verdict, reason = Verdict.FAIL, f"memory: peak of {peak:,} bytes, limit {peak_limit_bytes:,.0f}"
    shown = decided.shown
    rate = _per_hour(trace, counted)
    return LeakResult(
        verdict=verdict,
        reason=reason,
        memory=decided.first,
        decided=decided.growth,
        bytes_per_message=shown.slope if counted else (shown.slope / rate if shown.slope is not None and rate else None),
        bytes_per_hour=shown.slope if not counted else (shown.slope * rate if shown.slope is not None and rate else None),
        second=decided.second,
        second_ratio=decided.ratio,
        unique=unique,
        descriptors=None if descriptors is None else descriptors.growth,
        threads=None if threads is None else threads.growth,
        retained=_retained(trace, resident),
        peak_bytes=peak,
    )


def _second_opinion(trace: Trace, unique: Floats, scale: Scale, seed: int) -> Growth | None:
    """Judge unique memory by the readings there are; None when they are too few to have an opinion."""
    x, _ = trace.driver()
    load, again = loads(trace)
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
