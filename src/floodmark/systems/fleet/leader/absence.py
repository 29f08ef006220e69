"""How long each expected worker has been missing. No I/O and no clock: times are handed in.

A worker's absence begins at the check that first missed it and ends, without a trace, at the check that finds it again; so two short
absences never add up to a long one, and nobody inherits the absence of somebody else. `note` is called at every check, whatever else is
decided there: in a cooldown and in a window, too.
Cost: a check touches the workers that are missing, and those that were.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet


class Absences:
    """Since when who is missing."""

    __slots__ = ("_since_s", "grace_s")

    def __init__(self, grace_s: float) -> None:
        self.grace_s = grace_s
        self._since_s: dict[str, float] = {}

    def note(self, now_s: float, expected: AbstractSet[str], present: AbstractSet[str]) -> None:
        """Look who of the expected is present. Who is back, or is expected no longer, is forgotten."""
        missing = expected - present
        for worker in [known for known in self._since_s if known not in missing]:
            del self._since_s[worker]
        for worker in sorted(missing):
            self._since_s.setdefault(worker, now_s)

    def restart(self, now_s: float) -> None:
        """Begin every absence anew: for a while nobody could have been seen."""
        for worker in self._since_s:
            self._since_s[worker] = now_s

    @property
    def missing(self) -> frozenset[str]:
        """Everybody who is missing, for however long."""
        return frozenset(self._since_s)

    def confirmed(self, now_s: float) -> frozenset[str]:
        """Who has been missing for the whole grace."""
        return frozenset(worker for worker, since_s in self._since_s.items() if since_s + self.grace_s <= now_s)

    def first_s(self) -> float:
        """When the oldest absence is confirmed; somebody must be missing."""
        return min(self._since_s.values()) + self.grace_s

    def next_s(self, now_s: float) -> float | None:
        """When the next absence will be confirmed; None: nobody else is missing."""
        return min((since_s + self.grace_s for since_s in self._since_s.values() if since_s + self.grace_s > now_s), default=None)
