"""What a leak is judged by: columns of samples, and the marks of the run.

Input: figures as the monitor took them. Output: a checked `Trace`. None in a column is a reading that failed; a whole column that is None
was never asked for. Not here: any statistics.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from floodmark.core.errors import UsageError
from floodmark.monitor.sample import ProcessSample

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Window(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A span of time, both ends included, on the clock of the samples."""

    start_ns: int
    end_ns: int

    def __post_init__(self) -> None:
        if self.end_ns < self.start_ns:
            raise UsageError(f"a window ends before it starts: {self.start_ns} to {self.end_ns} ns; swap the two")


class Trace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The samples of one process tree, oldest first; all columns have the length of `t_ns`.

    Args:
        t_ns: when each sample was taken; strictly ascending.
        resident_bytes: resident memory; None where it could not be read.
        messages: cumulative count of what should drive growth (messages delivered, connections opened); never falls. None: judged by time.
        unique_bytes: memory of the process alone; it may be read less often. Used as a second opinion before a FAIL.
        descriptors, threads: counts, each judged as a leak of its own when given.
        left_out: windows such as faults, whose samples count for the peak only.
        warm_until_ns: when warm-up ended, where the caller knows; otherwise it is looked for.
        load: the (first) load. Default: all samples before `second_load`, or simply all.
        second_load: an identical load after a drain.
    """

    t_ns: tuple[int, ...]
    resident_bytes: tuple[int | None, ...]
    messages: tuple[int, ...] | None = None
    unique_bytes: tuple[int | None, ...] | None = None
    descriptors: tuple[int | None, ...] | None = None
    threads: tuple[int | None, ...] | None = None
    left_out: tuple[Window, ...] = ()
    warm_until_ns: int | None = None
    load: Window | None = None
    second_load: Window | None = None

    def __post_init__(self) -> None:
        for name in ("resident_bytes", "messages", "unique_bytes", "descriptors", "threads"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.t_ns):
                raise UsageError(f"{name} has {len(column)} entries for {len(self.t_ns)} samples; give one each, None where unreadable")
        if any(later <= earlier for earlier, later in itertools.pairwise(self.t_ns)):
            raise UsageError("t_ns must be strictly ascending; sort the samples and drop doubles")
        if self.messages is not None and any(later < earlier for earlier, later in itertools.pairwise(self.messages)):
            raise UsageError("messages is a cumulative count and must not fall; add up over restarts")
        if self.load is not None and self.second_load is not None and self.second_load.start_ns <= self.load.end_ns:
            raise UsageError("second_load must start after the first load has ended; the drain lies between them")

    def driver(self) -> tuple[Floats, bool]:
        """Return what growth is held against, and whether that is messages (else hours, as nothing was counted)."""
        if self.messages is not None and len(self.messages) > 0 and self.messages[-1] > self.messages[0]:
            return np.asarray(self.messages, dtype=np.float64) - self.messages[0], True
        times = np.asarray(self.t_ns, dtype=np.float64)
        return (times - times[0] if len(times) else times) / 3.6e12, False

    def inside(self, window: Window | None) -> Flags:
        """Mark the samples of a window; all of them when there is none."""
        times = np.asarray(self.t_ns, dtype=np.int64)
        if window is None:
            return np.ones(len(times), dtype=np.bool_)
        return np.asarray((times >= window.start_ns) & (times <= window.end_ns), dtype=np.bool_)

    def disturbed(self) -> Flags:
        """Mark the samples inside any window that is left out."""
        flags = np.zeros(len(self.t_ns), dtype=np.bool_)
        for window in self.left_out:
            flags |= self.inside(window)
        return flags


def column(readings: Sequence[int | None]) -> Floats:
    """Turn readings into floats; NaN where there is none."""
    return np.array([np.nan if reading is None else float(reading) for reading in readings], dtype=np.float64)


def trace_of(
    samples: Iterable[ProcessSample],
    progress: Sequence[tuple[int, int]] = (),
    *,
    left_out: Iterable[Window] = (),
    warm_until_ns: int | None = None,
    load: Window | None = None,
    second_load: Window | None = None,
    descriptors: bool = True,
    threads: bool = True,
) -> Trace:
    """Put the monitor's samples beside the load's progress.

    Args:
        samples: of one tree, oldest first; a second sample at the same nanosecond is dropped.
        progress: (t_ns, cumulative messages), ascending; between two entries the count is taken to grow evenly, outside it stands still.
            None at all: the trace is judged by time.
        descriptors, threads: whether these columns are to be judged as well.
    """
    kept: list[ProcessSample] = []
    for sample in samples:
        if not kept or sample.t_ns > kept[-1].t_ns:
            kept.append(sample)
    times = tuple(sample.t_ns for sample in kept)
    messages = None
    if progress:
        at_ns, counts = zip(*progress, strict=True)
        messages = tuple(int(count) for count in np.interp(times, at_ns, counts))
    return Trace(
        t_ns=times,
        resident_bytes=tuple(sample.resident_bytes for sample in kept),
        messages=messages,
        unique_bytes=tuple(sample.unique_bytes for sample in kept),
        descriptors=tuple(sample.descriptors for sample in kept) if descriptors else None,
        threads=tuple(sample.threads for sample in kept) if threads else None,
        left_out=tuple(left_out),
        warm_until_ns=warm_until_ns,
        load=load,
        second_load=second_load,
    )
