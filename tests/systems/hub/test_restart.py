"""A hub that is started again over JetStream has its history: resume points hold, and nothing acknowledged is missing behind them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from floodmark.core.nats_server import EmbeddedNats
from floodmark.systems.hub import Hub, HubSettings
from floodmark.systems.hub.bus import past
from floodmark.systems.hub.bus.guarded import GuardedBus
from floodmark.systems.hub.bus.jetstream import JetStreamBus
from floodmark.systems.hub.testing import EVENTS, PUBLISH, Gone, HubClient, connected, eventually, scenario
from tests.systems.hub.test_bus import service


async def replayed(url: str, after: int, count: int) -> list[int]:
    """The data of the next events behind an offset."""
    async with connected(url) as client:
        client.start("s", EVENTS, c="x", a=after)
        return [(await client.recv(10))["payload"]["data"]["events"]["data"] for _ in range(count)]


@scenario
async def test_hub_started_anew_on_the_same_bus_resumes_where_the_old_one_was_left() -> None:
    async with EmbeddedNats() as server:
        settings = HubSettings(rate_limits=False, bus=server.url, history_events=1000)
        async with Hub(settings) as hub:
            offsets = [(await hub.publish("x", number)).offset for number in range(10)]
        async with Hub(settings) as hub:
            later = (await hub.publish("x", 10)).offset
            got = await replayed(hub.url, offsets[3], 7)

    assert got == [4, 5, 6, 7, 8, 9, 10]
    assert later > offsets[-1]


@scenario
async def test_hub_killed_under_load_with_a_store_that_stays_has_every_acknowledged_event_after_its_restart(tmp_path: Path) -> None:
    arguments = ("--bus", "nats", "--bus-store", str(tmp_path), "--history", "100000")
    acknowledged: list[tuple[int, int]] = []

    async def publish(client: HubClient) -> None:
        number = 0
        try:
            while True:
                number += 1
                answer = await client.ask(str(number), PUBLISH, c="x", d=number)
                acknowledged.append((number, answer["publish"]["offset"]))
        except Gone:
            return

    async with service(*arguments) as (process, url), connected(url) as client, asyncio.TaskGroup() as group:
        group.create_task(publish(client))
        await eventually(lambda: len(acknowledged) >= 200)
        process.kill()
    numbers = [number for number, _ in acknowledged]
    async with service(*arguments) as (process, url):
        got = await replayed(url, acknowledged[49][1], len(acknowledged) - 50)

    assert got == numbers[50:] == list(range(51, len(acknowledged) + 1))


@scenario
async def test_past_beyond_what_is_kept_is_cut_off_and_no_more() -> None:
    kept, every_s = past.KEPT_MESSAGES, past._CUT_EVERY_S
    past.KEPT_MESSAGES, past._CUT_EVERY_S = 20, 0.05
    try:
        async with EmbeddedNats() as server:
            settings = HubSettings(rate_limits=False, bus=server.url, history_events=1000)
            async with Hub(settings) as hub:
                for number in range(100):
                    await hub.publish("x", number)
                assert isinstance(hub.bus, GuardedBus)
                stream = hub.bus._first
                assert isinstance(stream, JetStreamBus)

                async def held() -> int:
                    return (await stream._js.stream_info("floodmark_hub")).state.messages

                async with asyncio.timeout(20):
                    while await held() != 20:  # noqa: ASYNC110  the server signals nothing
                        await asyncio.sleep(0.02)
            async with Hub(settings) as hub:
                assert [event.data for event in hub.dispatcher.logs["x"].entries] == [b"%d" % number for number in range(80, 100)]
    finally:
        past.KEPT_MESSAGES, past._CUT_EVERY_S = kept, every_s
