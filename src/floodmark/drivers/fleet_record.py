"""The record of a fleet: every version of every key that its workers shared, and every word that was said to it, as the server saw it.

The server writes it (a stream that is fed by the buckets of the fleet), the driver reads it at the end of a run. Here are the simple things
that everything else asks it: rounds, words, who was alive. Its entries are in `fleet_notes.py`. Pure: no I/O, no clock; times are seconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from floodmark.drivers.fleet_notes import ASSIGNMENT, DONE, HEARTBEAT, LOAD_MARK, MARK, SOURCE_MARK, Note, place_of, worker_of

ALIVE_SLACK_S = 0.25  # of a heartbeat's TTL: the record has a key a little later than its bucket
STOOD_S = 2.0  # after a fleet stood there may be one more round: that of its start's window
STRUCK_S = 0.05  # what was under way when a worker was struck may still arrive so much later
LEAVING = ("kill", "stop", "pause", "isolate", "mute", "slow")
CHANGING = (*LEAVING, "start", "resume", "heal", "unmute", "refresh", "server_kill", "server_restart")
"""Words after which a fleet may need some time until it is settled again."""


class Delivery(NamedTuple):
    """One message that a worker handed on."""

    at_s: float
    partition: str
    worker: str


class Round(NamedTuple):
    """All assignments of one version of one epoch."""

    epoch: int
    version: int
    lifecycle: str
    at_s: float
    workers: int


class Word(NamedTuple):
    """A word that was done to the fleet, from its beginning; `workers` are those that it struck and that had an identity."""

    at_s: float
    word: str
    workers: tuple[str, ...]
    notes_count: int
    done_s: float


class Record:
    """The whole record of one run.

    `partitions_count` is what the source had at first, p0 and so on; `settle_s` how long the fleet may take after a word until it must be
    settled; `heartbeat_ttl_s` when a heartbeat expires; `script_count` how many words were to be done; `queued_count` how many messages the
    work queue still had; `missed_count` how many entries of the buckets the server has not copied into the record, None where nobody knows.
    """

    def __init__(
        self,
        notes: Sequence[Note],
        *,
        end_s: float,
        partitions_count: int,
        settle_s: float,
        heartbeat_ttl_s: float,
        deliveries: Sequence[Delivery] = (),
        script_count: int | None = None,
        queued_count: int | None = None,
        missed_count: int | None = None,
    ) -> None:
        self.notes = sorted(notes, key=lambda note: note.at_s)
        self.deliveries = sorted(deliveries, key=lambda delivery: delivery.at_s)
        self.end_s = end_s
        self.partitions_count = partitions_count
        self.settle_s = settle_s
        self.heartbeat_ttl_s = heartbeat_ttl_s
        self.script_count = script_count
        self.queued_count = queued_count
        self.missed_count = missed_count

    def of(self, kind: str) -> Sequence[Note]:
        """The notes of one kind, in order."""
        return self._by_kind.get(kind, ())

    @cached_property
    def _by_kind(self) -> dict[str, list[Note]]:
        found: dict[str, list[Note]] = defaultdict(list)
        for note in self.notes:
            found[note.kind].append(note)
        return dict(found)

    @cached_property
    def words(self) -> list[Word]:
        """What was done, in order. A word has a note for each worker that it struck, all with the time at which it was begun."""
        found: dict[tuple[str, int], Word] = {}
        for note in self.of(DONE):
            value = note.value or {}
            begun_ns = int(value.get("begun_ns") or value.get("at_ns") or round(note.at_s * 1e9))
            done_ns = int(value.get("at_ns") or begun_ns)
            before = found.get((note.key, begun_ns), Word(begun_ns / 1e9, note.key, (), 0, done_ns / 1e9))
            named = (str(value["worker"]),) if value.get("worker") else ()
            found[note.key, begun_ns] = before._replace(workers=before.workers + named, notes_count=before.notes_count + 1)
        return sorted(found.values(), key=lambda word: word.at_s)

    @property
    def changes(self) -> list[Word]:
        """The words after which the fleet needs its time."""
        return [word for word in self.words if word.word in CHANGING]

    @cached_property
    def load_s(self) -> float | None:
        """When the first measured message was sent."""
        return min((note.at_s for note in self.of(MARK) if note.key == LOAD_MARK), default=None)

    @cached_property
    def rounds(self) -> list[Round]:
        """What was published, in the order in which it began."""
        found: dict[tuple[int, int], Round] = {}
        for note in self.of(ASSIGNMENT):
            if note.value is None:
                continue
            place = place_of(note.value)
            before = found.get(place)
            if before is None:
                found[place] = Round(*place, str(note.value.get("lifecycle", "")), note.at_s, 1)
            else:
                found[place] = before._replace(workers=before.workers + 1)
        return list(found.values())

    @cached_property
    def beats(self) -> dict[str, tuple[list[float], list[Note]]]:
        """Of each worker: its heartbeats and their deletions, with their times."""
        found: dict[str, tuple[list[float], list[Note]]] = defaultdict(lambda: ([], []))
        for note in self.of(HEARTBEAT):
            times_s, notes = found[worker_of(note.key)]
            times_s.append(note.at_s)
            notes.append(note)
        return dict(found)

    def beat(self, worker: str, at_s: float) -> Note | None:
        """The heartbeat that stands at a moment, unless it was deleted or has expired."""
        times_s, notes = self.beats.get(worker, ([], []))
        place = bisect_right(times_s, at_s) - 1
        if place < 0 or notes[place].value is None or at_s - times_s[place] > self.heartbeat_ttl_s + ALIVE_SLACK_S:
            return None
        return notes[place]

    def beats_on(self, worker: str, at_s: float) -> bool:
        """Whether a worker beat after a moment, before its heartbeat of then would have expired."""
        times_s, notes = self.beats.get(worker, ([], []))
        begin, end = bisect_right(times_s, at_s), bisect_right(times_s, at_s + self.heartbeat_ttl_s + ALIVE_SLACK_S)
        return any(note.value is not None for note in notes[begin:end])

    def back_s(self, worker: str, struck_s: float) -> float | None:
        """When a worker that was struck beat again; None for never, also where another one has its identity by now."""
        return next((note.at_s for note, heir in self._beats_after(worker, struck_s) if not heir), None)

    def heir_s(self, worker: str, struck_s: float) -> float | None:
        """When another one who took over the identity of a worker that was struck worked by its assignment; None for never."""
        heirs = (note for note, heir in self._beats_after(worker, struck_s) if heir)
        return next((note.at_s for note in heirs if (note.value or {}).get("applied") and place_of(note.value) > (0, 0)), None)

    def _beats_after(self, worker: str, struck_s: float) -> Iterator[tuple[Note, bool]]:
        """The heartbeats of an identity after a blow, and whether each is of another holder than the one that was struck."""
        times_s, notes = self.beats.get(worker, ([], []))
        tokens = [note.value.get("token") for note in notes[: bisect_right(times_s, struck_s)] if note.value is not None]
        for note in notes[bisect_right(times_s, struck_s + STRUCK_S) :]:
            if note.value is not None:
                yield note, bool(tokens) and note.value.get("token") != tokens[-1]

    def source_at(self, at_s: float) -> frozenset[str]:
        """The partitions that the source has at a moment."""
        names = [f"p{number}" for number in range(self.partitions_count)]
        for note in self.of(MARK):
            if note.key == SOURCE_MARK and note.at_s < at_s:
                names = [str(name) for name in (note.value or {}).get("partitions", ())]
        return frozenset(names)

    def settled(self) -> list[tuple[float, float]]:
        """The stretches in which the fleet had time enough since the last word was done, and before the next one is begun.

        What is done before the load has its time until that begins: whoever begins it has waited until the fleet stood, or long enough.
        """
        changes = self.changes
        found = []
        for word, end_s in zip(changes, [*(word.at_s for word in changes), self.end_s][1:], strict=True):
            begin_s = word.done_s + self.settle_s
            if self.load_s is not None and word.at_s < self.load_s:
                begin_s = max(self.load_s, min(begin_s, self.load_s + STOOD_S))
            if begin_s < end_s:
                found.append((begin_s, end_s))
        return found
