"""Token buckets and every limit of a hub, with its counter."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.systems.hub import PRESETS, Hub, HubSettings, settings_from
from floodmark.systems.hub.limits import Limits, TokenBucket
from floodmark.systems.hub.testing import EVENTS, PUBLISH, HubClient, connected, eventually, scenario


@given(
    capacity=st.integers(1, 50),
    refill_hz=st.floats(0.1, 100),
    takes=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 20)), max_size=60),
)
def test_bucket_never_lets_more_through_than_capacity_and_refill(capacity: int, refill_hz: float, takes: list[tuple[float, int]]) -> None:
    bucket = TokenBucket(capacity=capacity, refill_hz=refill_hz, now_s=0.0)
    now_s, taken = 0.0, 0
    for pause_s, count in takes:
        now_s += pause_s
        if bucket.take(count, now_s):
            taken += count

    assert taken <= capacity + refill_hz * now_s + 1e-6


def test_bucket_refills_and_says_how_long_it_takes() -> None:
    bucket = TokenBucket(capacity=2, refill_hz=4.0, now_s=0.0)

    assert [bucket.take(1, 0.0) for _ in range(3)] == [True, True, False]
    assert bucket.wait_s(1, 0.0) == pytest.approx(0.25)
    assert bucket.take(1, 0.25)


def test_bucket_ignores_a_clock_that_runs_backwards() -> None:
    bucket = TokenBucket(capacity=1, refill_hz=1.0, now_s=10.0)
    bucket.take(1, 10.0)

    assert not bucket.take(1, 5.0)
    assert not bucket.take(1, 10.5)
    assert bucket.take(1, 11.0)


def test_user_has_one_bucket_however_many_connections() -> None:
    limits = Limits(HubSettings())
    first, second = limits.join("ann", 0.0), limits.join("ann", 0.0)

    assert first is second
    limits.leave("ann")
    limits.leave("ann")
    assert limits.join("ann", 0.0) is not first


async def error_code(client: HubClient) -> str:
    message = await client.recv()
    assert message["type"] == "error", message
    return str(message["payload"][0]["extensions"]["code"])


async def http_get(port: int, path: str, headers: str = "") -> tuple[int, str]:
    """A plain GET; gives status and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), body


HANDSHAKE = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


@scenario
async def test_connection_one_too_many_is_refused_before_the_upgrade_and_a_free_place_taken_again() -> None:
    async with Hub(HubSettings(connections_max=2)) as hub, connected(hub.url):
        async with connected(hub.url):
            status, body = await http_get(hub.port, "/graphql", HANDSHAKE)

            assert status == 503
            assert body == "the hub has 2 connections, its limit; try again later\n"
            assert hub.limits.violations == {"connections": 1}
        await eventually(lambda: len(hub.connections) == 1)
        async with connected(hub.url):
            assert len(hub.connections) == 2


@scenario
async def test_subscriptions_per_connection_are_limited() -> None:
    async with Hub(HubSettings(subscriptions_per_connection=3)) as hub, connected(hub.url) as client:
        for number in range(3):
            await client.subscribe(str(number), "x")
        client.start("3", EVENTS, c="x")
        code = await error_code(client)
        client.send({"type": "complete", "id": "0"})
        await client.subscribe("4", "x")

        assert code == "TOO_MANY_SUBSCRIPTIONS"
        assert hub.limits.violations == {"subscriptions_per_connection": 1}


@scenario
async def test_subscriptions_per_user_are_shared_by_the_users_connections() -> None:
    async with (
        Hub(HubSettings(subscriptions_per_user=3)) as hub,
        connected(hub.url, init=False) as first,
        connected(hub.url, init=False) as second,
        connected(hub.url) as stranger,
    ):
        await first.init({"user": "ann"})
        await second.init({"user": "ann"})
        await first.subscribe("1", "x")
        await first.subscribe("2", "x")
        await second.subscribe("1", "x")
        second.start("2", EVENTS, c="x")

        assert await error_code(second) == "TOO_MANY_SUBSCRIPTIONS"
        await stranger.subscribe("1", "x")


@scenario
async def test_subscriptions_per_minute_are_limited_even_if_they_end() -> None:
    async with Hub(HubSettings(subscriptions_per_user_per_min=5)) as hub, connected(hub.url) as client:
        for number in range(5):
            await client.subscribe(str(number), "x")
            client.send({"type": "complete", "id": str(number)})
        client.start("5", EVENTS, c="x")

        assert await error_code(client) == "RATE_LIMIT_EXCEEDED"
        assert hub.limits.violations == {"subscriptions_per_user_per_min": 1}


@scenario
async def test_connections_per_user_close_4403() -> None:
    async with (
        Hub(HubSettings(connections_per_user=1)) as hub,
        connected(hub.url, init=False) as first,
        connected(hub.url, init=False) as second,
    ):
        await first.init({"user": "ann"})
        second.send({"type": "connection_init", "payload": {"user": "ann"}})

        assert await second.closed() == 4403
        assert hub.limits.violations == {"connections_per_user": 1}


@scenario
async def test_operations_beyond_the_bucket_are_refused_with_a_time_to_retry() -> None:
    async with Hub(HubSettings(bucket_capacity=5, bucket_refill_hz=0.001)) as hub, connected(hub.url) as client:
        for number in range(5):
            await client.ask(str(number), PUBLISH, c="x", d=1)
        client.start("5", PUBLISH, c="x", d=1)
        error = (await client.recv())["payload"][0]["extensions"]

        assert error["code"] == "RATE_LIMIT_EXCEEDED"
        assert error["retryAfterS"] > 100


@scenario
async def test_no_rate_limits_switches_all_of_them_off() -> None:
    free = HubSettings(
        rate_limits=False, bucket_capacity=1, subscriptions_per_user=1, subscriptions_per_user_per_min=1, connections_per_user=1
    )
    async with Hub(free) as hub, connected(hub.url, init=False) as a, connected(hub.url, init=False) as b:
        await a.init({"user": "ann"})
        await b.init({"user": "ann"})
        for number in range(20):
            await a.subscribe(str(number), "x")

        assert hub.limits.violations == {}


@scenario
async def test_events_per_subscription_are_paced_and_none_is_lost() -> None:
    async with Hub(HubSettings(events_per_subscription_hz=100.0)) as hub, connected(hub.url) as client:
        await client.subscribe("1", "x")
        started_s = time.monotonic()
        for number in range(150):
            await hub.publish("x", number)
        got = [(await client.recv())["payload"]["data"]["events"]["data"] for _ in range(150)]
        took_s = time.monotonic() - started_s

        assert got == list(range(150))
        assert took_s >= 0.45  # 100 at once, 50 more at 100/s
        assert hub.dispatcher.throttled_count > 0


@scenario
async def test_event_payload_too_long_is_refused_and_counted() -> None:
    async with Hub(HubSettings(event_payload_bytes=100)) as hub, connected(hub.url) as client:
        client.start("1", PUBLISH, c="x", d="z" * 98)
        assert (await client.recv())["type"] == "next"
        await client.recv()
        client.start("2", PUBLISH, c="x", d="z" * 99)

        assert await error_code(client) == "INVALID_MESSAGE"
        assert hub.limits.violations == {"event_payload_bytes": 1}


@scenario
async def test_filter_too_complex_is_rejected() -> None:
    query = 'subscription($f: [EventFilter!]) { events(channel: "x", filter: $f) { id } }'
    async with Hub(HubSettings(filter_complexity_max=2)) as hub, connected(hub.url) as client:
        client.start("1", query, f=[{"field": "channel", "op": "EXISTS"}] * 3)

        assert await error_code(client) == "SUBSCRIPTION_REJECTED"


@scenario
async def test_channels_beyond_their_limit_are_refused() -> None:
    async with Hub(HubSettings(channels_max=2)) as hub, connected(hub.url) as client:
        await client.subscribe("1", "a")
        await client.subscribe("2", "b")
        client.start("3", EVENTS, c="c")

        assert await error_code(client) == "SUBSCRIPTION_REJECTED"


@scenario
async def test_subscription_beyond_its_life_time_is_completed() -> None:
    async with Hub(HubSettings(subscription_lifetime_s=0.3)) as hub, connected(hub.url) as client:
        await client.subscribe("1", "x")
        soon, sooner = len(hub.expiring(1.0)), len(hub.expiring(0.0))

        assert (soon, sooner) == (1, 0)
        assert await client.recv() == {"id": "1", "type": "complete"}
        assert hub.active_subscriptions == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 70_000},
        {"port": -1},
        {"queue_events": 0},
        {"ping_interval_s": 0.0},
        {"pong_limit_s": float("nan")},
        {"nope": 1},
        {"lies": ("drop=2/1",)},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        settings_from(None, wrong)


def test_preset_lies_under_what_was_chosen() -> None:
    settings = settings_from("production", {"connections_max": 7, "port": None})

    assert (settings.connections_max, settings.subscriptions_per_connection, settings.ping_interval_s) == (7, 5, 20.0)
    with pytest.raises(UsageError, match="production"):
        settings_from("prod", {})
    assert all(settings_from(name, {}) for name in PRESETS)
