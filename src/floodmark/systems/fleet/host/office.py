"""All workers of one process of the host, and the two connections that they share: one for the fleet's own words, one for messages.

Workers come by an order and go by an order; of one that has stopped nothing is kept, unless that is the lie. When the last one has stopped
it is over: an order that comes then has no answer but the end of the process, so that who sent workers here knows that they did not begin.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Iterable

import nats.errors
from nats.aio.client import Client

from floodmark.core.errors import FloodmarkError
from floodmark.core.nats_client import close_for_good, connect_for_good, without_login
from floodmark.core.tasks import group
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
COLLECT_COUNT = 16  # the parts of a worker refer to each other: 35 KB of each that has gone would wait for the collector, which comes late


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
            keep_bytes = options.lies.get("keep", 0)
            office = Office(lambda number: Post(number, options, store, client, source, outlet), source, outlet, keep_bytes=keep_bytes)
            await office.run(begin.numbers, orders)
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
    """All workers of this process; `hire` makes one of a number. With `keep_bytes` each leaves so much behind when it has stopped."""

    def __init__(self, hire: Callable[[int], Post], source: StaticSource, outlet: Outlet, *, keep_bytes: int = 0) -> None:
        self._hire = hire
        self._posts: dict[int, Post] = {}
        self._source = source
        self._outlet = outlet
        self._over = asyncio.Event()
        self._gone_count = 0
        self._keep_bytes = keep_bytes
        self._kept: list[bytes] = []

    async def run(self, numbers: Iterable[int], orders: asyncio.StreamReader) -> None:
        """Run these workers, and those that are ordered, until the last has stopped, or the orders end.

        Raises: WireError for an order that is none.
        """
        async with group() as tasks:
            self._begin(numbers, tasks)
            listening = tasks.create_task(self._listen(orders, tasks))
            over = tasks.create_task(self._over.wait())
            await asyncio.wait([listening, over], return_when=asyncio.FIRST_COMPLETED)
            self._over.set()
            async with asyncio.TaskGroup() as ends:
                for post in tuple(self._posts.values()):
                    ends.create_task(post.stop())
            listening.cancel()

    def _begin(self, numbers: Iterable[int], tasks: asyncio.TaskGroup) -> None:
        for number in numbers:
            post = self._posts[number] = self._hire(number)
            tasks.create_task(self._employ(post))

    async def _employ(self, post: Post) -> None:
        """Have a worker work until it has stopped, and keep nothing of it."""
        await post.run()
        del self._posts[post.number]
        self._gone_count += 1
        if self._gone_count % COLLECT_COUNT == 0:
            gc.collect()
        if self._keep_bytes:
            self._kept.append(b"k" * self._keep_bytes)  # written, or the kernel would not count it
        if not self._posts:
            self._over.set()

    async def _listen(self, orders: asyncio.StreamReader, tasks: asyncio.TaskGroup) -> None:
        while (order := await wire.read(orders, Order)) is not None:
            if self._over.is_set():
                continue
            if order.do == "begin":  # before the next order is read: that may be for one of them
                self._begin(order.numbers, tasks)
            tasks.create_task(self._answer(order))  # a stop may take seconds; the next word must not wait for it

    async def _answer(self, order: Order) -> None:
        error = ""
        post = self._posts.get(order.number)
        if order.number and post is None:
            error = f"worker number {order.number} is not in this process, or has ended"
        else:
            try:
                await self._do(order, post)
            except FloodmarkError as exc:
                error = str(exc)
        posts = [post] if post is not None else [] if order.number else self._posts.values()
        members = tuple(one.member() for one in posts)
        self._outlet.say(News(kind="answer", ask=order.ask, error=error, members=members, tasks=len(asyncio.all_tasks())))

    async def _do(self, order: Order, post: Post | None) -> None:
        """Carry out an order. Raises: FloodmarkError."""
        if post is not None:
            await post.do(order)
        elif order.do == "partitions":
            self._source.update(order.partitions)
        elif order.do not in ("begin", "status"):
            raise FloodmarkError(f"a process of workers has no word {order.do!r} for all of them")


async def _note(error: Exception) -> None:
    print(f"messages: {str(error) or type(error).__name__}", file=sys.stderr, flush=True)
