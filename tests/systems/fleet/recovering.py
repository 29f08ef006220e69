"""Workers that come, go and crash, on any store, and what their leader publishes: every round with its lifecycle and its moment.

What is judged is the record in the store: every version of every assignment, as a watch of its own sees it. A crash is a worker that
ends without a word (`abandon`), so that its heartbeat has to expire. Time is the event loop's, so that a story can be played on virtual
time over a store in memory, and in real time over a server.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Self

from floodmark.systems.fleet import Partition, Settings, StaticSource, Worker, WorkerState
from floodmark.systems.fleet.records import ASSIGNMENT_PREFIX, AssignmentRecord, decode, worker_of
from floodmark.systems.fleet.store.base import Bucket, Store
from floodmark.systems.fleet.store.memory import MemoryBackend, MemoryStore

SETTLE_LIMIT_S = 30.0
LOOK_S = 0.02

Connect = Callable[[], Awaitable[Store]]


def in_memory() -> Connect:
    """Connections to one store in memory."""
    backend = MemoryBackend()

    async def connect() -> Store:
        return MemoryStore(backend)

    return connect


async def until(condition: Callable[[], bool], limit_s: float = SETTLE_LIMIT_S) -> float:
    """Wait for a condition. Returns: seconds it took; fails when it does not come."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    while not condition():
        assert loop.time() - began_s < limit_s, f"did not come true within {limit_s:g} s"
        await asyncio.sleep(LOOK_S)
    return loop.time() - began_s


class Round:
    """One (epoch, version) as it became known."""

    def __init__(self, record: AssignmentRecord, seen_s: float) -> None:
        self.lifecycle = record.lifecycle
        self.first_s = seen_s
        self.last_s = seen_s
        self.workers: set[str] = set()


class Crew:
    """Workers on one store, and what they publish."""

    def __init__(self, connect: Connect, settings: Settings, partition_count: int) -> None:
        self.connect = connect
        self.settings = settings
        self.partitions = [Partition(keys=(f"p{number}",)) for number in range(partition_count)]
        self.workers: list[Worker] = []
        self.rounds: dict[tuple[int, int], Round] = {}
        self.records: dict[str, AssignmentRecord] = {}
        self._stores: list[Store] = []
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        store = await self.connect()
        self._stores.append(store)
        bucket = await store.bucket(self.settings.assignment_bucket)
        self._watching = asyncio.create_task(self._watch(bucket))  # parent: this object; see __aexit__
        return self

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.gather(*(worker.stop() for worker in self.workers), return_exceptions=True)  # gather: some had ended as planned
        assert self._watching is not None
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        for store in self._stores:
            await store.aclose()

    async def _watch(self, bucket: Bucket) -> None:
        watch = await bucket.watch(ASSIGNMENT_PREFIX)
        async for entry in watch:
            if entry is None:
                continue
            worker = worker_of(entry.key)
            if entry.deleted:
                self.records.pop(worker, None)
                continue
            record = self.records[worker] = decode(AssignmentRecord, entry.key, entry.value)
            now_s = asyncio.get_running_loop().time()
            seen = self.rounds.setdefault((record.epoch, record.version), Round(record, now_s))
            seen.last_s = now_s
            seen.workers.add(worker)

    async def start(self, count: int) -> list[Worker]:
        """So many more workers, at the same time."""
        added: list[Worker] = []
        for _ in range(count):
            store = await self.connect()
            self._stores.append(store)
            rng = random.Random(len(self.workers) + len(added))
            added.append(Worker(self.settings, store, StaticSource(self.partitions), rng=rng))
        self.workers += added
        async with asyncio.TaskGroup() as group:
            for worker in added:
                group.create_task(worker.start())
        return added

    @property
    def active(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.state is not WorkerState.SHUTDOWN]

    @property
    def leader(self) -> Worker:
        (leader,) = [worker for worker in self.active if worker.is_leader]
        return leader

    @property
    def followers(self) -> list[Worker]:
        return [worker for worker in self.active if not worker.is_leader]

    @property
    def versions(self) -> list[int]:
        return [version for _, version in sorted(self.rounds)]

    def lifecycles_since(self, count: int) -> list[str]:
        return [self.rounds[at].lifecycle for at in sorted(self.rounds)[count:]]

    @property
    def is_whole(self) -> bool:
        """Each partition is with one active worker, whose own view is the record, all of one round; nobody is on the way."""
        held = [partition.id for worker in self.active if worker.assignment for partition in worker.assignment.partitions]
        told = [partition.id for record in self.records.values() for partition in record.partitions]
        return (
            sorted(held) == sorted(told) == sorted(partition.id for partition in self.partitions)
            and {worker.worker_id for worker in self.active} == self.records.keys()
            and len({(record.epoch, record.version) for record in self.records.values()}) == 1
            and all(worker.state is WorkerState.STABLE for worker in self.active)
        )

    async def settle(self, limit_s: float = SETTLE_LIMIT_S) -> float:
        return await until(lambda: self.is_whole, limit_s)

    async def rest(self) -> None:
        """Let the cooldown and any window pass."""
        await self.settle()
        await asyncio.sleep(max(self.settings.cold_start_s, self.settings.rebalance_interval_s) + LOOK_S)
        await self.settle()


@asynccontextmanager
async def crew(connect: Connect, settings: Settings, partition_count: int, worker_count: int) -> AsyncIterator[Crew]:
    """So many workers at rest on a store."""
    async with Crew(connect, settings, partition_count) as made:
        await made.start(worker_count)
        await made.rest()
        yield made
