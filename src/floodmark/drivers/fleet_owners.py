"""Who holds what, by the record: the board of current assignments, and what must hold of it whenever a fleet is settled.

Settled is what the script makes so, not what the fleet looks like: `settle_s` after the last word, whatever was done until then. A fleet
that never comes to rest is therefore caught, and so is one that rests with a partition in nobody's hands. Assignments are written one by
one, so within `ROUND_S` of a write nothing is judged. Pure; the work is one look at the board per write.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from floodmark.drivers.fleet_notes import ASSIGNMENT, HEARTBEAT, Note, partitions_of, place_of, worker_of
from floodmark.drivers.fleet_record import Record

ROUND_S = 0.5
"""How long the writes of one round may take."""


class Held(NamedTuple):
    """The assignment of one worker."""

    place: tuple[int, int]
    partitions: dict[str, int]
    written_s: float


class Board:
    """The current assignments, brought up to date note by note."""

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}
        self.applied: dict[str, tuple[int, int]] = {}

    def take(self, note: Note) -> None:
        """Bring in one note of the record."""
        worker = worker_of(note.key)
        if note.kind == ASSIGNMENT:
            if note.value is None:
                self.held.pop(worker, None)
            else:
                self.held[worker] = Held(place_of(note.value), partitions_of(note.value), note.at_s)
        elif note.kind == HEARTBEAT:
            if note.value is None:
                self.applied.pop(worker, None)
            else:
                self.applied[worker] = place_of(note.value)

    def owners(self) -> dict[str, list[str]]:
        """Partition -> the workers that hold it, in the order of their names."""
        found: dict[str, list[str]] = {}
        for worker in sorted(self.held):
            for name in self.held[worker].partitions:
                found.setdefault(name, []).append(worker)
        return found

    def assigned(self, workers_count: int, partitions_count: int) -> bool:
        """Whether so many workers hold so many partitions, each of them once."""
        if len(self.held) != workers_count:
            return False
        owners = self.owners()
        return len(owners) == partitions_count and all(len(workers) == 1 for workers in owners.values())

    def applied_by_all(self) -> bool:
        """Whether each worker says that it works by the assignment it has."""
        return all(self.applied.get(worker, (-1, -1)) >= held.place for worker, held in self.held.items())


class View(NamedTuple):
    """The board at a moment at which it is judged: partition -> owners, alive or not; worker -> weights of its partitions."""

    at_s: float
    alive: frozenset[str]
    owners: dict[str, list[str]]
    held: dict[str, Held]
    unapplied: int
    source: frozenset[str]


def views(record: Record) -> Iterator[View]:
    """Look at the board wherever a fleet must be settled: at the end of each settled stretch, and before each write within it."""
    writes = record.of(ASSIGNMENT)
    board, next_write = Board(), 0
    for begin_s, end_s in record.settled():
        ends_s = [note.at_s for note in writes if begin_s < note.at_s <= end_s]
        since_s = begin_s
        for look_s in [*ends_s, end_s]:
            while next_write < len(writes) and writes[next_write].at_s < look_s:
                board.take(writes[next_write])
                since_s = max(since_s, writes[next_write].at_s + ROUND_S)
                next_write += 1
            if look_s >= since_s:
                yield _view(record, board, look_s)


def _view(record: Record, board: Board, at_s: float) -> View:
    beats = {worker: record.beat(worker, at_s) for worker in {*board.held, *record.beats}}
    alive = frozenset(worker for worker, beat in beats.items() if beat is not None)
    unapplied = 0
    for worker, held in board.held.items():
        beat = beats[worker]
        told = at_s - held.written_s > record.heartbeat_ttl_s  # it has beaten since
        unapplied += told and beat is not None and place_of(beat.value) < held.place
    return View(at_s, alive, board.owners(), dict(board.held), unapplied, record.source_at(at_s))


def ownership(record: Record) -> dict[str, float]:
    """What must hold at settled points, and who has how much at the end. Empty when there was no settled point; that the end is one is not
    sure where something was done shortly before, and then what is told of it is missing."""
    seen = list(views(record))
    if not seen:
        return {}
    figures: dict[str, float] = {
        "settled_points": len(seen),
        "coverage_gaps": max(len(view.source - view.owners.keys()) for view in seen),
        "orphans": max(_orphans(view) for view in seen),
        "owners_twice": max(sum(len(workers) > 1 for workers in view.owners.values()) for view in seen),
        "strangers": max(len(view.owners.keys() - view.source) for view in seen),
        "unapplied": max(view.unapplied for view in seen),
        "idle_workers": max(len(view.alive - view.held.keys()) for view in seen),
    }
    return figures | (_shares(seen[-1]) | _movement(seen) if seen[-1].at_s >= record.end_s else {})


def _shares(last: View) -> dict[str, float]:
    """Who has how much."""
    figures: dict[str, float] = {"workers": len(last.alive), "assigned": len(last.owners)}
    held = [last.held[worker].partitions if worker in last.held else {} for worker in sorted(last.alive)]
    if held:
        weights = [sum(partitions.values()) for partitions in held]
        figures |= {"partitions_min": min(map(len, held)), "partitions_max": max(map(len, held)), "weight_sum": sum(weights)}
        mean = sum(weights) / len(weights)
        if mean:
            figures["weight_deviation_ratio"] = max(abs(weight - mean) for weight in weights) / mean
    return figures


def _orphans(view: View) -> int:
    """Partitions that only workers hold who are no more."""
    return sum(not any(worker in view.alive for worker in workers) for workers in view.owners.values())


def _movement(seen: list[View]) -> dict[str, float]:
    """Which partitions stayed where they were; of those that the source had all along. Needs two settled points."""
    first, last = seen[0], seen[-1]
    if len(seen) < 2:
        return {}
    both = first.owners.keys() & last.owners.keys()
    if not both:
        return {}
    moved = [_moved(before, after) for before, after in itertools.pairwise(seen)]
    return {"affinity_ratio": 1 - _moved(first, last) / len(both), "moved_max": max(moved), "moved_sum": sum(moved)}


def _moved(before: View, after: View) -> int:
    return sum(before.owners[name] != after.owners[name] for name in before.owners.keys() & after.owners.keys())
