"""A bus that dies and comes back: what was acknowledged is delivered once and in order, whichever way it went; the breaker shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from floodmark.core.breaker import BreakerState
from floodmark.core.nats_server import EmbeddedNats
from floodmark.systems.hub import Hub, HubError, HubSettings
from floodmark.systems.hub.bus.guarded import GuardedBus
from floodmark.systems.hub.testing import EVENTS, PUBLISH, HubClient, connected, eventually, scenario

CHANNELS = ("x", "y", "z")


def over(server: EmbeddedNats, **changes: object) -> HubSettings:
    settings: dict[str, object] = {
        "rate_limits": False,
        "bus": server.url,
        "history_events": 100_000,
        "breaker_failures": 2,
        "breaker_successes": 2,
        "breaker_open_s": 0.3,
        **changes,
    }
    return HubSettings(**settings)  # type: ignore[arg-type]


async def kill(server: EmbeddedNats) -> None:
    """As a crash does."""
    process = server.process
    assert process is not None
    process.kill()
    await process.wait()


class Load:
    """Publishes to every channel, one after the other in each, until told to stop; keeps what was acknowledged and what was refused."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, list[int]] = {channel: [] for channel in CHANNELS}
        self.refused: dict[str, list[int]] = {channel: [] for channel in CHANNELS}
        self.over = asyncio.Event()

    async def publish(self, url: str, channel: str) -> None:
        async with connected(url) as client:
            number = 0
            while not self.over.is_set():
                number += 1
                client.start(f"p{number}", PUBLISH, c=channel, d=number)
                answer = await client.recv(20)
                if answer["type"] == "next":
                    await client.recv()
                (self.acknowledged if answer["type"] == "next" else self.refused)[channel].append(number)
                await asyncio.sleep(0.002)  # some hundreds a second


@asynccontextmanager
async def under_load(url: str) -> AsyncIterator[Load]:
    """A publisher for each channel; at the end everything has been published."""
    load = Load()
    async with asyncio.TaskGroup() as group:
        for channel in CHANNELS:
            group.create_task(load.publish(url, channel))
        try:
            yield load
        finally:
            load.over.set()


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[HubClient]:
    """A subscriber to all channels."""
    async with connected(url) as client:
        for channel in CHANNELS:
            await client.subscribe(channel, channel)
        yield client


async def received(client: HubClient, quiet_s: float = 0.5) -> dict[str, list[tuple[int, int]]]:
    """Number and offset of everything that came, by channel."""
    got: dict[str, list[tuple[int, int]]] = {channel: [] for channel in CHANNELS}
    try:
        while True:
            message = await client.recv(quiet_s)
            event = message["payload"]["data"]["events"]
            got[message["id"]].append((event["data"], event["offset"]))
    except TimeoutError:
        return got


def guard(hub: Hub) -> GuardedBus:
    assert isinstance(hub.bus, GuardedBus)
    return hub.bus


@scenario
async def test_fallback_takes_over_under_load_and_the_first_bus_takes_back_and_nothing_acknowledged_is_lost_or_doubled() -> None:
    async with (
        EmbeddedNats(keep=True, again_after_s=1.5) as server,
        Hub(over(server, bus_fallback="memory")) as hub,
        listening(hub.url) as client,
    ):
        async with under_load(hub.url) as load:
            await eventually(lambda: len(load.acknowledged["x"]) > 50)
            await kill(server)
            await eventually(lambda: guard(hub).fallback_count > 50)
            mode_down = hub.stats_now()["mode"]
            await eventually(lambda: server.restart_count == 1 and guard(hub).breaker.state is BreakerState.CLOSED, 10)
            back = {channel: len(numbers) for channel, numbers in load.acknowledged.items()}
            await eventually(lambda: all(len(load.acknowledged[channel]) > back[channel] + 50 for channel in CHANNELS))
        got = await received(client)

        assert load.refused == {channel: [] for channel in CHANNELS}
        for channel in CHANNELS:
            assert [number for number, _ in got[channel]] == load.acknowledged[channel] == list(range(1, len(got[channel]) + 1))
            offsets = [offset for _, offset in got[channel]]
            assert offsets == sorted(set(offsets))
        assert mode_down == "in-memory (fallback)"
        assert hub.stats_now()["mode"] == "nats-jetstream"
        assert hub.counters.published == sum(map(len, load.acknowledged.values()))


@scenario
async def test_resume_point_from_before_the_switch_holds_after_it() -> None:
    async with EmbeddedNats(keep=True, again_after_s=1.0) as server, Hub(over(server, bus_fallback="memory")) as hub:
        before = [(await hub.publish("x", number)).offset for number in range(5)]
        await kill(server)
        for number in range(5, 10):
            await hub.publish("x", number)
        await eventually(lambda: server.restart_count == 1 and guard(hub)._first._nc.is_connected, 10)  # type: ignore[attr-defined]
        while hub.stats_now()["mode"] != "nats-jetstream":
            await hub.publish("x", -1)
        after = await hub.publish("x", 10)
        async with connected(hub.url) as client:
            client.start("s", EVENTS, c="x", a=before[2])
            data = [(await client.recv())["payload"]["data"]["events"]["data"] for _ in range(7)]

        assert data == [3, 4, 5, 6, 7, 8, 9]
        assert after.offset > before[-1]


@scenario
async def test_server_that_is_started_again_goes_on_without_a_fallback() -> None:
    async with Hub(HubSettings(rate_limits=False, bus="nats")) as hub, listening(hub.url) as client:
        async with under_load(hub.url) as load:
            for times in (1, 2, 3):
                reached = len(load.acknowledged["x"])
                await eventually(lambda reached=reached: len(load.acknowledged["x"]) > reached + 30, 10)  # type: ignore[misc]
                assert hub._nats is not None
                await kill(hub._nats)
                await eventually(lambda times=times: hub._nats.restart_count == times, 10)  # type: ignore[misc]
            reached = len(load.acknowledged["x"])
            await eventually(lambda: len(load.acknowledged["x"]) > reached + 30, 10)
        got = await received(client)

        for channel in CHANNELS:
            numbers = [number for number, _ in got[channel]]
            assert numbers == sorted(set(numbers))
            assert set(load.acknowledged[channel]) <= set(numbers)


@scenario
async def test_server_that_lost_its_disk_goes_on_with_offsets_that_rise() -> None:
    async with EmbeddedNats() as first:
        hub = Hub(over(first, breaker_failures=100))
        port = int(first.url.rsplit(":", 1)[1])
        async with hub, connected(hub.url) as client:
            await client.subscribe("s", "x")
            for number in range(20):
                await hub.publish("x", number)
            await kill(first)
            second = EmbeddedNats()
            second._port = port
            async with second:
                last = await publish_until_taken(hub, 20)
                got = [(await client.recv())["payload"]["data"]["events"] for _ in range(last + 1)]
            offsets = [event["offset"] for event in got]

            assert [event["data"] for event in got][:20] == list(range(20))
            assert got[-1]["data"] == last
            assert offsets == sorted(set(offsets))


async def publish_until_taken(hub: Hub, number: int) -> int:
    """Publish the same event until the bus takes it."""
    async with asyncio.timeout(10):
        while True:
            try:
                await hub.publish("x", number)
            except HubError:
                continue
            return number


@scenario
async def test_breaker_opens_blocks_half_opens_and_closes_and_all_of_it_shows() -> None:
    async with EmbeddedNats(keep=True, again_after_s=1.5) as server, Hub(over(server, breaker_failures=3, breaker_open_s=0.5)) as hub:
        async with connected(hub.url) as asker:
            await hub.publish("x", 0)
            closed = await shown(hub, asker)
            await kill(server)
            errors = await asyncio.gather(*(hub.publish("x", number) for number in range(3)), return_exceptions=True)
            opened = await shown(hub, asker)
            rejected_before, loop = guard(hub).breaker.rejected_count, asyncio.get_running_loop()
            began_s = loop.time()
            for number in range(5):
                with pytest.raises(HubError, match="bus is down"):
                    await hub.publish("x", number)
            blocked_s, blocked = loop.time() - began_s, guard(hub).breaker.rejected_count - rejected_before
            await eventually(lambda: server.restart_count == 1, 10)
            states: list[str] = []
            async with asyncio.timeout(10):
                while not states or states[-1] != "closed":
                    try:
                        await hub.publish("x", 9)
                    except HubError:
                        await asyncio.sleep(0.02)
                    state, _ = await shown(hub, asker)
                    states += [state] if not states or states[-1] != state else []

        assert all(isinstance(error, HubError) for error in errors)
        assert closed == ("closed", 0)
        assert opened == ("open", 2)
        assert blocked == 5
        assert blocked_s < 5  # asking the bus takes longer: its time to answer is 5 s
        assert states in (["open", "half_open", "closed"], ["half_open", "closed"], ["half_open", "open", "half_open", "closed"])
        assert guard(hub).opened_count >= 1


async def shown(hub: Hub, asker: HubClient) -> tuple[str, int]:
    """The breaker over the API, and in the metrics."""
    stats = (await asker.ask("q", "{ stats { breaker } }"))["stats"]
    lines = hub.snapshot().prometheus().splitlines()
    (level,) = [int(line.split()[1]) for line in lines if line.startswith("floodmark_hub_bus_breaker_state ")]
    assert any(line.startswith("floodmark_hub_bus_breaker_rejected ") for line in lines)
    return str(stats["breaker"]), level
