"""How far another machine's monotonic clock is ahead of ours, from round trips, and how sure that is. Pure.

One round trip: we ask at `asked_ns` of our clock, the other one hears it and answers at one moment `theirs_ns` of its own, we have the
answer at `heard_ns`. Its clock is then ahead by `theirs - (asked + heard) / 2`, wrong by at most half the round trip, whichever way took
longer (the reasoning of NTP, RFC 5905). Of several round trips the shortest says most. `Offset` fixes the offset by the first ones, since
all times of a run are counted from it, and measures on: how far the clocks have moved since then is added to the uncertainty.
Limits: a clock that runs away and comes back between two looks is not seen; two looks are as far apart as two phases.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

SLEW_PPM = 500
"""A monotonic clock is steered by no more than this; crystals are off by a tenth of it."""


class RoundTrip(msgspec.Struct, frozen=True):
    """One question and its answer; `asked_ns` and `heard_ns` by our clock, `theirs_ns` by the other one."""

    asked_ns: int
    theirs_ns: int
    heard_ns: int

    @property
    def round_trip_ns(self) -> int:
        """How long it took."""
        return self.heard_ns - self.asked_ns

    @property
    def offset_ns(self) -> int:
        """How far their clock is ahead, give or take half the round trip."""
        return self.theirs_ns - (self.asked_ns + self.heard_ns) // 2


def best_of(trips: Sequence[RoundTrip]) -> RoundTrip | None:
    """The shortest round trip; None of none."""
    return min(trips, key=lambda trip: trip.round_trip_ns, default=None)


class Offset:
    """What is known of one other clock."""

    def __init__(self) -> None:
        self._fixed: RoundTrip | None = None
        self._last: RoundTrip | None = None
        self._worst_ns = 0

    @property
    def known(self) -> bool:
        """Whether there was an answer at all."""
        return self._fixed is not None

    def look(self, trips: Sequence[RoundTrip]) -> None:
        """Take the round trips of one look at the other clock; the first look fixes the offset."""
        best = best_of(trips)
        if best is None:
            return
        self._last = best
        if self._fixed is None:
            self._fixed = best
        moved_ns = abs(best.offset_ns - self._fixed.offset_ns)
        self._worst_ns = max(self._worst_ns, moved_ns + (best.round_trip_ns + 1) // 2)

    def unseen(self, now_ns: int) -> None:
        """Nobody will look at it again, though it was used until now: it may have drifted as far as a kernel lets it meanwhile."""
        if self._last is not None:
            self._worst_ns += max(0, now_ns - self._last.heard_ns) * SLEW_PPM // 1_000_000

    @property
    def offset_ns(self) -> int:
        """How far their clock is ahead of ours."""
        return self._fixed.offset_ns if self._fixed is not None else 0

    @property
    def round_trip_ns(self) -> int:
        """The shortest round trip of the last look."""
        return self._last.round_trip_ns if self._last is not None else 0

    @property
    def uncertainty_ns(self) -> int:
        """By how much that may be wrong at any look so far, drift included."""
        return self._worst_ns

    @property
    def drift_ppm(self) -> float:
        """How much faster their clock goes, in millionths, from the first look to the last; 0 with one look."""
        if self._fixed is None or self._last is None or self._last.heard_ns <= self._fixed.heard_ns:
            return 0.0
        return (self._last.offset_ns - self._fixed.offset_ns) / (self._last.heard_ns - self._fixed.heard_ns) * 1e6


def between_agents_ns(uncertainties_ns: Iterable[int]) -> int:
    """By how much a latency from any agent to any other may be wrong: the two least certain clocks together; 0 with a single agent, whose
    messages are stamped and received by one clock."""
    worst = sorted(uncertainties_ns, reverse=True)[:2]
    return sum(worst) if len(worst) == 2 else 0
