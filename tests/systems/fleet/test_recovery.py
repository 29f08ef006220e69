"""Losses, joins and failing rounds on virtual time: real workers on one store in memory, held to the second to what they promise.

`test_recovery_nats.py` shows the same on a real server, whose machine may stall: there times have no upper bounds.
"""

from __future__ import annotations

import asyncio

import pytest

from floodmark.systems.fleet import profile
from floodmark.systems.fleet.leader import Lifecycle
from floodmark.systems.fleet.simulation.loop import virtual
from floodmark.systems.fleet.store.base import Bucket, StoreUnavailableError
from tests.systems.fleet.recovering import Crew, crew, in_memory, until

EMERGENCY_FAST = profile("emergency-fast")
FAST = profile("fast")


@virtual
async def test_b8_worker_gone_for_less_than_the_grace_is_no_emergency_twice() -> None:
    settings = profile("emergency-fast", emergency_grace_s=0.7)
    async with crew(in_memory(), settings, 9, 3) as fleet:
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


@virtual
async def test_b9_worker_gone_for_longer_than_the_grace_is_given_up() -> None:
    settings = profile("emergency-fast", emergency_grace_s=0.5)
    async with crew(in_memory(), settings, 9, 3) as fleet:
        count = len(fleet.rounds)
        await fleet.followers[0].stop()
        took_s = await fleet.settle(2.0)
        assert settings.emergency_grace_s <= took_s
        assert len(fleet.active) == 2
        assert fleet.lifecycles_since(count) == [Lifecycle.EMERGENCY]


@virtual
async def test_b10_two_workers_lost_at_once_are_given_up_together() -> None:
    async with crew(in_memory(), EMERGENCY_FAST, 12, 4) as fleet:
        count = len(fleet.rounds)
        lost = fleet.followers[:2]
        async with asyncio.TaskGroup() as group:
            for worker in lost:
                group.create_task(worker.stop())
        await fleet.settle(3.0)
        assert len(fleet.active) == 2
        assert set(fleet.lifecycles_since(count)) == {Lifecycle.EMERGENCY}
        assert len(fleet.lifecycles_since(count)) <= 2


@virtual
async def test_b11_crash_is_dealt_with_within_ttl_and_grace_and_a_second() -> None:
    settings = profile("fast", heartbeat_s=0.5, heartbeat_ttl_s=1.5, emergency_grace_s=1.0)
    async with crew(in_memory(), settings, 12, 3) as fleet:
        count = len(fleet.rounds)
        await fleet.followers[0].abandon()
        crashed_s = asyncio.get_running_loop().time()
        await fleet.settle(15.0)
        took_s = fleet.rounds[max(fleet.rounds)].last_s - crashed_s
        assert took_s < settings.heartbeat_ttl_s + settings.emergency_grace_s + 1.0
        assert took_s > settings.heartbeat_ttl_s + settings.emergency_grace_s - settings.heartbeat_s - 0.1
        assert fleet.lifecycles_since(count) == [Lifecycle.EMERGENCY]


@virtual
async def test_b12_cascade_of_three_leaves_everything_with_the_other_two() -> None:
    async with crew(in_memory(), FAST, 20, 5) as fleet:
        for _ in range(3):
            await fleet.followers[0].stop()
            await asyncio.sleep(2.0)
            assert fleet.is_whole  # each loss is dealt with before the next
        assert len(fleet.active) == 2


@virtual
async def test_b16_seven_workers_that_join_at_once_make_three_versions_at_most() -> None:
    settings = profile("fast", cold_start_s=3.0, planned_scale_s=3.0, rebalance_interval_s=3.0, startup_limit_s=10.0)
    async with Crew(in_memory(), settings, 12) as fleet:
        await fleet.start(3)
        await fleet.start(7)
        await fleet.settle()
        assert len(fleet.active) == 10
        assert len(set(fleet.versions)) <= 3
        assert set(fleet.lifecycles_since(0)) <= {Lifecycle.COLD_START, Lifecycle.PLANNED_SCALE}


@virtual
async def test_b21_heartbeats_that_are_slow_and_valid_change_nothing() -> None:
    settings = profile("fast", heartbeat_s=1.0, heartbeat_ttl_s=3.0, emergency_grace_s=2.0)
    async with crew(in_memory(), settings, 6, 3) as fleet:
        versions = fleet.versions
        for worker in fleet.workers:
            assert worker.membership is not None
            assert worker.membership.heartbeats is not None
            worker.membership.heartbeats.pace = 2.0
        await asyncio.sleep(8.0)  # four slow heartbeats, and more than TTL + grace
        assert fleet.versions == versions
        assert fleet.is_whole


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
@virtual
async def test_b28_round_whose_kth_put_fails_is_repeated_until_it_is_whole(write: int, done: bool) -> None:
    async with crew(in_memory(), FAST, 40, 3) as fleet:
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


@virtual
async def test_b28_worker_whose_heartbeat_expires_is_given_up_and_comes_back_when_it_beats() -> None:
    async with crew(in_memory(), FAST, 30, 4) as fleet:
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


@virtual
async def test_b28_leader_that_crashes_is_followed_and_its_partitions_given_away() -> None:
    async with crew(in_memory(), FAST, 50, 4) as fleet:
        count = len(fleet.rounds)
        await fleet.leader.abandon()
        await fleet.settle(8.0)
        assert fleet.leader in fleet.active
        assert fleet.lifecycles_since(count) == [Lifecycle.TAKEOVER, Lifecycle.EMERGENCY]
        assert fleet.versions == sorted(set(fleet.versions))


@virtual
async def test_b28_quiet_fleet_keeps_its_version() -> None:
    async with crew(in_memory(), FAST, 20, 3) as fleet:
        versions = fleet.versions
        await asyncio.sleep(4 * FAST.heartbeat_ttl_s)
        assert fleet.versions == versions


@virtual
async def test_b31_fourth_worker_is_noticed_by_the_watch() -> None:
    async with crew(in_memory(), FAST, 20, 3) as fleet:
        version = max(fleet.versions)
        began_s = asyncio.get_running_loop().time()
        (fourth,) = await fleet.start(1)
        assert asyncio.get_running_loop().time() - began_s < 3.0
        await fleet.settle(3.0)
        assert fourth.assignment is not None
        assert fourth.assignment.partitions
        assert max(fleet.versions) - version <= 2
