"""Made-up records of fleets, for tests: who was told what, when, without a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from floodmark.drivers.fleet_notes import ASSIGNMENT, DONE, ELECTION, HEARTBEAT, MARK, STABLE_ID, Note
from floodmark.drivers.fleet_record import Delivery, Record

TTL_S, SETTLE_S, BEAT_S = 2.0, 3.0, 0.5


class Made:
    """Notes a record down. Partitions are numbers: `assign(1.0, a=[0, 1])` gives worker a p0 and p1."""

    def __init__(self, partitions_count: int = 4) -> None:
        self.notes: list[Note] = []
        self.deliveries: list[Delivery] = []
        self.partitions_count = partitions_count
        self.version = 0

    def assign(
        self, at_s: float, *, epoch: int = 1, version: int | None = None, lifecycle: str = "planned_scale", **parts: Sequence[int] | None
    ) -> None:
        """One round; None deletes a worker's record."""
        self.version = self.version + 1 if version is None else version
        for place, (worker, numbers) in enumerate(parts.items()):
            value: dict[str, Any] | None = None
            if numbers is not None:
                partitions = [{"keys": [f"p{number}"], "weight": 100} for number in numbers]
                value = {"epoch": epoch, "version": self.version, "lifecycle": lifecycle, "partitions": partitions}
            self.notes.append(Note(at_s + place / 1000, ASSIGNMENT, f"assignment.{worker}", value))

    def weigh(self, at_s: float, worker: str, weights: Mapping[int, int]) -> None:
        """One record with weights."""
        partitions = [{"keys": [f"p{number}"], "weight": weight} for number, weight in weights.items()]
        self.notes.append(
            Note(at_s, ASSIGNMENT, f"assignment.{worker}", {"epoch": 1, "version": 1, "lifecycle": "x", "partitions": partitions})
        )

    def beat(self, worker: str, from_s: float, to_s: float, *, token: str = "", epoch: int = 1, version: int = 1) -> None:
        """Heartbeats over a stretch."""
        at_s = from_s
        while at_s <= to_s:
            value = {"worker": worker, "token": token or f"t-{worker}", "epoch": epoch, "version": version, "applied": True}
            self.notes.append(Note(at_s, HEARTBEAT, f"heartbeat.{worker}", value))
            at_s += BEAT_S

    def leave(self, worker: str, at_s: float) -> None:
        """A heartbeat deleted."""
        self.notes.append(Note(at_s, HEARTBEAT, f"heartbeat.{worker}", None))

    def lead(self, at_s: float, worker: str, *, epoch: int, token: str = "") -> None:
        """The leader's key."""
        self.notes.append(Note(at_s, ELECTION, "leader", {"worker": worker, "token": token or f"t-{worker}", "epoch": epoch}))

    def claim(self, at_s: float, worker: str, *, token: str = "") -> None:
        """A stable id."""
        self.notes.append(Note(at_s, STABLE_ID, worker, {"worker": worker, "token": token or f"t-{worker}"}))

    def do(self, at_s: float, word: str, *workers: str, **value: Any) -> None:
        """A word that the host did."""
        for worker in workers or ("",):
            self.notes.append(Note(at_s + 0.01, DONE, word, {"begun_ns": round(at_s * 1e9), "worker": worker, **value}))

    def mark(self, at_s: float, key: str, **value: Any) -> None:
        """A mark of the driver's."""
        self.notes.append(Note(at_s, MARK, key, value))

    def deliver(self, worker: str, number: int, *at_s: float) -> None:
        """Messages of one partition that a worker handed on."""
        self.deliveries += [Delivery(one, f"p{number}", worker) for one in at_s]

    def record(
        self,
        end_s: float = 20.0,
        *,
        script_count: int | None = None,
        queued_count: int | None = None,
        missed_count: int | None = None,
    ) -> Record:
        """What was made."""
        return Record(
            self.notes,
            end_s=end_s,
            partitions_count=self.partitions_count,
            settle_s=SETTLE_S,
            heartbeat_ttl_s=TTL_S,
            deliveries=self.deliveries,
            script_count=script_count,
            queued_count=queued_count,
            missed_count=missed_count,
        )


def calm() -> Made:
    """Two workers with two partitions each, from second 1 on; nothing is done to them until 20."""
    made = Made()
    made.do(0.5, "start", "a", "b")
    made.claim(0.6, "a")
    made.claim(0.7, "b")
    made.lead(0.8, "a", epoch=1)
    made.assign(1.0, lifecycle="cold_start", a=[0, 1], b=[2, 3])
    made.beat("a", 0.9, 20.0)
    made.beat("b", 0.95, 20.0)
    made.mark(2.0, "load")
    return made


def crashed(*, given_s: float | None = 8.0, twice: bool = False) -> Made:
    """Of two workers b is killed at 5; a has all of it at `given_s`, or b's partitions stay where they are."""
    made = Made()
    made.do(0.5, "start", "a", "b")
    made.lead(0.8, "a", epoch=1)
    made.assign(1.0, lifecycle="cold_start", a=[0, 1], b=[2, 3])
    made.mark(2.0, "load")
    made.do(5.0, "kill", "b")
    made.beat("a", 0.9, 20.0, version=2)
    made.beat("b", 0.95, 5.0)
    if given_s is not None:
        made.assign(given_s, lifecycle="emergency", a=[0, 1, 2, 3])
        if not twice:
            made.assign(given_s + 0.001, version=2, b=None)
    return made
