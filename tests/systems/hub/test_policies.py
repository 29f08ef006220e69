"""A reader that does not read: what it costs, and what each policy does to it and to the publisher."""

from __future__ import annotations

import asyncio

import pytest

from floodmark.systems.hub import EventsLagged, Hub, HubSettings, Policy
from floodmark.systems.hub.testing import EVENTS, PUBLISH, HubClient, connected, eventually, scenario

QUEUE = 20
PAYLOAD = "z" * 20_000
COUNT = 400  # 8 MB: more than the sockets between hub and client hold


def settings(policy: Policy, *, queue: int = QUEUE, queue_bytes: int = 100_000_000) -> HubSettings:
    """A hub that is pressed hard."""
    return HubSettings(
        rate_limits=False,
        policy=policy,
        queue_events=queue,
        queue_bytes=queue_bytes,
        write_buffer_bytes=16_384,
        socket_send_bytes=16_384,
        message_bytes=1_000_000,
    )


async def numbers(client: HubClient, count: int) -> list[int]:
    """The `n` of the next events."""
    return [(await client.recv())["payload"]["data"]["events"]["data"]["n"] for _ in range(count)]


def depth(hub: Hub) -> int:
    return hub.snapshot().maxima["queue_depth_max"]


@scenario
async def test_block_holds_back_the_publisher_and_loses_nothing() -> None:
    async with (
        Hub(settings(Policy.BLOCK)) as hub,
        connected(hub.url, receive_bytes=16_384) as stuck,
        connected(hub.url) as quick,
        connected(hub.url) as publisher,
    ):
        await stuck.subscribe("1", "x")
        await quick.subscribe("1", "x")
        stuck.stop_reading()
        for number in range(COUNT):
            publisher.start(f"p{number}", PUBLISH, c="x", d={"n": number, "pad": PAYLOAD})
        await eventually(lambda: hub.bus.waiting_count == 1)
        published_then, depth_then = hub.counters.published, depth(hub)
        stuck.read_again()
        got_stuck, got_quick = await numbers(stuck, COUNT), await numbers(quick, COUNT)

        assert published_then < COUNT / 2
        assert depth_then == QUEUE
        assert got_stuck == got_quick == list(range(COUNT))
        assert hub.counters.published == COUNT
        answers = [await publisher.recv() for _ in range(2 * COUNT)]
        assert [each["id"] for each in answers if each["type"] == "complete"] == [f"p{number}" for number in range(COUNT)]


@scenario
async def test_block_counts_bytes_too() -> None:
    async with (
        Hub(settings(Policy.BLOCK, queue=1_000_000, queue_bytes=200_000)) as hub,
        connected(hub.url, receive_bytes=16_384) as stuck,
    ):
        await stuck.subscribe("1", "x")
        stuck.stop_reading()
        publishes = [asyncio.create_task(hub.publish("x", {"n": n, "pad": PAYLOAD})) for n in range(COUNT)]
        await eventually(lambda: hub.bus.waiting_count > 0)
        log = hub.dispatcher.logs["x"]
        queued_bytes = max(log.end_bytes - each.queue_start_bytes() for each in log.laggards)
        stuck.read_again()
        got = await numbers(stuck, COUNT)
        await asyncio.gather(*publishes)

        assert 150_000 < queued_bytes <= 200_000
        assert got == list(range(COUNT))


@scenario
async def test_block_of_one_channel_leaves_others_alone() -> None:
    async with (
        Hub(settings(Policy.BLOCK)) as hub,
        connected(hub.url, receive_bytes=16_384) as stuck,
        connected(hub.url) as other,
        connected(hub.url) as flooder,
        connected(hub.url) as publisher,
    ):
        await stuck.subscribe("1", "x")
        await other.subscribe("1", "y")
        stuck.stop_reading()
        for number in range(COUNT):
            flooder.start(f"p{number}", PUBLISH, c="x", d={"n": number, "pad": PAYLOAD})
        await eventually(lambda: hub.bus.waiting_count == 1)
        answer = await publisher.ask("1", PUBLISH, c="y", d={"n": 1})

        assert answer["publish"]["offset"] == 1
        assert await numbers(other, 1) == [1]


@scenario
async def test_block_when_the_stuck_reader_leaves_lets_the_publisher_go_on() -> None:
    async with Hub(settings(Policy.BLOCK)) as hub, connected(hub.url) as publisher:
        async with connected(hub.url, receive_bytes=16_384) as stuck:
            await stuck.subscribe("1", "x")
            stuck.stop_reading()
            for number in range(COUNT):
                publisher.start(f"p{number}", PUBLISH, c="x", d={"n": number, "pad": PAYLOAD})
            await eventually(lambda: hub.bus.waiting_count == 1)
        for _ in range(2 * COUNT):
            await publisher.recv()

        assert hub.counters.published == COUNT
        assert hub.bus.waiting_count == 0


@scenario
async def test_block_when_the_waiting_publisher_leaves_forgets_its_publish() -> None:
    async with Hub(settings(Policy.BLOCK)) as hub, connected(hub.url, receive_bytes=16_384) as stuck:
        await stuck.subscribe("1", "x")
        stuck.stop_reading()
        async with connected(hub.url) as publisher:
            for number in range(COUNT):
                publisher.start(f"p{number}", PUBLISH, c="x", d={"n": number, "pad": PAYLOAD})
            await eventually(lambda: hub.bus.waiting_count == 1)
            reached = hub.counters.published
        await hub.bus.healthy()
        stuck.read_again()

        assert await numbers(stuck, reached) == list(range(reached))


@scenario
async def test_block_connection_that_publishes_and_subscribes_does_not_deadlock() -> None:
    async with Hub(settings(Policy.BLOCK)) as hub, connected(hub.url, receive_bytes=16_384) as both:
        await both.subscribe("s", "x")
        both.stop_reading()
        for number in range(COUNT):
            both.start(f"p{number}", PUBLISH, c="x", d={"n": number, "pad": PAYLOAD})
        await eventually(lambda: hub.bus.waiting_count == 1)
        both.read_again()
        messages = [await both.recv() for _ in range(3 * COUNT)]

        assert [m["payload"]["data"]["events"]["data"]["n"] for m in messages if m["id"] == "s"] == list(range(COUNT))
        assert [m["id"] for m in messages if m["type"] == "complete"] == [f"p{number}" for number in range(COUNT)]


@scenario
async def test_block_two_connections_that_feed_each_other_do_not_deadlock() -> None:
    async with (
        Hub(settings(Policy.BLOCK)) as hub,
        connected(hub.url, receive_bytes=16_384) as left,
        connected(hub.url, receive_bytes=16_384) as right,
    ):
        await left.subscribe("s", "to-left")
        await right.subscribe("s", "to-right")
        left.stop_reading()
        right.stop_reading()
        for number in range(COUNT):
            left.start(f"p{number}", PUBLISH, c="to-right", d={"n": number, "pad": PAYLOAD})
            right.start(f"p{number}", PUBLISH, c="to-left", d={"n": number, "pad": PAYLOAD})
        await eventually(lambda: hub.bus.waiting_count == 2)
        left.read_again()
        right.read_again()

        for client in (left, right):
            messages = [await client.recv() for _ in range(3 * COUNT)]
            assert [m["payload"]["data"]["events"]["data"]["n"] for m in messages if m["id"] == "s"] == list(range(COUNT))


@scenario
async def test_deaf_reader_is_cut_by_its_heartbeat_and_frees_the_publisher() -> None:
    pressed = HubSettings(
        rate_limits=False, queue_events=QUEUE, write_buffer_bytes=16_384, socket_send_bytes=16_384, ping_interval_s=0.3, pong_limit_s=0.3,
        shutdown_grace_s=0.2, message_bytes=1_000_000,
    )  # fmt: skip
    async with Hub(pressed) as hub, connected(hub.url, receive_bytes=16_384) as stuck, connected(hub.url) as publisher:
        await stuck.subscribe("1", "x")
        stuck.stop_reading()
        for number in range(COUNT):
            publisher.start(f"p{number}", PUBLISH, c="x", d={"n": number, "pad": PAYLOAD})
        for _ in range(2 * COUNT):
            await publisher.recv()

        assert hub.counters.published == COUNT
        assert hub.active_subscriptions == 0


@scenario
async def test_lag_ends_the_slow_subscription_with_an_error_and_no_gap() -> None:
    async with (
        Hub(settings(Policy.LAG)) as hub,
        connected(hub.url, receive_bytes=16_384) as stuck,
        connected(hub.url) as quick,
    ):
        await stuck.subscribe("1", "x")
        await quick.subscribe("1", "x")
        stuck.stop_reading()
        for number in range(COUNT):
            await hub.publish("x", {"n": number, "pad": PAYLOAD})
            await asyncio.sleep(0)
        got_quick = await numbers(quick, COUNT)
        active = hub.active_subscriptions
        stuck.read_again()
        got: list[int] = []
        while (message := await stuck.recv())["type"] == "next":
            got.append(message["payload"]["data"]["events"]["data"]["n"])

        assert got_quick == list(range(COUNT))
        assert active == 1
        assert message["payload"][0]["extensions"] == {"code": "EVENTS_LAGGED", "queued": QUEUE, "channel": "x"}
        assert got == list(range(len(got)))
        assert len(got) < COUNT
        assert hub.snapshot().labelled["errors"] == {"EVENTS_LAGGED": 1}


@scenario
async def test_drop_oldest_skips_and_counts_exactly() -> None:
    async with Hub(settings(Policy.DROP_OLDEST)) as hub, connected(hub.url, receive_bytes=16_384) as stuck:
        await stuck.subscribe("1", "x")
        stuck.stop_reading()
        for number in range(COUNT):
            await hub.publish("x", {"n": number, "pad": PAYLOAD})
            await asyncio.sleep(0)
        dropped, queued = hub.counters.dropped, depth(hub)
        stuck.read_again()
        got = await numbers(stuck, COUNT - dropped)

        assert dropped > 0
        assert queued == QUEUE
        assert got == sorted(set(got))
        assert got[-QUEUE:] == list(range(COUNT - QUEUE, COUNT))
        assert hub.counters.delivered + hub.counters.dropped == COUNT


@pytest.mark.parametrize("policy", list(Policy))
@scenario
async def test_log_of_a_stuck_reader_holds_no_more_than_its_queue(policy: Policy) -> None:
    async with Hub(settings(policy)) as hub, connected(hub.url, receive_bytes=16_384) as stuck:
        await stuck.subscribe("1", "x")
        stuck.stop_reading()
        publishes: list[asyncio.Task[object]] = []
        deepest = 0
        for number in range(COUNT):
            publishes.append(asyncio.create_task(hub.publish("x", {"n": number, "pad": PAYLOAD})))
            await asyncio.sleep(0)
            deepest = max(deepest, len(hub.dispatcher.logs["x"].entries) if "x" in hub.dispatcher.logs else 0)
        for task in publishes:
            task.cancel()
        await asyncio.gather(*publishes, return_exceptions=True)

        assert 0 < deepest <= QUEUE + 64 + 1  # trimmed in strides of 64


@scenario
async def test_replay_of_a_long_history_is_not_lag() -> None:
    configuration = HubSettings(rate_limits=False, policy=Policy.LAG, queue_events=5, history_events=5000)
    async with Hub(configuration) as hub, connected(hub.url) as client:
        for number in range(3000):
            await hub.publish("x", {"n": number})
        client.start("1", EVENTS, c="x", a=0)
        await hub.publish("x", {"n": 3000})

        assert await numbers(client, 3001) == list(range(3001))


@scenario
async def test_drain_delivers_what_is_queued_first() -> None:
    async with Hub(settings(Policy.BLOCK, queue=1000)) as hub, connected(hub.url, receive_bytes=16_384) as slow:
        await slow.subscribe("1", "x")
        slow.stop_reading()
        for number in range(COUNT):
            await hub.publish("x", {"n": number, "pad": PAYLOAD})
        stopping = asyncio.create_task(hub.stop())
        slow.read_again()
        got = await numbers(slow, COUNT)
        last = await slow.recv()
        await stopping

        assert got == list(range(COUNT))
        assert last == {"id": "1", "type": "complete"}
        assert await slow.closed() == 1001


# Receivers inside the process: the bus's own table of defects


@scenario
async def test_stream_of_many_channels_hears_all_of_them() -> None:
    async with Hub(settings(Policy.BLOCK)) as hub, hub.stream("a", "b", "c") as stream:
        for channel in ("a", "b", "c", "d", "a"):
            await hub.publish(channel, 1)
        got = [(await stream.recv()).channel for _ in range(4)]

        assert sorted(got) == ["a", "a", "b", "c"]


@scenario
async def test_stream_and_wildcard_deliver_once() -> None:
    async with Hub(settings(Policy.BLOCK)) as hub, hub.stream("*") as everything, hub.stream("a") as one:
        await hub.publish("a", 1)
        await hub.publish("b", 2)

        assert [(await everything.recv()).value for _ in range(2)] == [1, 2]
        assert (await one.recv()).value == 1
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await one.recv()


@scenario
async def test_stream_closing_removes_one_receiver() -> None:
    async with Hub(settings(Policy.BLOCK)) as hub:
        first, second = hub.stream("a"), hub.stream("a")
        first.close()
        await hub.publish("a", 1)

        assert (await second.recv()).value == 1
        assert [event async for event in first] == []
        second.close()
        assert not hub.dispatcher.logs


@scenario
async def test_stream_unread_blocks_the_publisher_at_its_bound() -> None:
    async with Hub(settings(Policy.BLOCK)) as hub, hub.stream("a") as stream:
        for number in range(QUEUE):
            await hub.publish("a", number)
        waiting = asyncio.create_task(hub.publish("a", QUEUE))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await asyncio.shield(waiting)  # shield: the publish itself goes on
        got = [(await stream.recv()).value for _ in range(QUEUE + 1)]
        await waiting

        assert got == list(range(QUEUE + 1))


@scenario
async def test_stream_unread_with_lag_ends_with_an_error() -> None:
    async with Hub(settings(Policy.LAG)) as hub, hub.stream("a") as stream:
        for number in range(QUEUE + 1):
            await hub.publish("a", number)

        with pytest.raises(EventsLagged):
            await stream.recv()


@scenario
async def test_stream_reader_cancelled_loses_nothing() -> None:
    async with Hub(settings(Policy.BLOCK)) as hub, hub.stream("a") as stream:
        reader = asyncio.create_task(stream.recv())
        await asyncio.sleep(0)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        await hub.publish("a", 1)

        assert (await stream.recv()).value == 1
