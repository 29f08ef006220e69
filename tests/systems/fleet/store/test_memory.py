"""What only the store in memory has: observers, watches that can be broken off, and no task of its own."""

from __future__ import annotations

import asyncio

import pytest

from floodmark.systems.fleet.store import Entry, MemoryBackend, MemoryStore, StoreUnavailableError, queued


def test_backend_outlives_its_stores_and_is_shared_by_them() -> None:
    async def main() -> None:
        backend = MemoryBackend()
        first, second = MemoryStore(backend), MemoryStore(backend)
        await (await first.bucket("b")).put("k", b"1")

        await first.aclose()
        entry = await (await second.bucket("b")).get("k")

        assert entry is not None
        assert (first.connected, second.connected) == (False, True)

    asyncio.run(main())


def test_observers_see_every_write_and_no_other() -> None:
    async def main() -> None:
        backend = MemoryBackend()
        seen: list[tuple[str, Entry]] = []
        backend.observers.append(lambda name, entry: seen.append((name, entry)))
        bucket = await MemoryStore(backend).bucket("b")

        await bucket.put("k", b"1")
        await bucket.get("k")
        await bucket.delete("k")
        await bucket.delete("k")

        assert [(name, entry.key, entry.revision, entry.deleted) for name, entry in seen] == [("b", "k", 1, False), ("b", "k", 2, True)]

    asyncio.run(main())


def test_watch_that_is_left_unread_is_bounded_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(queued, "WATCH_LIMIT", 10)
        bucket = await MemoryStore().bucket("b")
        watch = await bucket.watch()
        for number in range(50):
            await bucket.put("k", b"%d" % number)

        with pytest.raises(StoreUnavailableError, match="left more than 10 changes untaken"):
            await anext(watch)
        fresh = await bucket.watch()
        listed = [await anext(fresh), await anext(fresh)]

        assert listed[0] is not None
        assert (listed[0].value, listed[1]) == (b"49", None)

    asyncio.run(main())


def test_watch_that_was_broken_off_is_read_to_its_end_first() -> None:
    async def main() -> None:
        bucket = await MemoryStore().bucket("b")
        watch = await bucket.watch()
        await bucket.put("k", b"1")

        watch.lose("the network is gone")
        await bucket.put("k", b"2")
        first, entry = await anext(watch), await anext(watch)

        assert first is None
        assert entry is not None
        assert entry.value == b"1"
        with pytest.raises(StoreUnavailableError, match="the network is gone"):
            await anext(watch)

    asyncio.run(main())


def test_operations_take_no_turn_of_the_loop_and_leave_no_task() -> None:
    async def main() -> None:
        turns = 0
        loop = asyncio.get_running_loop()

        def count() -> None:
            nonlocal turns
            turns += 1

        bucket = await MemoryStore().bucket("b", ttl_s=60.0)
        loop.call_soon(count)
        revision = await bucket.create("k", b"1")
        await bucket.update("k", b"2", revision)
        await bucket.entries()
        await bucket.watch()
        await bucket.delete("k")

        assert turns == 0
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
