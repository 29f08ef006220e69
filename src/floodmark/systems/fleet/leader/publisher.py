"""Publishing rounds: one record per worker, all with one epoch and one version, each write fenced by the revision it replaces.

INVARIANT: a record is replaced only if it is the one that this leader knows. Whoever wrote in between, an older leader late or a newer one,
makes the write fail, and the round with it: the records are read anew and a whole round follows under the next version, if the lease
still holds. Who finds a record of a later epoch has lost it, whatever its clock says. A version is used by one round only, finished or not.
A write without an answer is repeated by itself, and not the round with it: where one write in five fails, a round of fifty would never be
whole at once. What was written all the same refuses its own repetition; then the record is read, and if it says what was to be written, of
this epoch and version, the write is done. A pause that grows and is drawn lies between two tries; one write is tried for REPEAT_TTLS of a
heartbeat's time to live, so that a leader whom the store does not let write looks again at who is there.
The lease is looked at before every batch of writes, and before every repetition.
Within a round those come first who left and those who only lose something: if it stays unfinished, partitions rather wait than have two
workers.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, Protocol, TypeVar

from floodmark.core import tasks
from floodmark.systems.fleet.errors import FleetError
from floodmark.systems.fleet.leader.layout import Keys, Layout
from floodmark.systems.fleet.leader.sight import BATCH_COUNT, answer
from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.records import ASSIGNMENT_PREFIX, AssignmentRecord, RecordError, assignment_key, decode, encode, worker_of
from floodmark.systems.fleet.settings import Settings
from floodmark.systems.fleet.store.base import Bucket, Entry, StoreUnavailableError, WrongRevisionError

REPEAT_TTLS: Final = 1.0  # for so many times the TTL of a heartbeat one write is repeated; then the round ends, and is begun anew

T = TypeVar("T")


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
        self,
        assignments: Bucket,
        lease: Lease,
        settings: Settings,
        *,
        pause_s: Callable[[int], float],
        on_error: Callable[[Exception], object] = lambda _error: None,
    ) -> None:
        """`pause_s`: how long to wait after so many failures in a row, from 0. `on_error` hears of the first failure of each round."""
        self.version = 0  # the highest that was ever found or begun
        self.layout: Layout = {}  # who has what; no partition twice
        self.dirty = True
        self._assignments = assignments
        self._lease = lease
        self._list_limit_s = settings.operation_limit_s
        self._write_limit_s = min(settings.heartbeat_s, settings.operation_limit_s)
        self._repeat_limit_s = REPEAT_TTLS * settings.heartbeat_ttl_s
        self._pause_s = pause_s
        self._on_error = on_error
        self._failed_version = 0  # the round whose first failure was told
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

        Raises: LeaseLostError; WrongRevisionError when somebody else has written; StoreUnavailableError when a write went on failing. After
        any of them, as after a cancellation, a part of the round may be out, and `dirty` is set.
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
        key, value, known = assignment_key(worker), encode(record), self._revisions.get(worker, 0)

        async def write(repeated: bool) -> int:
            try:
                return await answer("publish", self._assignments.update(key, value, known), self._write_limit_s)
            except WrongRevisionError:
                written = await answer("read", self._assignments.get(key), self._write_limit_s) if repeated else None
                if written is None or written.value != value:
                    raise
                return written.revision  # a try whose answer was lost

        self._revisions[worker] = await self._until_answered(write)

    async def _remove(self, worker: str) -> None:
        key, known = assignment_key(worker), self._revisions[worker]

        async def remove(_repeated: bool) -> None:  # one that is gone already may be removed again
            await answer("remove", self._assignments.delete(key, known), self._write_limit_s)

        await self._until_answered(remove)
        self._removed[worker] = known
        del self._revisions[worker]

    async def _until_answered(self, write: Callable[[bool], Awaitable[T]]) -> T:
        """Do a write, which is told if it is a repetition, until the store answers. Raises: as `publish`, and LeaseLostError in between."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._repeat_limit_s
        for failures_count in itertools.count():
            try:
                return await write(failures_count > 0)
            except StoreUnavailableError as exc:
                pause_s = self._pause_s(failures_count)
                if loop.time() + pause_s >= until_s:
                    raise
                self._tell_once(exc)
            await asyncio.sleep(pause_s)
            self._check_lease()
        raise AssertionError("count() does not end")

    def _tell_once(self, error: StoreUnavailableError) -> None:
        if self._failed_version != self.version:
            self._failed_version = self.version
            self._on_error(error)

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
