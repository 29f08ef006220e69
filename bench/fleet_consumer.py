"""Messages that one worker's durable consumer handles and acknowledges in a CPU-second of its process, beside the client's own `fetch`.

`python -m bench fleet-consumer`: a work queue on a nats-server of our own (outside of the measured process), messages of 100 bytes,
published before the clock starts; batches of 1 and of 100. Checked in every round: every message handled once, in order, and nothing left
in the stream.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import nats
from nats.aio.client import Client
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.api import ConsumerConfig, RetentionPolicy, StorageType

from bench.alone import main_of
from bench.measure import Outcome, Reading, rate, take_turns
from bench.processes import BenchError
from bench.table import number as number_of
from floodmark.core.nats_server import EmbeddedNats
from floodmark.systems.fleet.consumer import ConsumerSettings, DurableConsumer, Message
from floodmark.systems.fleet.partition import Partition

STREAM, SUBJECTS_COUNT, SIZE_BYTES = "BENCH", 10, 100
COUNT = 20_000
LIMIT_S = 60.0

Consume = Callable[[Client, int, int], Awaitable[list[int]]]


async def ours(nc: Client, count: int, batch_count: int) -> list[int]:
    """Handle them with the durable consumer."""
    handled: list[int] = []
    done = asyncio.Event()

    async def handle(message: Message) -> None:
        handled.append(message.sequence)
        if len(handled) == count:
            done.set()

    async with DurableConsumer(nc, ConsumerSettings(stream=STREAM, batch_count=batch_count), handle) as consumer:
        await consumer.update("worker-0", [Partition(keys=(str(number),)) for number in range(SUBJECTS_COUNT)])
        await done.wait()
    return handled


async def bare(nc: Client, count: int, batch_count: int) -> list[int]:
    """Handle them with the client's pull subscription."""
    handled: list[int] = []
    subscription = await nc.jetstream().pull_subscribe("in.*", "bare", stream=STREAM, config=ConsumerConfig(max_ack_pending=1000))
    while len(handled) < count:
        try:
            messages = await subscription.fetch(batch_count, timeout=5)
        except NatsTimeoutError:
            break
        for message in messages:
            handled.append(message.metadata.sequence.stream)
            await message.ack()
    await nc.flush()
    return handled


async def _measure(consume: Consume, count: int, batch_count: int) -> Reading:
    async with EmbeddedNats() as server:
        nc = await nats.connect(server.url)
        try:
            js = nc.jetstream()
            await js.add_stream(name=STREAM, subjects=["in.*"], retention=RetentionPolicy.WORK_QUEUE, storage=StorageType.MEMORY)
            for number in range(count):
                await nc.publish(f"in.{number % SUBJECTS_COUNT}", b"x" * SIZE_BYTES)
                if number % 1000 == 999:
                    await nc.flush()
            await _until_left(nc, count)
            began_s, began_cpu_s = time.monotonic(), time.process_time()
            async with asyncio.timeout(LIMIT_S):
                handled = await consume(nc, count, batch_count)
            spent_s, took_s = time.process_time() - began_cpu_s, time.monotonic() - began_s
            if handled != list(range(1, count + 1)):
                raise BenchError(f"not every message once and in order: {len(handled):,} handled, {len(set(handled)):,} different ones")
            await _until_left(nc, 0)
        finally:
            await nc.close()
    return Reading(value=rate(count, spent_s), check=f"{count:,} of {count:,} handled once, in order; {number_of(count / took_s)} a second")


async def _until_left(nc: Client, count: int) -> None:
    try:
        async with asyncio.timeout(LIMIT_S):
            while (await nc.jetstream().stream_info(STREAM)).state.messages != count:  # noqa: ASYNC110 the server does not tell
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise BenchError(f"the stream never held {count:,} messages") from None


def run(rounds: int, progress: Callable[[str, int, str], None], *, scale: float = 1.0) -> Outcome:
    """Run the benchmark."""
    count = max(1, int(COUNT * scale))

    def contender(consume: Consume, batch_count: int) -> Callable[[], Reading]:
        def measure() -> Reading:
            try:
                return asyncio.run(_measure(consume, count, batch_count))
            except TimeoutError:
                raise BenchError(f"not done within {LIMIT_S:g} s") from None

        return measure

    figures = take_turns(
        {
            "durable consumer, batches of 100": contender(ours, 100),
            "nats-py fetch, batches of 100": contender(bare, 100),
            "durable consumer, batches of 1": contender(ours, 1),
            "nats-py fetch, batches of 1": contender(bare, 1),
        },
        rounds=rounds,
        progress=progress,
    )
    return Outcome(title="Messages of a worker handled and acknowledged", unit="messages / CPU-second", better="higher", figures=figures)


def main(arguments: list[str]) -> int:
    """`python -m bench fleet-consumer`: print one line per contender."""
    return main_of(run, name="fleet-consumer", description="messages of a worker in a CPU-second", arguments=arguments, checked=True)
