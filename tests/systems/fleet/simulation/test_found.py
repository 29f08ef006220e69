"""What the simulation found in the fleet, each told small, so that it stays found whatever the seeds draw."""

from __future__ import annotations

import asyncio
import random

from floodmark.systems.fleet.partition import Partition, StaticSource
from floodmark.systems.fleet.profiles import profile
from floodmark.systems.fleet.settings import Settings
from floodmark.systems.fleet.simulation.loop import virtual
from floodmark.systems.fleet.states import WorkerState
from floodmark.systems.fleet.store.base import StoreUnavailableError
from floodmark.systems.fleet.store.memory import MemoryBackend, MemoryBucket, MemoryStore
from floodmark.systems.fleet.worker import Worker

PARTITIONS = [Partition(keys=(f"p{number}",)) for number in range(4)]


class IllBucket(MemoryBucket):
    """A bucket whose reads can fail, or take their time."""

    fail_reads = False
    read_s = 0.0
    write_s = 0.0

    async def get(self, key: str):  # type: ignore[no-untyped-def]
        if self.fail_reads:
            raise StoreUnavailableError("get", "planted")
        if self.read_s:
            await asyncio.sleep(self.read_s)
        return await super().get(key)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        await asyncio.sleep(self.write_s)
        return await super().update(key, value, revision)


def a_fleet_of_one(settings: Settings) -> tuple[Worker, IllBucket, IllBucket]:
    """The worker, its bucket of assignments and its bucket of heartbeats."""
    backend = MemoryBackend()
    assignments = backend._buckets[settings.assignment_bucket] = IllBucket(backend, settings.assignment_bucket, 0.0, 1)
    heartbeats = backend._buckets[settings.heartbeat_bucket] = IllBucket(backend, settings.heartbeat_bucket, settings.heartbeat_ttl_s, 1)
    return Worker(settings, MemoryStore(backend), StaticSource(PARTITIONS), rng=random.Random(1)), assignments, heartbeats


@virtual
async def test_worker_whose_record_cannot_be_read_after_a_degraded_time_comes_back() -> None:
    worker, bucket, _ = a_fleet_of_one(profile("fast", degraded_exit_s=1.0))
    async with worker:
        assert worker.membership is not None
        loop = asyncio.get_running_loop()
        bucket.fail_reads = True

        for _ in range(5):
            worker.membership._parts.contact.health.failed(loop.time())
            await asyncio.sleep(0.3)
        await worker.wait_state(WorkerState.DEGRADED, 5)
        await worker.wait_state(WorkerState.WAITING_ASSIGNMENT, 5)
        bucket.fail_reads = False

        await worker.wait_state(WorkerState.STABLE, 5)
        assert worker.assignment is not None


@virtual
async def test_worker_whose_record_is_read_for_longer_than_its_lease_works_on_nothing_meanwhile() -> None:
    worker, bucket, heartbeat_bucket = a_fleet_of_one(profile("fast"))
    async with worker:
        assert worker.membership is not None
        heartbeats = worker.membership.heartbeats
        assert heartbeats is not None
        bucket.read_s, heartbeat_bucket.write_s = 3.0, 0.2
        heartbeats.lapse()

        for _ in range(200):
            await asyncio.sleep(0.05)
            assert heartbeats.held() or worker.assignment is None


@virtual
async def test_worker_that_comes_back_to_no_record_and_no_leader_works_on_nothing() -> None:
    settings = profile("fast")
    worker, bucket, _ = a_fleet_of_one(settings)
    async with worker:
        assert worker.membership is not None
        heartbeats, receiver = worker.membership.heartbeats, worker.membership.receiver
        assert heartbeats is not None
        assert receiver is not None
        receiver._led_for_s = lambda: None

        heartbeats.muted = True
        await worker.wait_state(WorkerState.WAITING_ASSIGNMENT, 5)
        await bucket.delete(f"assignment.{worker.worker_id}")
        await receiver.resume()

        assert worker.assignment is None
