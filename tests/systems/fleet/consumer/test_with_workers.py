"""Real workers with real consumers on one server: they share the load, one vanishes with messages in hand, and nothing is lost."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from random import Random

import nats
import pytest
from nats.aio.client import Client

from floodmark.systems.fleet.consumer import DurableConsumer
from floodmark.systems.fleet.partition import StaticSource
from floodmark.systems.fleet.profiles import profile
from floodmark.systems.fleet.store.nats import NatsStore
from floodmark.systems.fleet.worker import Worker
from tests.systems.fleet.consumer.diary import NAMES, Diary
from tests.systems.fleet.consumer.places import Place, parts, place, settings, until

FAST = profile("fast")


class Post:
    """One worker with a store, a connection and a consumer of its own."""

    def __init__(self, number: int, store: NatsStore, nc: Client, diary: Diary) -> None:
        self.name = f"post-{number}"
        self.store, self.nc = store, nc
        self.gate = asyncio.Event()
        self.gate.set()
        self.consumer = DurableConsumer(
            nc, settings(batch_count=20), diary.handler(self.name, self.gate), rng=Random(number), on_error=lambda exc: None
        )
        self.worker = Worker(FAST, store, StaticSource(parts(*NAMES)), consumer=self.consumer, rng=Random(100 + number))

    @classmethod
    async def open(cls, number: int, here: Place, diary: Diary) -> Post:
        return cls(number, await NatsStore.connect(here.server.url), await nats.connect(here.server.url), diary)

    async def vanish(self) -> None:
        """End as a killed process would, with a message in the handler and more in hand."""
        self.gate.clear()
        await until(lambda: self.consumer._reader._current is not None, "a message is in the handler")
        assert self.consumer._task is not None
        self.consumer._task.cancel()
        await asyncio.gather(self.consumer._task, return_exceptions=True)
        await self.nc.close()
        await self.worker.abandon()

    async def close(self) -> None:
        await self.worker.stop()
        await self.nc.close()
        await self.store.aclose()


def covered(posts: list[Post]) -> bool:
    """Every partition is consumed by exactly one of them, under one version."""
    subjects = sorted(subject for post in posts for subject in post.consumer.subjects)
    versions = {post.worker.assignment.version for post in posts if post.worker.assignment is not None}
    return subjects == sorted(f"in.{name}" for name in NAMES) and len(versions) == 1


@pytest.mark.parametrize("victim", ["leader", "follower"])
def test_three_workers_of_which_one_vanishes_lose_nothing_and_keep_the_order(victim: str) -> None:
    diary = Diary()

    async def publish(here: Place, stop: asyncio.Event) -> None:
        rng = Random(1)
        while not stop.is_set():
            name = rng.choice(NAMES)
            await here.js.publish(f"in.{name}", str(diary.published[name]).encode())
            diary.published[name] += 1
            await asyncio.sleep(0.001)  # pace: about the rate of a quiet fleet, so that the workers' heartbeats get their turn

    async def play() -> None:
        stop = asyncio.Event()
        async with place() as here, AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
            posts = [await Post.open(number, here, diary) for number in range(3)]
            await asyncio.gather(*(post.worker.start() for post in posts))  # gather: all of them, or the test fails
            tasks.create_task(publish(here, stop))
            await until(lambda: covered(posts), "all three share the partitions")
            await until(lambda: {worker for worker, _, _ in diary.handled} == {post.name for post in posts}, "all three are at work")

            dead = next(post for post in posts if post.worker.is_leader is (victim == "leader"))
            alive = [post for post in posts if post is not dead]
            await dead.vanish()
            stack.push_async_callback(dead.store.aclose)
            await until(lambda: covered(alive), "the two others have everything")
            heirs = len(diary.handled)
            await until(lambda: len(diary.handled) > heirs + 50, "they are at work")
            stop.set()
            await until(lambda: not diary.missing(), "everything is handled")
            await here.until_empty()
            await asyncio.gather(*(post.close() for post in alive))

    asyncio.run(play())

    assert diary.missing() == []
    assert diary.disorder() == []
    assert diary.twice_by_one() == []
    assert diary.duplicates() >= 1  # the message that was in the dead one's handler, at the least
