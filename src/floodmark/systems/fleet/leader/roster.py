"""Who is there, by heartbeat. No I/O: entries of the heartbeat bucket and times are handed in.

A refresh of a worker that is known is noted in constant time and is no news, so that what the leader does grows with what happens and not
with the size of the fleet. Expiry is timed for each worker, from when its heartbeat was written, and then looked at: who is `overdue` is
asked for with one get, and is there until the store says otherwise. What a watch brings late cannot bring a worker back: revisions only
rise.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from typing import Final

from floodmark.systems.fleet.records import Heartbeat, RecordError, decode, heartbeat_key, worker_of
from floodmark.systems.fleet.store.base import Entry

LOOK_AGAIN_RATIO: Final = 0.02  # of the TTL: after this a heartbeat that ought to have expired is looked at again
SLACK_RATIO: Final = 0.25  # of the TTL: for so long a store may keep what ought to have expired


class _Sighting:
    """The last heartbeat of one worker."""

    __slots__ = ("due_s", "revision", "seen_s", "value")

    def __init__(self, revision: int, seen_s: float, due_s: float, value: bytes) -> None:
        self.revision, self.seen_s, self.due_s, self.value = revision, seen_s, due_s, value


class Roster:
    """The workers with a heartbeat."""

    def __init__(self, *, heartbeat_s: float, ttl_s: float) -> None:
        self._heartbeat_s = heartbeat_s
        self._ttl_s = ttl_s
        self._sightings: dict[str, _Sighting] = {}
        self._gone: dict[str, int] = {}  # the last revision of each worker that was here; as many as there are ids
        self._dues: list[tuple[float, str]] = []  # one per worker, never later than its true one
        self._present: frozenset[str] | None = None

    @property
    def present(self) -> frozenset[str]:
        """The workers that are there."""
        if self._present is None:
            self._present = frozenset(self._sightings)
        return self._present

    def note(self, entry: Entry, now_s: float) -> bool:  # HOT: once per heartbeat of the fleet
        """Take what the watch tells. Returns: whether somebody came or left."""
        worker = worker_of(entry.key)
        sighting = self._sightings.get(worker)
        if entry.deleted:
            return self._leave(worker, entry.revision)
        if sighting is None:
            return self._come(worker, entry, now_s)
        if entry.revision > sighting.revision:
            age_s = min(max(now_s - entry.written_s, 0.0), self._heartbeat_s)  # bounded: over NATS it compares two clocks
            sighting.revision, sighting.seen_s, sighting.value = entry.revision, now_s, entry.value
            sighting.due_s = now_s - age_s + self._ttl_s
        return False

    def listed(self, entries: Iterable[Entry], asked_s: float, now_s: float) -> bool:
        """Take a whole list that was asked for at `asked_s`: who is not on it, and not seen since, is gone. Returns: as `note`."""
        news = False
        live = set()
        for entry in entries:
            worker = worker_of(entry.key)
            live.add(worker)
            news |= self.note(entry, now_s)
        for worker in [gone for gone, sighting in self._sightings.items() if gone not in live and sighting.seen_s <= asked_s]:
            news |= self._leave(worker, self._sightings[worker].revision)
        return news

    def overdue(self, now_s: float) -> list[str]:
        """Who should have expired by now."""
        found = []
        while self._dues and self._dues[0][0] <= now_s:
            due_s, worker = heapq.heappop(self._dues)
            sighting = self._sightings.get(worker)
            if sighting is None:
                continue
            if sighting.due_s > due_s:
                heapq.heappush(self._dues, (sighting.due_s, worker))
                continue
            found.append(worker)
            heapq.heappush(self._dues, (now_s + LOOK_AGAIN_RATIO * self._ttl_s, worker))
            sighting.due_s = now_s + LOOK_AGAIN_RATIO * self._ttl_s
        return sorted(found)

    def looked(self, worker: str, entry: Entry | None, now_s: float) -> bool:
        """Take what a get said about an overdue worker. Returns: as `note`."""
        sighting = self._sightings.get(worker)
        if sighting is None:
            return False
        if entry is not None and entry.revision > sighting.revision:
            return self.note(entry, now_s)
        if entry is not None and now_s < sighting.seen_s + (1 + SLACK_RATIO) * self._ttl_s:
            return False
        return self._leave(worker, sighting.revision)

    def next_due_s(self) -> float:
        """When somebody will be overdue; infinity: nobody is here."""
        while self._dues:
            due_s, worker = self._dues[0]
            sighting = self._sightings.get(worker)
            if sighting is None:
                heapq.heappop(self._dues)
            elif sighting.due_s > due_s:
                heapq.heapreplace(self._dues, (sighting.due_s, worker))
            else:
                return due_s
        return math.inf

    def heartbeat(self, worker: str) -> Heartbeat | None:
        """Read the last heartbeat of a worker; None: it is not here, or told nothing that can be read."""
        sighting = self._sightings.get(worker)
        if sighting is None:
            return None
        try:
            return decode(Heartbeat, heartbeat_key(worker), sighting.value)
        except RecordError:
            return None

    def _come(self, worker: str, entry: Entry, now_s: float) -> bool:
        if entry.revision <= self._gone.get(worker, -1):
            return False
        due_s = now_s - min(max(now_s - entry.written_s, 0.0), self._ttl_s) + self._ttl_s
        self._sightings[worker] = _Sighting(entry.revision, now_s, due_s, entry.value)
        heapq.heappush(self._dues, (due_s, worker))
        self._present = None
        return True

    def _leave(self, worker: str, revision: int) -> bool:
        sighting = self._sightings.get(worker)
        if sighting is not None and sighting.revision > revision:
            return False
        self._gone[worker] = max(revision, self._gone.get(worker, -1))
        if sighting is None:
            return False
        del self._sightings[worker]
        self._present = None
        return True
