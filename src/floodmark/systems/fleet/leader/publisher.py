"""Publishing rounds: one record per worker, all with one epoch and one version, each write fenced by the revision it replaces.

INVARIANT: a record is replaced only if it is the one that this leader knows. Whoever wrote in between, an older leader late or a newer one,
makes the write fail, and the round with it: the records are read anew and a whole round follows under the next version, if the lease
still holds. Who finds a record of a later epoch has lost it, whatever its clock says. A version is used by one round only, finished or not.
The lease is looked at before every batch of writes.
Within a round those come first who left and those who only lose something: if it stays unfinished, partitions rather wait than have two
workers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Protocol

from floodmark.core import tasks
from floodmark.systems.fleet.errors import FleetError
from floodmark.systems.fleet.leader.layout import Keys, Layout
from floodmark.systems.fleet.leader.sight import BATCH_COUNT, answer
from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.records import ASSIGNMENT_PREFIX, AssignmentRecord, RecordError, assignment_key, decode, encode, worker_of
from floodmark.systems.fleet.settings import Settings
from floodmark.systems.fleet.store.base import Bucket, Entry


class Lease(Protocol):
    """One term of one leader."""

    @property
    def epoch(self) -> int:
        """The number of the term; a later leader's is larger."""
        ...

    def held(self) -> bool:
        """Whether the term still runs, by this worker's own clock."""
        ...


class LeaseLostError(FleetError):
    """The term ended while there was something to publish."""

    def __init__(self, epoch: int) -> None:
        super().__init__(epoch)
        self.epoch = epoch

    def __str__(self) -> str:
        return f"the lease of epoch {self.epoch} is over; the next leader publishes"


class Publisher:
    """What is published, as far as this leader knows. `load` comes first, and again whenever `dirty`."""

    def __init__(
        self, assignments: Bucket, lease: Lease, settings: Settings, *, on_error: Callable[[Exception], object] = lambda _error: None
    ) -> None:
        self.version = 0  # the highest that was ever found or begun
        self.layout: Layout = {}  # who has what; no partition twice
        self.dirty = True
        self._assignments = assignments
        self._lease = lease
        self._list_limit_s = settings.operation_limit_s
        self._write_limit_s = min(settings.heartbeat_s, settings.operation_limit_s)
        self._on_error = on_error
        self._revisions: dict[str, int] = {}  # by worker, of the live records
        self._removed: dict[str, int] = {}  # the last revision of each record that we removed; as many as there are ids

    async def load(self) -> None:
        """Read what is published. A record that cannot be read counts as an empty one, and is replaced by the next round.

        Raises: LeaseLostError when a later leader has published.
        """
        records: list[tuple[int, int, str, list[Partition]]] = []
        revisions: dict[str, int] = {}
        for entry in await answer("list assignments", self._assignments.entries(ASSIGNMENT_PREFIX), self._list_limit_s):
            worker = worker_of(entry.key)
            revisions[worker] = entry.revision
            try:
                record = decode(AssignmentRecord, entry.key, entry.value)
            except RecordError as exc:
                self._on_error(exc)
                records.append((0, 0, worker, []))
                continue
            if record.epoch > self._lease.epoch:
                raise LeaseLostError(self._lease.epoch)
            self.version = max(self.version, record.version)
            records.append((record.epoch, record.version, worker, record.partitions))
        self._revisions = revisions
        self.layout = _without_conflicts(records)
        self.dirty = False

    async def publish(self, lifecycle: str, target: Layout) -> int:
        """Publish a whole round. Returns: its version.

        Raises: LeaseLostError; WrongRevisionError when somebody else has written; StoreUnavailableError. After either of them, as after a
        cancellation, a part of the round may be out, and `dirty` is set.
        """
        self.version += 1
        self.dirty = True
        removed = sorted(self._revisions.keys() - target.keys())
        losers = [worker for worker in sorted(target) if _only_loses(target[worker], self.layout.get(worker, []))]
        others = sorted(target.keys() - set(losers))
        for batch in _batches(removed):
            self._check_lease()
            async with tasks.group() as group:
                for worker in batch:
                    group.create_task(self._remove(worker))
        for batch in itertools.chain(_batches(losers), _batches(others)):
            self._check_lease()
            async with tasks.group() as group:
                for worker in batch:
                    group.create_task(self._write(worker, lifecycle, target[worker]))
        self.layout = target
        self.dirty = False
        return self.version

    def record_keys(self) -> set[str]:
        """The keys of the live records, as far as this leader knows."""
        return {assignment_key(worker) for worker in self._revisions}

    def is_foreign(self, entry: Entry) -> bool:
        """Tell if somebody else wrote or deleted this; to be asked while no round is on its way."""
        worker = worker_of(entry.key)
        known = self._revisions.get(worker)
        if known is None:
            return not entry.deleted and entry.revision > self._removed.get(worker, 0)
        return entry.revision > known

    async def _write(self, worker: str, lifecycle: str, partitions: list[Partition]) -> None:
        record = AssignmentRecord(epoch=self._lease.epoch, version=self.version, lifecycle=lifecycle, partitions=partitions)
        known = self._revisions.get(worker, 0)
        update = self._assignments.update(assignment_key(worker), encode(record), known)
        self._revisions[worker] = await answer("publish", update, self._write_limit_s)

    async def _remove(self, worker: str) -> None:
        known = self._revisions[worker]
        await answer("remove", self._assignments.delete(assignment_key(worker), known), self._write_limit_s)
        self._removed[worker] = known
        del self._revisions[worker]

    def _check_lease(self) -> None:
        if not self._lease.held():
            raise LeaseLostError(self._lease.epoch)


def _without_conflicts(records: list[tuple[int, int, str, list[Partition]]]) -> Layout:
    """Of a partition that stands in two records, as after an unfinished round, the newer one has it."""
    taken: set[Keys] = set()
    layout: Layout = {}
    for _epoch, _version, worker, partitions in sorted(records, key=lambda record: (-record[0], -record[1], record[2])):
        layout[worker] = [partition for partition in partitions if partition.keys not in taken]
        taken.update(partition.keys for partition in partitions)
    return layout


def _only_loses(target: list[Partition], current: list[Partition]) -> bool:
    had = {partition.keys for partition in current}
    return all(partition.keys in had for partition in target)


def _batches(workers: list[str]) -> Iterator[list[str]]:
    return (workers[at : at + BATCH_COUNT] for at in range(0, len(workers), BATCH_COUNT))
