"""Lies about recovery: those who break off and come back are wronged exactly as often as was planned, and never by an honest hub."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest

from floodmark.systems.hub import Hub, HubSettings
from floodmark.systems.hub.testing import EVENTS, PUBLISH, HubClient, connected, eventually, scenario


def liar(*lies: str, seed: int = 3, **changes: Any) -> HubSettings:
    return HubSettings(rate_limits=False, history_events=1000, lies=lies, seed=seed, **changes)


async def numbers(client: HubClient, quiet_s: float = 0.15) -> list[int]:
    """What arrives until nothing comes for a while."""
    got: list[int] = []
    try:
        while True:
            got.append((await client.recv(quiet_s))["payload"]["data"]["events"]["data"])
    except TimeoutError:
        return got


async def resumed(hub: Hub, after: int) -> list[int]:
    """What a client gets that resumes behind an offset."""
    async with connected(hub.url) as client:
        client.start("s", EVENTS, c="x", a=after)
        return await numbers(client)


async def break_off(hub: Hub, count: int) -> None:
    """Connect and subscribe some clients and cut them all off."""
    before = len(hub.connections)
    async with AsyncExitStack() as stack:
        for number in range(count):
            client = await stack.enter_async_context(connected(hub.url))
            await client.subscribe(f"s{number}", "x")
    await eventually(lambda: len(hub.connections) == before)


@scenario
async def test_skip_leaves_out_the_first_event_of_exactly_the_planned_resumes() -> None:
    async with Hub(liar("skip=2@4")) as hub:
        for number in range(1, 11):
            await hub.publish("x", number)
        got = [await resumed(hub, 5) for _ in range(6)]

        assert sorted(map(len, got)) == [4, 4, 5, 5, 5, 5]
        assert all(each in ([6, 7, 8, 9, 10], [7, 8, 9, 10]) for each in got)
        assert got[4:] == [[6, 7, 8, 9, 10]] * 2
        assert hub.planted() == {"skip": {"planted": 2, "owed": 0}}


@scenario
async def test_skip_with_nothing_to_skip_stays_owed_until_there_is() -> None:
    async with Hub(liar("skip=1@1")) as hub:
        await hub.publish("x", 1)
        await hub.publish("x", 2)
        nothing, owed = await resumed(hub, 2), hub.planted()
        something = await resumed(hub, 0)

        assert (nothing, owed) == ([], {"skip": {"planted": 0, "owed": 1}})
        assert something == [2]
        assert hub.planted() == {"skip": {"planted": 1, "owed": 0}}


@scenario
async def test_again_repeats_the_last_event_seen_to_exactly_the_planned_resumes() -> None:
    async with Hub(liar("again=3@4")) as hub:
        for number in range(1, 11):
            await hub.publish("x", number)
        got = [await resumed(hub, 8) for _ in range(6)]

        assert got.count([8, 9, 10]) == 3
        assert got.count([9, 10]) == 3
        assert got[4:] == [[9, 10]] * 2


@scenario
async def test_resume_lies_follow_the_seed() -> None:
    async def which(seed: int) -> list[int]:
        async with Hub(liar("again=3@12", seed=seed)) as hub:
            await hub.publish("x", 1)
            return [len(await resumed(hub, 1)) for _ in range(12)]

    first, again, other = await which(1), await which(1), await which(2)

    assert sum(first) == sum(other) == 3
    assert first == again != other


@scenario
async def test_down_refuses_whoever_comes_when_the_places_left_are_taken() -> None:
    async with Hub(liar("down=2@4")) as hub, AsyncExitStack() as stack, connected(hub.url):
        await break_off(hub, 5)  # six were there, the most
        for _ in range(3):
            await stack.enter_async_context(connected(hub.url))
        for _ in range(10):
            with pytest.raises(Exception, match="503"):
                await stack.enter_async_context(connected(hub.url))

        assert len(hub.connections) == 4
        assert hub.planted() == {"down": {"planted": 2, "refused": 10}}


@scenario
async def test_down_does_nothing_before_its_number() -> None:
    async with Hub(liar("down=2@4")) as hub, AsyncExitStack() as stack:
        await break_off(hub, 3)
        for _ in range(6):
            await stack.enter_async_context(connected(hub.url))

        assert hub.planted() == {"down": {"planted": 0, "refused": 0}}


@scenario
async def test_clients_that_say_goodbye_are_no_breaks() -> None:
    async with Hub(liar("down=1@1", "drift=1/1")) as hub:
        async with connected(hub.url) as client:
            client.transport.send_close(1000)  # type: ignore[arg-type]
            await client.closed()
        await eventually(lambda: not hub.connections)

        assert hub.planted() == {"down": {"planted": 0, "refused": 0}, "drift": {"planted": 0, "owed": 0}}


@scenario
async def test_drift_counts_each_nth_that_broke_off_as_still_there() -> None:
    async with Hub(liar("drift=1/3")) as hub, connected(hub.url) as client:
        await client.subscribe("s", "x")
        await break_off(hub, 7)
        stats, gauges = hub.stats_now(), hub.snapshot().gauges

        assert stats["activeConnections"] == stats["activeSubscribers"] == 3
        assert (gauges["active_connections"], gauges["active_subscriptions"]) == (3, 3)
        assert (len(hub.connections), hub.active_subscriptions) == (1, 1)
        assert hub.planted()["drift"]["planted"] == 2


@scenario
async def test_slow_delivers_a_share_of_what_comes_in_and_is_well_after_a_pause() -> None:
    async with Hub(liar("slow=4@1")) as hub, connected(hub.url) as client:
        await client.subscribe("s", "x")
        await hub.publish("x", 0)
        await eventually(lambda: hub.counters.delivered == 1)
        await break_off(hub, 1)
        for number in range(1, 101):
            await hub.publish("x", number)
        await eventually(lambda: hub.counters.delivered == 26)
        waiting = hub.snapshot().maxima["queue_depth_max"]
        everything = await numbers(client, 0.6)
        await hub.publish("x", 101)

        assert waiting == 75
        assert everything == list(range(101))
        assert await numbers(client) == [101]
        assert hub.planted() == {"slow": {"planted": 1}}


@scenario
async def test_honest_hub_keeps_its_word_to_all_who_come_back() -> None:
    async with Hub(HubSettings(rate_limits=False, history_events=1000)) as hub:
        for number in range(1, 6):
            await hub.publish("x", number)
        await break_off(hub, 6)

        got = [await resumed(hub, 2) for _ in range(3)]
        await eventually(lambda: not hub.connections)

        assert got == [[3, 4, 5]] * 3
        assert hub.stats_now()["activeConnections"] == hub.stats_now()["activeSubscribers"] == 0
        assert hub.planted() == {}


@scenario
async def test_unbounded_queue_takes_in_everything_and_an_honest_one_its_bound() -> None:
    deepest: dict[tuple[str, ...], int] = {}
    for lies in (("queue=unbounded",), ()):
        tight: dict[str, Any] = {"queue_events": 10, "write_buffer_bytes": 16_384, "socket_send_bytes": 16_384, "shutdown_grace_s": 0.2}
        async with (
            Hub(liar(*lies, **tight)) as hub,
            connected(hub.url, receive_bytes=16_384) as stuck,
            connected(hub.url) as publisher,
        ):
            await stuck.subscribe("s", "x")
            stuck.stop_reading()
            for number in range(300):
                publisher.start(f"p{number}", PUBLISH, c="x", d=[number, "z" * 20_000])
            await eventually(lambda hub=hub: hub.bus.waiting_count == 1 or hub.counters.published == 300)  # type: ignore[misc]
            deepest[lies] = hub.snapshot().maxima["queue_depth_max"]
            stuck.read_again()
            got = [(await stuck.recv())["payload"]["data"]["events"]["data"][0] for _ in range(300)]

            assert got == list(range(300))
            assert hub.planted() == ({"queue": {"planted": deepest[lies] - 10}} if lies else {})

    assert deepest[()] == 10
    assert deepest[("queue=unbounded",)] > 100
