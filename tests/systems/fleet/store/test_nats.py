"""What only a store with a network in between can do: lose its server, and have it back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from nats.aio.client import Client

from floodmark.core.errors import UsageError
from floodmark.core.nats_server import EmbeddedNats
from floodmark.systems.fleet.store import StoreUnavailableError, queued
from floodmark.systems.fleet.store.nats import NatsStore
from floodmark.systems.fleet.store.watch import NatsWatch

LIMIT_S = 30.0


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    while not condition():  # noqa: ASYNC110  # no event tells of it
        await asyncio.sleep(0.01)


async def kill(server: EmbeddedNats) -> None:
    """End the server as a crash would."""
    assert server.process is not None
    process = server.process
    process.kill()
    await process.wait()


def test_store_server_killed_and_back_keeps_what_was_acknowledged_and_raises_above(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            asyncio.timeout(LIMIT_S),
            EmbeddedNats(keep=True, again_after_s=0.5, store=str(tmp_path)) as server,
            await NatsStore.connect(server.url) as store,
        ):
            bucket = await store.bucket("b")
            revision = await bucket.put("k", b"1")
            watch = await bucket.watch()
            listed = [await anext(watch), await anext(watch)]

            await kill(server)
            await until(lambda: not store.connected)
            with pytest.raises(StoreUnavailableError, match="connection"):
                await bucket.put("k", b"refused")
            with pytest.raises(StoreUnavailableError, match="connection"):
                await anext(watch)
            await until(lambda: store.connected)
            entry = await bucket.get("k")
            later = await bucket.put("k", b"2")
            await watch.aclose()

            assert listed[1] is None
            assert entry is not None
            assert (entry.value, entry.revision) == (b"1", revision)
            assert later > revision

    asyncio.run(main())


def test_operation_under_way_when_the_connection_breaks_fails_at_once() -> None:
    async def main() -> None:
        async with asyncio.timeout(LIMIT_S), EmbeddedNats() as server, await NatsStore.connect(server.url, operation_s=15.0) as store:
            loop = asyncio.get_running_loop()
            heard = asyncio.Event()

            async def deaf(_: object) -> None:
                heard.set()

            await store.link.client.subscribe("deaf", cb=deaf)
            asking = asyncio.ensure_future(store.link.ask("ask who never answers", "deaf"))
            await heard.wait()
            before_s = loop.time()
            await kill(server)

            with pytest.raises(StoreUnavailableError, match=r"ask who never answers: the connection .* was lost"):
                await asking
            assert loop.time() - before_s < 10.0  # and not at its limit

    asyncio.run(main())


def test_store_closed_while_it_reconnects_leaves_no_task_even_if_the_cancellation_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        tries = 0

        async def refused(*_: object) -> None:
            nonlocal tries
            tries += 1
            try:
                await asyncio.sleep(3600 if tries == 1 else 0.01)
            except asyncio.CancelledError:  # what asyncio.wait_for does when both come at once
                raise OSError("refused") from None
            raise OSError("refused")

        async with asyncio.timeout(LIMIT_S), EmbeddedNats() as server:
            store = await NatsStore.connect(server.url)
            monkeypatch.setattr(Client, "_connect_to_server", refused)
            await kill(server)
            await until(lambda: tries == 1)

            await store.aclose()
            await until(lambda: len(asyncio.all_tasks()) == 1)

            assert tries > 1

    asyncio.run(main())


def test_connect_without_a_server_says_so_within_its_limit() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before_s = loop.time()
        with pytest.raises(StoreUnavailableError, match=r"connect to nats://127\.0\.0\.1:1"):
            await NatsStore.connect("nats://127.0.0.1:1", connect_s=0.5)
        assert loop.time() - before_s < 15.0

    asyncio.run(main())


def test_operation_without_an_answer_ends_at_its_limit() -> None:
    async def main() -> None:
        async with asyncio.timeout(LIMIT_S), EmbeddedNats() as server, await NatsStore.connect(server.url, operation_s=0.2) as store:

            async def deaf(_: object) -> None:
                return None

            await store.link.client.subscribe("deaf", cb=deaf)
            with pytest.raises(StoreUnavailableError, match=r"no answer in 0\.2 s; it may have been done"):
                await store.link.ask("ask who never answers", "deaf")

    asyncio.run(main())


def test_bucket_deleted_under_its_workers_is_unavailable() -> None:
    async def main() -> None:
        async with asyncio.timeout(LIMIT_S), EmbeddedNats() as server, await NatsStore.connect(server.url) as store:
            bucket = await store.bucket("b")
            await store.link.client.request("$JS.API.STREAM.DELETE.KV_b", b"")

            for operation in (bucket.put("k", b""), bucket.get("k"), bucket.entries(), bucket.watch(), bucket.delete("k")):
                with pytest.raises(StoreUnavailableError):
                    await operation

    asyncio.run(main())


def test_key_with_a_wildcard_is_refused() -> None:
    async def main() -> None:
        async with asyncio.timeout(LIMIT_S), EmbeddedNats() as server, await NatsStore.connect(server.url) as store:
            bucket = await store.bucket("b")
            for key in ("a.*", ">", "", "a..b", ".a", "a b"):
                with pytest.raises(UsageError, match="is no key"):
                    await bucket.put(key, b"")

    asyncio.run(main())


def test_watch_that_lost_a_change_on_the_way_raises() -> None:
    async def main() -> None:
        async with asyncio.timeout(LIMIT_S), EmbeddedNats() as server, await NatsStore.connect(server.url, watch_idle_s=0.2) as store:
            bucket = await store.bucket("b")
            watch = await bucket.watch()
            await anext(watch)
            watch._count += 1  # as if one had been delivered and never arrived

            with pytest.raises(StoreUnavailableError, match="lost on the way"):
                await anext(watch)  # nothing is written: the idle heartbeat tells
            await watch.aclose()

    asyncio.run(main())


def test_watch_that_is_left_unread_is_bounded_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(queued, "WATCH_LIMIT", 10)
        async with asyncio.timeout(LIMIT_S), EmbeddedNats() as server, await NatsStore.connect(server.url) as store:
            bucket = await store.bucket("b")
            watch = await bucket.watch()
            for number in range(40):
                await bucket.put("k", b"%d" % number)

            taken = 0

            async def read() -> None:
                nonlocal taken
                async for _ in watch:
                    taken += 1

            with pytest.raises(StoreUnavailableError, match=r"left more than 10 changes untaken|lost on the way"):
                await read()
            await watch.aclose()

            assert taken <= 11

    asyncio.run(main())


def test_watch_whose_server_went_silent_raises() -> None:
    async def main() -> None:
        async with asyncio.timeout(LIMIT_S), EmbeddedNats() as server, await NatsStore.connect(server.url, watch_idle_s=0.2) as store:
            bucket = await store.bucket("b")
            watch = await bucket.watch()
            await anext(watch)
            await store.link.client.request(f"$JS.API.CONSUMER.DELETE.KV_b.{watch._consumer}", b"")

            with pytest.raises(StoreUnavailableError, match="idle heartbeats"):
                await anext(watch)
            await watch.aclose()

    asyncio.run(main())


def test_watch_whose_last_listed_key_expires_before_its_turn_says_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with asyncio.timeout(LIMIT_S), EmbeddedNats() as server, await NatsStore.connect(server.url) as store:
            bucket = await store.bucket("b")
            await bucket.put("k", b"1")
            take = NatsWatch._take

            async def never_arrives(self: NatsWatch, message: object) -> None:
                self._count += 1

            monkeypatch.setattr(NatsWatch, "_take", never_arrives)
            watch = await bucket.watch()
            first = await anext(watch)
            monkeypatch.setattr(NatsWatch, "_take", take)
            await watch.aclose()

            assert first is None

    asyncio.run(main())


def test_entries_leave_no_consumer_on_the_server() -> None:
    async def main() -> None:
        async with asyncio.timeout(LIMIT_S), EmbeddedNats() as server, await NatsStore.connect(server.url) as store:
            bucket = await store.bucket("b")
            for _ in range(5):
                await bucket.entries()

            async def consumers() -> int:
                return (await store.link.client.jetstream().stream_info("KV_b")).state.consumer_count

            while await consumers():  # noqa: ASYNC110  # no event tells of it
                await asyncio.sleep(0.01)

    asyncio.run(main())
