"""What the host has counted, for STATISTICS and GROUPS. Names end in their unit: `_s` seconds, `_hz` per second; the others are counts.

What nobody has measured yet is left out: whoever judges it then knows that it is unknown, and not nought.
"""

from __future__ import annotations

import statistics
from collections import deque
from typing import Any

import msgspec

from floodmark.systems.pipeline.aggregate import GroupSnapshot

RECENT_COUNT = 1000


class Times:
    """Some durations: how many, the longest of all, and of the last RECENT_COUNT the median and the 99th percentile."""

    def __init__(self) -> None:
        self._count = 0
        self._longest_s = 0.0
        self._recent_s: deque[float] = deque(maxlen=RECENT_COUNT)

    def note(self, taken_s: float) -> None:
        """One more."""
        self._count += 1
        self._longest_s = max(self._longest_s, taken_s)
        self._recent_s.append(taken_s)

    def numbers(self, name: str) -> dict[str, float]:
        """Every figure by its name; none without a duration. Of n, ceil(0.99 n) are at or below the percentile.

        >>> times = Times()
        >>> for taken_s in (0.1, 0.3, 0.2): times.note(taken_s)
        >>> times.numbers("nap")
        {'nap_count': 3.0, 'nap_s': 0.3, 'nap_median_s': 0.2, 'nap_p99_s': 0.3}
        """
        if not self._recent_s:
            return {}
        ordered = sorted(self._recent_s)
        p99_s = ordered[-(-99 * len(ordered) // 100) - 1]
        return {
            f"{name}_count": float(self._count),
            f"{name}_s": self._longest_s,
            f"{name}_median_s": statistics.median(ordered),
            f"{name}_p99_s": p99_s,
        }


class Figures(msgspec.Struct, kw_only=True):
    """Over all streams so far."""

    delivered: int = 0  # records given to drains
    published: int = 0  # records offered
    completed: int = 0  # streams that came to their end
    failed: int = 0
    stopped: int = 0
    skipped: int = 0  # records that the transformer could not take
    retries: int = 0
    queries: int = 0  # put to sources
    queries_failed: int = 0
    in_flight_max: int | None = None  # most records of one stream that had left its source and not reached its drain
    ahead_max: int | None = None  # most records that a stream had taken from its source beyond what its drain had asked for
    unasked: int = 0  # the drains' own count: records that came though none were asked for
    groups_checked: int = 0  # the drains' own count
    groups_wrong: int = 0
    in_flight_seen: int | None = None  # as above, but by the clients' own count; see drained.py
    ahead_seen: int | None = None
    first_record: Times = msgspec.field(default_factory=Times)  # from the start of a stream to its first record
    first_seen: Times = msgspec.field(default_factory=Times)  # from a drain's asking to its first record of a stream

    def numbers(self) -> dict[str, float]:
        """Every figure that is known, by its name."""
        found: dict[str, float] = {}
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, Times):
                found |= value.numbers(name)
            elif value is not None:
                found[name] = float(value)
        return found


class Group(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One group of a stream that ended: its key, its count and its sum of `value`."""

    key: str
    count: int
    value_sum: int


class Groups(msgspec.Struct, frozen=True, kw_only=True):
    """All groups of a stream that ended. `laps`: how often its `records` rows went through it, with the same ids each time."""

    records: int
    groups: int
    laps: int = 1
    found: list[Group]


def groups_of(snapshot: GroupSnapshot, *, records: int, groups: int, laps: int = 1) -> Groups:
    """Bring a grouping by category into the form that is sent."""
    found = [Group(key=str(key), count=_count(figures), value_sum=int(figures["sum"]["value"])) for key, figures in snapshot.groups.items()]
    return Groups(records=records, groups=groups, laps=laps, found=found)


def _count(figures: dict[str, Any]) -> int:
    return int(figures["count"])
