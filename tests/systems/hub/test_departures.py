"""Clients that go: without a word, while they are held back, and while the hub itself is going."""

from __future__ import annotations

import asyncio
import signal

import pytest

from floodmark.systems.hub import Hub, HubSettings, Policy
from floodmark.systems.hub.testing import PUBLISH, Gone, HubClient, connected, eventually, scenario
from tests.systems.hub.test_bus import service

PAYLOAD = "z" * 20_000
HELD_BACK = 300  # publishes of 20 kB: more than the sockets between hub and client hold


def tight(**changes: object) -> HubSettings:
    settings: dict[str, object] = {
        "rate_limits": False,
        "queue_events": 20,
        "write_buffer_bytes": 16_384,
        "socket_send_bytes": 16_384,
        "message_bytes": 1_000_000,
        **changes,
    }
    return HubSettings(**settings)  # type: ignore[arg-type]


def held_back(client: HubClient, channel: str = "x") -> None:
    """Publish more than there is room for."""
    for number in range(HELD_BACK):
        client.start(f"p{number}", PUBLISH, c=channel, d={"n": number, "pad": PAYLOAD})


# without a word


@pytest.mark.parametrize("policy", list(Policy), ids=lambda policy: policy.value)
@scenario
async def test_vanished_subscriber_is_forgotten_with_all_it_cost(policy: Policy) -> None:
    async with (
        Hub(tight(policy=policy, ping_interval_s=1.0, pong_limit_s=1.0)) as hub,
        connected(hub.url, receive_bytes=16_384, answers_pings=False) as gone,
        connected(hub.url) as publisher,
    ):
        await gone.subscribe("s", "x")
        gone.stop_reading()  # from here on it takes nothing, answers nothing and ends nothing
        held_back(publisher)
        await eventually(lambda: hub.bus.waiting_count == 1 or hub.counters.published == HELD_BACK)
        queued_bytes = hub.dispatcher.logs["x"].end_bytes if policy is Policy.BLOCK else 0
        await eventually(lambda: len(hub.connections) == 1)  # a ping each second, and a second for the pong
        await eventually(lambda: hub.counters.published == HELD_BACK)
        stats = hub.stats_now()

        assert queued_bytes < 100 * len(PAYLOAD)
        assert (stats["activeConnections"], stats["activeSubscribers"]) == (1, 0)
        assert (hub.dispatcher.logs, hub.dispatcher.lagging_count(), hub.bus.waiting_count) == ({}, 0, 0)


@scenario
async def test_client_that_answers_pings_is_kept_however_little_it_says() -> None:
    async with Hub(tight(ping_interval_s=0.2, pong_limit_s=0.2)) as hub, connected(hub.url) as client:
        await client.subscribe("s", "x")
        with pytest.raises(TimeoutError):
            await client.closed(1.5)

        assert hub.stats_now()["activeSubscribers"] == 1


@scenario
async def test_held_back_publisher_that_is_still_there_outlives_its_pongs() -> None:
    async with (
        Hub(tight(ping_interval_s=0.2, pong_limit_s=0.2)) as hub,
        connected(hub.url) as publisher,
    ):
        stream = hub.stream("x")  # of nobody who reads, so the queue fills and stays full
        held_back(publisher)
        await eventually(lambda: hub.bus.waiting_count == 1)
        with pytest.raises(TimeoutError):
            await publisher.closed(1.5)
        stream.close()
        await eventually(lambda: hub.counters.published == HELD_BACK)

        assert len(hub.connections) == 1


# while held back


@scenario
async def test_held_back_publisher_that_leaves_is_noticed_at_once_and_its_publish_forgotten() -> None:
    async with Hub(tight()) as hub, connected(hub.url) as publisher:
        stream = hub.stream("x")
        held_back(publisher)
        await eventually(lambda: hub.bus.waiting_count == 1)
        published = hub.counters.published
        began_s = asyncio.get_running_loop().time()
        publisher.transport.disconnect(False)
        await eventually(lambda: not hub.connections)
        took_s = asyncio.get_running_loop().time() - began_s

        assert took_s < 10.0  # a ping would find it after 20 s
        assert hub.bus.waiting_count == 0
        assert [(await stream.recv()).value["n"] for _ in range(published)] == list(range(published))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await stream.recv()


@scenario
async def test_publisher_behind_one_that_left_goes_in_when_it_fits() -> None:
    settings = tight(queue_events=1000, queue_bytes=50_000)
    async with Hub(settings) as hub, connected(hub.url) as big, connected(hub.url) as small:
        stream = hub.stream("x")
        await hub.publish("x", "a" * 30_000)
        big.start("p", PUBLISH, c="x", d="b" * 40_000)
        await eventually(lambda: hub.bus.waiting_count == 1)
        small.start("p", PUBLISH, c="x", d="c" * 10_000)
        await eventually(lambda: hub.bus.waiting_count == 2)
        big.transport.disconnect(False)
        await small.recv()

        assert [(await stream.recv()).value[0] for _ in range(2)] == ["a", "c"]
        assert hub.bus.waiting_count == 0


# while the hub goes


@pytest.mark.parametrize("bus", ["memory", "nats"])
@scenario
async def test_drain_under_load_delivers_what_is_acknowledged_then_completes_then_closes_with_1001(bus: str) -> None:
    async with service("--bus", bus) as (process, url), connected(url) as reader, connected(url) as publisher:
        await reader.subscribe("s", "x")
        acknowledged: list[str] = []
        got: list[str] = []

        async def publish() -> None:
            number = 0
            try:
                while True:
                    for _ in range(20):
                        number += 1
                        publisher.start(f"{number}", PUBLISH, c="x", d=f"{number}")
                    for _ in range(20):
                        while (answer := await publisher.recv())["type"] == "complete":
                            pass
                        if answer["type"] == "next":
                            acknowledged.append(answer["id"])
            except Gone:
                return

        async with asyncio.TaskGroup() as group:
            group.create_task(publish())
            while len(got) < 200:
                got.append((await reader.recv())["payload"]["data"]["events"]["data"])
            process.send_signal(signal.SIGTERM)
            last: list[str] = []
            try:
                while True:
                    message = await reader.recv()
                    last.append(message["type"])
                    if message["type"] == "next":
                        got.append(message["payload"]["data"]["events"]["data"])
            except Gone as gone:
                code = gone.args[0]
        _, errors = await process.communicate()

        assert set(acknowledged) <= set(got)
        assert got == [f"{number}" for number in range(1, len(got) + 1)]
        assert last.count("complete") == 1
        assert last[-1] == "complete"
        assert code == 1001
        assert (process.returncode, errors) == (0, b"")
