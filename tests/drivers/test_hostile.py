"""Targets that refuse, speak something else or break off: each ends as RefusedError with a reason in words, in time, leaving nothing."""

from __future__ import annotations

import asyncio
import http
import re
import time
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from floodmark.drivers import build
from floodmark.drivers.base import Driver, RefusedError, Wanted
from tests.drivers.harness import Behaviour, Recorder, on_loop, raw_frame, read_frame, shake_hands, tcp_server, ws_server

LIMIT_S = 0.5
SLACK_S = 15.0
PROTOCOLS = {"graphql-ws": "graphql-transport-ws", "websocket": "chat"}
DRIVERS: dict[str, dict[str, Any]] = {
    "graphql-ws": {"frame_limit_bytes": 4096},
    "websocket": {"subprotocol": "chat", "frame_limit_bytes": 4096},
}
both = pytest.mark.parametrize("name", list(DRIVERS))


def driver(name: str) -> Driver:
    return build(name, DRIVERS[name])


async def refusal(name: str, url: str) -> str:
    """Connect and subscribe nothing; gives the reason of the refusal. The limit must hold and the sink must hear of nothing."""
    recorder, began = Recorder(), time.monotonic()

    with pytest.raises(RefusedError) as caught:
        await driver(name).connect(url, "room", recorder, limit_s=LIMIT_S)

    assert time.monotonic() - began < LIMIT_S + SLACK_S
    assert recorder.closings == []  # it never was a connection
    assert str(caught.value).startswith(url)
    return caught.value.reason


async def read_request(reader: asyncio.StreamReader) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(4096):
        writer.write(chunk)


async def close_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


async def close_half_way(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: webs")
    await writer.drain()


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(-1)


async def speak_binary(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x00\x01\x02\xff\xfe" * 20 + b"\r\n\r\n")
    await reader.read(-1)


async def speak_smtp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example ESMTP ready\r\n\r\n")
    await reader.read(-1)


async def endless_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\n")
    while True:
        writer.write(b"X-More: " + b"a" * 1000 + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0.005)


async def plain_page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nContent-Type: text/html\r\n\r\n<p>hello</p>")
    await reader.read(-1)


async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/login\r\nContent-Length: 0\r\n\r\n")
    await reader.read(-1)


async def wrong_accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: bm8=\r\n\r\n")
    await reader.read(-1)


@both
@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (echo, r"WebSocket handshake .*it sent b'GET / HTTP"),
        (close_at_once, r"broke off the WebSocket handshake"),
        (close_half_way, r"broke off the WebSocket handshake"),
        (say_nothing, r"took no WebSocket handshake within 0\.5 s"),
        (speak_binary, r"WebSocket handshake"),
        (speak_smtp, r"WebSocket handshake .*ESMTP"),
        (endless_headers, r"WebSocket handshake"),
        (plain_page, r"HTTP 200"),
        (redirect, r"HTTP 302"),
        (wrong_accept, r"WebSocket handshake"),
    ],
)
@on_loop
async def test_connect_another_protocol_is_refused_in_words(name: str, behaviour: Behaviour, reason: str) -> None:
    async with tcp_server(behaviour) as url:
        told = await refusal(name, url)

    assert re.search(reason, told), told


@both
@on_loop
async def test_connect_nobody_listens_is_refused(name: str) -> None:
    async with tcp_server(say_nothing) as url:
        pass  # the port was free a moment ago

    assert await refusal(name, url) == "refuses connections: nothing listens there"


@both
@on_loop
async def test_connect_unknown_host_is_refused(name: str) -> None:
    assert "cannot be found" in await refusal(name, "ws://no-such-host.invalid:80/")


@both
@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
@on_loop
async def test_connect_http_status_is_named_with_its_body(name: str, status: int) -> None:
    def refuse(socket: ServerConnection, request: Request) -> Response:
        return socket.respond(http.HTTPStatus(status), "come back later\n")

    async def never(socket: ServerConnection) -> None:
        raise AssertionError("the handshake was refused")

    async with ws_server(never, subprotocol=PROTOCOLS[name], process_request=refuse) as url:
        told = await refusal(name, url)

    assert told == f"refused the WebSocket handshake with HTTP {status}: come back later"


@both
@on_loop
async def test_connect_wrong_subprotocol_is_refused(name: str) -> None:
    async def stay(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async with ws_server(stay, select_subprotocol=lambda *_: None) as url:
        told = await refusal(name, url)

    assert told == f"does not speak {PROTOCOLS[name]} (it answered with sub-protocol None)"


@both
@on_loop
async def test_connect_cancelled_leaves_no_socket(name: str) -> None:
    async with tcp_server(say_nothing) as url:
        connecting = asyncio.ensure_future(driver(name).connect(url, "room", Recorder(), limit_s=30.0))
        await asyncio.sleep(0)

        connecting.cancel()

        with pytest.raises(asyncio.CancelledError):
            await connecting


# -- a handshake that went well, and nonsense after it ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (raw_frame(b"hello there"), "sent something that is not graphql-transport-ws: b'hello there'"),
        (raw_frame(b"[1, 2]"), "sent something that is not graphql-transport-ws: b'[1, 2]'"),
        (raw_frame(b"\xff\xfe\x00", opcode=2), "sent something that is not graphql-transport-ws"),
        (raw_frame(b"x" * 5000), "sent a message longer than 4,096 bytes"),
        (raw_frame(b"x" * 3000, fin=False) + raw_frame(b"x" * 3000, opcode=0), "sent a message longer than 4,096 bytes"),
        (raw_frame(b"tail", opcode=0), "broke the WebSocket protocol"),
        (raw_frame(b"x", opcode=11), "broke the WebSocket protocol"),
        (b"\xf1\x05hello", "sent something that is not graphql-transport-ws: b'hello'"),
        (raw_frame(b"\x11\x30" + b"bad", opcode=8), "closed the connection with code 4400 (bad)"),
        (raw_frame(b"", opcode=8), "closed the connection without a code"),
        (b"", "broke the connection off without a closing handshake"),
    ],
    ids=["text", "array", "binary", "too-long", "fragments-too-long", "stray-tail", "opcode", "reserved-bits", "4400", "no-code", "eof"],
)
@on_loop
async def test_graphql_nonsense_instead_of_ack_is_refused(frames: bytes, reason: str) -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await shake_hands(reader, writer)
        await read_frame(reader)  # connection_init
        writer.write(frames)
        await writer.drain()

    async with tcp_server(behave) as url:
        told = await refusal("graphql-ws", url)

    assert told.startswith(reason), told


@on_loop
async def test_graphql_no_ack_is_refused_within_the_limit() -> None:
    async def mute(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async with ws_server(mute, subprotocol="graphql-transport-ws") as url:
        assert await refusal("graphql-ws", url) == "sent no connection_ack within 0.5 s; is it a graphql-transport-ws server?"


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (raw_frame(b"x" * 5000), "sent a message longer than 4,096 bytes"),
        (raw_frame(b"x" * 3000, fin=False) + raw_frame(b"x" * 3000, opcode=0), "sent a message longer than 4,096 bytes"),
        (raw_frame(b"x", opcode=11), "broke the WebSocket protocol"),
        (raw_frame(b"\x03\xe9", opcode=8), "closed the connection with code 1001"),
        (b"", "broke the connection off without a closing handshake"),
    ],
    ids=["too-long", "fragments-too-long", "opcode", "1001", "eof"],
)
@both
@on_loop
async def test_subscribe_target_breaks_off_is_refused_and_told_to_the_sink(name: str, frames: bytes, reason: str) -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await shake_hands(reader, writer)
        if name == "graphql-ws":
            await read_frame(reader)
            writer.write(raw_frame(b'{"type":"connection_ack"}'))
        await read_frame(reader)
        writer.write(frames)
        await writer.drain()

    recorder = Recorder()
    async with tcp_server(behave) as url:
        connection = await driver(name).connect(url, "room", recorder, limit_s=LIMIT_S)

        with pytest.raises(RefusedError) as caught:
            async with asyncio.timeout(SLACK_S):
                await connection.subscribe([Wanted(slot=0, channel="room")])

    assert caught.value.reason.startswith(reason), caught.value.reason
    assert len(recorder.closings) == 1
    assert recorder.closings[0] == caught.value.reason
