"""A crew for tests: real workers on one store in memory, each with a line of its own that can be cut, or can lose answers."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from floodmark.systems.fleet.hooks import AssignmentChange, Hooks, StateChange
from floodmark.systems.fleet.metrics import Counters
from floodmark.systems.fleet.partition import Partition, StaticSource
from floodmark.systems.fleet.profiles import profile
from floodmark.systems.fleet.settings import Settings
from floodmark.systems.fleet.states import WorkerState
from floodmark.systems.fleet.store.base import Entry, StoreUnavailableError
from floodmark.systems.fleet.store.memory import MemoryBackend, MemoryBucket, MemoryWatch
from floodmark.systems.fleet.worker import Worker

T = TypeVar("T")
FAST = profile("fast")
LOOK_S = 0.01


def partitions(count: int) -> list[Partition]:
    """p0 and so on."""
    return [Partition(keys=(f"p{number}",)) for number in range(count)]


async def until(condition: Callable[[], bool], limit_s: float) -> float:
    """Wait for a condition. Returns: how long it took; fails when it does not come."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    while not condition():
        assert loop.time() - began_s < limit_s, f"did not come true within {limit_s:g} s"
        await asyncio.sleep(LOOK_S)
    return loop.time() - began_s


class CuttableStore:
    """One connection. `cut`: every operation fails at once. `silent`: none is answered. `losing`: those are done unanswered."""

    def __init__(self, backend: MemoryBackend) -> None:
        self.backend = backend
        self.is_cut = False
        self.silent = False
        self.losing: frozenset[str] = frozenset()
        self.counts: defaultdict[str, int] = defaultdict(int)
        self.watches: list[MemoryWatch] = []

    @property
    def connected(self) -> bool:
        return not self.is_cut

    def cut(self) -> None:
        self.is_cut = True
        for watch in self.watches:
            watch.lose("the line was cut")
        self.watches.clear()

    def heal(self) -> None:
        self.is_cut = self.silent = False
        self.losing = frozenset()

    async def carry(self, what: str, operation: Awaitable[T]) -> T:
        self.counts[what] += 1
        if self.silent:
            asyncio.ensure_future(operation).cancel()
            await asyncio.get_running_loop().create_future()
        if self.is_cut:
            asyncio.ensure_future(operation).cancel()
            raise StoreUnavailableError(what, "the line is cut")
        done = await operation
        if what in self.losing:
            raise StoreUnavailableError(what, "the answer was lost")
        return done

    async def bucket(self, name: str, *, ttl_s: float = 0.0, history: int = 1, memory: bool = False) -> CuttableBucket:
        async def opened() -> MemoryBucket:
            return self.backend.bucket(name, ttl_s=ttl_s, history=history)

        return CuttableBucket(self, await self.carry("bucket", opened()))

    async def aclose(self) -> None:
        self.is_cut = True


class CuttableBucket:
    """One bucket behind such a line."""

    def __init__(self, line: CuttableStore, bucket: MemoryBucket) -> None:
        self._line = line
        self._bucket = bucket
        self.name = bucket.name
        self.ttl_s = bucket.ttl_s

    async def get(self, key: str) -> Entry | None:
        return await self._line.carry("get", self._bucket.get(key))

    async def create(self, key: str, value: bytes) -> int:
        return await self._line.carry("create", self._bucket.create(key, value))

    async def put(self, key: str, value: bytes) -> int:
        return await self._line.carry("put", self._bucket.put(key, value))

    async def update(self, key: str, value: bytes, revision: int) -> int:
        return await self._line.carry("update", self._bucket.update(key, value, revision))

    async def delete(self, key: str, revision: int | None = None) -> None:
        await self._line.carry("delete", self._bucket.delete(key, revision))

    async def entries(self, prefix: str = "") -> list[Entry]:
        return await self._line.carry("entries", self._bucket.entries(prefix))

    async def history(self, key: str) -> list[Entry]:
        return await self._line.carry("history", self._bucket.history(key))

    async def watch(self, prefix: str = "") -> MemoryWatch:
        watch = await self._line.carry("watch", self._bucket.watch(prefix))
        self._line.watches.append(watch)
        return watch


class RecordingConsumer:
    """Remembers what it was told; `fail` and `hold` make the next updates fail or wait."""

    def __init__(self) -> None:
        self.updates: list[tuple[str, ...]] = []
        self.versions: list[int] = []
        self.ids: list[str] = []
        self.closed = False
        self.fail_count = 0
        self.hold = asyncio.Event()
        self.hold.set()
        self.running = 0
        self.running_most = 0

    @property
    def working_on(self) -> tuple[str, ...]:
        return () if self.closed or not self.updates else self.updates[-1]

    async def update(self, worker_id: str, wanted: Sequence[Partition], *, epoch: int = 0, version: int = 0) -> None:
        self.running += 1
        self.running_most = max(self.running_most, self.running)
        try:
            await self.hold.wait()
            if self.fail_count:
                self.fail_count -= 1
                raise ConnectionError("planted")
        finally:
            self.running -= 1
        self.ids.append(worker_id)
        self.updates.append(tuple(sorted(partition.id for partition in wanted)))
        self.versions.append(version)

    async def aclose(self) -> None:
        self.closed = True


class Mate:
    """One worker with everything that can be seen of it."""

    def __init__(self, crew: Crew, number: int, settings: Settings, **options: Any) -> None:
        self.store = CuttableStore(crew.backend)
        self.consumer = RecordingConsumer()
        self.source = StaticSource(crew.partitions)
        self.metrics = Counters()
        self.states: list[WorkerState] = []
        self.changes: list[AssignmentChange] = []
        self.errors: list[Exception] = []
        hooks = Hooks(on_assignment=self._on_assignment, on_state=self._on_state, on_error=self._on_error)
        given: dict[str, Any] = {"hooks": hooks, "metrics": self.metrics, "consumer": self.consumer, "rng": random.Random(number)}
        self.worker = Worker(settings, self.store, self.source, **(given | options))

    async def _on_assignment(self, change: AssignmentChange) -> None:
        self.changes.append(change)

    async def _on_state(self, change: StateChange) -> None:
        self.states.append(change.new)

    async def _on_error(self, error: Exception) -> None:
        self.errors.append(error)


class Crew:
    """Some workers on one store."""

    def __init__(self, *, partition_count: int = 10, settings: Settings = FAST) -> None:
        self.backend = MemoryBackend()
        self.partitions = partitions(partition_count)
        self.settings = settings
        self.mates: list[Mate] = []

    def hire(self, settings: Settings | None = None, **options: Any) -> Mate:
        mate = Mate(self, len(self.mates), settings or self.settings, **options)
        self.mates.append(mate)
        return mate

    @asynccontextmanager
    async def at_work(self, count: int, **options: Any) -> AsyncIterator[list[Mate]]:
        """So many workers, started at once, settled; stopped at the end."""
        mates = [self.hire(**options) for _ in range(count)]
        try:
            async with asyncio.TaskGroup() as group:
                for mate in mates:
                    group.create_task(mate.worker.start())
            await asyncio.sleep(self.settings.cold_start_s)
            await until(self.settled, 10.0)
            yield mates
        finally:
            await self.dismiss()

    async def dismiss(self) -> None:
        for mate in self.mates:
            mate.store.heal()
            if mate.worker.state is not WorkerState.INIT:
                await mate.worker.stop()

    @property
    def live(self) -> list[Mate]:
        return [mate for mate in self.mates if mate.worker.state not in (WorkerState.INIT, WorkerState.SHUTDOWN)]

    @property
    def leader(self) -> Mate:
        (leader,) = [mate for mate in self.live if mate.worker.is_leader]
        return leader

    @property
    def followers(self) -> list[Mate]:
        return [mate for mate in self.live if not mate.worker.is_leader]

    @property
    def versions(self) -> set[int]:
        return {mate.worker.assignment.version for mate in self.live if mate.worker.assignment is not None}

    def owners(self) -> dict[str, list[str]]:
        """Who works on what, as the consumers were told."""
        found: dict[str, list[str]] = {partition.id: [] for partition in self.partitions}
        for mate in self.live:
            for name in mate.consumer.working_on:
                found.setdefault(name, []).append(mate.worker.worker_id)
        return found

    def covered(self) -> bool:
        return all(len(workers) == 1 for workers in self.owners().values())

    def settled(self) -> bool:
        """Everybody rests, everything is worked on by exactly one, and all have the same version."""
        return all(mate.worker.state is WorkerState.STABLE for mate in self.live) and len(self.versions) == 1 and self.covered()

    async def keys(self) -> list[str]:
        """Every key that is alive, of whatever bucket."""
        s = self.settings
        names = (s.id_bucket, s.election_bucket, s.heartbeat_bucket, s.assignment_bucket)
        return [entry.key for name in names for entry in await self.backend.bucket(name).entries()]
