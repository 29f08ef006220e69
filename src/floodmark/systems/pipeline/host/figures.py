"""What the host has counted, for STATISTICS and GROUPS. Names end in their unit: `_s` seconds, `_hz` per second; the others are counts."""

from __future__ import annotations

import statistics
from collections import deque
from typing import Any

import msgspec

from floodmark.systems.pipeline.aggregate import GroupSnapshot

RECENT_COUNT = 1000


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
    in_flight_max: int = 0  # most records of one stream that had left its source and not reached its drain
    ahead_max: int = 0  # most records that a stream had taken from its source beyond what its drain had asked for
    unasked: int = 0  # the drains' own count: records that came though none were asked for
    groups_checked: int = 0  # the drains' own count
    groups_wrong: int = 0
    first_record_s: float = 0.0  # the longest from the start of a stream to its first record
    first_record_median_s: float = 0.0  # of the last streams
    _first_s: deque[float] = msgspec.field(default_factory=lambda: deque(maxlen=RECENT_COUNT))

    def note_first_record(self, after_s: float) -> None:
        """A stream gave its first record."""
        self._first_s.append(after_s)
        self.first_record_s = max(self.first_record_s, after_s)

    def numbers(self) -> dict[str, float]:
        """Every figure by its name."""
        if self._first_s:
            self.first_record_median_s = statistics.median(self._first_s)
        return {name: float(getattr(self, name)) for name in self.__struct_fields__ if not name.startswith("_")}


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
