"""The websocket driver and its templates: whose frame it is, what confirms, acknowledges and refuses, in text and in binary."""

from __future__ import annotations

import asyncio
import json
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection

from floodmark.core.errors import UsageError
from floodmark.drivers import build
from floodmark.drivers.base import Connection, Options, RefusedError, Wanted
from tests.drivers.harness import WAIT_LIMIT_S, Recorder, eventually, on_loop, stamped, ws_server
from tests.drivers.test_reference import RECIPES

JOIN = '{"do": "join", "room": "$channel"}'
SAY = '{"do": "say", "room": "$channel", "text": "$payload", "ref": $token}'


class Room:
    """A service that remembers what it was sent; `answers` says what comes back."""

    def __init__(self, answers: Callable[[str | bytes], list[str | bytes]] = lambda _: []) -> None:
        self.answers = answers
        self.seen: list[str | bytes] = []
        self.sockets: list[ServerConnection] = []

    async def __call__(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        async for message in socket:
            self.seen.append(message)
            for answer in self.answers(message):
                await socket.send(answer)


@asynccontextmanager
async def connected(
    room: Callable[[ServerConnection], Awaitable[None]], options: Options | None = None, path: str = "", channel: str = "a"
) -> AsyncIterator[tuple[Connection, Recorder]]:
    recorder = Recorder()
    async with ws_server(room) as url:
        connection = await build("websocket", options or {}).connect(url + path, channel, recorder, limit_s=15.0)
        try:
            yield connection, recorder
        finally:
            await connection.close()
    assert len(recorder.closings) == 1


def want(slot: int, channel: str, after: int | None = None) -> Wanted:
    return Wanted(slot=slot, channel=channel, after=after)


@on_loop
async def test_frame_of_a_single_subscription_needs_no_key() -> None:
    room = Room()
    async with connected(room, {"subscribe": JOIN}) as (connection, recorder):
        await connection.subscribe([want(3, "a")])

        await room.sockets[0].send(json.dumps({"welcome": "a"}))
        await room.sockets[0].send(json.dumps({"text": stamped().decode()}))
        await eventually(lambda: len(recorder.frames) == 1)

    assert room.seen == ['{"do": "join", "room": "a"}']
    assert recorder.slots == [3]


@on_loop
async def test_hello_is_the_first_word_on_every_connection() -> None:
    room = Room()
    async with connected(room, {"hello": "JOIN $channel", "publish": "SAY $payload"}, channel="a") as (connection, _):
        connection.publish("a", stamped(), 1)
        await eventually(lambda: len(room.seen) == 2)

    assert room.seen == ["JOIN a", "SAY " + stamped().decode()]


@on_loop
async def test_phoenix_recipe_tells_joins_acknowledgements_and_refusals_apart() -> None:
    options = tomllib.loads(next(recipe for recipe in RECIPES if "phx_join" in recipe))["driver_options"]

    def answer(text: str | bytes) -> list[str | bytes]:
        join_ref, ref, topic, event, _ = json.loads(text)
        status = "error" if ref == "7" else "ok"
        reply = json.dumps([join_ref, ref, topic, "phx_reply", {"response": {}, "status": status}], separators=(",", ":"))
        return [reply] if event == "phx_join" else [text, reply]

    room = Room(answer)
    async with connected(room, options) as (connection, recorder):
        for token in (5, 6, 7):
            connection.publish("a", stamped(), token)
        await eventually(lambda: len(recorder.acks) + len(recorder.refusals) == 3)

    assert recorder.acks == [5, 6]
    assert [token for token, _ in recorder.refusals] == [7]


@on_loop
async def test_frames_of_several_subscriptions_are_told_apart_by_channel_key() -> None:
    room = Room()
    async with connected(room, {"subscribe": JOIN, "channel_key": "room"}) as (connection, recorder):
        await connection.subscribe([want(number, name) for number, name in enumerate("abc")])

        for name in "cabx":
            await room.sockets[0].send(json.dumps({"room": name, "text": stamped().decode()}))
        await room.sockets[0].send(stamped().decode())
        await room.sockets[0].send(json.dumps({"room": "a", "text": stamped().decode()}, separators=(",", ":")))
        await eventually(lambda: len(recorder.frames) == 5)

    assert recorder.slots == [2, 0, 1, 0, 0]  # the one of room x was sent to the wrong place, which is for the ledger to say


@on_loop
async def test_frame_in_fragments_is_put_together() -> None:
    room = Room()
    text = json.dumps({"text": stamped().decode()})
    async with connected(room) as (connection, recorder):
        await connection.subscribe([want(0, "a")])

        await room.sockets[0].send(iter([text[:20], text[20:50], text[50:]]))
        await room.sockets[0].send(text)
        await eventually(lambda: len(recorder.frames) == 2)

    assert [frame for _, frame, _ in recorder.frames] == [text.encode()] * 2


@on_loop
async def test_binary_payloads_travel_as_they_are() -> None:
    room = Room()
    async with connected(room, {"encoding": "binary", "subscribe": JOIN}) as (connection, recorder):
        await connection.subscribe([want(0, "a")])
        payload = stamped(5, "binary", 64)

        connection.publish("a", payload, 1)
        await eventually(lambda: len(room.seen) == 2)
        await room.sockets[0].send(b"\x00\x01" + payload)
        await room.sockets[0].send(stamped(5, "text").decode())  # a text stamp is not one of this encoding
        await eventually(lambda: len(recorder.frames) == 1)

    assert room.seen == ['{"do": "join", "room": "a"}', payload]  # commands are text, payloads binary
    assert recorder.frames[0][1] == b"\x00\x01" + payload


@on_loop
async def test_binary_template_wraps_the_payload() -> None:
    room = Room()
    async with connected(room, {"encoding": "binary", "publish": "PUT $channel $token\n$payload$$"}) as (connection, _):
        payload = stamped(5, "binary", 64)

        connection.publish("a", payload, 9)
        connection.publish("b", payload, 10)
        await eventually(lambda: len(room.seen) == 2)

    assert room.seen == [b"PUT a 9\n" + payload + b"$", b"PUT b 10\n" + payload + b"$"]


@on_loop
async def test_channel_in_the_url_is_filled_in_and_bound() -> None:
    room = Room()
    async with connected(room, path="chat/$channel?x=1", channel="a") as (connection, recorder):
        await connection.subscribe([want(0, "a")])
        await room.sockets[0].send(stamped().decode())
        await eventually(lambda: len(recorder.frames) == 1)

        with pytest.raises(UsageError, match="the URL names the channel"):
            await connection.subscribe([want(1, "b")])
        with pytest.raises(UsageError, match="as many publishers as channels"):
            connection.publish("b", stamped(), 1)

    request = room.sockets[0].request
    assert request is not None
    assert request.path == "/chat/a?x=1"


@pytest.mark.parametrize(
    ("options", "wanted", "reason"),
    [
        ({}, [want(0, "a"), want(1, "b")], "channel_key must say"),
        ({"channel_key": "room"}, [want(0, "a"), want(1, "a")], "have the same channel"),
    ],
)
@on_loop
async def test_subscribe_what_could_not_be_told_apart_is_a_usage_error(options: Options, wanted: list[Wanted], reason: str) -> None:
    async with connected(Room(), options) as (connection, _):
        with pytest.raises(UsageError, match=reason):
            await connection.subscribe(wanted)


# -- confirmation -------------------------------------------------------------------------------------------------------------------


@on_loop
async def test_subscribed_waits_for_one_confirmation_each() -> None:
    room = Room()
    async with connected(room, {"subscribe": JOIN, "subscribed": '"joined"', "channel_key": "room"}) as (connection, _):
        subscribing = asyncio.ensure_future(connection.subscribe([want(0, "a"), want(1, "b")]))
        await eventually(lambda: len(room.seen) == 2)
        await room.sockets[0].send('{"joined": "a"}')
        early = not subscribing.done()

        await room.sockets[0].send('{"joined": "b"}')
        await asyncio.wait_for(subscribing, WAIT_LIMIT_S)

    assert early


@on_loop
async def test_subscribed_again_after_leaving_waits_anew() -> None:
    room = Room(lambda text: ['{"joined": true}'] if "join" in str(text) else [])
    options = {"subscribe": JOIN, "unsubscribe": '{"do": "leave", "room": "$channel"}', "subscribed": "joined"}
    async with connected(room, options) as (connection, recorder):
        await connection.subscribe([want(0, "a")])
        await connection.unsubscribe([0, 99])
        await connection.subscribe([want(1, "b")])

        await room.sockets[0].send(stamped().decode())
        await eventually(lambda: len(recorder.frames) == 1)

    assert [json.loads(text) for text in room.seen] == [
        {"do": "join", "room": "a"},
        {"do": "leave", "room": "a"},
        {"do": "join", "room": "b"},
    ]
    assert recorder.slots == [1]


@on_loop
async def test_subscribe_never_confirmed_ends_with_the_callers_limit() -> None:
    async with connected(Room(), {"subscribe": JOIN, "subscribed": "joined"}) as (connection, _):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await connection.subscribe([want(0, "a")])


@on_loop
async def test_subscribe_connection_closed_meanwhile_is_refused_with_the_code() -> None:
    async def close(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.close(4404, "no such room")

    async with connected(close, {"subscribe": JOIN, "subscribed": "joined"}) as (connection, recorder):
        with pytest.raises(RefusedError, match=r"closed the connection with code 4404 \(no such room\)"):
            await connection.subscribe([want(0, "a")])

        assert recorder.closings == ["closed the connection with code 4404 (no such room)"]
        with pytest.raises(RefusedError, match="4404"):
            await connection.subscribe([want(0, "a")])
        with pytest.raises(RefusedError, match="4404"):
            await connection.unsubscribe([0])
        connection.publish("a", stamped(), 1)
        assert not connection.writable


@on_loop
async def test_subscribe_refused_by_pattern_ends_in_the_services_words() -> None:
    room = Room(lambda _: ['{"error": "full"}'])
    options = {"subscribe": JOIN, "subscribed": "joined", "refused": r'"error"(?:.*"ref":\s*(\d+))?'}
    async with connected(room, options) as (connection, recorder):
        with pytest.raises(RefusedError, match=r'refused a subscription: \{"error": "full"\}'):
            await connection.subscribe([want(0, "a")])

    assert recorder.refusals == []


# -- acknowledgement ----------------------------------------------------------------------------------------------------------------


@on_loop
async def test_acknowledged_pattern_gives_the_token_even_with_an_echo() -> None:
    def answer(text: str | bytes) -> list[str | bytes]:
        said = json.loads(text)
        return [json.dumps({"ok": said["ref"], "text": said["text"]})]

    async with connected(Room(answer), {"publish": SAY, "acknowledged": r'"ok":\s*(\d+)'}) as (connection, recorder):
        for token in (1, 2, 12345678901):
            connection.publish("a", stamped(), token)
        await eventually(lambda: len(recorder.acks) == 3)

    assert recorder.acks == [1, 2, 12345678901]
    assert recorder.frames == []  # the echo in an acknowledgement is no delivery


@on_loop
async def test_refused_pattern_gives_the_token_and_the_words() -> None:
    room = Room(lambda text: [json.dumps({"error": "too fast", "ref": json.loads(text)["ref"]})])
    options = {"publish": SAY, "acknowledged": r'"ok":\s*(\d+)', "refused": r'"error".*"ref":\s*(\d+)'}
    async with connected(room, options) as (connection, recorder):
        connection.publish("a", stamped(), 7)
        await eventually(lambda: bool(recorder.refusals))

    assert recorder.refusals == [(7, '{"error": "too fast", "ref": 7}')]
    assert recorder.acks == []


@pytest.mark.parametrize("answer", ['{"ok": "x"}', '{"ok": }', '{"ok": ' + "9" * 300 + "}", "\x00", ""])
@on_loop
async def test_acknowledged_nonsense_is_ignored(answer: str) -> None:
    room = Room(lambda _: [answer])
    async with connected(room, {"publish": SAY, "acknowledged": r'"ok":\s*"?(\w*)'}) as (connection, recorder):
        connection.publish("a", stamped(), 1)

        await connection.subscribe([want(0, "a")])  # the connection still works

    assert recorder.acks == []


# -- resume -------------------------------------------------------------------------------------------------------------------------


@on_loop
async def test_resume_key_gives_the_position_and_after_sends_it() -> None:
    room = Room()
    options = {"subscribe": 'JOIN $channel "$after"', "resume_key": "id"}
    async with connected(room, options) as (connection, _):
        assert connection.resume_point(b'{"id": 41, "text": "x"}') == 41
        assert connection.resume_point(b'{"ident": 41}') is None
        await connection.subscribe([want(0, "a")])
        await connection.subscribe([want(0, "a", after=41)])

    assert room.seen == ['JOIN a ""', 'JOIN a "41"']


def test_resumes_needs_both_the_key_and_after() -> None:
    assert build("websocket", {"subscribe": "J $channel $after", "resume_key": "id"}).resumes
    assert not build("websocket", {"subscribe": "J $channel", "resume_key": "id"}).resumes
    assert not build("websocket", {"subscribe": "J $channel $after"}).resumes


# -- the rest -----------------------------------------------------------------------------------------------------------------------


@on_loop
async def test_headers_and_subprotocol_go_with_the_handshake() -> None:
    room, recorder = Room(), Recorder()
    options = {"subprotocol": "chat.v2", "headers": '{"Cookie": "session=1"}'}
    async with ws_server(room, subprotocol="chat.v2") as url:
        connection = await build("websocket", options).connect(url, "a", recorder, limit_s=15.0)
        await connection.subscribe([want(0, "a")])
        request = room.sockets[0].request
        await connection.close()

    assert request is not None
    assert (request.headers["Cookie"], request.headers["Sec-WebSocket-Protocol"]) == ("session=1", "chat.v2")


@on_loop
async def test_server_ping_is_answered_and_a_stray_pong_is_ignored() -> None:
    room = Room()
    async with connected(room) as (connection, _):
        await connection.subscribe([want(0, "a")])

        await room.sockets[0].pong(b"unasked")
        await asyncio.wait_for(await room.sockets[0].ping(), WAIT_LIMIT_S)


@on_loop
async def test_publish_on_a_connection_without_subscription_sees_no_deliveries() -> None:
    room = Room(lambda text: [text])
    async with connected(room) as (connection, recorder):
        connection.publish("a", stamped(), 1)
        await eventually(lambda: len(room.seen) == 1)
        await connection.unsubscribe([])  # a round trip: the echo came before

    assert recorder.frames == []


@on_loop
async def test_statistics_are_none() -> None:
    assert await build("websocket", {}).statistics("ws://127.0.0.1:1/") is None
