"""Partitions that go from worker to worker under load: nothing is lost, the order holds, and a hand-over explains every duplicate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import nats
import pytest
from nats.aio.client import Client
from nats.js.api import RetentionPolicy

from floodmark.systems.fleet.consumer import DurableConsumer
from tests.systems.fleet.consumer.diary import NAMES, Diary
from tests.systems.fleet.consumer.places import STREAM, Place, parts, place, settings, until


def test_diary_with_planted_faults_tells_each() -> None:
    diary = Diary()
    diary.published["p0"] = 4
    diary.handled = [("a", "p0", 1), ("a", "p0", 0), ("b", "p0", 1), ("a", "p0", 1)]

    assert diary.missing() == [("p0", 2), ("p0", 3)]
    assert diary.disorder() == [("p0", 0)]
    assert diary.twice_by_one() == [("a", "p0", 1)]
    assert diary.duplicates() == 2


class Fleet:
    """Three workers with a connection each, and somebody who tells them what to do."""

    def __init__(self, here: Place, diary: Diary, rng: Random, *, batch_count: int) -> None:
        self.here, self.diary, self.rng = here, diary, rng
        self.batch_count = batch_count
        self.consumers: dict[str, DurableConsumer] = {}
        self.connections: dict[str, Client] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.version = 0

    async def start(self, worker: str) -> None:
        nc = await nats.connect(self.here.server.url)
        gate = asyncio.Event()
        gate.set()
        self.connections[worker], self.gates[worker] = nc, gate
        self.consumers[worker] = DurableConsumer(
            nc, settings(batch_count=self.batch_count), self.diary.handler(worker, gate), rng=self.rng, on_error=lambda exc: None
        )

    async def share(self, *, versioned: bool = True) -> None:
        """Deal the partitions anew, at random, and tell everybody, each at a moment of its own."""
        self.version += 1
        version = self.version if versioned else 0
        owner = {name: self.rng.choice(sorted(self.consumers)) for name in NAMES}
        for name, worker in owner.items():
            self.diary.owners[name].add(worker)

        async def tell(worker: str, delay_s: float) -> None:
            await asyncio.sleep(delay_s)
            theirs = [name for name in NAMES if owner[name] == worker]
            await self.consumers[worker].update(worker, parts(*theirs), epoch=1, version=version)

        async with asyncio.TaskGroup() as tasks:
            for worker in sorted(self.consumers):
                tasks.create_task(tell(worker, self.rng.uniform(0, 0.03)))

    async def cut_off(self, worker: str) -> None:
        """Let the worker vanish with messages in hand: nothing is settled, nothing is cleaned up."""
        consumer = self.consumers.pop(worker)
        self.gates[worker].clear()
        await until(lambda: consumer._reader._current is not None or not consumer.subjects, "it holds one")
        assert consumer._task is not None
        consumer._task.cancel()
        await asyncio.gather(consumer._task, return_exceptions=True)
        await self.connections.pop(worker).close()

    async def close(self) -> None:
        for worker in sorted(self.consumers):
            await self.consumers[worker].aclose()
            await self.connections[worker].close()


@asynccontextmanager
async def fleet_of(diary: Diary, *workers: str, batch_count: int = 10) -> AsyncIterator[tuple[Place, Fleet]]:
    """Workers that have started and have nothing to do yet; closed at the end."""
    async with place() as here:
        fleet = Fleet(here, diary, Random(0), batch_count=batch_count)
        for worker in workers:
            await fleet.start(worker)
        yield here, fleet
        await fleet.close()


async def publish(here: Place, diary: Diary, rng: Random, stop: asyncio.Event) -> None:
    while not stop.is_set():
        name = rng.choice(NAMES)
        await here.js.publish(f"in.{name}", str(diary.published[name]).encode())
        diary.published[name] += 1


async def all_handled(diary: Diary) -> None:
    await until(lambda: not diary.missing(), f"everything is handled; missing {diary.missing()[:5]}")


@pytest.mark.parametrize("batch_count", [1, 20])
@pytest.mark.parametrize("seed", range(2))
def test_fifty_hand_overs_between_three_workers_under_load_lose_nothing_and_keep_the_order(seed: int, batch_count: int) -> None:
    diary = Diary()

    async def play() -> None:
        rng = Random(seed)
        stop = asyncio.Event()
        async with place() as here, asyncio.TaskGroup() as tasks:
            fleet = Fleet(here, diary, rng, batch_count=batch_count)
            for worker in ("w-0", "w-1", "w-2"):
                await fleet.start(worker)
            tasks.create_task(publish(here, diary, rng, stop))
            for turn in range(50):
                await fleet.share()
                if turn == 25:
                    await fleet.cut_off("w-1")
                if turn == 35:
                    await fleet.start("w-1x")
            await until(lambda: sum(diary.published.values()) > 200, "the load was one, however slow the machine is")
            stop.set()
            await all_handled(diary)
            await here.until_empty()
            await fleet.close()

    asyncio.run(play())

    assert diary.disorder() == []
    assert diary.twice_by_one() == []
    for worker, name, _ in diary.handled:
        assert worker in diary.owners[name]
    assert diary.duplicates() < 0.5 * len(diary.handled)


def test_hand_overs_without_versions_lose_nothing_either() -> None:
    diary = Diary()

    async def play() -> None:
        rng = Random(5)
        stop = asyncio.Event()
        async with place() as here, asyncio.TaskGroup() as tasks:
            fleet = Fleet(here, diary, rng, batch_count=10)
            for worker in ("w-0", "w-1", "w-2"):
                await fleet.start(worker)
            tasks.create_task(publish(here, diary, rng, stop))
            for _ in range(20):
                await fleet.share(versioned=False)
            stop.set()
            await all_handled(diary)
            await here.until_empty()
            await fleet.close()

    asyncio.run(play())

    assert diary.handled
    assert diary.disorder() == []
    assert diary.twice_by_one() == []


def test_hand_overs_on_a_stream_that_keeps_what_was_read_lose_nothing() -> None:
    diary = Diary()

    async def play() -> None:
        rng = Random(3)
        stop = asyncio.Event()
        async with place(retention=RetentionPolicy.LIMITS) as here, asyncio.TaskGroup() as tasks:
            fleet = Fleet(here, diary, rng, batch_count=10)
            for worker in ("w-0", "w-1", "w-2"):
                await fleet.start(worker)
            await fleet.share()
            tasks.create_task(publish(here, diary, rng, stop))
            for turn in range(25):
                await fleet.share()
                if turn == 12:
                    await fleet.cut_off("w-1")
            await until(lambda: sum(diary.published.values()) > 100, "the load was one, however slow the machine is")
            stop.set()
            await all_handled(diary)
            await fleet.close()

    asyncio.run(play())

    assert diary.handled
    assert diary.disorder() == []


def test_zombie_that_keeps_pulling_gets_nothing_after_its_subjects_were_taken() -> None:
    diary = Diary()

    async def play() -> None:
        async with fleet_of(diary, "zombie", "new") as (here, fleet):
            zombie, new = fleet.consumers["zombie"], fleet.consumers["new"]
            await zombie.update("zombie", parts("p0", "p1"), epoch=1, version=1)

            await new.update("new", parts("p0"), epoch=1, version=2)
            await until(lambda: zombie.subjects == ("in.p1",), "the zombie has learned of it from the server")
            for number in range(20):
                await here.js.publish("in.p0", str(number).encode())
                await here.js.publish("in.p1", str(number).encode())
            await until(lambda: len(diary.handled) == 40, "all are handled")

            assert await here.durables() == {"fleet-new": ["in.p0"], "fleet-zombie": ["in.p1"]}
            assert zombie.refused_subjects == ("in.p0",)
            assert {(worker, name) for worker, name, _ in diary.handled} == {("zombie", "p1"), ("new", "p0")}

    asyncio.run(play())


def test_zombie_that_lost_everything_stays_silent_until_it_is_told_what_to_do() -> None:
    diary = Diary()

    async def play() -> None:
        async with fleet_of(diary, "zombie", "new") as (here, fleet):
            zombie, new = fleet.consumers["zombie"], fleet.consumers["new"]
            await zombie.update("zombie", parts("p0", "p1"), epoch=1, version=1)

            await new.update("new", parts("p0", "p1"), epoch=1, version=2)
            await until(lambda: zombie.subjects == (), "the zombie has nothing left")
            durables = await here.durables()
            await zombie.update("zombie", parts("p1"), epoch=1, version=3)
            await here.js.publish("in.p1", b"0")
            await until(lambda: len(diary.handled) == 1, "it is handled")

            assert durables == {"fleet-new": ["in.p0", "in.p1"]}
            assert diary.handled == [("zombie", "p1", 0)]

    asyncio.run(play())


def test_worker_that_slept_while_another_was_started_under_its_name_leaves_the_durable_to_it() -> None:
    diary = Diary()

    async def play() -> None:
        async with place() as here:
            fleet = Fleet(here, diary, Random(0), batch_count=10)
            await fleet.start("old")
            await fleet.start("new")
            await fleet.consumers["old"].update("w-1", parts("p0", "p1"), epoch=1, version=1)
            await here.js.publish("in.p1", b"0")
            await until(lambda: len(diary.handled) == 1, "the old one works")

            await fleet.consumers["new"].update("w-1", parts("p0", "p1"), epoch=1, version=1)
            await until(lambda: fleet.consumers["old"].subjects == (), "the old one has nothing left")
            for number in range(20):
                await here.js.publish("in.p0", str(number).encode())
            await until(lambda: len(diary.handled) == 21, "all are handled")
            await fleet.consumers["old"].aclose()
            durables = await here.durables()
            await fleet.close()

            assert durables == {"fleet-w-1": ["in.p0", "in.p1"]}  # closing the old one does not remove what is the new one's
            assert {(worker, name) for worker, name, _ in diary.handled} == {("old", "p1"), ("new", "p0")}

    asyncio.run(play())


def test_worker_that_applies_an_old_assignment_late_does_not_take_from_the_owner_of_a_newer_one() -> None:
    diary = Diary()

    async def play() -> None:
        async with fleet_of(diary, "early", "late", batch_count=1) as (here, fleet):
            await fleet.consumers["early"].update("early", parts("p0"), epoch=1, version=6)

            await fleet.consumers["late"].update("late", parts("p0", "p1"), epoch=1, version=5)

            assert fleet.consumers["late"].subjects == ("in.p1",)
            assert fleet.consumers["late"].refused_subjects == ("in.p0",)
            assert await here.durables() == {"fleet-early": ["in.p0"], "fleet-late": ["in.p1"]}

    asyncio.run(play())


def test_messages_in_hand_of_a_worker_that_vanished_come_to_the_next_one_without_waiting_for_their_time() -> None:
    diary = Diary()

    async def play() -> None:
        async with fleet_of(diary, "dead", "heir", batch_count=50) as (here, fleet):
            await fleet.consumers["dead"].update("dead", parts("p0"), epoch=1, version=1)
            fleet.gates["dead"].clear()
            for number in range(30):
                await here.js.publish("in.p0", str(number).encode())
            await fleet.cut_off("dead")
            pending = (await here.js.consumer_info(STREAM, "fleet-dead")).num_ack_pending

            async with asyncio.timeout(15):  # the time to acknowledge is 30 s
                await fleet.consumers["heir"].update("heir", parts("p0"), epoch=1, version=2)
                await here.until_empty()

            assert pending is not None
            assert pending > 1
            assert [number for worker, _, number in diary.handled if worker == "heir"] == list(range(30))

    asyncio.run(play())
