"""Whole histories on virtual time: updates that overlap, fail and are cancelled, lost answers, lines that break, workers that vanish.

Whatever happens, the first handlings of each partition come in its order, nothing is lost, and no worker handles anything twice.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from random import Random
from typing import cast

import pytest
from nats.aio.client import Client

from floodmark.systems.fleet.consumer import ConsumerSettings, DurableConsumer, Message, ServerError
from floodmark.systems.fleet.consumer.finished import Finished
from floodmark.systems.fleet.consumer.order import Order
from floodmark.systems.fleet.consumer.pull import Pull
from floodmark.systems.fleet.simulation.loop import run_virtual
from tests.systems.fleet.consumer.diary import NAMES, Diary
from tests.systems.fleet.consumer.mimic import Line, Server
from tests.systems.fleet.consumer.places import parts

SEEDS_COUNT = 20
TURNS_COUNT = 25
BACKLOG_COUNT = 100
CALM_LIMIT_S = 120.0
SETTINGS = {
    **{"operation_s": 0.3, "fetch_s": 2.0, "jitter_s": 0.05, "backoff_s": 0.02},
    **{"removal_s": 0.1, "old_durable_s": 0.4},
}


class World:
    """Workers, those who tell them what to do, and what befalls them; all of it drawn from one seed."""

    def __init__(self, seed: int, *, trouble: bool, failing: bool) -> None:
        self.rng = Random(seed)
        self.diary = Diary()
        self.server = Server()
        self.trouble, self.failing = trouble, failing
        self.batch_count = self.rng.choice((1, 3, 20))
        self.ack_wait_s = 20.0 if failing else self.rng.choice((0.4, 20.0))  # what failed is waited for half of it, and no longer
        self.consumers: dict[str, DurableConsumer] = {}
        self.lines: dict[str, Line] = {}
        self.version = 0
        self.calm = False
        self.failed: set[tuple[str, str]] = set()

    def start(self, worker: str) -> None:
        line = self.lines[worker] = Line(self.server, self.rng, len(self.lines) + 1)
        config = ConsumerSettings(
            stream="FM_IN",
            batch_count=self.batch_count,
            ack_wait_s=self.ack_wait_s,
            max_deliver_count=-1,
            **SETTINGS,  # type: ignore[arg-type]
        )
        self.consumers[worker] = DurableConsumer(
            cast("Client", line), config, self._handler(worker), rng=Random(f"{worker}/{self.rng.random()}"), on_error=lambda exc: None
        )

    def _handler(self, worker: str) -> Callable[[Message], asyncio.Future[None]]:
        async def handle(message: Message) -> None:
            name, data = message.subject.removeprefix("in."), message.data.decode()
            if self.failing and (name, data) not in self.failed and self.rng.random() < 0.1:
                self.failed.add((name, data))
                raise ValueError("not yet")
            self.diary.handled.append((worker, name, int(data)))
            await asyncio.sleep(self.rng.choice((0, 0.001, 0.01, 0.01, 0.3)))

        return handle  # type: ignore[return-value]

    async def play(self) -> Diary:
        for number in range(3):
            self.start(f"w-{number}")
        publishing = asyncio.create_task(self.publish())
        for turn in range(TURNS_COUNT):
            await self.share()
            if self.trouble:
                self.strike(turn)
        self.calm = True
        for line in self.lines.values():
            line.loss_ratio = 0.0
        await self.share()
        await publishing
        async with asyncio.timeout(CALM_LIMIT_S):
            while self.server.messages:  # noqa: ASYNC110 what is waited for has no event
                await asyncio.sleep(0.1)
        for consumer in self.consumers.values():
            await consumer.aclose()
        return self.diary

    async def publish(self) -> None:
        while not self.calm:
            if len(self.server.messages) >= BACKLOG_COUNT:
                await asyncio.sleep(0.05)
                continue
            name = self.rng.choice(NAMES[:4])
            self.server.store(f"in.{name}", b"%d" % self.diary.published[name])
            self.diary.published[name] += 1
            await asyncio.sleep(self.rng.choice((0, 0.001, 0.02)))

    async def share(self) -> None:
        """Deal the partitions anew, and tell everybody, each at a moment of its own; when in trouble, not all of it is waited for."""
        self.version += 1
        version, owner = self.version, {name: self.rng.choice(sorted(self.consumers)) for name in NAMES[:4]}

        async def tell(worker: str, delay_s: float, limit_s: float | None) -> None:
            await asyncio.sleep(delay_s)
            theirs = parts(*(name for name in owner if owner[name] == worker))
            try:
                async with asyncio.timeout(limit_s):
                    await self.consumers[worker].update(worker, theirs, epoch=1, version=version)
            except (ServerError, TimeoutError):
                pass  # it keeps what it had, until it is told again

        async with asyncio.TaskGroup() as tasks:
            for worker in sorted(self.consumers):
                limit_s = self.rng.choice((0.01, 0.1, None)) if self.trouble and not self.calm else None
                tasks.create_task(tell(worker, self.rng.uniform(0, 0.05), limit_s))
        await asyncio.sleep(self.rng.choice((0, 0.05, 0.5)))

    def strike(self, turn: int) -> None:
        """Let something befall somebody."""
        worker = self.rng.choice(sorted(self.consumers))
        match self.rng.randrange(4):
            case 0:
                self.lines[worker].break_off()
            case 1:
                self.lines[worker].loss_ratio = self.rng.choice((0.0, 0.2, 0.5))
            case 2 if len(self.consumers) > 1:
                self.vanish(worker)
            case 3 if len(self.consumers) < 4:
                self.start(f"v-{turn}")

    def vanish(self, worker: str) -> None:
        """End as a killed process would: nothing is settled, nothing is cleaned up."""
        consumer = self.consumers.pop(worker)
        self.lines[worker].close()
        if consumer._task is not None:
            consumer._task.cancel()
        consumer._feed.stopped = "it was killed"


def wrong(seed: int, *, trouble: bool = True, failing: bool = False) -> dict[str, object]:
    """Play a history; what is wrong with it, by kind."""
    diary = run_virtual(World(seed, trouble=trouble, failing=failing).play(), seed=seed)
    found = {"lost": diary.missing(), "disorder": diary.disorder(), "twice": diary.twice_by_one()}
    return {kind: cases for kind, cases in found.items() if cases}


def kinds_in(seeds: range, *, trouble: bool = True, failing: bool = False) -> dict[str, list[int]]:
    """The seeds in which something is wrong, by kind."""
    found: dict[str, list[int]] = defaultdict(list)
    for seed in seeds:
        for kind in wrong(seed, trouble=trouble, failing=failing):
            found[kind].append(seed)
    return dict(found)


def first_with(kind: str, seeds: range, *, trouble: bool = True, failing: bool = False) -> int | None:
    """The first seed in which this is wrong."""
    return next((seed for seed in seeds if kind in wrong(seed, trouble=trouble, failing=failing)), None)


def test_histories_full_of_trouble_keep_the_order_and_lose_nothing() -> None:
    assert kinds_in(range(SEEDS_COUNT)) == {}


def test_histories_with_handlers_that_fail_keep_the_order_and_lose_nothing() -> None:
    assert kinds_in(range(8), trouble=False, failing=True) == {}


def test_history_of_one_seed_is_the_same_each_time_and_that_of_another_is_not() -> None:
    def handled(seed: int) -> list[tuple[str, str, int]]:
        return run_virtual(World(seed, trouble=True, failing=False).play(), seed=seed).handled

    assert handled(3) == handled(3) != handled(4)


def test_histories_find_a_consumer_that_goes_on_where_something_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pull, "gap", property(lambda self: False, lambda self, gap: None), raising=False)

    assert first_with("disorder", range(SEEDS_COUNT)) is not None


def test_histories_find_a_consumer_that_forgets_what_it_has_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Finished, "__contains__", lambda self, sequence: False)

    assert first_with("twice", range(20)) is not None


def test_histories_find_an_order_that_does_not_wait_for_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Order, "failed", lambda self, message, until_s: None)

    assert first_with("disorder", range(20), trouble=False, failing=True) is not None
