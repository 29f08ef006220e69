"""What subscribers get: every event once, in order, untouched, under the names they asked for; resume; filters; the wildcard."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import picows
import pytest

from floodmark.systems.hub import Hub, HubSettings
from floodmark.systems.hub.testing import EVENTS, PUBLISH, PUBLISH_MANY, connected, eventually, scenario

FREE = HubSettings(rate_limits=False, history_events=100)


@scenario
async def test_publish_to_subscribers_reaches_each_once_in_order() -> None:
    async with Hub(FREE) as hub, connected(hub.url) as a, connected(hub.url) as b, connected(hub.url) as publisher:
        await a.subscribe("1", "x")
        await b.subscribe("other", "x")
        for number in range(20):
            publisher.start(f"p{number}", PUBLISH, c="x", d=number)

        for client in (a, b):
            got = [(await client.recv())["payload"]["data"]["events"] for _ in range(20)]
            assert got == [{"data": number, "offset": number + 1} for number in range(20)]


@scenario
async def test_publish_is_acknowledged_with_id_and_offset_then_complete() -> None:
    async with Hub(FREE) as hub, connected(hub.url) as publisher:
        first = await publisher.ask("a", PUBLISH, c="x", d={"k": 1})
        second = await publisher.ask("b", PUBLISH, c="x", d=None)
        elsewhere = await publisher.ask("c", PUBLISH, c="y", d=[])

        assert [each["publish"]["offset"] for each in (first, second, elsewhere)] == [1, 2, 1]
        assert len({each["publish"]["id"] for each in (first, second, elsewhere)}) == 3


@scenario
async def test_publish_many_answers_first_offset_and_count() -> None:
    async with Hub(FREE) as hub, connected(hub.url) as publisher, connected(hub.url) as reader:
        await reader.subscribe("1", "x")
        await publisher.ask("a", PUBLISH, c="x", d="before")
        answer = await publisher.ask("b", PUBLISH_MANY, c="x", d=[1, {"a": [2]}, "three"])
        got = [(await reader.recv())["payload"]["data"]["events"]["data"] for _ in range(4)]

        assert answer == {"publishMany": {"firstOffset": 2, "count": 3}}
        assert got == ["before", 1, {"a": [2]}, "three"]


@pytest.mark.parametrize(
    "text", ['{"a": 1.0,  "b":1e400, "c":"\\u00e9\\ud83d\\ude00"}', '"\\/"', "12345678901234567890123", "[ ]", '{"a":1,"a":2}', "-0.0"]
)
@scenario
async def test_data_passes_through_to_the_byte(text: str) -> None:
    raw: list[bytes] = []

    class Listener(picows.WSListener):
        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            raw.append(frame.get_payload_as_bytes())

    async with Hub(FREE) as hub, connected(hub.url) as publisher:
        transport, _ = await picows.ws_connect(Listener, hub.url)
        transport.send(picows.WSMsgType.TEXT, b'{"type":"connection_init"}')
        query = json.dumps({"id": "s", "type": "subscribe", "payload": {"query": 'subscription{n:events(channel:"x"){offset d:data}}'}})
        transport.send(picows.WSMsgType.TEXT, query.encode())
        await eventually(lambda: hub.active_subscriptions == 1)
        message = '{"id":"p","type":"subscribe","payload":{"query":' + json.dumps(PUBLISH) + ',"variables":{"c":"x","d":' + text + "}}}"
        publisher.send_text(message.encode())
        await publisher.recv()
        wanted = b'{"id":"s","type":"next","payload":{"data":{"n":{"offset":1,"d":' + text.encode() + b"}}}}"
        await eventually(lambda: wanted in raw)
        transport.disconnect(False)
        await transport.wait_disconnected()


@scenario
async def test_literal_data_in_the_document_is_published() -> None:
    async with Hub(FREE) as hub, connected(hub.url) as publisher, connected(hub.url) as reader:
        await reader.subscribe("1", "x")
        query = 'mutation($n: Int){p:publish(channel:"x",data:{a:[1,true,null],n:$n},eventType:"t",correlationId:"c"){offset x:id}}'
        answer = await publisher.ask("1", query, n=5)

        assert list(answer["p"]) == ["offset", "x"]
        assert (await reader.recv())["payload"]["data"]["events"]["data"] == {"a": [1, True, None], "n": 5}


@scenario
async def test_selection_honours_aliases_order_fragments_and_typename() -> None:
    query = (
        'subscription S { feed: events(channel: "x") { when: timestamp ...More ... on Event { __typename } } }'
        " fragment More on Event { correlationId eventType channel data id }"
    )
    async with Hub(FREE) as hub, connected(hub.url) as reader:
        reader.start("1", query)
        await reader.synced()
        event = await hub.publish("x", {"k": "ü"}, event_type="created", correlation_id="c1")
        got = (await reader.recv())["payload"]["data"]

        assert got == {
            "feed": {
                "when": event.timestamp_s,
                "correlationId": "c1",
                "eventType": "created",
                "channel": "x",
                "data": {"k": "ü"},
                "id": event.id,
                "__typename": "Event",
            }
        }
        assert list(got["feed"]) == ["when", "correlationId", "eventType", "channel", "data", "id", "__typename"]


@scenario
async def test_wildcard_gets_all_channels() -> None:
    async with Hub(FREE) as hub, connected(hub.url) as everything, connected(hub.url) as one:
        everything.start("1", 'subscription{events(channel:"*"){channel offset}}')
        await everything.synced()
        await one.subscribe("1", "a")
        for channel in ("a", "b", "a"):
            await hub.publish(channel, 1)

        got = [tuple((await everything.recv())["payload"]["data"]["events"].values()) for _ in range(3)]
        assert got == [("a", 1), ("b", 1), ("a", 2)]
        assert [(await one.recv())["payload"]["data"]["events"]["offset"] for _ in range(2)] == [1, 2]


@scenario
async def test_unsubscribe_removes_that_receiver_only_and_stats_drop_at_once() -> None:
    async with Hub(FREE) as hub, connected(hub.url) as a, connected(hub.url) as b:
        await a.subscribe("1", "x")
        await a.subscribe("2", "x")
        await b.subscribe("1", "x")
        a.send({"type": "complete", "id": "1"})
        await a.synced()
        left = hub.stats_now()["activeSubscribers"]
        await hub.publish("x", "still")

        assert left == 2
        assert (await a.recv())["id"] == "2"
        assert (await b.recv())["id"] == "1"
        assert a.inbox.empty()


@scenario
async def test_disconnect_removes_the_receivers_and_stats_drop() -> None:
    async with Hub(HubSettings(rate_limits=False)) as hub:
        async with connected(hub.url) as client:
            for number in range(50):
                await client.subscribe(str(number), f"c{number}")
            assert hub.stats_now()["activeSubscribers"] == 50
        await eventually(lambda: hub.stats_now()["activeSubscribers"] == 0)

        assert hub.stats_now()["totalSubscriptions"] == 50
        assert not hub.dispatcher.logs


# Resume


@scenario
async def test_resume_after_an_offset_gets_exactly_what_followed() -> None:
    async with Hub(FREE) as hub, connected(hub.url) as client:
        for number in range(1, 8):
            await hub.publish("x", number)
        client.start("1", EVENTS, c="x", a=3)
        got = [(await client.recv())["payload"]["data"]["events"]["offset"] for _ in range(4)]
        await hub.publish("x", 8)
        live = await client.recv()

        assert got == [4, 5, 6, 7]
        assert live["payload"]["data"]["events"]["offset"] == 8


@scenario
async def test_resume_across_a_reconnect_loses_and_repeats_nothing() -> None:
    async with Hub(HubSettings(rate_limits=False, history_events=10_000)) as hub:
        seen: list[int] = []

        async def publish_all() -> None:
            for number in range(2000):
                await hub.publish("x", number)
                await asyncio.sleep(0)

        task = asyncio.create_task(publish_all())
        while len(seen) < 2000:
            async with connected(hub.url) as client:
                client.start("1", EVENTS, c="x", a=len(seen))
                for _ in range(min(137, 2000 - len(seen))):
                    message = await client.recv()
                    assert message["type"] == "next", message
                    seen.append(message["payload"]["data"]["events"]["data"])
        await task

        assert seen == list(range(2000))


@pytest.mark.parametrize(("after", "code"), [(4, "OFFSET_EXPIRED"), (201, "OFFSET_EXPIRED"), (-1, "OFFSET_EXPIRED")])
@scenario
async def test_resume_outside_the_history_is_an_error_that_names_what_is_held(after: int, code: str) -> None:
    async with Hub(HubSettings(rate_limits=False, history_events=5)) as hub, connected(hub.url) as client:
        for number in range(200):
            await hub.publish("x", number)
        await client.synced()
        client.start("1", EVENTS, c="x", a=after)
        error = (await client.recv())["payload"][0]

        assert error["extensions"]["code"] == code
        assert error["extensions"]["newest"] == 200
        assert error["extensions"]["oldest"] <= 196  # never fewer than asked for
        assert hub.active_subscriptions == 0


@scenario
async def test_resume_at_the_newest_offset_needs_no_history() -> None:
    async with Hub(HubSettings(rate_limits=False)) as hub, connected(hub.url) as client:
        await hub.publish("x", 1)
        await hub.publish("x", 2)
        await client.subscribe("1", "x", after=2)
        await hub.publish("x", 3)
        first = await client.recv()
        client.start("2", EVENTS, c="x", a=1)
        error = await client.recv()

        assert first["payload"]["data"]["events"]["offset"] == 3
        assert error["payload"][0]["extensions"]["code"] == "OFFSET_EXPIRED"


@scenario
async def test_history_bytes_bound_what_is_kept() -> None:
    async with Hub(HubSettings(rate_limits=False, history_events=1_000_000, history_bytes=100_000)) as hub:
        for _ in range(500):
            await hub.publish("x", "y" * 1000)
            await asyncio.sleep(0)

        log = hub.dispatcher.logs["x"]
        assert log.end_bytes - log.bytes_before(log.first) <= 100_000 + 64 * 1002
        assert len(log.entries) >= 99


# Filters


FILTERED = 'subscription($f: [EventFilter!]) { events(channel: "x", filter: $f) { data } }'


@pytest.mark.parametrize(
    ("conditions", "wanted"),
    [
        ([{"field": "data.n", "op": "GREATER_THAN", "value": 7}], [8, 9]),
        ([{"field": "data.n", "op": "LESS_THAN", "value": 1}], [0]),
        ([{"field": "data.n", "op": "IN", "value": [3, 5]}, {"field": "data.n", "op": "NOT_EQUALS", "value": 5}], [3]),
        ([{"field": "event_type", "op": "EQUALS", "value": "even"}, {"field": "data.n", "op": "GREATER_THAN", "value": 5}], [6, 8]),
        ([{"field": "data.deep.0.k", "op": "EXISTS"}], [4]),
        ([{"field": "channel", "op": "EQUALS", "value": "y"}], []),
    ],
)
@scenario
async def test_filter_lets_exactly_the_matching_events_through(conditions: list[dict[str, Any]], wanted: list[int]) -> None:
    async with Hub(FREE) as hub, connected(hub.url) as client:
        client.start("1", FILTERED, f=conditions)
        client.start("2", FILTERED, f=[{"field": "data.n", "op": "EQUALS", "value": 9}])
        await client.synced()
        for number in range(10):
            data = {"n": number, **({"deep": [{"k": 1}]} if number == 4 else {})}
            await hub.publish("x", data, event_type="even" if number % 2 == 0 else "odd")
        got: list[int] = []
        while (message := await client.recv())["id"] != "2":
            got.append(message["payload"]["data"]["events"]["data"]["n"])
        while not client.inbox.empty():
            got.append((await client.recv())["payload"]["data"]["events"]["data"]["n"])

        assert got == wanted


@scenario
async def test_filter_on_data_that_python_cannot_hold_harms_nobody() -> None:
    query = 'subscription($f: [EventFilter!]) { events(channel: "x", filter: $f) { offset } }'
    async with Hub(FREE) as hub, connected(hub.url) as client, connected(hub.url) as publisher:
        client.start("1", query, f=[{"field": "data.n", "op": "NOT_EXISTS"}])
        client.start("2", query, f=[])
        await client.synced()
        digits = "9" * 5000
        publisher.send_text(
            b'{"id":"p","type":"subscribe","payload":{"query":%b,"variables":{"c":"x","d":%b}}}'
            % (json.dumps(PUBLISH).encode(), digits.encode())
        )
        await hub.publish("x", {"n": 1})
        got = sorted(
            [(message["id"], message["payload"]["data"]["events"]["offset"]) for message in [await client.recv() for _ in range(3)]]
        )

        assert {each for each in got if each[0] == "2"} == {("2", 1), ("2", 2)}
        assert len([each for each in got if each[0] == "1"]) == 1


@scenario
async def test_message_nested_too_deeply_closes_4400() -> None:
    async with Hub(FREE) as hub, connected(hub.url) as client:
        client.send_text(b'{"type":"ping","payload":' + b"[" * 20_000 + b"]" * 20_000 + b"}")

        assert await client.closed() == 4400


# Queries and mutations of several fields


@scenario
async def test_stats_query_is_live_and_exact() -> None:
    async with Hub(FREE) as hub, connected(hub.url) as client:
        await client.subscribe("1", "x")
        for number in range(7):
            await hub.publish("x", number)
        for _ in range(7):
            await client.recv()
        answer = await client.ask(
            "q", "{ stats { totalEvents totalDelivered totalSubscriptions activeSubscribers activeConnections mode breaker } }"
        )

        assert answer["stats"] == {
            "totalEvents": 7,
            "totalDelivered": 7,
            "totalSubscriptions": 1,
            "activeSubscribers": 1,
            "activeConnections": 1,
            "mode": "in-memory",
            "breaker": "closed",
        }


@scenario
async def test_mutation_of_several_fields_runs_them_in_order() -> None:
    query = 'mutation { a: publish(channel: "x", data: 1) { offset } b: publishMany(channel: "x", data: [2, 3]) { firstOffset count } }'
    async with Hub(FREE) as hub, connected(hub.url) as client, connected(hub.url) as reader:
        await reader.subscribe("1", "x")
        answer = await client.ask("m", query)

        assert answer == {"a": {"offset": 1}, "b": {"firstOffset": 2, "count": 2}}
        assert [(await reader.recv())["payload"]["data"]["events"]["data"] for _ in range(3)] == [1, 2, 3]


@scenario
async def test_introspection_works() -> None:
    from graphql import build_client_schema, get_introspection_query

    async with Hub(FREE) as hub, connected(hub.url) as client:
        answer = await client.ask("i", get_introspection_query())
        schema = build_client_schema(answer)

        assert schema.subscription_type is not None
        assert "events" in schema.subscription_type.fields
