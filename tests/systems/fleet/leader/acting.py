"""Actors for the leader's tests: workers that only beat, buckets that fail on purpose, a leader on a memory store."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable

from floodmark.systems.fleet.leader import Calculator
from floodmark.systems.fleet.partition import Partition, StaticSource
from floodmark.systems.fleet.records import (
    ASSIGNMENT_PREFIX,
    AssignmentRecord,
    Heartbeat,
    assignment_key,
    decode,
    encode,
    heartbeat_key,
    worker_of,
)
from floodmark.systems.fleet.settings import Settings
from floodmark.systems.fleet.states import CalculatorState
from floodmark.systems.fleet.store.base import Entry, StoreUnavailableError, WrongRevisionError
from floodmark.systems.fleet.store.memory import MemoryBackend, MemoryBucket
from floodmark.systems.fleet.strategy import ConsistentHash, Strategy

SETTINGS = Settings()


def partitions(count: int, *, weight: int = 100) -> list[Partition]:
    """p00000 and so on."""
    return [Partition(keys=(f"p{number:05}",), weight=weight) for number in range(count)]


def names(*counts_or_names: int | str) -> list[str]:
    """`names(2, "worker-9")`: worker-0, worker-1, worker-9."""
    return [name for each in counts_or_names for name in ([f"worker-{n}" for n in range(each)] if isinstance(each, int) else [each])]


class FakeLease:
    """A term that ends when the test says so."""

    def __init__(self, epoch: int = 1) -> None:
        self.epoch = epoch
        self.ended = False

    def held(self) -> bool:
        return not self.ended


class Beats:
    """The heartbeats of workers that do nothing else: one task for all of them; `applying` workers tell that they follow their record."""

    def __init__(self, backend: MemoryBackend, settings: Settings = SETTINGS, *, rng: random.Random | None = None) -> None:
        self.settings = settings
        self.heartbeats = backend.bucket(settings.heartbeat_bucket, ttl_s=settings.heartbeat_ttl_s)
        self.assignments = backend.bucket(settings.assignment_bucket)
        self.applying: set[str] = set()
        self.last_s: dict[str, float] = {}
        self._rng = rng or random.Random(1)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, *workers: str) -> None:
        """Begin to beat: the first beat at once."""
        for worker in workers:
            await self._beat(worker)
            self._tasks[worker] = asyncio.create_task(self._go_on(worker))

    async def crash(self, *workers: str) -> None:
        """Never beat again."""
        for worker in workers:
            task = self._tasks.pop(worker)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def leave(self, *workers: str) -> None:
        """Stop in order: the heartbeat is deleted."""
        await self.crash(*workers)
        for worker in workers:
            await self.heartbeats.delete(heartbeat_key(worker))

    async def stop(self) -> None:
        """End all."""
        await self.crash(*list(self._tasks))

    async def _go_on(self, worker: str) -> None:
        while True:
            await asyncio.sleep(self.settings.heartbeat_s)
            await self._beat(worker)

    async def _beat(self, worker: str) -> None:
        epoch = version = 0
        if worker in self.applying and (entry := await self.assignments.get(assignment_key(worker))):
            record = decode(AssignmentRecord, entry.key, entry.value)
            epoch, version = record.epoch, record.version
        beat = Heartbeat(worker=worker, token="t", epoch=epoch, version=version, applied=bool(version))
        await self.heartbeats.put(heartbeat_key(worker), encode(beat))
        self.last_s[worker] = asyncio.get_running_loop().time()


class FailingBucket(MemoryBucket):
    """Does what its `fault` says before, or after, each write: raise, or act."""

    def __init__(self, backend: MemoryBackend, name: str) -> None:
        super().__init__(backend, name, 0.0, 1)
        self.before: Callable[[str], None] = lambda _key: None
        self.after: Callable[[str], None] = lambda _key: None
        self.before_delete: Callable[[str], None] = lambda _key: None
        self.after_delete: Callable[[str], None] = lambda _key: None
        self.before_get: Callable[[str], None] = lambda _key: None
        self.writes: list[str] = []
        self.reads: list[str] = []

    async def update(self, key: str, value: bytes, revision: int) -> int:
        self.writes.append(key)
        self.before(key)
        written = await super().update(key, value, revision)
        self.after(key)
        return written

    async def delete(self, key: str, revision: int | None = None) -> None:
        self.before_delete(key)
        await super().delete(key, revision)
        self.after_delete(key)

    async def get(self, key: str) -> Entry | None:
        self.reads.append(key)
        self.before_get(key)
        return await super().get(key)


def unavailable(_key: str) -> None:
    """A fault: the store does not answer."""
    raise StoreUnavailableError("update", "planted")


def refused(key: str) -> None:
    """A fault: somebody else has written."""
    raise WrongRevisionError("planted", key, 0)


def on_writes(*numbers: int, do: Callable[[str], None] = unavailable) -> Callable[[str], None]:
    """A fault that acts on the first, second, ... write from now on."""
    count = 0

    def fault(key: str) -> None:
        nonlocal count
        count += 1
        if count in numbers:
            do(key)

    return fault


class Record:
    """Every version of every record, as it was written, and the reason of each round."""

    def __init__(self, backend: MemoryBackend, bucket: str) -> None:
        self.rounds: dict[tuple[int, int], dict[str, tuple[float, AssignmentRecord]]] = {}
        self.first_s: dict[tuple[int, int], float] = {}
        self.last_s: dict[tuple[int, int], float] = {}
        self._bucket = bucket
        backend.observers.append(self._note)

    def _note(self, bucket: str, entry: Entry) -> None:
        if bucket != self._bucket or entry.deleted:
            return
        now_s = asyncio.get_running_loop().time()
        record = decode(AssignmentRecord, entry.key, entry.value)
        at = (record.epoch, record.version)
        self.rounds.setdefault(at, {})[worker_of(entry.key)] = (now_s, record)
        self.first_s.setdefault(at, now_s)
        self.last_s[at] = now_s

    @property
    def reasons(self) -> list[str]:
        """Why each round was published, in the order of their versions."""
        return [next(iter(self.rounds[at].values()))[1].lifecycle for at in sorted(self.rounds)]

    @property
    def versions(self) -> list[tuple[int, int]]:
        return sorted(self.rounds)

    def ended_s(self) -> float:
        """When the last record of the last round was written."""
        return self.last_s[self.versions[-1]]


async def published(bucket: MemoryBucket) -> dict[str, AssignmentRecord]:
    """What stands in the bucket now."""
    return {worker_of(entry.key): decode(AssignmentRecord, entry.key, entry.value) for entry in await bucket.entries(ASSIGNMENT_PREFIX)}


async def held_by(bucket: MemoryBucket) -> dict[str, list[str]]:
    """Who has which partitions, by id."""
    return {worker: [partition.id for partition in record.partitions] for worker, record in (await published(bucket)).items()}


class World:
    """A leader on a memory store, and what it writes and says."""

    def __init__(self, settings: Settings = SETTINGS, *, partition_count: int = 100, strategy: Strategy | None = None) -> None:
        self.settings = settings
        self.backend = MemoryBackend()
        self.bucket = FailingBucket(self.backend, settings.assignment_bucket)
        self.backend._buckets[settings.assignment_bucket] = self.bucket
        self.beats = Beats(self.backend, settings)
        self.record = Record(self.backend, settings.assignment_bucket)
        self.source = StaticSource(partitions(partition_count))
        self.strategy = strategy or ConsistentHash()
        self.states: list[CalculatorState] = []
        self.errors: list[Exception] = []
        self.may_judge = True

    def calculator(self, lease: FakeLease | None = None) -> Calculator:
        return Calculator(
            settings=self.settings,
            worker_id="worker-0",
            lease=lease or FakeLease(),
            heartbeats=self.beats.heartbeats,
            assignments=self.bucket,
            source=self.source,
            strategy=self.strategy,
            on_state=self.states.append,
            on_error=self.errors.append,
            may_judge=lambda: self.may_judge,
            rng=random.Random(3),
        )

    @contextlib.asynccontextmanager
    async def led(self, lease: FakeLease | None = None) -> AsyncIterator[Calculator]:
        """A calculator runs beside the block."""
        calculator = self.calculator(lease)
        task = asyncio.create_task(calculator.run())
        try:
            yield calculator
            if task.done():
                await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def running(self, *workers: str, lease: FakeLease | None = None) -> AsyncIterator[Calculator]:
        """These beat, and all of them are known to the leader that runs beside the block; no window is open."""
        await self.beats.start(*workers)
        try:
            async with self.led(lease) as calculator:
                await asyncio.sleep(self.settings.cold_start_s + self.settings.rebalance_interval_s)
                yield calculator
        finally:
            await self.beats.stop()
