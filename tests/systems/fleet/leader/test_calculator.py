"""The whole leader on a memory store and virtual time: what it publishes when workers come, go and crash, and when the store fails."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator
from typing import NoReturn

import msgspec
import pytest

from floodmark.systems.fleet.errors import NotLeaderError, PublishError
from floodmark.systems.fleet.leader import Lifecycle
from floodmark.systems.fleet.leader.decide import GATHER_S, Planner, Step
from floodmark.systems.fleet.leader.listing import SourceTimeoutError
from floodmark.systems.fleet.partition import Partition, PartitionError, StaticSource
from floodmark.systems.fleet.records import AssignmentRecord, assignment_key, encode, heartbeat_key
from floodmark.systems.fleet.settings import Handover, Settings
from floodmark.systems.fleet.simulation.loop import run_virtual, virtual
from floodmark.systems.fleet.states import CalculatorState
from floodmark.systems.fleet.store import queued
from floodmark.systems.fleet.store.base import StoreUnavailableError
from floodmark.systems.fleet.store.memory import MemoryBucket
from floodmark.systems.fleet.strategy import RoundRobin
from tests.systems.fleet.leader.acting import (
    SETTINGS,
    FakeLease,
    World,
    held_by,
    names,
    on_writes,
    partitions,
    published,
    refused,
    unavailable,
)

TTL_S, GRACE_S = SETTINGS.heartbeat_ttl_s, SETTINGS.emergency_grace_s
SOON_S = 1.0  # after TTL and grace, a crash has been dealt with


def now() -> float:
    return asyncio.get_running_loop().time()


async def assert_whole(world: World, *workers: str) -> None:
    """Every partition has one worker, and these have records of one round."""
    records = await published(world.bucket)
    held = [partition for given in (await held_by(world.bucket)).values() for partition in given]
    listed = [partition.id for partition in await world.source.list_partitions()]
    assert sorted(held) == sorted(listed)
    assert sorted(records) == sorted(workers)
    assert len({(record.epoch, record.version) for record in records.values()}) == 1


@virtual
async def test_calculator_for_the_first_worker_publishes_after_one_debounce() -> None:
    world = World()
    await world.beats.start("worker-0")
    began_s = now()

    async with world.led():
        await asyncio.sleep(SETTINGS.watch_debounce_s + 0.001)
        await assert_whole(world, "worker-0")

    assert world.record.ended_s() - began_s < SETTINGS.watch_debounce_s + 0.001
    assert world.record.reasons == [Lifecycle.COLD_START]
    await world.beats.stop()


@virtual
async def test_calculator_at_a_cold_start_shares_at_once_with_all_who_start_together() -> None:
    world = World()
    async with world.led():
        for worker in names(7):
            await world.beats.start(worker)
            await asyncio.sleep(0.05)
        await asyncio.sleep(GATHER_S)
        await assert_whole(world, *names(7))

    assert world.record.reasons == [Lifecycle.COLD_START]
    await world.beats.stop()


@virtual
async def test_calculator_at_a_cold_start_shares_with_all_who_came_when_the_window_ends() -> None:
    world = World()
    await world.beats.start("worker-0")

    async with world.led():
        await asyncio.sleep(1)
        await world.beats.start(*names(7)[1:])
        await asyncio.sleep(SETTINGS.cold_start_s + 1)
        await assert_whole(world, *names(7))

    assert world.record.reasons == [Lifecycle.COLD_START, Lifecycle.COLD_START]
    assert world.states[-4:] == [CalculatorState.REBALANCING, CalculatorState.SCALING, CalculatorState.REBALANCING, CalculatorState.IDLE]
    await world.beats.stop()


@virtual
async def test_calculator_in_a_quiet_fleet_writes_nothing() -> None:
    world = World()

    async with world.running(*names(5)):
        versions = list(world.record.versions)
        await asyncio.sleep(600)

    assert world.record.versions == versions
    assert world.errors == []


def crashed_after(phase_s: float) -> float:
    """Seconds from a crash, at this phase of the heartbeat, to the last record of the round that gave its partitions away."""

    async def story() -> float:
        world = World(partition_count=30)
        rng = random.Random(phase_s)
        async with world.running(*names(3)):
            await asyncio.sleep(rng.uniform(0, 20))
            await asyncio.sleep(max(0.0, world.beats.last_s["worker-1"] + SETTINGS.heartbeat_s + phase_s - now()))
            crashed_s = now()
            await world.beats.crash("worker-1")
            await asyncio.sleep(TTL_S + GRACE_S + SOON_S)
            await assert_whole(world, "worker-0", "worker-2")
            assert world.record.reasons[-1] == Lifecycle.EMERGENCY
            return world.record.ended_s() - crashed_s

    return run_virtual(story(), seed=int(phase_s * 1000))


def test_calculator_deals_with_a_crash_within_ttl_and_grace_and_a_second_in_any_phase() -> None:
    rng = random.Random(11)
    took_s = [crashed_after(rng.uniform(0, 0.999 * SETTINGS.heartbeat_s)) for _ in range(100)]

    assert max(took_s) < TTL_S + GRACE_S + SOON_S
    assert max(took_s) - min(took_s) > 1.0  # the phases differed: the time counts from the last heartbeat
    assert min(took_s) >= TTL_S + GRACE_S - SETTINGS.heartbeat_s


@virtual
async def test_b8_worker_gone_for_less_than_the_grace_changes_nothing_twice() -> None:
    world = World()

    async with world.running(*names(3)):
        versions, states = list(world.record.versions), len(world.states)
        for _ in range(2):
            await world.beats.leave("worker-2")
            await asyncio.sleep(GRACE_S - 0.1)
            await world.beats.start("worker-2")
            await asyncio.sleep(60)
        await assert_whole(world, *names(3))

    assert world.record.versions == versions
    assert CalculatorState.EMERGENCY not in world.states[states:]


@virtual
async def test_calculator_gives_up_a_worker_that_left_in_order_after_the_grace() -> None:
    world = World()

    async with world.running(*names(3)):
        left_s = now()
        await world.beats.leave("worker-2")
        await asyncio.sleep(GRACE_S + SOON_S)
        await assert_whole(world, *names(2))

    assert GRACE_S <= world.record.ended_s() - left_s < GRACE_S + 0.5
    assert world.record.reasons[-1] == Lifecycle.EMERGENCY


@virtual
async def test_b28a_crash_with_a_join_at_the_same_time_is_one_emergency_within_the_grace() -> None:
    world = World(partition_count=50)

    async with world.running(*names(5)):
        before = len(world.record.versions)
        crashed_s = now()
        await world.beats.crash("worker-1")
        await asyncio.sleep(0.1)
        await world.beats.start("worker-9")
        await asyncio.sleep(TTL_S + GRACE_S + SOON_S)
        await assert_whole(world, "worker-0", "worker-2", "worker-3", "worker-4", "worker-9")

    assert world.record.reasons[before:] == [Lifecycle.EMERGENCY]
    assert world.record.ended_s() - crashed_s < TTL_S + GRACE_S + SOON_S


@virtual
async def test_b28c_crash_in_a_window_is_dealt_with_before_the_window_ends() -> None:
    settings = msgspec.structs.replace(SETTINGS, planned_scale_s=25.0)
    world = World(settings)

    async with world.running(*names(5)):
        await world.beats.start("worker-5")
        await asyncio.sleep(1)
        crashed_s = now()
        await world.beats.crash("worker-1")
        await asyncio.sleep(TTL_S + GRACE_S + SOON_S)
        await assert_whole(world, "worker-0", "worker-2", "worker-3", "worker-4", "worker-5")

    assert world.record.ended_s() - crashed_s < TTL_S + GRACE_S + SOON_S


@virtual
async def test_calculator_takes_several_workers_lost_at_once_in_few_rounds() -> None:
    world = World()

    async with world.running(*names(9)):
        before = len(world.record.versions)
        await world.beats.leave("worker-3", "worker-5", "worker-7")
        await asyncio.sleep(GRACE_S + SOON_S)
        await assert_whole(world, "worker-0", "worker-1", "worker-2", "worker-4", "worker-6", "worker-8")

    assert world.record.reasons[before:] == [Lifecycle.EMERGENCY]


@virtual
async def test_b16_many_joins_at_once_make_one_version() -> None:
    world = World(partition_count=12)

    async with world.running(*names(3)):
        before = len(world.record.versions)
        await world.beats.start(*names(10)[3:])
        await asyncio.sleep(60)
        await assert_whole(world, *names(10))

    assert world.record.reasons[before:] == [Lifecycle.PLANNED_SCALE]


@virtual
async def test_calculator_moves_only_what_a_lost_worker_had() -> None:
    world = World(partition_count=200)

    async with world.running(*names(5)):
        before = await held_by(world.bucket)
        await world.beats.leave("worker-2")
        await asyncio.sleep(GRACE_S + SOON_S)
        after = await held_by(world.bucket)

    moved = {partition for worker in before for partition in before[worker] if partition not in after.get(worker, [])}
    assert set(before["worker-2"]) <= moved
    assert len(moved) <= 1.5 * len(before["worker-2"])


@pytest.mark.parametrize("write", [1, 2, 4, 5])
@pytest.mark.parametrize("done", [False, True])
def test_b28_failing_put_is_repeated_within_its_round(write: int, done: bool) -> None:
    async def story() -> None:
        world = World()
        async with world.running(*names(5)):
            versions_count = len(world.record.versions)
            fault = on_writes(write)
            if done:  # it is written, and the answer is lost
                world.bucket.after = fault
            else:
                world.bucket.before = fault
            left_s = now()
            await world.beats.leave("worker-4")
            await world.beats.start("worker-6")
            await asyncio.sleep(GRACE_S + SOON_S)
            await assert_whole(world, "worker-0", "worker-1", "worker-2", "worker-3", "worker-6")
            assert world.record.ended_s() - left_s < GRACE_S + SOON_S
        assert [type(error) for error in world.errors] == [StoreUnavailableError]
        assert len(world.record.versions) == versions_count + 1

    run_virtual(story())


@pytest.mark.parametrize("write", [1, 2, 4, 5])
def test_b28_round_with_a_put_that_is_refused_is_repeated_whole(write: int) -> None:
    async def story() -> None:
        world = World()
        async with world.running(*names(5)):
            world.bucket.before = on_writes(write, do=refused)
            left_s = now()
            await world.beats.leave("worker-4")
            await world.beats.start("worker-6")
            await asyncio.sleep(GRACE_S + SOON_S)
            await assert_whole(world, "worker-0", "worker-1", "worker-2", "worker-3", "worker-6")
            assert world.record.ended_s() - left_s < GRACE_S + SOON_S
        assert [type(error) for error in world.errors] == [PublishError]
        assert world.record.versions == sorted(world.record.versions)

    run_virtual(story())


@virtual
async def test_round_of_fifty_where_one_put_in_five_fails_is_whole_in_one_version() -> None:
    world = World(partition_count=200)
    draw = random.Random(5).random

    def sometimes(key: str) -> None:
        if draw() < 0.1:
            unavailable(key)

    async with world.running(*names(50)):
        versions_count = len(world.record.versions)
        world.bucket.before = world.bucket.after = world.bucket.before_delete = world.bucket.after_delete = sometimes
        left_s = now()
        await world.beats.leave("worker-49")
        await asyncio.sleep(GRACE_S + 5)
        await assert_whole(world, *names(49))
        assert len(world.record.versions) == versions_count + 1
        assert world.record.ended_s() - left_s < GRACE_S + 3

    assert [type(error) for error in world.errors] == [StoreUnavailableError]  # told once for the round


@virtual
async def test_b28_worker_that_got_a_record_by_an_unfinished_round_and_is_missing_keeps_it_for_the_grace() -> None:
    world = World()

    async with world.running(*names(2)):
        failed = asyncio.Event()

        def fail(key: str) -> None:
            failed.set()
            refused(key)

        world.bucket.before = on_writes(6, do=fail)  # the last of them
        await world.beats.start(*names(6)[2:])
        await failed.wait()
        left_s = now()
        given = sorted(set(await published(world.bucket)) - set(names(2)))
        assert given
        await world.beats.leave(given[0])
        await asyncio.sleep(GRACE_S - 0.1)
        assert given[0] in await published(world.bucket)
        await asyncio.sleep(SOON_S)
        await assert_whole(world, *(worker for worker in names(6) if worker != given[0]))

    assert world.record.ended_s() - left_s < GRACE_S + SOON_S


@virtual
async def test_b28_round_that_fails_for_long_is_repeated_until_it_succeeds() -> None:
    world = World()

    async with world.running(*names(3)):
        world.bucket.before = unavailable
        await world.beats.leave("worker-2")
        world.bucket.writes.clear()
        await asyncio.sleep(60)
        attempts_count = len(world.bucket.writes)
        world.bucket.before = lambda _key: None
        await asyncio.sleep(SOON_S)
        await assert_whole(world, *names(2))

    assert 2 * 30 < attempts_count < 2 * 200  # of two records; it neither gave up nor ran hot
    assert {type(error) for error in world.errors} == {StoreUnavailableError, PublishError}
    assert world.record.reasons[-1] == Lifecycle.EMERGENCY


@virtual
async def test_calculator_whose_lease_ends_within_a_round_writes_no_more() -> None:
    world = World()
    lease = FakeLease()

    async with world.running(*names(100), lease=lease):
        world.bucket.writes.clear()
        world.bucket.after = on_writes(40, do=lambda _key: setattr(lease, "ended", True))
        await world.beats.leave("worker-42")
        await asyncio.sleep(60)

    assert 40 <= len(world.bucket.writes) <= 64  # the batch that was on its way, and no other


@virtual
async def test_calculator_that_follows_another_finishes_the_round_that_was_left_unfinished() -> None:
    world = World()
    lease = FakeLease(1)
    async with world.running(*names(40), lease=lease):
        world.bucket.after = on_writes(10, do=lambda _key: setattr(lease, "ended", True))
        await world.beats.start("worker-77")
        await asyncio.sleep(SETTINGS.planned_scale_s + SOON_S)
        torn = await published(world.bucket)
        assert len({record.version for record in torn.values()}) == 2

        async with world.led(FakeLease(2)):
            await asyncio.sleep(SOON_S)
            await assert_whole(world, *torn)
            assert {record.epoch for record in (await published(world.bucket)).values()} == {2}


@virtual
async def test_calculator_that_follows_another_moves_nothing() -> None:
    world = World()

    async with world.running(*names(5)):
        pass
    before = await held_by(world.bucket)
    await world.beats.start(*names(5))
    async with world.led(FakeLease(2)):
        await asyncio.sleep(60)
        after = await held_by(world.bucket)
    await world.beats.stop()

    assert after == before
    assert world.record.reasons[-1] == Lifecycle.TAKEOVER
    assert world.record.versions[-1][0] == 2


@virtual
async def test_calculator_that_follows_another_after_a_crash_gives_up_the_dead_leader_in_time() -> None:
    world = World()
    async with world.running(*names(5)):
        died_s = world.beats.last_s["worker-0"]
        await world.beats.crash("worker-0")
        await asyncio.sleep(4.0)
        async with world.led(FakeLease(2)):
            await asyncio.sleep(died_s + TTL_S + GRACE_S + SOON_S - now())
            await assert_whole(world, "worker-1", "worker-2", "worker-3", "worker-4")


@virtual
async def test_d6_late_write_of_an_older_leader_is_refused() -> None:
    world = World()
    async with world.running(*names(3)):
        stale = await world.bucket.get(assignment_key("worker-1"))
        assert stale is not None
        async with world.led(FakeLease(2)):
            await asyncio.sleep(1)
            with pytest.raises(Exception, match="no longer at revision"):
                await world.bucket.update(stale.key, stale.value, stale.revision)


@virtual
async def test_calculator_that_cannot_read_what_somebody_else_wrote_repairs_it_when_it_can() -> None:
    world = World()
    async with world.running(*names(3)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(world.bucket, "entries", down)
            forged = AssignmentRecord(epoch=1, version=1, lifecycle="x", partitions=[])
            await world.bucket.put(assignment_key("worker-1"), encode(forged))
            await asyncio.sleep(5)
        await asyncio.sleep(2 * SOON_S)
        await assert_whole(world, *names(3))


@pytest.mark.parametrize("how", ["overwritten", "deleted", "invented"])
def test_calculator_repairs_what_somebody_else_wrote(how: str) -> None:
    async def story() -> None:
        world = World()
        async with world.running(*names(3)):
            forged = encode(AssignmentRecord(epoch=1, version=1, lifecycle="x", partitions=partitions(100)))
            if how == "overwritten":
                await world.bucket.put(assignment_key("worker-1"), forged)
            elif how == "deleted":
                await world.bucket.delete(assignment_key("worker-1"))
            else:
                await world.bucket.put(assignment_key("worker-9"), forged)
            await asyncio.sleep(SOON_S)
            if how == "invented":
                await asyncio.sleep(GRACE_S + SOON_S)
            await assert_whole(world, *names(3))

    run_virtual(story())


@pytest.mark.parametrize("deleted", [False, True])
def test_calculator_whose_watch_was_lost_repairs_what_was_deleted_meanwhile_and_nothing_else(deleted: bool) -> None:
    async def story() -> None:
        world = World()
        async with world.running(*names(3)):
            versions = list(world.record.versions)
            lose_watches(world.bucket)
            if deleted:
                await world.bucket.delete(assignment_key("worker-1"))
            await asyncio.sleep(SOON_S)
            await assert_whole(world, *names(3))
            assert len(world.record.versions) == len(versions) + deleted

    run_virtual(story())


@virtual
async def test_calculator_that_finds_a_later_epoch_leads_no_more() -> None:
    world = World()
    async with world.running(*names(3)):
        later = encode(AssignmentRecord(epoch=9, version=99, lifecycle="x", partitions=[]))
        await world.bucket.put(assignment_key("worker-1"), later)
        await asyncio.sleep(SOON_S)
        versions = list(world.record.versions)
        await world.beats.leave("worker-2")
        await asyncio.sleep(60)

    assert world.record.versions == versions


@virtual
async def test_b6_refresh_publishes_the_new_list_at_once_and_twice_in_the_cooldown() -> None:
    world = World(partition_count=50)

    async with world.running(*names(3)) as calculator:
        before = len(world.record.versions)
        for count in (70, 40):
            world.source.update(partitions(count))
            await calculator.refresh()
            await assert_whole(world, *names(3))
            await asyncio.sleep(0.1)

    assert world.record.reasons[before:] == [Lifecycle.MANUAL_REFRESH] * 2


@virtual
async def test_refresh_of_a_leader_whose_term_has_ended_says_so() -> None:
    world = World()
    lease = FakeLease()

    async with world.running(*names(3), lease=lease) as calculator:
        lease.ended = True
        await asyncio.sleep(10)
        with pytest.raises(NotLeaderError):
            await calculator.refresh()


class BrokenSource(StaticSource):
    """Answers until it is broken, in one of three ways."""

    broken = ""

    async def list_partitions(self) -> list[Partition]:
        if self.broken == "fails":
            raise ConnectionError("planted")
        if self.broken == "hangs":
            await asyncio.sleep(3600)
        listed = await super().list_partitions()
        return listed + listed[:1] if self.broken == "lists one twice" else listed


@pytest.mark.parametrize(
    ("broken", "error"), [("fails", ConnectionError), ("hangs", SourceTimeoutError), ("lists one twice", PartitionError)]
)
def test_refresh_with_a_source_that_is_broken_tells_the_caller_and_an_emergency_goes_on_without_it(broken: str, error: type) -> None:
    async def story() -> None:
        world = World()
        world.source = source = BrokenSource(partitions(100))
        async with world.running(*names(3)) as calculator:
            versions = list(world.record.versions)
            source.broken = broken

            with pytest.raises(error):
                await calculator.refresh()
            await asyncio.sleep(SOON_S)
            assert world.record.versions == versions
            await world.beats.leave("worker-2")
            await asyncio.sleep(GRACE_S + SOON_S)

            held = [partition for given in (await held_by(world.bucket)).values() for partition in given]
            assert len(set(held)) == len(held) == 100
            assert sorted(await held_by(world.bucket)) == names(2)

    run_virtual(story())


@virtual
async def test_calculator_that_follows_another_does_without_a_source_that_is_broken() -> None:
    world = World()
    world.source = source = BrokenSource(partitions(100))
    async with world.running(*names(3)):
        pass
    source.broken = "fails"
    await world.beats.start(*names(3))

    async with world.led(FakeLease(2)):
        await asyncio.sleep(SOON_S)
        source.broken = ""
        await assert_whole(world, *names(3))
    await world.beats.stop()

    assert world.record.reasons[-1] == Lifecycle.TAKEOVER


@virtual
async def test_calculator_at_a_cold_start_waits_for_a_source_that_is_broken() -> None:
    world = World()
    world.source = source = BrokenSource(partitions(100))
    source.broken = "fails"
    await world.beats.start("worker-0")

    async with world.led():
        await asyncio.sleep(10)
        assert world.record.versions == []
        source.broken = ""
        await asyncio.sleep(SOON_S)
        await assert_whole(world, "worker-0")
    await world.beats.stop()


@virtual
async def test_calculator_that_may_not_judge_gives_nobody_up() -> None:
    world = World()

    async with world.running(*names(3)):
        world.may_judge = False
        await world.beats.crash("worker-2")
        await asyncio.sleep(60)
        assert sorted(await held_by(world.bucket)) == names(3)

        world.may_judge = True
        await asyncio.sleep(SOON_S)
        await assert_whole(world, *names(2))


async def down(*_args: object) -> NoReturn:
    """In place of any operation: the store does not answer."""
    raise StoreUnavailableError("anything", "planted")


def lose_watches(bucket: MemoryBucket) -> None:
    """End every watch as a lost connection would."""
    for watch in [watch for watches in bucket._watches.values() for watch in watches]:
        watch.lose("planted")


@contextlib.contextmanager
def outage(world: World) -> Iterator[None]:
    """The leader cannot read heartbeats, nor watch anything."""
    with pytest.MonkeyPatch.context() as patch:
        for operation in ("entries", "watch", "get"):
            patch.setattr(world.beats.heartbeats, operation, down)
        lose_watches(world.beats.heartbeats)
        lose_watches(world.bucket)
        yield


@virtual
async def test_calculator_after_an_outage_of_the_store_gives_the_workers_a_whole_grace() -> None:
    world = World()

    async with world.running(*names(3)):
        versions = list(world.record.versions)
        await world.beats.leave("worker-1")  # missed before the outage
        await asyncio.sleep(1)
        with outage(world):
            await world.beats.crash("worker-2")  # and in it
            await asyncio.sleep(TTL_S + GRACE_S + 5)
        await asyncio.sleep(GRACE_S - 0.5)
        await world.beats.start("worker-1", "worker-2")
        await asyncio.sleep(30)

    assert world.record.versions == versions


@virtual
async def test_calculator_after_a_short_loss_of_the_watch_begins_no_grace_anew() -> None:
    world = World()

    async with world.running(*names(3)):
        await world.beats.leave("worker-2")
        left_s = now()
        await asyncio.sleep(2)
        with outage(world):
            await asyncio.sleep(SETTINGS.heartbeat_s / 4)
        await asyncio.sleep(GRACE_S)

    assert world.record.reasons[-1] == Lifecycle.EMERGENCY
    assert world.record.ended_s() - left_s < GRACE_S + SOON_S


@virtual
async def test_calculator_whose_watch_was_lost_lists_at_once_who_left_meanwhile() -> None:
    world = World()

    async with world.running(*names(3)):
        lose_watches(world.beats.heartbeats)
        await world.beats.leave("worker-2")
        left_s = now()
        await asyncio.sleep(TTL_S)

    assert world.record.ended_s() - left_s < GRACE_S + 0.5


@virtual
async def test_calculator_that_left_too_many_heartbeats_untaken_lists_at_once_who_left_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()

    async with world.running(*names(3)):
        monkeypatch.setattr(queued, "WATCH_LIMIT", 3)
        await world.beats.crash("worker-2")
        left_s = now()
        await world.beats.heartbeats.delete(heartbeat_key("worker-2"))
        for _ in range(10):  # in one turn of the loop: nobody takes any of it
            await world.beats._beat("worker-0")
        assert world.beats.heartbeats._watches == {}
        await asyncio.sleep(TTL_S)

    assert world.record.ended_s() - left_s < GRACE_S + 0.5
    assert world.record.reasons[-1] == Lifecycle.EMERGENCY


@pytest.mark.parametrize("deleted", [False, True])
@virtual
async def test_calculator_that_left_too_many_records_untaken_repairs_what_others_did_among_them(
    deleted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()

    async with world.running(*names(3)):
        monkeypatch.setattr(queued, "WATCH_LIMIT", 3)
        for version in range(10):
            record = AssignmentRecord(epoch=0, version=version, lifecycle="planned_scale", partitions=[])
            await world.bucket.put(assignment_key("worker-1"), encode(record))
        if deleted:
            await world.bucket.delete(assignment_key("worker-1"))
        assert world.bucket._watches == {}
        await asyncio.sleep(SOON_S)
        await assert_whole(world, *names(3))


@pytest.mark.parametrize("phase", range(8))
def test_calculator_whose_watch_is_late_looks_before_it_gives_a_worker_up(phase: int) -> None:
    async def story() -> None:
        world = World(msgspec.structs.replace(SETTINGS, emergency_grace_s=2.5))
        async with world.running(*names(3)):
            versions = list(world.record.versions)
            await asyncio.sleep(phase * TTL_S / 2 / 8)
            await world.beats.leave("worker-2")
            await asyncio.sleep(0.2)
            world.beats.heartbeats._watches.clear()  # it tells nothing more
            await asyncio.sleep(2.2)
            await world.beats.start("worker-2")
            await asyncio.sleep(1)
            assert world.record.versions == versions

    run_virtual(story())


@virtual
async def test_calculator_with_records_that_expire_renews_them() -> None:
    world = World(msgspec.structs.replace(SETTINGS, assignment_ttl_s=30.0))

    async with world.running(*names(3)):
        before = world.record.versions[-1]
        await asyncio.sleep(60)
        after = world.record.versions[-1]

    assert after[1] - before[1] in range(4, 9)


HANDOVER = Settings(handover=Handover.CONFIRMED, handover_limit_s=5.0)


def owners_over_time(world: World) -> dict[str, list[tuple[tuple[int, int], str]]]:
    """Who was told to have each partition, round by round."""
    owners: dict[str, list[tuple[tuple[int, int], str]]] = {}
    for at in world.record.versions:
        for worker, (_, record) in world.record.rounds[at].items():
            for partition in record.partitions:
                owners.setdefault(partition.id, []).append((at, worker))
    return owners


@virtual
async def test_handover_confirmed_gives_a_partition_out_only_when_the_old_worker_has_let_go() -> None:
    world = World(HANDOVER)
    world.beats.applying.update(names(4))

    async with world.running(*names(3)):
        before = world.record.versions[-1]
        await world.beats.start("worker-3")
        await asyncio.sleep(30)
        await assert_whole(world, *names(4))

    first, second = [at for at in world.record.versions if at > before]
    moved = {partition: told[-1][1] for partition, told in owners_over_time(world).items() if dict(told)[before] != dict(told)[second]}
    assert moved
    assert all(first not in dict(owners_over_time(world)[partition]) for partition in moved)
    gap_s = world.record.first_s[second] - world.record.last_s[first]
    assert 0 < gap_s <= HANDOVER.heartbeat_s + 0.2


@virtual
async def test_handover_confirmed_waits_for_a_silent_worker_to_the_limit_only() -> None:
    world = World(HANDOVER)

    async with world.running(*names(3)):
        before = world.record.versions[-1]
        await world.beats.start("worker-3")
        await asyncio.sleep(30)
        await assert_whole(world, *names(4))

    first, second = [at for at in world.record.versions if at > before]
    gap_s = world.record.first_s[second] - world.record.last_s[first]
    assert gap_s == pytest.approx(HANDOVER.handover_limit_s, abs=0.01)


@virtual
async def test_handover_confirmed_does_not_wait_for_the_dead() -> None:
    world = World(HANDOVER)
    world.beats.applying.update(names(4))

    async with world.running(*names(3)):
        before = len(world.record.versions)
        await world.beats.leave("worker-2")
        await asyncio.sleep(GRACE_S + 0.5)
        await assert_whole(world, *names(2))

    assert world.record.reasons[before:] == [Lifecycle.EMERGENCY]


@virtual
async def test_calculator_cancelled_leaves_nothing_and_ends_idle() -> None:
    world = World()

    async with world.running(*names(3)) as calculator:
        await world.beats.start("worker-3")
        await asyncio.sleep(1)
        assert calculator.state is CalculatorState.SCALING

    assert world.states[-1] is CalculatorState.IDLE
    assert not world.bucket._watches


@pytest.mark.parametrize(
    ("threshold_ratio", "count", "expected", "loads"),
    [
        (0.15, 100, [Lifecycle.PLANNED_SCALE], [50, 50]),
        (1.0, 100, [], [20, 80]),
        (1.0, 110, [Lifecycle.PLANNED_SCALE], [55, 55]),  # the list is another
    ],
)
def test_d9_threshold_decides_if_the_same_workers_get_a_round(
    threshold_ratio: float, count: int, expected: list[Lifecycle], loads: list[int]
) -> None:
    async def story() -> None:
        world = World(msgspec.structs.replace(SETTINGS, rebalance_threshold_ratio=threshold_ratio), strategy=RoundRobin())
        uneven = {"worker-0": partitions(100)[:80], "worker-1": partitions(100)[80:]}
        for worker, given in uneven.items():
            record = AssignmentRecord(epoch=1, version=1, lifecycle=Lifecycle.COLD_START, partitions=given)
            await world.bucket.put(assignment_key(worker), encode(record))
        await world.beats.start(*names(2))
        async with world.led(FakeLease(2)):
            await asyncio.sleep(1)
            before = len(world.record.versions)
            await world.beats.start("worker-2")
            await asyncio.sleep(1)
            world.source.update(partitions(count))
            await world.beats.leave("worker-2")
            await asyncio.sleep(60)
            await assert_whole(world, *names(2))
        await world.beats.stop()

        assert world.record.reasons[before:] == expected
        assert sorted(len(given) for given in (await held_by(world.bucket)).values()) == loads

    run_virtual(story())


def checks_in_a_quiet_minute(worker_count: int) -> int:
    """How often the leader decided anything, in a minute in which nothing but heartbeats came in."""

    async def story() -> int:
        world = World()
        count = 0
        check = Planner.check

        def counted(planner: Planner, now_s: float, present: frozenset[str], *, may_judge: bool = True) -> Step:
            nonlocal count
            count += 1
            return check(planner, now_s, present, may_judge=may_judge)

        async with world.running(*names(worker_count)):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Planner, "check", counted)
                await asyncio.sleep(60)
        return count

    return run_virtual(story())


def test_d10_leader_decides_no_more_often_in_a_larger_fleet() -> None:
    few, many = checks_in_a_quiet_minute(3), checks_in_a_quiet_minute(300)

    assert 0 < few <= 2 * 60 / TTL_S + 2
    assert many == few


@pytest.mark.alone
def test_d10_leader_of_a_thousand_workers_costs_little_in_a_quiet_fleet() -> None:
    quiet_s = 60.0

    async def story() -> tuple[float, float]:
        world = World(partition_count=100_000)
        async with world.running(*names(1000)):
            began_s = time.process_time()
            await asyncio.sleep(quiet_s)
            led_s = time.process_time() - began_s
        await world.beats.start(*names(1000))
        began_s = time.process_time()
        await asyncio.sleep(quiet_s)
        beating_s = time.process_time() - began_s
        await world.beats.stop()
        return led_s, beating_s

    led_s, beating_s = run_virtual(story())

    assert (led_s - beating_s) / quiet_s < 0.05


def test_heartbeat_key_is_what_the_bucket_watches() -> None:
    assert heartbeat_key("worker-3").startswith("heartbeat.")
