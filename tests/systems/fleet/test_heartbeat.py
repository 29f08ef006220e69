"""Heartbeats: sent on time, fenced by revision, and a lease that lapses by its own clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from floodmark.systems.fleet.contact import Contact
from floodmark.systems.fleet.election import MARGIN_RATIO
from floodmark.systems.fleet.errors import DeleteError
from floodmark.systems.fleet.heartbeat import Heartbeats
from floodmark.systems.fleet.identity import Identity
from floodmark.systems.fleet.metrics import Counters, Metric
from floodmark.systems.fleet.profiles import profile
from floodmark.systems.fleet.records import Heartbeat, decode, encode, heartbeat_key
from floodmark.systems.fleet.simulation.loop import virtual
from floodmark.systems.fleet.store.base import StoreUnavailableError
from floodmark.systems.fleet.store.memory import MemoryBackend, MemoryBucket
from tests.systems.fleet.crew import CuttableStore, until

SETTINGS = profile("fast", heartbeat_s=0.5, heartbeat_ttl_s=2.0, id_ttl_s=4.0)
KEY = heartbeat_key("worker-0")
LEASE_S = SETTINGS.heartbeat_ttl_s * (1 - MARGIN_RATIO)


class Beater:
    """One worker that only beats."""

    def __init__(self) -> None:
        self.backend = MemoryBackend()
        self.store = CuttableStore(self.backend)
        self.metrics = Counters()
        self.version = 1
        self.lapses_s: list[float] = []
        self.regains_s: list[float] = []
        self.regain_fail_count = 0

    @property
    def bucket(self) -> MemoryBucket:
        return self.backend.bucket(SETTINGS.heartbeat_bucket)

    async def open(self) -> Heartbeats:
        contact = Contact(SETTINGS, self.metrics, lambda _error: None)
        ids = self.backend.bucket(SETTINGS.id_bucket, ttl_s=SETTINGS.id_ttl_s)
        self.identity = Identity(ids, contact, SETTINGS, "ours", random.Random(1))
        await self.identity.claim()
        loop = asyncio.get_running_loop()

        async def regain() -> None:
            if self.regain_fail_count:
                self.regain_fail_count -= 1
                raise StoreUnavailableError("get", "planted")
            self.regains_s.append(loop.time())

        self.heartbeats = Heartbeats(
            await self.store.bucket(SETTINGS.heartbeat_bucket, ttl_s=SETTINGS.heartbeat_ttl_s),
            contact,
            SETTINGS,
            self.identity,
            content=lambda: Heartbeat(worker="worker-0", token="ours", version=self.version),
            on_lapse=lambda: self.lapses_s.append(loop.time()),
            on_regain=regain,
            metrics=self.metrics,
            rng=random.Random(2),
        )
        return self.heartbeats

    async def found(self) -> Heartbeat | None:
        entry = await self.bucket.get(KEY)
        return decode(Heartbeat, KEY, entry.value) if entry is not None else None


@asynccontextmanager
async def beating(*, keep_id: bool = True) -> AsyncIterator[Beater]:
    beater = Beater()
    heartbeats = await beater.open()
    jobs = [asyncio.ensure_future(heartbeats.run())]
    if keep_id:
        jobs.append(asyncio.ensure_future(beater.identity.keep()))
    try:
        yield beater
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)


@virtual
async def test_heartbeats_come_at_once_and_then_in_their_period() -> None:
    async with beating() as beater:
        await asyncio.sleep(0.01)
        assert beater.bucket.revision == 1

        await asyncio.sleep(10 * SETTINGS.heartbeat_s)

        assert beater.bucket.revision == 11
        assert beater.metrics.counted(Metric.HEARTBEATS, "ok") == 11
        assert beater.lapses_s == []


@virtual
async def test_heartbeat_with_news_is_sent_at_once_and_carries_them() -> None:
    async with beating() as beater:
        await asyncio.sleep(0.1)
        beater.version = 2

        beater.heartbeats.soon()
        await asyncio.sleep(0.01)

        found = await beater.found()
        assert found is not None
        assert found.version == 2


@virtual
async def test_heartbeat_lease_lapses_at_its_margin_without_an_answer_of_the_store() -> None:
    async with beating() as beater:
        await asyncio.sleep(0.01)
        loop = asyncio.get_running_loop()
        began_s = loop.time() - 0.01

        beater.store.silent = True
        await until(lambda: beater.lapses_s != [], 3.0)

        assert beater.lapses_s[0] - began_s == pytest.approx(LEASE_S, abs=1e-6)
        assert not beater.heartbeats.held()


@virtual
async def test_heartbeat_that_gets_through_again_regains_what_had_lapsed() -> None:
    async with beating() as beater:
        await asyncio.sleep(0.01)
        beater.store.cut()
        await until(lambda: beater.lapses_s != [], 3.0)
        beater.regain_fail_count = 2

        beater.store.heal()
        await until(lambda: beater.regains_s != [], 2.0)

        assert beater.heartbeats.held()
        assert beater.regain_fail_count == 0
        assert beater.metrics.counted(Metric.HEARTBEATS, "failed") >= 3


@virtual
async def test_heartbeat_that_was_done_unanswered_is_followed_by_the_next() -> None:
    async with beating() as beater:
        await asyncio.sleep(0.01)

        beater.store.losing = frozenset({"update"})
        await asyncio.sleep(SETTINGS.heartbeat_s)
        beater.store.heal()
        await asyncio.sleep(3 * SETTINGS.heartbeat_s)

        assert beater.lapses_s == []
        assert beater.heartbeats.held()


@virtual
async def test_heartbeat_of_a_worker_whose_id_may_be_anothers_is_not_sent() -> None:
    async with beating(keep_id=False) as beater:
        await asyncio.sleep(SETTINGS.id_ttl_s)
        revision = beater.bucket.revision

        await asyncio.sleep(2.0)

        assert beater.bucket.revision == revision
        assert beater.lapses_s != []


@virtual
async def test_heartbeat_delayed_since_before_another_had_the_id_does_not_replace_that_ones() -> None:
    async with beating() as beater:
        await asyncio.sleep(0.01)
        stale_revision = beater.bucket.revision
        other = encode(Heartbeat(worker="worker-0", token="another"))
        await beater.bucket.put(KEY, other)

        beater.identity._renewed_s = -1000.0  # the id is not ours any more
        with pytest.raises(StoreUnavailableError, match="the id has to be renewed first"):
            await beater.heartbeats.beat()

        entry = await beater.bucket.get(KEY)
        assert entry is not None
        assert entry.value == other
        assert entry.revision > stale_revision


@virtual
async def test_pace_makes_heartbeats_rarer_and_mute_stops_them_while_the_worker_goes_on() -> None:
    async with beating() as beater:
        await asyncio.sleep(0.01)
        beater.heartbeats.pace = 2.0
        await asyncio.sleep(SETTINGS.heartbeat_s)
        revision = beater.bucket.revision

        await asyncio.sleep(10 * SETTINGS.heartbeat_s)
        assert beater.bucket.revision == revision + 5
        assert beater.lapses_s == []

        beater.heartbeats.muted = True
        await until(lambda: beater.lapses_s != [], 3.0)
        assert beater.bucket.revision == revision + 5


@virtual
async def test_delete_removes_the_heartbeat_also_when_the_answer_to_the_last_was_lost() -> None:
    for losing in (frozenset[str](), frozenset({"update"})):
        async with beating() as beater:
            await asyncio.sleep(0.01)
            beater.store.losing = losing
            await asyncio.sleep(SETTINGS.heartbeat_s)
            beater.store.heal()

            await beater.heartbeats.delete()

            assert await beater.found() is None


@virtual
async def test_delete_that_the_store_does_not_do_is_told_by_key() -> None:
    async with beating() as beater:
        await asyncio.sleep(0.01)
        beater.store.cut()

        with pytest.raises(DeleteError, match=r"heartbeat\.worker-0 could not be deleted"):
            await beater.heartbeats.delete()
