"""Stable ids: the least free one, unique whoever claims at once, kept by renewal, free again when its time is over."""

from __future__ import annotations

import asyncio
import random

import pytest

from floodmark.systems.fleet.contact import Contact
from floodmark.systems.fleet.errors import DeleteError, IdClaimError, IdLostError, RenewalError
from floodmark.systems.fleet.identity import Identity
from floodmark.systems.fleet.metrics import NullMetrics
from floodmark.systems.fleet.profiles import profile
from floodmark.systems.fleet.records import StableIdRecord, encode
from floodmark.systems.fleet.settings import Settings
from floodmark.systems.fleet.simulation.loop import virtual
from floodmark.systems.fleet.store.base import StoreUnavailableError
from floodmark.systems.fleet.store.memory import MemoryBackend
from tests.systems.fleet.crew import CuttableStore, until

SETTINGS = profile("fast", id_max=9, id_ttl_s=3.0)
TTL_S = SETTINGS.id_ttl_s


class Claimer:
    """One process that wants an id."""

    def __init__(self, backend: MemoryBackend, number: int, settings: Settings = SETTINGS) -> None:
        self.store = CuttableStore(backend)
        self.number = number
        self.settings = settings

    async def open(self) -> Identity:
        bucket = await self.store.bucket(self.settings.id_bucket, ttl_s=self.settings.id_ttl_s)
        contact = Contact(self.settings, NullMetrics(), lambda _error: None)
        return Identity(bucket, contact, self.settings, f"token-{self.number}", random.Random(self.number))


async def identities(backend: MemoryBackend, count: int, *, first: int = 0) -> list[Identity]:
    return [await Claimer(backend, first + number).open() for number in range(count)]


@virtual
async def test_claim_takes_the_least_number_that_is_free() -> None:
    backend = MemoryBackend()
    first, second, third, fourth = await identities(backend, 4)
    assert [await first.claim(), await second.claim(), await third.claim()] == ["worker-0", "worker-1", "worker-2"]

    await second.release()

    assert await fourth.claim() == "worker-1"


@virtual
async def test_b32_five_claims_at_once_get_five_ids() -> None:
    found = await identities(MemoryBackend(), 5)

    names = await asyncio.gather(*(identity.claim() for identity in found))

    assert sorted(names) == [f"worker-{number}" for number in range(5)]


@virtual
async def test_b32_claims_outlive_their_time_to_live_while_they_are_renewed() -> None:
    backend = MemoryBackend()
    found = await identities(backend, 5)
    names = [await identity.claim() for identity in found]
    keeping = [asyncio.ensure_future(identity.keep()) for identity in found]

    await asyncio.sleep(4 * TTL_S)

    assert sorted(entry.key for entry in await backend.bucket(SETTINGS.id_bucket).entries()) == sorted(names)
    assert all(identity.held() for identity in found)
    for job in keeping:
        job.cancel()
    await asyncio.gather(*keeping, return_exceptions=True)


@virtual
async def test_a10_id_that_is_not_renewed_is_claimed_again_twenty_times() -> None:
    backend = MemoryBackend()
    settings = profile("test", heartbeat_s=0.05, heartbeat_ttl_s=0.15, id_ttl_s=0.3)

    for cycle in range(20):
        identity = await Claimer(backend, cycle, settings).open()
        assert await identity.claim() == "worker-0"
        await asyncio.sleep(0.4)
        assert not identity.held()


@virtual
async def test_a12_ids_of_the_crashed_are_claimed_again_and_none_twice() -> None:
    backend = MemoryBackend()
    crashed = await identities(backend, 3)
    for identity in crashed:
        await identity.claim()
    claimers = await identities(backend, 8, first=3)
    loop = asyncio.get_running_loop()
    began_s = loop.time()

    async def claim_and_keep(identity: Identity) -> str:
        while True:
            try:
                name = await identity.claim()
            except IdClaimError:
                await asyncio.sleep(0.1)
                continue
            keeping.append(asyncio.ensure_future(identity.keep()))
            return name

    keeping: list[asyncio.Future[None]] = []
    names = await asyncio.gather(*(claim_and_keep(identity) for identity in claimers))

    assert len(set(names)) == 8
    assert loop.time() - began_s <= TTL_S + 0.2
    assert all(identity.held() for identity in claimers)
    for job in keeping:
        job.cancel()
    await asyncio.gather(*keeping, return_exceptions=True)


@virtual
async def test_claim_when_all_are_held_is_refused() -> None:
    backend = MemoryBackend()
    for identity in await identities(backend, 10):
        await identity.claim()
    (late,) = await identities(backend, 1, first=10)

    with pytest.raises(IdClaimError, match="all 10 of worker-0 to worker-9 are held"):
        await late.claim()


@virtual
async def test_claim_whose_answer_was_lost_is_found_to_be_our_own() -> None:
    backend = MemoryBackend()
    claimer = Claimer(backend, 0)
    identity = await claimer.open()
    claimer.store.losing = frozenset({"create"})
    claiming = asyncio.ensure_future(identity.claim())
    await until(lambda: claimer.store.counts["create"] == 1, 1.0)

    claimer.store.heal()

    assert await claiming == "worker-0"
    assert len(await backend.bucket(SETTINGS.id_bucket).entries()) == 1


@virtual
async def test_keep_twice_at_once_is_refused() -> None:
    (identity,) = await identities(MemoryBackend(), 1)
    await identity.claim()
    keeping = asyncio.ensure_future(identity.keep())
    await asyncio.sleep(0)

    with pytest.raises(RenewalError, match="the renewal of the id worker-0 runs already"):
        await identity.keep()

    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


@virtual
async def test_keep_of_an_id_that_another_has_raises_and_holds_no_more() -> None:
    backend = MemoryBackend()
    (identity,) = await identities(backend, 1)
    await identity.claim()
    await backend.bucket(SETTINGS.id_bucket).put("worker-0", encode(StableIdRecord(worker="worker-0", token="another")))

    with pytest.raises(IdLostError, match="worker-0 is held by another worker"):
        await identity.keep()

    assert not identity.held()


@virtual
async def test_keep_of_an_id_that_has_expired_and_is_free_takes_it_again() -> None:
    backend = MemoryBackend()
    claimer = Claimer(backend, 0)
    identity = await claimer.open()
    await identity.claim()
    claimer.store.cut()
    keeping = asyncio.ensure_future(identity.keep())
    await asyncio.sleep(1.5 * TTL_S)
    assert not identity.held()

    claimer.store.heal()
    await until(identity.held, 3.0)

    assert [entry.key for entry in await backend.bucket(SETTINGS.id_bucket).entries()] == ["worker-0"]
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


@virtual
async def test_release_frees_the_id_and_leaves_that_of_another_alone() -> None:
    backend = MemoryBackend()
    first, second = await identities(backend, 2)
    await first.claim()
    await second.claim()
    await backend.bucket(SETTINGS.id_bucket).put("worker-1", encode(StableIdRecord(worker="worker-1", token="another")))

    await first.release()
    await second.release()

    assert [entry.key for entry in await backend.bucket(SETTINGS.id_bucket).entries()] == ["worker-1"]
    assert not first.held()


@virtual
async def test_release_that_the_store_does_not_do_is_told_by_key() -> None:
    claimer = Claimer(MemoryBackend(), 0)
    identity = await claimer.open()
    await identity.claim()
    claimer.store.cut()

    with pytest.raises(DeleteError, match="worker-0 could not be deleted") as raised:
        await identity.release()

    assert isinstance(raised.value.__cause__, StoreUnavailableError)
