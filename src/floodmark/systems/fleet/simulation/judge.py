"""What must hold at every write of every history, checked as the writes happen. Incremental: a write costs what its record is long.

- EPOCH: no two workers lead in one epoch, and a later leader's epoch is larger than all that was published before it
- ORDER: (epoch, version) of a worker's record only rises, and no two contents share one
- STALE: once a newer leader's round is complete, no record of an older epoch is written
- ROUND: no partition is in two records of one round
- GRACE: nobody's record is taken away before it was absent for the whole grace (where nothing hinders the leader's sight)
- IDENTITY: once a worker speaks under an id that another had, the other one does not speak under it again
- MOVES: a planned round moves not much more than its share (consistent hash, and nothing hinders)
Not here: what must hold when all is quiet (`settled.py`), and within which time (`losses.py`). Pure bookkeeping; times are handed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from floodmark.systems.fleet.records import (
    ASSIGNMENT_PREFIX,
    HEARTBEAT_PREFIX,
    LEADER_KEY,
    AssignmentRecord,
    LeaderRecord,
    decode,
    worker_of,
)
from floodmark.systems.fleet.settings import Settings
from floodmark.systems.fleet.store.base import Entry

SIGHT_S: Final = 0.25  # how old what a leader sees may be, where nothing hinders it
MOVES_FACTOR: Final = 1.5  # a planned round may move so many times its ideal share
AVERAGE_LEAST: Final = 10  # partitions per worker; of fewer, the bound on loads lets some move on
Report = Callable[[str, str], None]
Order = tuple[int, int]  # epoch and version


class Round:
    """The records of one epoch and version, as far as they are written."""

    __slots__ = ("lifecycle", "order", "owner_of", "workers")

    def __init__(self, order: Order, lifecycle: str) -> None:
        self.order = order
        self.lifecycle = lifecycle
        self.workers: set[str] = set()
        self.owner_of: dict[tuple[str, ...], str] = {}


class Judge:
    """Sees every write at the server. `report(invariant, sentence)` is called for each violation."""

    def __init__(
        self,
        settings: Settings,
        report: Report,
        *,
        partitions_count: Callable[[], int],
        calm_since_s: Callable[[], float],  # since when nothing hinders anybody; math.inf: something does
        sight_since_s: Callable[[str], float],  # the same for what one node sees of the others
        on_complete: Callable[[float], None],  # a round has given out every partition
        bounded_moves: bool,
    ) -> None:
        self.records: dict[str, AssignmentRecord] = {}
        self.lifecycles: dict[str, int] = {}  # rounds by lifecycle, for the figures
        self.epochs_count = 0
        self._settings = settings
        self._report = report
        self._partitions_count = partitions_count
        self._calm_since_s = calm_since_s
        self._sight_since_s = sight_since_s
        self._on_complete = on_complete
        self._bounded_moves = bounded_moves
        self._leader_of: dict[int, str] = {}
        self._epoch_max = 0
        self._order_of: dict[str, tuple[Order, bytes]] = {}
        self._round: Round | None = None
        self._complete: Round | None = None  # the last round that gave out every partition
        self._heard_s: dict[str, float] = {}
        self._gap: dict[str, tuple[float, float]] = {}  # the last absence that ended: from, to
        self._left_s: dict[str, float] = {}  # heartbeats that were deleted
        self._voices: dict[str, list[str]] = {}  # by worker id, the nodes that spoke under it, in the order of their first word

    def wrote(self, now_s: float, node: str, bucket: str, entry: Entry) -> None:
        """Judge one write."""
        settings = self._settings
        if bucket == settings.heartbeat_bucket and entry.key.startswith(HEARTBEAT_PREFIX):
            self._heartbeat(now_s, node, worker_of(entry.key), entry)
        elif bucket == settings.assignment_bucket and entry.key.startswith(ASSIGNMENT_PREFIX):
            if entry.deleted:
                self._removed(now_s, node, worker_of(entry.key))
            else:
                self._assigned(now_s, node, worker_of(entry.key), decode(AssignmentRecord, entry.key, entry.value), entry.value)
        elif bucket == settings.election_bucket and entry.key == LEADER_KEY and not entry.deleted:
            self._elected(node, decode(LeaderRecord, entry.key, entry.value))

    # --- who leads ---

    def _elected(self, node: str, record: LeaderRecord) -> None:
        if record.epoch == 0:  # it is being found out; nothing is published under it
            return
        known = self._leader_of.get(record.epoch)
        if known is None:
            if record.epoch <= self._epoch_max:
                self._report("EPOCH", f"{node} leads in epoch {record.epoch}, and epoch {self._epoch_max} has been published already")
            self._leader_of[record.epoch] = record.token
            self.epochs_count += 1
        elif known != record.token:
            self._report("EPOCH", f"two workers lead in epoch {record.epoch}; the second is {record.worker} on {node}")

    # --- who has what ---

    def _assigned(self, now_s: float, node: str, worker: str, record: AssignmentRecord, content: bytes) -> None:
        order = (record.epoch, record.version)
        known = self._order_of.get(worker)
        if known is not None and (order < known[0] or (order == known[0] and content != known[1])):
            self._report(
                "ORDER", f"{node} wrote epoch {order[0]}, version {order[1]} for {worker} over epoch {known[0][0]}, version {known[0][1]}"
            )
        self._order_of[worker] = (order, content)
        self._epoch_max = max(self._epoch_max, record.epoch)
        if self._complete is not None and record.epoch < self._complete.order[0]:
            self._report("STALE", f"{node} wrote epoch {record.epoch} for {worker} after a whole round of epoch {self._complete.order[0]}")
        self.records[worker] = record
        if self._round is None or self._round.order != order:
            self._round = Round(order, record.lifecycle)
            self.lifecycles[record.lifecycle] = self.lifecycles.get(record.lifecycle, 0) + 1
        self._add(now_s, self._round, worker, record)

    def _add(self, now_s: float, current: Round, worker: str, record: AssignmentRecord) -> None:
        if worker in current.workers:
            return  # a write that was repeated
        current.workers.add(worker)
        for partition in record.partitions:
            other = current.owner_of.setdefault(partition.keys, worker)
            if other != worker:
                self._report("ROUND", f"version {current.order[1]} gives {partition.id} to both {other} and {worker}")
        if len(current.owner_of) == self._partitions_count():
            if self._bounded_moves and self._complete is not None and self._quiet(now_s, self._calm_since_s()):
                self._moved(self._complete, current)
            self._complete = current
            self._on_complete(now_s)

    def _moved(self, before: Round, after: Round) -> None:
        joined = after.workers - before.workers
        if len(after.owner_of) < AVERAGE_LEAST * len(after.workers):
            return
        if after.lifecycle != "planned_scale" or before.workers - after.workers or before.owner_of.keys() != after.owner_of.keys():
            return
        moved = sum(after.owner_of[keys] != owner for keys, owner in before.owner_of.items())
        ideal = len(after.owner_of) * len(joined) / len(after.workers)
        limit = MOVES_FACTOR * ideal + 3 * math.sqrt(ideal) + 1  # a fleet of few partitions is uneven by chance
        if moved > limit:
            self._report(
                "MOVES", f"version {after.order[1]} moved {moved} partitions for {len(joined)} new workers; the limit is {limit:.0f}"
            )

    def _removed(self, now_s: float, node: str, worker: str) -> None:
        self.records.pop(worker, None)
        settings = self._settings
        if worker not in self._heard_s or not self._quiet(now_s, self._sight_since_s(node)):
            return
        gone_s = self._left_s.get(worker, self._heard_s[worker] + settings.heartbeat_ttl_s)
        least_s = settings.emergency_grace_s * 0.98 - 0.01  # clocks differ
        gap_from_s, gap_to_s = self._gap.get(worker, (0.0, 0.0))
        just_back = gap_to_s - gap_from_s >= least_s and now_s - gap_to_s < SIGHT_S
        if now_s - gone_s < least_s and not just_back:
            self._report(
                "GRACE",
                f"{node} took the record of {worker} away, which was absent for {max(0.0, now_s - gone_s):.3f} s; "
                f"the grace is {settings.emergency_grace_s:g} s",
            )

    # --- who is there ---

    def _heartbeat(self, now_s: float, node: str, worker: str, entry: Entry) -> None:
        if entry.deleted:
            self._left_s[worker] = now_s
            return
        last_s = self._left_s.pop(worker, None) or self._heard_s.get(worker, now_s) + self._settings.heartbeat_ttl_s
        if last_s < now_s:
            self._gap[worker] = (last_s, now_s)
        self._heard_s[worker] = now_s
        voices = self._voices.setdefault(worker, [])
        if not voices or voices[-1] != node:
            if node in voices and self._quiet(now_s, self._calm_since_s()):
                self._report("IDENTITY", f"{node} speaks as {worker} again, after {voices[-1]} had taken that id")
            voices.append(node)

    def heard_s(self, worker: str) -> float | None:
        """When the last heartbeat of a worker came."""
        return self._heard_s.get(worker)

    def _quiet(self, now_s: float, since_s: float) -> bool:
        """Whether nothing has hindered for longer than anything stays on its way."""
        settings = self._settings
        return now_s - since_s > settings.heartbeat_ttl_s + settings.emergency_grace_s + SIGHT_S
