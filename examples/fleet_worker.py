"""A fleet that shares the orders of twelve shops: each shop's orders go to one worker, in order, whoever comes or goes.

python examples/fleet_worker.py                            a NATS server of its own, three workers; one leaves in the middle
python examples/fleet_worker.py --nats nats://HOST:4222    one worker more, for as long as it is let; start several, on any machine
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
from nats.js.api import RetentionPolicy, StreamConfig

from floodmark.core.nats_server import EmbeddedNats
from floodmark.systems.fleet import AssignmentChange, Hooks, Partition, StaticSource, Worker, profile
from floodmark.systems.fleet.consumer import ConsumerSettings, DurableConsumer, Message
from floodmark.systems.fleet.store.nats import NatsStore

SETTINGS = profile("fast")  # short times, to see something happen; profile("production") has longer ones
SHOPS = [Partition(keys=("shop", str(number))) for number in range(12)]
STREAM = StreamConfig(name="ORDERS", subjects=["orders.>"], retention=RetentionPolicy.WORK_QUEUE)
CONSUMER = ConsumerSettings(stream="ORDERS", prefix="orders", subject_template="orders.{subject}", allow_worker_id_change=True)
ORDER_COUNT = 600


class Book:
    """Which orders were handled, by whom; `full` once there are as many different ones as were given."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, int]] = []
        self.full = asyncio.Event()

    def enter(self, worker_id: str, order: int) -> None:
        self.entries.append((worker_id, order))
        if len({order for _, order in self.entries}) == ORDER_COUNT:
            self.full.set()

    def is_in_order(self) -> bool:
        """Whether the orders of each shop were handled in order; one that came twice counts when it came first."""
        first_times = list(dict.fromkeys(order for _, order in self.entries))
        return all(shop == sorted(shop) for shop in ([o for o in first_times if o % len(SHOPS) == n] for n in range(len(SHOPS))))


@asynccontextmanager
async def working(url: str, book: Book) -> AsyncIterator[Worker]:
    """One worker: its store, its consumer, and what it does with an order."""

    async def handle(order: Message) -> None:
        book.enter(worker.worker_id, int(order.data))

    async def report(change: AssignmentChange) -> None:
        print(f"{change.worker_id}, version {change.version}: {len(change.added)} shops more, {len(change.removed)} fewer", flush=True)

    client = await nats.connect(url, max_reconnect_attempts=-1)
    try:
        await client.jetstream().add_stream(STREAM)  # the same again is no error
        async with await NatsStore.connect(url) as store, DurableConsumer(client, CONSUMER, handle) as consumer:
            worker = Worker(SETTINGS, store, StaticSource(SHOPS), consumer=consumer, hooks=Hooks(on_assignment=report))
            async with worker:
                yield worker
    finally:
        await client.close()


async def demonstrate() -> bool:
    """Start three workers, let one go when half of the orders are given, and count."""
    book = Book()
    async with EmbeddedNats() as server, working(server.url, book), working(server.url, book):
        client = await nats.connect(server.url)
        stream = client.jetstream()

        async def give(orders: range) -> None:
            for order in orders:
                await stream.publish(f"orders.shop.{order % len(SHOPS)}", str(order).encode())

        async with working(server.url, book):
            await give(range(ORDER_COUNT // 2))
        await give(range(ORDER_COUNT // 2, ORDER_COUNT))
        async with asyncio.timeout(30):
            await book.full.wait()
        await client.close()
    again_count = len(book.entries) - ORDER_COUNT
    print(f"{ORDER_COUNT} orders handled, {again_count} of them twice; by worker: {dict(Counter(who for who, _ in book.entries))}")
    return book.is_in_order()


async def take_part(url: str) -> None:
    """Be one worker until Ctrl-C."""
    async with working(url, Book()):
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nats", metavar="URL", help="take part in the fleet on this server")
    url = parser.parse_args().nats
    if not url:
        raise SystemExit(0 if asyncio.run(demonstrate()) else 1)
    try:
        asyncio.run(take_part(url))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
