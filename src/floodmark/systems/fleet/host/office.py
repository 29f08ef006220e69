"""All workers of one process of the host, and the two connections that they share: one for the fleet's own words, one for messages."""

from __future__ import annotations

import asyncio
import sys

import nats.errors
from nats.aio.client import Client

from floodmark.core.errors import FloodmarkError
from floodmark.core.nats_client import close_for_good, connect_for_good, without_login
from floodmark.systems.fleet.host import wire
from floodmark.systems.fleet.host.faulty import FaultyStore
from floodmark.systems.fleet.host.lying import OF_LEADERS, LyingStore
from floodmark.systems.fleet.host.post import Outlet, Post
from floodmark.systems.fleet.host.wire import Begin, News, Order
from floodmark.systems.fleet.partition import StaticSource
from floodmark.systems.fleet.store.base import Store, StoreUnavailableError
from floodmark.systems.fleet.store.nats import NatsStore

CONNECT_LIMIT_S = 10.0
RECONNECT_S = 0.25


async def serve(begin: Begin, orders: asyncio.StreamReader, outlet: Outlet) -> None:
    """Run the workers that are asked for until the last has stopped, or the orders end. Raises: StoreUnavailableError without NATS."""
    options, name = begin.options, f"fleet workers {begin.numbers[0]} to {begin.numbers[-1]}"
    source = StaticSource(options.partitions)
    async with await NatsStore.connect(begin.url, name=name, operation_s=options.settings.operation_limit_s) as nats_store:
        store: Store = nats_store
        if options.fail_put is not None:
            store = FaultyStore(nats_store, options.settings.assignment_bucket, options.fail_put, outlet.felt)
        if options.lies.keys() & set(OF_LEADERS):
            store = LyingStore(store, options.settings.assignment_bucket, options.lies)
        client = await _connected(begin.url, f"{name}, messages")
        try:
            posts = [Post(number, options, store, client, source, outlet) for number in begin.numbers]
            await Office(posts, source, outlet).run(orders)
        finally:
            await close_for_good(client)


async def _connected(url: str, name: str) -> Client:
    client = Client()
    try:
        await connect_for_good(client, url, limit_s=CONNECT_LIMIT_S, name=name, error_cb=_note, reconnect_time_wait=RECONNECT_S)
    except (TimeoutError, OSError, nats.errors.Error) as exc:
        raise StoreUnavailableError(f"connect to {without_login(url)}", str(exc) or f"no answer within {CONNECT_LIMIT_S:g} s") from exc
    return client


class Office:
    """All workers of this process."""

    def __init__(self, posts: list[Post], source: StaticSource, outlet: Outlet) -> None:
        self._posts = {post.number: post for post in posts}
        self._source = source
        self._outlet = outlet

    async def run(self, orders: asyncio.StreamReader) -> None:
        """Run until the last worker has stopped, or the orders end."""
        async with asyncio.TaskGroup() as tasks:
            running = {tasks.create_task(post.run()) for post in self._posts.values()}
            listening = tasks.create_task(self._listen(orders, tasks))
            await asyncio.wait([listening, tasks.create_task(_all(running))], return_when=asyncio.FIRST_COMPLETED)
            async with asyncio.TaskGroup() as ends:
                for post in self._posts.values():
                    ends.create_task(post.stop())
            listening.cancel()

    async def _listen(self, orders: asyncio.StreamReader, tasks: asyncio.TaskGroup) -> None:
        while (order := await wire.read(orders, Order)) is not None:
            tasks.create_task(self._answer(order))  # a stop may take seconds; the next word must not wait for it

    async def _answer(self, order: Order) -> None:
        error = ""
        try:
            if order.do == "partitions":
                self._source.update(order.partitions)
            elif order.do != "status":
                await self._posts[order.number].do(order)
        except (FloodmarkError, KeyError) as exc:
            error = str(exc)
        posts = self._posts.values() if not order.number else [self._posts[order.number]]
        members = tuple(post.member() for post in posts)
        self._outlet.say(News(kind="answer", ask=order.ask, error=error, members=members, tasks=len(asyncio.all_tasks())))


async def _note(error: Exception) -> None:
    print(f"messages: {str(error) or type(error).__name__}", file=sys.stderr, flush=True)


async def _all(tasks: set[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)
