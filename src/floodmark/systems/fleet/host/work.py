"""`python -m floodmark.systems.fleet.host.work`: one process of workers, told what to do on stdin by the host (`wire.py`).

All workers of the process share one connection for what the fleet says to itself and one for messages. It ends when its last worker has
stopped, when stdin ends (all of them are stopped gently then), and at once with the host, however that ends.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from random import Random

import uvloop
from nats.aio.client import Client

from floodmark.core.errors import FloodmarkError
from floodmark.systems.fleet.consumer import ConsumerSettings, DurableConsumer
from floodmark.systems.fleet.hooks import AssignmentChange, Hooks, StateChange
from floodmark.systems.fleet.host import wire
from floodmark.systems.fleet.host.faulty import FaultyStore
from floodmark.systems.fleet.host.lying import OF_LEADERS, LyingStore
from floodmark.systems.fleet.host.options import Options
from floodmark.systems.fleet.host.relay import IN, Relay
from floodmark.systems.fleet.host.streams import FM_IN
from floodmark.systems.fleet.host.wire import Begin, Member, News, Order
from floodmark.systems.fleet.partition import StaticSource
from floodmark.systems.fleet.states import WorkerState
from floodmark.systems.fleet.store.base import Store
from floodmark.systems.fleet.store.nats import NatsStore
from floodmark.systems.fleet.strategy import STRATEGIES
from floodmark.systems.fleet.worker import Worker

CONNECT_LIMIT_S = 10.0
RECONNECT_S = 0.25
NOTE_S = 1.0


class Post:
    """One worker, from its start to its end."""

    def __init__(self, number: int, options: Options, store: Store, client: Client, source: StaticSource, outlet: Outlet) -> None:
        self.number = number
        self._outlet = outlet
        self._error = ""
        self._over = asyncio.Event()
        self._stopped = asyncio.Event()
        self._pace, self._muted = 1.0, False
        self._noted_s, self._unnoted = float("-inf"), 0
        self._relay = Relay(client, stream=options.out_stream, lies=options.lies)
        rng = Random(f"{options.seed}/{number}")
        consumer = ConsumerSettings(
            stream=FM_IN,
            subject_template=IN + "{subject}",
            max_deliver_count=-1,
            batch_count=options.batch_count,
            max_ack_pending_count=max(1000, options.batch_count),
            max_subjects_count=max(500, len(options.partitions)),
        )
        self.consumer = DurableConsumer(client, consumer, self._relay.handle, rng=rng, on_error=self._note)
        self.worker = Worker(
            options.settings,
            store,
            source,
            STRATEGIES[options.strategy](),
            hooks=Hooks(on_state=self._on_state, on_assignment=self._on_assignment, on_error=self._on_error),
            consumer=self.consumer,
            rng=rng,
        )

    def member(self) -> Member:
        """How it is now."""
        held = self.worker.assignment
        return Member(
            number=self.number,
            worker=self.worker.worker_id,
            state="Shutdown" if self._over.is_set() else self.worker.state.value,
            leader=self.worker.is_leader,
            epoch=held.epoch if held else 0,
            version=held.version if held else 0,
            partitions=tuple(partition.id for partition in held.partitions) if held else (),
            error=self._error,
        )

    async def run(self) -> None:
        """Work until it is stopped, or cannot."""
        try:
            await self.worker.start()
            await self._stopped.wait()
        except FloodmarkError as exc:
            self._error = str(exc)
            self._note(exc)
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Stop it gently, from whatever state."""
        try:
            await self.worker.stop()
        except FloodmarkError as exc:
            self._error = self._error or str(exc)
        finally:
            self._stopped.set()
            if not self._over.is_set():
                await self.consumer.aclose()
                self._over.set()
                self._outlet.members(self)

    async def do(self, order: Order) -> None:
        """Carry out an order to this worker. Raises: FloodmarkError."""
        match order.do:
            case "stop":
                await self.stop()
            case "slow":
                self._pace = order.factor
                self._press()
            case "mute" | "unmute":
                self._muted = order.do == "mute"
                self._press()
            case "refresh":
                await self.worker.refresh_partitions()
            case _:
                raise FloodmarkError(f"a worker has no word {order.do!r}")

    def _press(self) -> None:
        """Put its heartbeats under the stress that was ordered; again when it has come back under another id."""
        membership = self.worker.membership
        if membership is not None and membership.heartbeats is not None:
            membership.heartbeats.pace, membership.heartbeats.muted = self._pace, self._muted

    async def _on_state(self, change: StateChange) -> None:
        if change.new is WorkerState.SHUTDOWN:  # also when it ended by itself
            self._stopped.set()
        self._press()
        self._outlet.members(self)

    async def _on_assignment(self, change: AssignmentChange) -> None:
        self._relay.worker = change.worker_id
        self._outlet.members(self)

    async def _on_error(self, error: Exception) -> None:
        self._note(error)

    def _note(self, error: Exception) -> None:
        """Log it; of what comes within NOTE_S of the last line only how many there were."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._noted_s + NOTE_S:
            self._unnoted += 1
            return
        who = self.worker.worker_id or f"worker number {self.number}"
        more = f" ({self._unnoted} more before)" if self._unnoted else ""
        self._noted_s, self._unnoted = now_s, 0
        print(f"{who}: {str(error) or type(error).__name__}{more}", file=sys.stderr, flush=True)


class Outlet:
    """The lines to the host."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def say(self, news: News) -> None:
        """Send one line."""
        wire.write(self._writer, news)

    def members(self, *posts: Post) -> None:
        """Tell how these are now."""
        self.say(News(kind="members", members=tuple(post.member() for post in posts)))

    def felt(self, what: str) -> None:
        """Tell that a planted fault has struck."""
        self.say(News(kind="felt", felt=what))

    async def drain(self) -> None:
        """Wait until the host has taken what was said, or is gone."""
        try:
            await self._writer.drain()
        except ConnectionError:
            return


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


async def _note_wire_error(error: Exception) -> None:
    print(f"messages: {str(error) or type(error).__name__}", file=sys.stderr, flush=True)


async def _all(tasks: set[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)


async def work() -> None:
    """Take the first line, then serve."""
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader(limit=wire.LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)
    outlet = Outlet(asyncio.StreamWriter(transport, protocol, None, loop))
    begin = await wire.read(orders, Begin)
    if begin is None:
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, orders.feed_eof)
    options, name = begin.options, f"fleet workers {begin.numbers[0]} to {begin.numbers[-1]}"
    outlet.say(News(kind="up"))
    source = StaticSource(options.partitions)
    async with await NatsStore.connect(begin.url, name=name, operation_s=options.settings.operation_limit_s) as nats_store:
        store: Store = nats_store
        if options.fail_put is not None:
            store = FaultyStore(nats_store, options.settings.assignment_bucket, options.fail_put, outlet.felt)
        if options.lies.keys() & set(OF_LEADERS):
            store = LyingStore(store, options.settings.assignment_bucket, options.lies)
        client = Client()
        async with asyncio.timeout(CONNECT_LIMIT_S):
            await client.connect(
                begin.url,
                name=f"{name}, messages",
                error_cb=_note_wire_error,
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_S,  # type: ignore[arg-type]  # annotated as int, slept as it is
            )
        try:
            posts = [Post(number, options, store, client, source, outlet) for number in begin.numbers]
            await Office(posts, source, outlet).run(orders)
        finally:
            await client.close()
    await outlet.drain()


def main() -> None:
    """Run until it is over."""
    try:
        uvloop.run(work())
    except FloodmarkError as exc:
        print(exc, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
