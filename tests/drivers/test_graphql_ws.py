"""The graphql-ws driver against servers of every manner: key orders, white space, fragments, refusals, endings, resume."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from floodmark.drivers import build
from floodmark.drivers.base import Connection, Options, RefusedError, Wanted
from floodmark.drivers.graphql_ws import GraphQLConnection
from tests.drivers.harness import WAIT_LIMIT_S, GraphQLServer, Recorder, Say, eventually, on_loop, stamped, ws_server


@asynccontextmanager
async def connected(server: GraphQLServer, options: Options | None = None) -> AsyncIterator[tuple[Connection, Recorder]]:
    recorder = Recorder()
    async with ws_server(server, subprotocol="graphql-transport-ws") as url:
        connection = await build("graphql-ws", options or {}).connect(url, "room", recorder, limit_s=15.0)
        try:
            yield connection, recorder
        finally:
            await connection.close()
    assert len(recorder.closings) == 1  # told once, whoever left first


def wanted(count: int) -> list[Wanted]:
    return [Wanted(slot=10 + number, channel=f"room-{number}") for number in range(count)]


def key_order(*keys: str) -> Say:
    return lambda message: json.dumps({key: message[key] for key in keys})


SPELLINGS: dict[str, Say] = {
    "compact": lambda message: json.dumps(message, separators=(",", ":")),
    "spaced": json.dumps,
    "indented": lambda message: json.dumps(message, indent=2),
    "type-first": key_order("type", "id", "payload"),
    "payload-first": key_order("payload", "id", "type"),
    "payload-between": key_order("id", "payload", "type"),
    "more-keys": lambda message: json.dumps({"seq": 1, **message, "extensions": {"next": "next"}}),
}


@pytest.mark.parametrize("say", list(SPELLINGS.values()), ids=list(SPELLINGS))
@on_loop
async def test_delivery_any_spelling_reaches_its_slot(say: Say) -> None:
    server = GraphQLServer(say)
    async with connected(server) as (connection, recorder):
        await connection.subscribe(wanted(3))

        for seq in range(5):
            for number in range(3):
                await server.deliver(f"s000000{number}", stamped(seq).decode())
        await eventually(lambda: len(recorder.frames) == 15)

    assert recorder.slots == [10, 11, 12] * 5
    assert all(stamped(at // 3) in frame for at, (_, frame, _) in enumerate(recorder.frames))
    assert recorder.turns > 0


@on_loop
async def test_delivery_changing_spelling_is_learnt_anew_and_stays_bounded() -> None:
    server = GraphQLServer()
    async with connected(server) as (connection, recorder):
        await connection.subscribe(wanted(1))

        for seq in range(200):
            server.say = lambda message, seq=seq: json.dumps({"n": seq, **message})  # type: ignore[misc]
            await server.deliver("s0000000", stamped(seq).decode())
        await eventually(lambda: len(recorder.frames) == 200)

        assert isinstance(connection, GraphQLConnection)
        assert len(connection._heads) <= 4  # a server that numbers its frames must not fill our memory

    assert set(recorder.slots) == {10}


@on_loop
async def test_delivery_in_fragments_is_put_together() -> None:
    server = GraphQLServer()
    async with connected(server) as (connection, recorder):
        await connection.subscribe(wanted(1))
        await server.deliver("s0000000", stamped(0).decode())
        text = json.dumps({"id": "s0000000", "type": "next", "payload": {"data": {"events": {"data": stamped(1).decode()}}}})

        await server.sockets[0].send(iter([text[:30], text[30:90], text[90:]]))
        await server.deliver("s0000000", stamped(2).decode())
        await eventually(lambda: len(recorder.frames) == 3)

    assert recorder.frames[1][1] == text.encode()
    assert all(stamped(seq) in recorder.frames[seq][1] for seq in range(3))


@on_loop
async def test_ping_of_the_server_is_answered_with_pong() -> None:
    server = GraphQLServer()
    async with connected(server):
        await server.sockets[0].send('{"type":"ping","payload":{"at":1}}')
        await eventually(lambda: bool(server.of("pong")))

        pong = await server.sockets[0].ping()
        await asyncio.wait_for(pong, WAIT_LIMIT_S)  # and the WebSocket's own ping


@on_loop
async def test_subscribe_error_of_the_server_is_refused_in_its_words() -> None:
    class Server(GraphQLServer):
        async def on_subscribe(self, socket: ServerConnection, message: dict[str, Any]) -> None:
            await socket.send(json.dumps({"id": message["id"], "type": "error", "payload": [{"message": 'no "room" for you'}]}))

    async with connected(Server()) as (connection, recorder):
        with pytest.raises(RefusedError, match='refused a subscription: no "room" for you'):
            await connection.subscribe(wanted(1))

        assert recorder.ends == []  # it never began


@on_loop
async def test_subscribe_completed_at_once_is_refused() -> None:
    class Server(GraphQLServer):
        async def on_subscribe(self, socket: ServerConnection, message: dict[str, Any]) -> None:
            await socket.send(json.dumps({"id": message["id"], "type": "complete"}))

    async with connected(Server()) as (connection, _):
        with pytest.raises(RefusedError, match="refused a subscription: the server completed it"):
            await connection.subscribe(wanted(1))


@on_loop
async def test_subscribe_server_disconnects_is_refused_with_the_code() -> None:
    class Server(GraphQLServer):
        async def on_subscribe(self, socket: ServerConnection, message: dict[str, Any]) -> None:
            await socket.close(4403, "too many")

    async with connected(Server()) as (connection, recorder):
        with pytest.raises(RefusedError, match=r"closed the connection with code 4403 \(too many\)"):
            await connection.subscribe(wanted(2))

        assert recorder.closings == ["closed the connection with code 4403 (too many)"]
        with pytest.raises(RefusedError, match="4403"):
            await connection.unsubscribe([10])
        with pytest.raises(RefusedError, match="4403"):
            await connection.subscribe(wanted(1))
        connection.publish("room", stamped(), 1)  # nothing happens on a dead connection
        assert not connection.writable


@on_loop
async def test_subscribe_slow_confirmation_waits_and_a_limit_ends_it() -> None:
    class Server(GraphQLServer):
        async def on_ping(self, socket: ServerConnection) -> None:
            """Never answers."""

    async with connected(Server()) as (connection, _):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await connection.subscribe(wanted(1))


@pytest.mark.parametrize("ending", ["complete", "error"])
@on_loop
async def test_subscription_ended_by_the_server_is_told_and_the_others_go_on(ending: str) -> None:
    server = GraphQLServer()
    async with connected(server) as (connection, recorder):
        await connection.subscribe(wanted(2))
        payload = {"payload": [{"message": "lagged"}]} if ending == "error" else {}

        await server.deliver("s0000000", stamped(0).decode())
        await server.sockets[0].send(json.dumps({"id": "s0000000", "type": ending, **payload}))
        await server.deliver("s0000000", stamped(1).decode())
        await server.deliver("s0000001", stamped(2).decode())
        await eventually(lambda: len(recorder.frames) == 2)

    assert recorder.ends == [(10, "lagged" if ending == "error" else "the server completed it")]
    assert recorder.slots == [10, 11]


@on_loop
async def test_unsubscribe_completes_and_ignores_what_was_under_way() -> None:
    server = GraphQLServer()
    async with connected(server) as (connection, recorder):
        await connection.subscribe(wanted(2))

        await connection.unsubscribe([10])
        await server.deliver("s0000000", stamped(0).decode())
        await connection.subscribe([Wanted(slot=20, channel="room-0")])
        await server.deliver("s0000002", stamped(1).decode())
        await server.deliver("s0000001", stamped(2).decode())
        await eventually(lambda: len(recorder.frames) == 2)

    assert [message["id"] for message in server.of("complete")] == ["s0000000"]
    assert recorder.slots == [20, 11]


@on_loop
async def test_publish_is_a_mutation_and_its_answer_an_acknowledgement() -> None:
    server = GraphQLServer()
    async with connected(server) as (connection, recorder):
        for token in (1, 2, 12345678901):
            connection.publish("room", stamped(token % 100), token)
        await eventually(lambda: len(recorder.acks) == 3)

    sent = server.of("subscribe")
    assert recorder.acks == [1, 2, 12345678901]
    assert [message["payload"]["variables"] for message in sent[:2]] == [
        {"channel": "room", "data": stamped(seq).decode()} for seq in (1, 2)
    ]


@on_loop
async def test_publish_of_probes_uses_ids_that_differ() -> None:
    server = GraphQLServer()
    async with connected(server) as (connection, recorder):
        for _ in range(3):
            connection.publish("room", stamped(), 0)  # a strict server closes with 4409 when two at once have one id
        connection.publish("room", stamped(), 1)
        await eventually(lambda: recorder.acks == [1])

    assert len({message["id"] for message in server.of("subscribe")}) == 4


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        ({"type": "next", "payload": {"errors": [{"message": "full"}], "data": None}}, "full"),
        ({"type": "error", "payload": [{"message": "bad \\u0041", "path": []}]}, "bad \\u0041"),
        ({"type": "next", "payload": {"errors": ["not even an object"]}}, '{"errors": ["not even an object"]}'),
        ({"type": "next", "payload": {"data": {"publish": {"errors": []}}}}, None),
        ({"type": "next", "payload": {"data": {"publish": {"errors": [{"message": "a field of the data"}]}}}}, None),
        ({"type": "next", "payload": {"data": {"publish": {"offset": 1}}, "errors": []}}, None),
        ({"type": "next", "payload": {"data": {"publish": {"offset": 1}}, "errors": None}}, None),
    ],
)
@on_loop
async def test_publish_errors_at_the_top_level_are_refusals_only(answer: dict[str, Any], refusal: str | None) -> None:
    class Server(GraphQLServer):
        async def on_publish(self, socket: ServerConnection, message: dict[str, Any]) -> None:
            await socket.send(json.dumps({"id": message["id"], **answer}))

    async with connected(Server()) as (connection, recorder):
        connection.publish("room", stamped(), 5)
        await eventually(lambda: bool(recorder.acks or recorder.refusals))

    assert recorder.acks == ([] if refusal else [5])
    assert recorder.refusals == ([(5, refusal)] if refusal else [])


@pytest.mark.parametrize("made_up", ["p", "px", "p-1", "p1e5", "p" + "9" * 400, "p²", "s9999999", "zzz", ""])
@pytest.mark.parametrize("kind", ["next", "error", "complete"])
@on_loop
async def test_answer_to_an_operation_nobody_started_is_ignored(made_up: str, kind: str) -> None:
    server = GraphQLServer()
    async with connected(server) as (connection, recorder):
        await server.sockets[0].send(json.dumps({"id": made_up, "type": kind, "payload": [{"message": "?"}]}))

        await connection.subscribe(wanted(1))  # the connection still works

    assert (recorder.frames, recorder.acks, recorder.refusals, recorder.ends) == ([], [], [], [])


@on_loop
async def test_resume_sends_the_offset_of_the_last_frame() -> None:
    server = GraphQLServer()
    async with connected(server) as (connection, recorder):
        await connection.subscribe(wanted(1))
        await server.deliver("s0000000", stamped().decode(), 41)
        await eventually(lambda: len(recorder.frames) == 1)
        after = connection.resume_point(recorder.frames[0][1])

        await connection.subscribe([Wanted(slot=11, channel="room-1", after=after)])

    assert after == 41
    assert [message["payload"]["variables"]["after"] for message in server.of("subscribe")] == [None, 41]


@on_loop
async def test_resume_without_after_in_the_document_is_not_offered() -> None:
    server = GraphQLServer()
    document = "subscription S($channel: String!) { talk(room: $channel) { text } }"

    async with connected(server, {"subscribe": document}) as (connection, _):
        await connection.subscribe(wanted(1))

        assert connection.resume_point(b'{"text":"x"}') is None

    assert server.of("subscribe")[0]["payload"] == {"query": document, "variables": {"channel": "room-0"}}
    assert not build("graphql-ws", {"subscribe": document}).resumes


@on_loop
async def test_offset_key_names_the_key_of_the_position() -> None:
    async with connected(GraphQLServer(), {"offset_key": "cursor.id"}) as (connection, _):
        assert connection.resume_point(b'{"offset":1,"cursor.id" : "77"}') == 77
        assert connection.resume_point(b'{"cursor_id":77}') is None


@pytest.mark.parametrize(
    ("options", "payload"),
    [
        ({}, None),
        ({"token": "abc"}, {"authorization": "Bearer abc"}),
        ({"init": '{"headers": {"x-hasura-admin-secret": "s"}}'}, {"headers": {"x-hasura-admin-secret": "s"}}),
    ],
)
@on_loop
async def test_connection_init_carries_token_or_init(options: Options, payload: Any) -> None:
    server = GraphQLServer()

    async with connected(server, options):
        assert server.of("connection_init")[0].get("payload") == payload


@on_loop
async def test_headers_go_with_the_handshake() -> None:
    server = GraphQLServer()

    async with connected(server, {"headers": '{"X-Team": "flood", "Authorization": "Basic eA=="}'}):
        request = server.sockets[0].request
        assert request is not None
        assert (request.headers["X-Team"], request.headers["Authorization"]) == ("flood", "Basic eA==")


@on_loop
async def test_pause_reading_holds_deliveries_back_until_resumed() -> None:
    server = GraphQLServer()
    async with connected(server) as (connection, recorder):
        await connection.subscribe(wanted(1))
        connection.pause_reading()
        await server.deliver("s0000000", stamped().decode())
        await asyncio.sleep(0.05)  # the absence of a delivery has no event
        held = len(recorder.frames)

        connection.resume_reading()
        await eventually(lambda: len(recorder.frames) == 1)

    assert held == 0


@on_loop
async def test_abort_tells_the_sink_once_and_close_afterwards_is_quiet() -> None:
    async with connected(GraphQLServer()) as (connection, recorder):
        connection.abort()
        connection.abort()
        await eventually(lambda: bool(recorder.closings))
        connection.pause_reading()
        connection.resume_reading()


@on_loop
async def test_writable_turns_false_while_the_server_does_not_read() -> None:
    class Server(GraphQLServer):
        async def on_publish(self, socket: ServerConnection, message: dict[str, Any]) -> None:
            socket.transport.pause_reading()

    server = Server()
    async with connected(server) as (connection, _):
        connection.publish("room", stamped(), 1)
        await eventually(lambda: bool(server.of("subscribe")))

        for token in range(2, 5000):
            connection.publish("room", stamped(payload_bytes=20_000), token)
            if not connection.writable:
                break
        refused = connection.writable

        connection.abort()
        server.sockets[0].transport.abort()  # it does not read, and would wait ten seconds for words of parting

    assert not refused
