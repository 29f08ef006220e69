"""A connection that comes back for ever, and that ends all the same: on a real server, with the client's own weakness planted."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from nats.aio.client import Client
from nats.errors import Error, NoServersError

from floodmark.core.nats_client import ask, close_for_good, connect_for_good, without_login
from floodmark.core.nats_server import EmbeddedNats

LIMIT_S = 30.0
REFUSED = "nats://127.0.0.1:1"


class Deaf:
    """A way to a server that refuses, and that overhears it when it is cancelled, as `asyncio.wait_for` may."""

    def __init__(self) -> None:
        self.tries_count = 0
        self.cancelled = False

    async def __call__(self, *_: object) -> None:
        self.tries_count += 1
        try:
            await asyncio.sleep(0.01 if self.cancelled else 3600)
        except asyncio.CancelledError:
            self.cancelled = True
        raise OSError("refused")


async def only_we_are_left(limit_s: float = LIMIT_S / 2) -> bool:
    """Whether all other tasks end in time."""
    try:
        async with asyncio.timeout(limit_s):
            while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110 no event tells of it
                await asyncio.sleep(0.005)
    except TimeoutError:
        return False
    return True


async def quiet(_: Exception) -> None:
    return None


async def until(deaf: Deaf) -> None:
    while deaf.tries_count == 0:  # noqa: ASYNC110 what is waited for has no event
        await asyncio.sleep(0.005)


async def broken(monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client whose server has gone, and that will not hear that it is cancelled."""
    client, deaf = Client(), Deaf()
    async with EmbeddedNats() as server:
        await connect_for_good(client, server.url, limit_s=LIMIT_S, error_cb=quiet, reconnect_time_wait=0.01)
    monkeypatch.setattr(client, "_connect_to_server", deaf)
    await until(deaf)
    return client


def test_close_for_good_of_a_client_that_reconnects_ends_it_even_if_the_cancellation_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> bool:
        async with asyncio.timeout(LIMIT_S):
            await close_for_good(await broken(monkeypatch))
            return await only_we_are_left()

    assert asyncio.run(main())


def test_close_of_the_client_itself_does_not_end_it_then(monkeypatch: pytest.MonkeyPatch) -> None:
    # What `close_for_good` is for. If this fails, the client has learned it and ours can go.
    async def main() -> bool:
        async with asyncio.timeout(LIMIT_S):
            client = await broken(monkeypatch)
            await client.close()
            ended = await only_we_are_left(1.0)
            await close_for_good(client)
            assert await only_we_are_left()
            return ended

    assert not asyncio.run(main())


def test_connect_for_good_whose_limit_is_overheard_ends_after_its_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> tuple[int, bool]:
        client, deaf = Client(), Deaf()
        monkeypatch.setattr(client, "_connect_to_server", deaf)
        async with asyncio.timeout(LIMIT_S):
            with pytest.raises(NoServersError):
                await connect_for_good(client, REFUSED, limit_s=0.05, tries_count=3, error_cb=quiet, reconnect_time_wait=0.01)
            return deaf.tries_count, await only_we_are_left()

    assert asyncio.run(main()) == (4, True)


def test_connect_for_good_to_nobody_raises_and_leaves_no_task() -> None:
    async def main() -> bool:
        async with asyncio.timeout(LIMIT_S):
            client = Client()
            with pytest.raises(NoServersError):
                await connect_for_good(client, REFUSED, limit_s=5.0, tries_count=2, error_cb=quiet, reconnect_time_wait=0.01)
            return client.is_closed and await only_we_are_left()

    assert asyncio.run(main())


def test_connect_for_good_comes_back_after_more_breaks_than_it_had_tries() -> None:
    async def main() -> int:
        client = Client()
        async with asyncio.timeout(LIMIT_S), EmbeddedNats(keep=True, again_after_s=0.3) as server:
            await connect_for_good(client, server.url, limit_s=15.0, tries_count=1, error_cb=quiet, reconnect_time_wait=0.01)
            assert server.process is not None
            server.process.kill()
            while not client.stats["reconnects"]:  # noqa: ASYNC110 what is waited for has no event
                await asyncio.sleep(0.01)
            await client.flush()
            await close_for_good(client)
            return int(client.stats["reconnects"])

    assert asyncio.run(main()) == 1


def test_connect_for_good_to_what_is_no_url_raises_and_leaves_no_task() -> None:
    async def main() -> bool:
        with pytest.raises(Error, match="url"):
            await connect_for_good(Client(), "nats://127.0.0.1:port", limit_s=5.0, error_cb=quiet)
        return await only_we_are_left()

    assert asyncio.run(main())


def test_close_for_good_of_a_client_that_never_began_is_no_error() -> None:
    asyncio.run(close_for_good(Client()))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://user:s3cret@a:4222", "nats://***@a:4222"),
        ("tls://t0ken@a,nats://u:p@b:1", "tls://***@a,nats://***@b:1"),
        ("--nats=nats://u:p@b", "--nats=nats://***@b"),
        ("nats://a:4222", "nats://a:4222"),
        ("mail@host", "mail@host"),
    ],
)
def test_login_is_taken_out_of_what_is_shown(url: str, shown: str) -> None:
    assert without_login(url) == shown


class Answering:
    """A client that waits for an answer as nats-py does, and whose answer comes when it is asked to."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.asked = asyncio.Event()

    async def request(self, subject: str, payload: bytes, *, timeout: float | None, headers: object) -> str:
        self.asked.set()
        return await asyncio.wait_for(self.answer, timeout)


def test_ask_cancelled_at_the_moment_of_its_answer_is_cancelled() -> None:
    async def main() -> bool:
        client = Answering()
        asking = asyncio.create_task(ask(cast("Client", client), "there", limit_s=LIMIT_S))
        await client.asked.wait()
        client.answer.set_result("yes")
        asking.cancel()
        await asyncio.wait({asking})
        return asking.cancelled()

    assert asyncio.run(main())


def test_ask_without_an_answer_ends_at_its_limit() -> None:
    async def main() -> None:
        await ask(cast("Client", Answering()), "nowhere", limit_s=0.01)

    with pytest.raises(TimeoutError):
        asyncio.run(main())
