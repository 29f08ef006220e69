"""`publishEach`: events for many channels in one message, all or nothing when refused, one answer when all of them stand in the logs."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from floodmark.core.nats_server import EmbeddedNats
from floodmark.systems.hub import Hub, HubSettings, Policy
from floodmark.systems.hub.errors import EventBusError
from floodmark.systems.hub.event import Event
from floodmark.systems.hub.intake import PublishJob
from floodmark.systems.hub.testing import PUBLISH_EACH, HubClient, connected, eventually, scenario

FREE = HubSettings(rate_limits=False, history_events=100, event_payload_bytes=1000)
EVERYTHING = 'subscription { events(channel: "*") { channel eventType correlationId data offset } }'
PAD = "z" * 20_000


def pressed(policy: Policy) -> HubSettings:
    """A hub whose queues hold ten events."""
    return HubSettings(
        rate_limits=False,
        policy=policy,
        queue_events=10,
        queue_bytes=100_000_000,
        write_buffer_bytes=16_384,
        socket_send_bytes=16_384,
        message_bytes=20_000_000,
    )


def padded(channel: str, start: int, stop: int) -> list[dict[str, Any]]:
    return [{"channel": channel, "data": {"n": number, "pad": PAD}} for number in range(start, stop)]


async def received(client: HubClient, count: int) -> list[dict[str, Any]]:
    """The next events, answers to publishes left out."""
    got: list[dict[str, Any]] = []
    while len(got) < count:
        message = await client.recv()
        if message["type"] == "next" and "events" in message["payload"]["data"]:
            got.append(message["payload"]["data"]["events"])
    return got


@scenario
async def test_publish_each_to_many_channels_delivers_each_once_in_order() -> None:
    async with Hub(FREE) as hub, connected(hub.url) as reader, connected(hub.url) as publisher:
        for channel in ("a", "b", "c"):
            await reader.subscribe(channel, channel)
        sent = [{"channel": "abc"[number % 3], "data": {"n": number}} for number in range(300)]
        answer = await publisher.ask("p", PUBLISH_EACH, e=sent)
        messages = [await reader.recv() for _ in range(300)]

        assert answer == {"publishEach": {"count": 300}}
        for index, channel in enumerate("abc"):
            got = [message["payload"]["data"]["events"] for message in messages if message["id"] == channel]
            assert got == [{"data": {"n": index + 3 * turn}, "offset": turn + 1} for turn in range(100)]
        assert hub.counters.delivered == hub.counters.delivery_latency.count == 300


@scenario
async def test_publish_each_beside_the_wildcard_and_a_second_selection_gives_everyone_his_own() -> None:
    async with Hub(FREE) as hub, connected(hub.url) as reader, connected(hub.url) as publisher:
        await reader.subscribe("plain", "a")
        reader.start("named", 'subscription { n: events(channel: "a") { d: data } }')
        await reader.synced()
        for turn in range(2):  # the second time somebody wants all channels as well
            sent = [{"channel": channel, "data": [turn, channel]} for channel in "ab"]
            await publisher.ask(f"p{turn}", PUBLISH_EACH, e=sent)
            if turn == 0:
                reader.start("all", EVERYTHING)
                await eventually(lambda: hub.active_subscriptions == 3)
        messages = [await reader.recv() for _ in range(6)]
        got = {name: [message["payload"]["data"] for message in messages if message["id"] == name] for name in ("plain", "named", "all")}

        assert got["plain"] == [{"events": {"data": [turn, "a"], "offset": turn + 1}} for turn in range(2)]
        assert got["named"] == [{"n": {"d": [turn, "a"]}} for turn in range(2)]
        assert [each["events"]["data"] for each in got["all"]] == [[1, "a"], [1, "b"]]


@scenario
async def test_publish_each_to_thousands_of_channels_in_one_turn_is_written_before_all_of_it_is_in() -> None:
    roomy = HubSettings(rate_limits=False, subscriptions_per_connection=0, subscriptions_per_user=0, message_bytes=1_000_000)
    async with Hub(roomy) as hub:
        stream = hub.stream(*map(str, range(6000)))
        fresh_max = 0
        whole = hub.dispatcher.append

        def watched(event: Event) -> None:
            nonlocal fresh_max
            whole(event)
            fresh_max = max(fresh_max, len(hub.dispatcher._fresh))

        async with connected(hub.url) as publisher:
            hub.dispatcher.append = watched  # type: ignore[method-assign]
            publisher.start("p", PUBLISH_EACH, e=[{"channel": str(number), "data": number} for number in range(6000)])
            got = [(await stream.recv()).value for _ in range(6000)]
        stream.close()

        assert got == list(range(6000))
        assert 1000 < fresh_max < 2048


@scenario
async def test_small_history_of_a_busy_channel_keeps_no_more_than_twice_of_it() -> None:
    async with Hub(HubSettings(rate_limits=False, history_events=4)) as hub, connected(hub.url) as publisher:
        held: list[int] = []
        for number in range(50):
            await publisher.ask(f"p{number}", PUBLISH_EACH, e=[{"channel": "x", "data": number}])
            held.append(len(hub.dispatcher.logs["x"].entries))

        assert max(held) <= 8
        assert min(held[4:]) >= 4
        assert [event.value for event in hub.dispatcher.logs["x"].entries][-4:] == [46, 47, 48, 49]


@scenario
async def test_publish_each_carries_type_correlation_and_data_to_the_byte() -> None:
    async with Hub(FREE) as hub, connected(hub.url) as reader, connected(hub.url) as publisher:
        reader.start("s", EVERYTHING)
        await reader.synced()
        raw = '{"a": 1.0,  "b":1e4}'
        events = '[{"channel":"x","data":' + raw + ',"eventType":"made","correlationId":"k"},{"data":null,"channel":"\\u00fc"}]'
        query = json.dumps(PUBLISH_EACH)
        publisher.send_text(('{"id":"p","type":"subscribe","payload":{"query":' + query + ',"variables":{"e":' + events + "}}}").encode())
        first, second = await received(reader, 2)

        assert hub.dispatcher.logs["x"].entries[0].data == raw.encode()
        assert (first["channel"], first["eventType"], first["correlationId"], first["offset"]) == ("x", "made", "k", 1)
        assert second == {"channel": "ü", "eventType": "event", "correlationId": None, "data": None, "offset": 1}
        assert hub.counters.events_by_type == {"made": 1, "event": 1}
        assert (hub.counters.published, hub.counters.event_bytes.count) == (2, 2)


@pytest.mark.parametrize(
    "document",
    [
        'mutation { publishEach(events: [{channel: "x", data: {n: 1}}, {channel: "y", data: [2]}]) { n: count __typename } }',
        'mutation($d: JSON!) { publishEach(events: [{channel: "x", data: {n: 1}}, {channel: "y", data: $d}]) { n: count __typename } }',
    ],
)
@scenario
async def test_publish_each_with_literals_in_the_document_is_published(document: str) -> None:
    async with Hub(FREE) as hub, connected(hub.url) as reader, connected(hub.url) as publisher:
        reader.start("s", EVERYTHING)
        await reader.synced()
        answer = await publisher.ask("p", document, **({"d": [2]} if "$d" in document else {}))

        assert answer == {"publishEach": {"n": 2, "__typename": "PublishEachResult"}}
        assert [(each["channel"], each["data"]) for each in await received(reader, 2)] == [("x", {"n": 1}), ("y", [2])]


@scenario
async def test_publish_each_beside_another_field_runs_both_in_order() -> None:
    document = 'mutation { a: publishEach(events: [{channel: "x", data: 1}]) { count } b: publish(channel: "x", data: 2) { offset } }'
    async with Hub(FREE) as hub, connected(hub.url) as publisher:
        answer = await publisher.ask("p", document)

        assert answer == {"a": {"count": 1}, "b": {"offset": 2}}


@scenario
async def test_publish_each_of_nothing_is_acknowledged_at_once() -> None:
    async with Hub(FREE) as hub, connected(hub.url) as publisher:
        assert await publisher.ask("p", PUBLISH_EACH, e=[]) == {"publishEach": {"count": 0}}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"channel": "x"}, "missing required field `data`"),
        ({"data": 1}, "missing required field `channel`"),
        ({"channel": "", "data": 1}, "length >= 1"),
        ({"channel": "x" * 513, "data": 1}, "length <= 512"),
        ({"channel": "*", "data": 1}, "name one channel"),
        ({"channel": 7, "data": 1}, "Expected `str`"),
        ({"channel": "x", "data": 1, "wrong": 1}, "unknown field `wrong`"),
        ({"channel": "x", "data": "z" * 1000}, "1000 bytes, this one has 1002"),
        ("x", "Expected `object`"),
    ],
)
@scenario
async def test_publish_each_with_one_bad_event_is_refused_as_a_whole(bad: Any, words: str) -> None:
    async with Hub(FREE) as hub, connected(hub.url) as publisher:
        errors = await publisher.ask("p", PUBLISH_EACH, e=[{"channel": "x", "data": 1}, bad])

        assert errors[0]["extensions"]["code"] == "INVALID_MESSAGE"
        assert words in errors[0]["message"]
        assert (hub.counters.published, hub.dispatcher.logs) == (0, {})


@scenario
async def test_publish_each_into_a_full_log_waits_unacknowledged_and_loses_nothing() -> None:
    async with (
        Hub(pressed(Policy.BLOCK)) as hub,
        connected(hub.url, receive_bytes=16_384) as stuck,
        connected(hub.url) as quick,
        connected(hub.url) as publisher,
    ):
        await stuck.subscribe("s", "slow")
        await quick.subscribe("s", "free")
        stuck.stop_reading()
        batch = [event for pair in zip(padded("slow", 0, 200), padded("free", 0, 200), strict=True) for event in pair]
        publisher.start("p", PUBLISH_EACH, e=batch)
        publisher.start("q", PUBLISH_EACH, e=padded("slow", 200, 210))
        await eventually(lambda: hub.bus.waiting_count == 1)
        acknowledged_then, deepest = publisher.inbox.qsize(), hub.snapshot().maxima["queue_depth_max"]
        stuck.read_again()
        slow, free = await received(stuck, 210), await received(quick, 200)
        answers = [await publisher.recv() for _ in range(4)]

        assert acknowledged_then == 0
        assert deepest <= 10
        assert [each["data"]["n"] for each in slow] == list(range(210))
        assert [each["data"]["n"] for each in free] == list(range(200))
        assert [(each["id"], each["type"]) for each in answers] == [("p", "next"), ("p", "complete"), ("q", "next"), ("q", "complete")]
        assert hub.counters.published == 410


@pytest.mark.parametrize("policy", [Policy.LAG, Policy.DROP_OLDEST])
@scenario
async def test_publish_each_by_the_other_policies_never_waits(policy: Policy) -> None:
    async with (
        Hub(pressed(policy)) as hub,
        connected(hub.url, receive_bytes=16_384) as stuck,
        connected(hub.url) as publisher,
    ):
        await stuck.subscribe("s", "slow")
        stuck.stop_reading()
        for turn in range(10):
            await publisher.ask(f"p{turn}", PUBLISH_EACH, e=padded("slow", 40 * turn, 40 * turn + 40))
        stuck.read_again()

        if policy is Policy.LAG:
            seen: list[int] = []
            while (message := await stuck.recv())["type"] == "next":
                seen.append(message["payload"]["data"]["events"]["data"]["n"])
            assert message["payload"][0]["extensions"]["code"] == "EVENTS_LAGGED"
            assert seen == list(range(len(seen)))
        else:
            got = await received(stuck, 400 - hub.counters.dropped)
            assert hub.counters.dropped > 0
            assert [each["data"]["n"] for each in got][-10:] == list(range(390, 400))


@scenario
async def test_publish_each_over_nats_reaches_every_hub_and_is_answered_once() -> None:
    async with EmbeddedNats() as server:
        over = HubSettings(rate_limits=False, bus=server.url, message_bytes=1_000_000)
        async with Hub(over) as left, Hub(over) as right, connected(left.url) as publisher, connected(right.url) as reader:
            for channel in ("a", "b", "c"):
                await reader.subscribe(channel, channel)
            for turn in range(5):
                batch = [{"channel": "abc"[number % 3], "data": 60 * turn + number} for number in range(60)]
                assert await publisher.ask(f"p{turn}", PUBLISH_EACH, e=batch) == {"publishEach": {"count": 60}}
            messages = [await reader.recv() for _ in range(300)]

            for index, channel in enumerate("abc"):
                got = [message["payload"]["data"]["events"]["data"] for message in messages if message["id"] == channel]
                assert got == list(range(index, 300, 3))
            assert (left.counters.published, right.counters.delivered) == (300, 300)


def job_of(channels: str, told: list[tuple[int, Exception | None]]) -> PublishJob:
    events = [Event(str(number), "event", b"1", channel, 0.0, None) for number, channel in enumerate(channels)]
    return PublishJob(events, lambda job, error: told.append((job.admitted_count, error)))


def test_job_split_has_one_part_per_channel_and_is_done_with_the_last() -> None:
    told: list[tuple[int, Exception | None]] = []
    parts = job_of("ababc", told).split()
    for part in parts[:-1]:
        part.done(part, None)
    told_before = list(told)
    parts[-1].done(parts[-1], None)

    assert [[event.id for event in part.events] for part in parts] == [["0", "2"], ["1", "3"], ["4"]]
    assert (told_before, told) == ([], [(5, None)])


def test_job_split_with_a_part_that_failed_ends_in_its_error_after_all_are_done() -> None:
    told: list[tuple[int, Exception | None]] = []
    error = EventBusError("no")
    first, second = job_of("ab", told).split()
    first.done(first, error)
    assert told == []
    second.done(second, None)

    assert told == [(1, error)]


def test_job_split_when_cancelled_tells_nobody() -> None:
    told: list[tuple[int, Exception | None]] = []
    job = job_of("ab", told)
    first, second = job.split()
    job.cancel()
    first.done(first, None)
    second.done(second, None)

    assert (first.cancelled, second.cancelled, told) == (True, True, [])


@scenario
async def test_socket_receive_bytes_bounds_what_the_kernel_takes_from_a_publisher() -> None:
    async with Hub(HubSettings(rate_limits=False, socket_receive_bytes=20_000)) as hub, connected(hub.url):
        (connection,) = hub.connections
        raw = connection._transport.underlying_transport.get_extra_info("socket")

        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 40_000  # Linux gives the double
