"""Losses, joins and failing rounds on a real server: real workers as tasks of this process, each with a connection of its own.

What is judged is the record in the server: every version of every assignment, with its lifecycle and the moment at which it was seen here.
A crash is a worker that ends without a word (`abandon`), so that its heartbeat has to expire.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self

import pytest

from floodmark.core.nats_server import EmbeddedNats
from floodmark.systems.fleet import Partition, Settings, StaticSource, Worker, WorkerState, profile
from floodmark.systems.fleet.leader import Lifecycle
from floodmark.systems.fleet.records import ASSIGNMENT_PREFIX, AssignmentRecord, decode, worker_of
from floodmark.systems.fleet.store.base import Bucket, StoreUnavailableError
from floodmark.systems.fleet.store.nats import NatsStore

SETTLE_LIMIT_S = 20.0
LOOK_S = 0.02


async def until(condition: Callable[[], bool], limit_s: float = SETTLE_LIMIT_S) -> float:
    """Wait for a condition. Returns: seconds it took; fails when it does not come."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < limit_s, f"did not come true within {limit_s:g} s"
        await asyncio.sleep(LOOK_S)
    return time.monotonic() - began_s


class Round:
    """One (epoch, version) as it became known."""

    def __init__(self, record: AssignmentRecord, seen_s: float) -> None:
        self.lifecycle = record.lifecycle
        self.first_s = seen_s
        self.last_s = seen_s
        self.workers: set[str] = set()


class Crew:
    """Workers on one server, and what they publish."""

    def __init__(self, url: str, settings: Settings, partition_count: int) -> None:
        self.url = url
        self.settings = settings
        self.partitions = [Partition(keys=(f"p{number}",)) for number in range(partition_count)]
        self.workers: list[Worker] = []
        self.rounds: dict[tuple[int, int], Round] = {}
        self.records: dict[str, AssignmentRecord] = {}
        self._stores: list[NatsStore] = []
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        store = await NatsStore.connect(self.url)
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
            now_s = time.monotonic()
            seen = self.rounds.setdefault((record.epoch, record.version), Round(record, now_s))
            seen.last_s = now_s
            seen.workers.add(worker)

    async def start(self, count: int) -> list[Worker]:
        """So many more workers, at the same time."""
        added = []
        for _ in range(count):
            store = await NatsStore.connect(self.url)
            self._stores.append(store)
            added.append(Worker(self.settings, store, StaticSource(self.partitions)))
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
async def crew(settings: Settings, partition_count: int, worker_count: int) -> AsyncIterator[Crew]:
    """So many workers at rest on a server of their own."""
    async with EmbeddedNats() as server, Crew(server.url, settings, partition_count) as made:
        await made.start(worker_count)
        await made.rest()
        yield made


EMERGENCY_FAST = profile("emergency-fast")
FAST = profile("fast")


def test_b8_worker_gone_for_less_than_the_grace_is_no_emergency_twice() -> None:
    settings = profile("emergency-fast", emergency_grace_s=0.7)

    async def story() -> None:
        async with crew(settings, 9, 3) as fleet:
            versions = fleet.versions
            for _ in range(2):
                gone = fleet.followers[0]
                held = gone.assignment
                await gone.stop()
                await asyncio.sleep(0.45)
                (back,) = await fleet.start(1)
                assert held is not None
                assert back.assignment is not None
                assert (back.worker_id, back.assignment.version) == (gone.worker_id, held.version)
                await asyncio.sleep(2 * settings.emergency_grace_s)
                assert len(fleet.active) == 3
            assert fleet.is_whole
            assert fleet.versions == versions

    asyncio.run(story())


def test_b9_worker_gone_for_longer_than_the_grace_is_given_up() -> None:
    settings = profile("emergency-fast", emergency_grace_s=0.5)

    async def story() -> None:
        async with crew(settings, 9, 3) as fleet:
            count = len(fleet.rounds)
            await fleet.followers[0].stop()
            took_s = await fleet.settle(2.0)
            assert settings.emergency_grace_s <= took_s
            assert len(fleet.active) == 2
            assert fleet.lifecycles_since(count) == [Lifecycle.EMERGENCY]

    asyncio.run(story())


def test_b10_two_workers_lost_at_once_are_given_up_together() -> None:
    async def story() -> None:
        async with crew(EMERGENCY_FAST, 12, 4) as fleet:
            count = len(fleet.rounds)
            lost = fleet.followers[:2]
            async with asyncio.TaskGroup() as group:
                for worker in lost:
                    group.create_task(worker.stop())
            await fleet.settle(3.0)
            assert len(fleet.active) == 2
            assert set(fleet.lifecycles_since(count)) == {Lifecycle.EMERGENCY}
            assert len(fleet.lifecycles_since(count)) <= 2

    asyncio.run(story())


def test_b11_crash_is_dealt_with_within_ttl_and_grace_and_a_second() -> None:
    settings = profile("fast", heartbeat_s=0.5, heartbeat_ttl_s=1.5, emergency_grace_s=1.0)

    async def story() -> None:
        async with crew(settings, 12, 3) as fleet:
            count = len(fleet.rounds)
            await fleet.followers[0].abandon()
            crashed_s = time.monotonic()
            await fleet.settle(15.0)
            took_s = fleet.rounds[max(fleet.rounds)].last_s - crashed_s
            assert took_s < settings.heartbeat_ttl_s + settings.emergency_grace_s + 1.0
            assert took_s > settings.heartbeat_ttl_s + settings.emergency_grace_s - settings.heartbeat_s - 0.1
            assert fleet.lifecycles_since(count) == [Lifecycle.EMERGENCY]

    asyncio.run(story())


def test_b12_cascade_of_three_leaves_everything_with_the_other_two() -> None:
    async def story() -> None:
        async with crew(FAST, 20, 5) as fleet:
            for _ in range(3):
                await fleet.followers[0].stop()
                await asyncio.sleep(2.0)
                assert fleet.is_whole  # each loss is dealt with before the next
            assert len(fleet.active) == 2

    asyncio.run(story())


def test_b16_seven_workers_that_join_at_once_make_three_versions_at_most() -> None:
    settings = profile("fast", cold_start_s=3.0, planned_scale_s=3.0, rebalance_interval_s=3.0, startup_limit_s=10.0)

    async def story() -> None:
        async with EmbeddedNats() as server, Crew(server.url, settings, 12) as fleet:
            await fleet.start(3)
            await fleet.start(7)
            await fleet.settle()
            assert len(fleet.active) == 10
            assert len(set(fleet.versions)) <= 3
            assert set(fleet.lifecycles_since(0)) <= {Lifecycle.COLD_START, Lifecycle.PLANNED_SCALE}

    asyncio.run(story())


def test_b21_heartbeats_that_are_slow_and_valid_change_nothing() -> None:
    settings = profile("fast", heartbeat_s=1.0, heartbeat_ttl_s=3.0, emergency_grace_s=2.0)

    async def story() -> None:
        async with crew(settings, 6, 3) as fleet:
            versions = fleet.versions
            for worker in fleet.workers:
                assert worker.membership is not None
                assert worker.membership.heartbeats is not None
                worker.membership.heartbeats.pace = 2.0
            await asyncio.sleep(8.0)  # four slow heartbeats, and more than TTL + grace
            assert fleet.versions == versions
            assert fleet.is_whole

    asyncio.run(story())


class FailingBucket:
    """A bucket whose k-th write from now on fails: before it is done, or after, when only the answer is lost."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self.fails_at = 0
        self.done = False
        self.failed_count = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._bucket, name)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        self.fails_at -= 1
        if self.fails_at != 0:
            return await self._bucket.update(key, value, revision)
        if self.done:
            await self._bucket.update(key, value, revision)
        self.failed_count += 1
        raise StoreUnavailableError("update", "planted")


@pytest.mark.parametrize(("write", "done"), [(1, False), (2, False), (3, True), (4, False)])
def test_b28_round_whose_kth_put_fails_is_repeated_until_it_is_whole(write: int, done: bool) -> None:
    async def story() -> None:
        async with crew(FAST, 40, 3) as fleet:
            count = len(fleet.rounds)
            membership = fleet.leader.membership
            assert membership is not None
            assert membership.calculator is not None
            publisher = membership.calculator._publisher
            failing = FailingBucket(publisher._assignments)
            publisher._assignments = failing  # type: ignore[assignment]
            failing.fails_at, failing.done = write, done
            await fleet.start(1)
            await fleet.settle(5.0)
            assert failing.failed_count == 1
            assert len(fleet.active) == 4
            assert Lifecycle.EMERGENCY not in fleet.lifecycles_since(count)

    asyncio.run(story())


def test_b28_worker_whose_heartbeat_expires_is_given_up_and_comes_back_when_it_beats() -> None:
    async def story() -> None:
        async with crew(FAST, 30, 4) as fleet:
            count = len(fleet.rounds)
            worker = fleet.followers[0]
            assert worker.membership is not None
            assert worker.membership.heartbeats is not None
            worker.membership.heartbeats.muted = True
            await until(lambda: worker.worker_id not in fleet.records, 5.0)
            await until(lambda: worker.assignment is None, 1.0)
            await until(lambda: fleet.lifecycles_since(count) == [Lifecycle.EMERGENCY], 1.0)  # a record goes before the others are written
            worker.membership.heartbeats.muted = False
            await fleet.settle(5.0)
            assert len(fleet.active) == 4

    asyncio.run(story())


def test_b28_leader_that_crashes_is_followed_and_its_partitions_given_away() -> None:
    async def story() -> None:
        async with crew(FAST, 50, 4) as fleet:
            count = len(fleet.rounds)
            await fleet.leader.abandon()
            await fleet.settle(8.0)
            assert fleet.leader in fleet.active
            assert fleet.lifecycles_since(count) == [Lifecycle.TAKEOVER, Lifecycle.EMERGENCY]
            assert fleet.versions == sorted(set(fleet.versions))

    asyncio.run(story())


def test_b28_quiet_fleet_keeps_its_version() -> None:
    async def story() -> None:
        async with crew(FAST, 20, 3) as fleet:
            versions = fleet.versions
            await asyncio.sleep(4 * FAST.heartbeat_ttl_s)
            assert fleet.versions == versions

    asyncio.run(story())


def test_b31_fourth_worker_is_noticed_by_the_watch() -> None:
    async def story() -> None:
        async with crew(FAST, 20, 3) as fleet:
            version = max(fleet.versions)
            began_s = time.monotonic()
            (fourth,) = await fleet.start(1)
            assert time.monotonic() - began_s < 3.0
            await fleet.settle(3.0)
            assert fourth.assignment is not None
            assert fourth.assignment.partitions
            assert max(fleet.versions) - version <= 2

    asyncio.run(story())
