"""The same promises of both stores: in memory, and over a real NATS server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from floodmark.core.nats_server import EmbeddedNats
from floodmark.systems.fleet.store import (
    Bucket,
    BucketMismatchError,
    Entry,
    KeyExistsError,
    KeyNotFoundError,
    MemoryStore,
    Store,
    StoreUnavailableError,
    Watch,
    WrongRevisionError,
)
from floodmark.systems.fleet.store.nats import NatsStore
from tests.soonest import soonest_in_loop

TTL_S = 0.4
LIMIT_S = 30.0
Case = Callable[[Store], Awaitable[None]]


@asynccontextmanager
async def opened(kind: str) -> AsyncIterator[Store]:
    """A store of this kind with nothing in it."""
    if kind == "memory":
        yield MemoryStore()
        return
    async with EmbeddedNats() as server, await NatsStore.connect(server.url) as store:
        yield store


@pytest.fixture(params=["memory", "nats"])
def on_store(request: pytest.FixtureRequest) -> Callable[[Case], None]:
    """Runs a case on an empty store of one kind."""

    def run(case: Case) -> None:
        async def whole() -> None:
            async with asyncio.timeout(LIMIT_S), opened(request.param) as store:
                await case(store)

        asyncio.run(whole())

    return run


async def take(watch: Watch, count: int) -> list[Entry | None]:
    """The next so many."""
    return [await anext(aiter(watch)) for _ in range(count)]


def told(entries: list[Entry | None]) -> list[tuple[str, bytes] | str | None]:
    """What a reader makes of them: key and value, the name alone of what was deleted, None."""
    return [None if entry is None else entry.key if entry.deleted else (entry.key, entry.value) for entry in entries]


def test_get_after_create_put_update_delete_returns_what_was_written_last(on_store: Callable[[Case], None]) -> None:
    async def case(store: Store) -> None:
        bucket = await store.bucket("b")

        loop = asyncio.get_running_loop()
        created = await bucket.create("k", b"1")
        put = await bucket.put("k", b"2")
        before_s = loop.time()
        updated = await bucket.update("k", b"3", put)
        entry = await bucket.get("k")
        after_s = loop.time()
        await bucket.delete("k", updated)

        assert created < put < updated
        assert entry is not None
        assert (entry.key, entry.value, entry.revision, entry.deleted) == ("k", b"3", updated, False)
        assert before_s - 1.0 < entry.written_s < after_s + 1.0
        assert await bucket.get("k") is None
        assert await bucket.get("never") is None

    on_store(case)


def test_create_of_a_live_key_raises_and_of_a_deleted_one_succeeds_above(on_store: Callable[[Case], None]) -> None:
    async def case(store: Store) -> None:
        bucket = await store.bucket("b")
        first = await bucket.create("k", b"1")

        with pytest.raises(KeyExistsError, match=r"'k' of bucket b exists"):
            await bucket.create("k", b"2")
        await bucket.delete("k")
        second = await bucket.create("k", b"3")

        assert second > first

    on_store(case)


def test_update_with_another_revision_raises_and_writes_nothing(on_store: Callable[[Case], None]) -> None:
    async def case(store: Store) -> None:
        bucket = await store.bucket("b")
        old = await bucket.put("k", b"1")
        await bucket.put("k", b"2")

        with pytest.raises(WrongRevisionError):
            await bucket.update("k", b"lost", old)
        with pytest.raises(WrongRevisionError):
            await bucket.update("k", b"lost", 0)
        with pytest.raises(KeyNotFoundError):
            await bucket.update("never", b"lost", old)
        entry = await bucket.get("k")

        assert entry is not None
        assert entry.value == b"2"
        assert await bucket.get("never") is None

    on_store(case)


def test_update_with_revision_zero_creates(on_store: Callable[[Case], None]) -> None:
    async def case(store: Store) -> None:
        bucket = await store.bucket("b")

        first = await bucket.update("k", b"1", 0)
        await bucket.delete("k")
        second = await bucket.update("k", b"2", 0)

        assert 0 < first < second

    on_store(case)


def test_delete_is_fenced_by_a_revision_and_free_for_an_absent_key(on_store: Callable[[Case], None]) -> None:
    async def case(store: Store) -> None:
        bucket = await store.bucket("b")
        old = await bucket.put("k", b"1")
        await bucket.put("k", b"2")

        with pytest.raises(WrongRevisionError):
            await bucket.delete("k", old)
        await bucket.delete("never")
        await bucket.delete("never", 7)
        still = await bucket.get("k")
        await bucket.delete("k")

        assert still is not None
        assert await bucket.get("k") is None

    on_store(case)


def test_update_of_a_deleted_key_raises_not_found(on_store: Callable[[Case], None]) -> None:
    async def case(store: Store) -> None:
        bucket = await store.bucket("b")
        revision = await bucket.put("k", b"1")
        await bucket.delete("k")

        with pytest.raises(KeyNotFoundError, match="gone"):
            await bucket.update("k", b"2", revision)

    on_store(case)


def test_a11_create_after_expiry_succeeds_with_a_larger_revision(on_store: Callable[[Case], None]) -> None:
    async def case(store: Store) -> None:
        bucket = await store.bucket("b", ttl_s=TTL_S)
        first = await bucket.create("k", b"1")

        while (gone := await bucket.get("k")) is not None:  # noqa: ASYNC110 no event tells of it
            await asyncio.sleep(0.02)
        listed = await bucket.entries()
        second = await bucket.create("k", b"2")

        assert (gone, listed) == (None, [])
        assert second > first

    on_store(case)


def test_expiry_counts_from_the_last_write_and_is_neither_early_nor_late(on_store: Callable[[Case], None]) -> None:
    async def beside_s(bucket: Bucket) -> float:
        """How far from its time it was still there, or gone at last."""
        loop = asyncio.get_running_loop()
        await bucket.put("k", b"1")
        await asyncio.sleep(TTL_S / 2)

        revision = await bucket.put("k", b"2")
        before_s, alive_s = loop.time(), 0.0
        while (entry := await bucket.get("k")) is not None:
            alive_s = loop.time() - before_s
            assert entry.revision == revision
            await asyncio.sleep(0.005)
        gone_s = loop.time() - before_s

        assert gone_s > TTL_S - 0.02
        return max(TTL_S - alive_s, gone_s - TTL_S)

    async def case(store: Store) -> None:
        bucket = await store.bucket("b", ttl_s=TTL_S)

        assert await soonest_in_loop(lambda: beside_s(bucket), 0.1) < 0.1  # a server that sweeps late would say 0.25 s more

    on_store(case)


def test_create_at_once_by_many_has_one_winner(on_store: Callable[[Case], None]) -> None:
    async def case(store: Store) -> None:
        bucket = await store.bucket("b")
        await bucket.put("deleted", b"")
        await bucket.delete("deleted")

        for key in ("new", "deleted"):
            results = await asyncio.gather(*(bucket.create(key, b"%d" % n) for n in range(20)), return_exceptions=True)
            winners = [n for n, result in enumerate(results) if isinstance(result, int)]
            entry = await bucket.get(key)

            assert len(winners) == 1
            assert sum(isinstance(result, KeyExistsError) for result in results) == 19
            assert entry is not None
            assert entry.value == b"%d" % winners[0]

    on_store(case)


def test_create_at_once_over_an_expired_key_has_one_winner(on_store: Callable[[Case], None]) -> None:
    async def case(store: Store) -> None:
        bucket = await store.bucket("b", ttl_s=TTL_S)
        old = await bucket.put("k", b"old")
        await asyncio.sleep(TTL_S + 0.01)

        results = await asyncio.gather(*(bucket.create("k", b"%d" % n) for n in range(10)), return_exceptions=True)
        winners = [result for result in results if isinstance(result, int)]

        assert len(winners) == 1
        assert winners[0] > old

    on_store(case)


def test_entries_are_live_sorted_and_below_their_prefix_in_whole_words(on_store: Callable[[Case], None]) -> None:
    async def case(store: Store) -> None:
        bucket = await store.bucket("b")
        for key in ("a.w-2", "a.w-10", "a.w-1", "a", "ab", "b.x.y"):
            await bucket.put(key, b"1")
        await bucket.delete("a.w-2")

        async def keys(prefix: str) -> list[str]:
            return [entry.key for entry in await bucket.entries(prefix)]

        assert await keys("") == ["a", "a.w-1", "a.w-10", "ab", "b.x.y"]
        assert await keys("a") == ["a", "a.w-1", "a.w-10"]
        assert await keys("a.") == ["a.w-1", "a.w-10"]
        assert await keys("a.w-1") == ["a.w-1"]
        assert await keys("b.x") == ["b.x.y"]
        assert await keys("none") == []

    on_store(case)


def test_watch_of_an_empty_bucket_says_none_at_once(on_store: Callable[[Case], None]) -> None:
    async def case(store: Store) -> None:
        watch = await (await store.bucket("b")).watch("a.")

        assert await take(watch, 1) == [None]
        await watch.aclose()

    on_store(case)


def test_watch_lists_what_lives_then_none_then_each_change_in_order(on_store: Callable[[Case], None]) -> None:
    async def case(store: Store) -> None:
        bucket = await store.bucket("b")
        for key in ("a.2", "a.1", "a.3", "other"):
            await bucket.put(key, key.encode())
        await bucket.delete("a.3")
        watch = await bucket.watch("a.")
        first = await take(watch, 3)

        for n in range(50):
            await bucket.put(f"a.{n % 3}", b"%d" % n)
            await bucket.put("other", b"")
        await bucket.delete("a.1")
        changes = await take(watch, 51)
        await watch.aclose()

        assert told(first) == [("a.1", b"a.1"), ("a.2", b"a.2"), None]
        assert told(changes) == [*((f"a.{n % 3}", b"%d" % n) for n in range(50)), "a.1"]
        revisions = [entry.revision for entry in changes if entry is not None]
        assert revisions == sorted(set(revisions))

    on_store(case)


def test_watch_opened_while_keys_change_misses_nothing(on_store: Callable[[Case], None]) -> None:
    async def case(store: Store) -> None:
        bucket = await store.bucket("b")
        for n in range(30):
            await bucket.put(f"k{n}", b"0")

        async def write() -> None:
            for n in range(200):
                await bucket.put(f"k{n % 30}", b"%d" % n)
            await bucket.put("z", b"")  # the last, in a listing too

        writing = asyncio.ensure_future(write())
        held: dict[str, bytes] = {}
        watch = await bucket.watch()
        async for entry in watch:
            if entry is not None:
                held[entry.key] = entry.value
            if "z" in held:
                break
        await writing
        await watch.aclose()

        assert held == {entry.key: entry.value for entry in await bucket.entries()}

    on_store(case)


def test_watch_closed_ends_the_loop_of_a_reader_that_waits(on_store: Callable[[Case], None]) -> None:
    async def case(store: Store) -> None:
        watch = await (await store.bucket("b")).watch()

        async def read() -> list[Entry | None]:
            return [entry async for entry in watch]

        reader = asyncio.ensure_future(read())
        while not reader.done():  # not before it waits: the None must have been read
            await asyncio.sleep(0.05)
            await watch.aclose()

        assert await reader in ([None], [])

    on_store(case)


def test_history_keeps_so_many_versions_oldest_first(on_store: Callable[[Case], None]) -> None:
    async def case(store: Store) -> None:
        bucket = await store.bucket("b", history=3)
        for n in range(4):
            await bucket.put("k", b"%d" % n)
        await bucket.delete("k")

        kept = await bucket.history("k")

        assert told(list(kept)) == [("k", b"2"), ("k", b"3"), "k"]
        assert await bucket.history("never") == []

    on_store(case)


def test_bucket_opened_again_is_the_same_and_refuses_another_ttl(on_store: Callable[[Case], None]) -> None:
    async def case(store: Store) -> None:
        first = await store.bucket("b", ttl_s=5.0)
        await first.put("k", b"1")

        again: Bucket = await store.bucket("b", ttl_s=5.0)
        as_it_is = await store.bucket("b")

        assert [entry.key for entry in await again.entries()] == ["k"]
        assert (again.name, as_it_is.ttl_s) == ("b", 5.0)
        with pytest.raises(BucketMismatchError, match="exists with a time to live of 5 s, 6 s was asked for"):
            await store.bucket("b", ttl_s=6.0)

    on_store(case)


def test_store_closed_is_unavailable(on_store: Callable[[Case], None]) -> None:
    async def case(store: Store) -> None:
        assert store.connected

        await store.aclose()

        assert not store.connected
        with pytest.raises(StoreUnavailableError):
            await store.bucket("b")

    on_store(case)
