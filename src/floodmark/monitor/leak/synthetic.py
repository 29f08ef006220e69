"""Traces with a known truth, to try the leak verdict on: each kind of memory that was ever taken for a leak, and leaks that hide behind it.

`make(kind, leak_bytes_per_message=..., seed=...)` gives the same trace for the same arguments. 100 ms between samples (more seldom above
3,000 samples), one million messages over 60-600 s, 50-500 MB to begin with, whole pages. Not here: any judgement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from floodmark.core.errors import UsageError
from floodmark.monitor.leak.trace import Floats, Trace, Window

PAGE_BYTES = 4096
SAMPLES_MOST = 3_000
MB = 1e6


@dataclass(slots=True)
class Draft:
    """A trace in the making; `x` runs from 0 to 1 with the messages, `t` with time."""

    rng: np.random.Generator
    t: Floats
    x: Floats
    live: Floats  # bytes in use
    leak: Floats  # of these, leaked
    windows: list[tuple[float, float]] = field(default_factory=list)  # to leave out, as shares of time
    kept: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None
    unreadable: float = 0.0
    descriptors_per_thousand: float = 0.0
    once: float = 0.0  # bytes at the end that a second load does not add again

    def add_once(self, growth: np.ndarray[tuple[Any, ...], np.dtype[np.floating[Any]]]) -> None:
        """Put growth on top that comes once in the life of a process: a cache that fills, a pool that grows."""
        self.live += growth
        self.once += float(growth[-1])

    def uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))


def _flat(draft: Draft) -> None:
    pass


def _warm_up(draft: Draft) -> None:
    tau = float(np.exp(draft.uniform(np.log(0.02), np.log(0.5))))
    draft.add_once(draft.uniform(5, 100) * MB * -np.expm1(-draft.x / tau))


def _long_warm_up(draft: Draft) -> None:
    draft.add_once(draft.uniform(20, 150) * MB * -np.expm1(-draft.x / draft.uniform(0.5, 1.2)))


def _sawtooth(draft: Draft) -> None:
    cycles = float(np.exp(draft.uniform(np.log(25), np.log(400))))
    draft.live += draft.uniform(2, 60) * MB * _teeth(draft, cycles)


def _slow_sawtooth(draft: Draft) -> None:
    draft.live += draft.uniform(5, 60) * MB * _teeth(draft, draft.uniform(3, 25))


def _teeth(draft: Draft, cycles: float) -> Floats:
    """Rise from 0 to about 1 and fall back, with cycles of uneven length and a floor that is not quite the same."""
    ends = np.cumsum(draft.rng.uniform(0.7, 1.3, size=int(cycles * 1.6) + 4)) / cycles - draft.uniform(0, 1) / cycles
    at = np.searchsorted(ends, draft.t, side="right")
    starts = np.concatenate([[ends[0] - 1 / cycles], ends])[at]
    floors = draft.rng.gamma(2.0, 0.01, size=len(ends) + 1)[at]
    teeth: Floats = floors + (draft.t - starts) * cycles
    return teeth


def _trimming(draft: Draft) -> None:
    """An allocator that keeps what was freed, and gives back all above the live memory a few times in a run."""
    draft.live += draft.uniform(3, 30) * MB * _teeth(draft, draft.uniform(60, 300))
    every = max(20, int(len(draft.t) / draft.uniform(6, 14)))
    for start in range(0, len(draft.t), every):
        draft.live[start : start + every] = np.maximum.accumulate(draft.live[start : start + every])


def _step(draft: Draft) -> None:
    draft.add_once(draft.uniform(3, 120) * MB * (draft.x > draft.uniform(0.05, 0.95)))


def _doubling(draft: Draft) -> None:
    size, at = draft.uniform(0.5, 4) * MB, draft.uniform(0.02, 0.1)
    while at < 1:
        draft.add_once(size * (draft.x > at))
        size, at = size * 2, at * 2


def _staircase(draft: Draft) -> None:
    """Caches that fill, each once: two to four steps anywhere."""
    for _ in range(int(draft.rng.integers(2, 5))):
        draft.add_once(draft.uniform(2, 40) * MB * (draft.x > draft.uniform(0, 1)))


def _arenas(draft: Draft) -> None:
    """Heavy-tailed live memory under an allocator that takes 256 KiB or 1 MiB at once and gives it back late."""
    arena = float(draft.rng.choice([256 * 1024, 1024 * 1024]))
    draft.live += np.abs(draft.rng.standard_t(2, size=len(draft.t))).clip(max=40) * draft.uniform(20, 200) * 1e3
    wanted = np.ceil(draft.live / arena) * arena
    held = wanted.copy()
    for i in range(1, len(held)):
        held[i] = wanted[i] if wanted[i] > held[i - 1] or wanted[i] < held[i - 1] - 4 * arena else held[i - 1]
    draft.live = held


def _drift(draft: Draft) -> None:
    """A shared machine: pages reclaimed and faulted in again, slowly and without aim."""
    steps = draft.rng.normal(0, 1, size=len(draft.t))
    walk = np.zeros(len(steps))
    hold = 1 - 20 / len(steps)
    for i in range(1, len(steps)):
        walk[i] = hold * walk[i - 1] + steps[i]
    draft.live += walk / walk.std() * draft.uniform(0.1, 0.8) * MB
    draft.live += draft.uniform(0.2, 1.5) * MB * np.sin(2 * np.pi * (draft.t * draft.uniform(0.5, 3) + draft.uniform(0, 1)))


def _spikes(draft: Draft) -> None:
    for _ in range(int(draft.rng.integers(2, 12))):
        at = draft.uniform(0, 1)
        draft.live += draft.uniform(5, 80) * MB * ((draft.t > at) & (draft.t < at + draft.uniform(0.002, 0.02)))


def _missing(draft: Draft) -> None:
    gap = draft.uniform(0.2, 0.8)
    draft.kept = (draft.rng.random(len(draft.t)) > 0.3) & ~((draft.t > gap) & (draft.t < gap + 0.1))
    draft.unreadable = 0.1


def _fault(draft: Draft) -> None:
    """A plateau of queued messages while a fault lasts, given back some time after it; the window covers both."""
    start, length = draft.uniform(0.15, 0.7), draft.uniform(0.05, 0.2)
    inside = (draft.t > start) & (draft.t < start + length)
    draft.live += draft.uniform(20, 200) * MB * inside
    draft.windows.append((start - 0.01, start + length + 0.01))


def _steps_and_teeth(draft: Draft) -> None:
    _step(draft)
    _sawtooth(draft)


def _warm_and_teeth(draft: Draft) -> None:
    _warm_up(draft)
    _sawtooth(draft)


def _late(draft: Draft) -> None:
    """Put the leak off: nothing before a moment between 20 % and 60 %, the full rate after it."""
    begins = draft.uniform(0.2, 0.6)
    rate = draft.leak[-1]
    draft.live -= draft.leak
    draft.leak = rate * np.maximum(0.0, draft.x - begins)
    draft.live += draft.leak


KINDS: dict[str, Callable[[Draft], None]] = {
    "flat": _flat,
    "warm-up": _warm_up,
    "long warm-up": _long_warm_up,
    "sawtooth": _sawtooth,
    "slow sawtooth": _slow_sawtooth,
    "trimming": _trimming,
    "step": _step,
    "doubling": _doubling,
    "staircase": _staircase,
    "arenas": _arenas,
    "drift": _drift,
    "spikes": _spikes,
    "missing": _missing,
    "fault": _fault,
    "step+teeth": _steps_and_teeth,
    "warm-up+teeth": _warm_and_teeth,
    "late": _late,
}


AGAIN: dict[str, Callable[[Draft], None]] = {
    kind: act
    for kind, act in (KINDS | {"step+teeth": _sawtooth, "warm-up+teeth": _sawtooth}).items()
    if kind not in ("warm-up", "long warm-up", "step", "doubling", "staircase", "fault", "late")
}
"""What a kind does in the second load: what comes once has come, what comes and goes comes and goes, and a leak that began late goes on."""


def make(
    kind: str,
    *,
    seed: int,
    leak_bytes_per_message: float = 0.0,
    messages_count: int = 1_000_000,
    duration_s: float | None = None,
    descriptors_per_thousand: float = 0.0,
    second_load: bool = False,
) -> Trace:
    """Make a trace.

    Args:
        kind: one of `KINDS`.
        leak_bytes_per_message: the truth; for "late" from its beginning on.
        duration_s: of one load; drawn from 60-600 s when None.
        descriptors_per_thousand: descriptors leaked for every thousand messages.
        second_load: append a drain and the same load again, of as many messages: the leak goes on, teeth, spikes and drift do, too.
    """
    if kind not in KINDS:
        raise UsageError(f"no kind {kind!r}; there are: {', '.join(KINDS)}")
    rng = np.random.default_rng([seed, len(kind), sum(kind.encode())])
    seconds = float(rng.uniform(60, 600)) if duration_s is None else duration_s
    count = min(SAMPLES_MOST, int(seconds * 10))
    t = np.linspace(0.0, 1.0, count)
    rate = 1 + 0.3 * np.sin(2 * np.pi * (t * rng.uniform(1, 5) + rng.uniform(0, 1))) + rng.normal(0, 0.1, size=count)
    x = np.cumsum(rate.clip(min=0))
    x = (x - x[0]) / (x[-1] - x[0])
    leak = leak_bytes_per_message * messages_count * x
    base = float(rng.uniform(50, 500)) * MB
    draft = Draft(rng=rng, t=t, x=x, live=base + leak, leak=leak, descriptors_per_thousand=descriptors_per_thousand)
    KINDS[kind](draft)
    if second_load:
        _append_second(kind, draft, base, leak)
    return _finished(draft, messages_count, seconds, second_load=second_load)


def _append_second(kind: str, draft: Draft, base: float, leak: Floats) -> None:
    """After a drain, in which memory rests where it is, the load again, and a drain."""
    count = len(draft.t)
    drain = max(10, count // 10)
    lost = draft.leak[-1]
    again = Draft(rng=draft.rng, t=draft.t, x=draft.x, live=base + draft.once + lost + leak, leak=leak)
    if kind in AGAIN:
        AGAIN[kind](again)
    draft.live = np.concatenate([draft.live, np.full(drain, draft.live[-1]), again.live, np.full(drain, again.live[-1])])
    draft.leak = np.concatenate([draft.leak, np.full(drain, lost), lost + leak, np.full(drain, lost + leak[-1])])
    draft.x = np.concatenate([draft.x, np.ones(drain), 1 + draft.x, np.full(drain, 2.0)])
    rests = np.arange(1, drain + 1) / count
    first = np.concatenate([draft.t, 1 + rests, 1 + (drain + 1) / count + draft.t])
    draft.t = np.concatenate([first, first[-1] + rests])
    draft.kept = None
    draft.unreadable = max(draft.unreadable, again.unreadable)


def _finished(draft: Draft, messages_count: int, seconds: float, *, second_load: bool) -> Trace:
    rng, count = draft.rng, len(draft.t)
    noisy = draft.live + np.abs(rng.standard_t(3, size=count)).clip(max=30) * 16 * 1024
    resident = (noisy / PAGE_BYTES).round().astype(np.int64) * PAGE_BYTES
    kept = np.flatnonzero(draft.kept) if draft.kept is not None else np.arange(count)
    unread = rng.random(count) < draft.unreadable
    at_ns = (draft.t * seconds * 1e9).astype(np.int64) + 1_000_000_000
    messages = (draft.x * messages_count).astype(np.int64)
    churn = rng.poisson(3, size=count)
    descriptors = 120 + churn + (draft.descriptors_per_thousand * messages / 1000).astype(np.int64)
    first_end = int(np.searchsorted(draft.t, 1.0, side="right")) - 1
    second = None
    if second_load:
        start = int(np.searchsorted(draft.x, 1.0, side="right")) - 1
        end = int(np.searchsorted(draft.x, draft.x[-1]))
        second = Window(start_ns=int(at_ns[start]), end_ns=int(at_ns[end]))
    return Trace(
        t_ns=tuple(int(at_ns[i]) for i in kept),
        resident_bytes=tuple(None if unread[i] else int(resident[i]) for i in kept),
        messages=tuple(int(messages[i]) for i in kept),
        descriptors=tuple(int(descriptors[i]) for i in kept),
        threads=tuple(8 for _ in kept),
        left_out=tuple(
            Window(start_ns=int(a * seconds * 1e9) + 1_000_000_000, end_ns=int(b * seconds * 1e9) + 1_000_000_000) for a, b in draft.windows
        ),
        load=Window(start_ns=int(at_ns[0]), end_ns=int(at_ns[first_end])) if second_load else None,
        second_load=second,
    )
