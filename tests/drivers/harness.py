"""What the driver tests share: a sink that remembers, servers on a port of the system's choice, and a loop like the agents'.

`tcp_server` speaks bytes, for targets that break the rules below WebSocket; `ws_server` is the `websockets` library, for those that
keep them.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, ParamSpec

import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from floodmark.drivers.base import Connection
from floodmark.ledger.block import Block
from floodmark.ledger.stamp import Encoding, Stamper

P = ParamSpec("P")
TEST_LIMIT_S = 60.0
WAIT_LIMIT_S = 20.0
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def on_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a coroutine as a test, on a loop of the kind the agents use, within a limit."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def limited() -> None:
            async with asyncio.timeout(TEST_LIMIT_S):
                await test(*args, **kwargs)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(limited())

    return run


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something holds that no event announces. Raises: TimeoutError."""
    async with asyncio.timeout(WAIT_LIMIT_S):
        while not condition():  # noqa: ASYNC110  nothing signals it
            await asyncio.sleep(0.002)


class Recorder:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, bytes, int]] = []
        self.put: Callable[[tuple[int, bytes, int]], None] = self.frames.append
        self.turns = 0
        self.blocks = 0
        self.acks: list[int] = []
        self.refusals: list[tuple[int, str]] = []
        self.ends: list[tuple[int, str]] = []
        self.closings: list[str] = []

    @property
    def takes_blocks(self) -> bool:
        return True

    def put_block(self, block: Block) -> None:
        self.blocks += 1
        self.frames.extend(block.frames())

    def turn(self) -> None:
        self.turns += 1

    def acknowledged(self, token: int) -> None:
        self.acks.append(token)

    def refused(self, token: int, reason: str) -> None:
        self.refusals.append((token, reason))

    def ended(self, slot: int, reason: str) -> None:
        self.ends.append((slot, reason))

    def closed(self, connection: Connection, reason: str) -> None:
        self.closings.append(reason)

    @property
    def slots(self) -> list[int]:
        """The slots of all frames, in order."""
        return [slot for slot, _, _ in self.frames]


def stamped(seq: int = 0, encoding: Encoding = "text", payload_bytes: int = 200) -> bytes:
    """A payload as the publisher makes it."""
    return Stamper(7, encoding, payload_bytes).payload(0, seq, 1, 2)


Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def tcp_server(behave: Behaviour) -> AsyncIterator[str]:
    """Serve bytes; the connection is closed when `behave` returns. Gives a ws:// URL."""
    busy: set[asyncio.Task[None]] = set()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        busy.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await behave(reader, writer)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        except asyncio.CancelledError:  # the test is over
            writer.transport.abort()

    server = await asyncio.start_server(client, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        await server.wait_closed()


async def shake_hands(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take a WebSocket handshake by hand, with whatever sub-protocol was asked for."""
    request = (await reader.readuntil(b"\r\n\r\n")).decode()
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in request.split("\r\n")[1:])}
    accept = base64.b64encode(hashlib.sha1((headers["sec-websocket-key"] + GUID).encode()).digest()).decode()
    chosen = headers.get("sec-websocket-protocol")
    protocol = f"Sec-WebSocket-Protocol: {chosen}\r\n" if chosen else ""
    writer.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"{protocol}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )


def raw_frame(payload: bytes, *, opcode: int = 1, fin: bool = True) -> bytes:
    """A server's frame, right or wrong."""
    head = bytes([(0x80 if fin else 0) | opcode])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 65536:
        return head + b"\x7e" + struct.pack(">H", len(payload)) + payload
    return head + b"\x7f" + struct.pack(">Q", len(payload)) + payload


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """Take one frame of a client (masked, as they all are) and give its payload."""
    length = (await reader.readexactly(2))[1] & 0x7F
    if length >= 126:
        length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
    mask = await reader.readexactly(4)
    return bytes(byte ^ mask[at % 4] for at, byte in enumerate(await reader.readexactly(length)))


@asynccontextmanager
async def ws_server(
    handler: Callable[[ServerConnection], Awaitable[None]], *, subprotocol: str | None = None, **options: Any
) -> AsyncIterator[str]:
    """Serve WebSocket; a client that leaves ends its handler quietly. Gives the URL."""

    async def client(socket: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            await handler(socket)

    subprotocols = [Subprotocol(subprotocol)] if subprotocol is not None else None
    async with serve(client, "127.0.0.1", 0, subprotocols=subprotocols, **options) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"


Say = Callable[[dict[str, Any]], str]


class GraphQLServer:
    """The least graphql-transport-ws server: acknowledges, answers pings, remembers what it was sent. Tests override what they need."""

    def __init__(self, say: Say = json.dumps) -> None:
        self.say = say
        self.seen: list[dict[str, Any]] = []
        self.sockets: list[ServerConnection] = []

    async def __call__(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        async for text in socket:
            message = json.loads(text)
            self.seen.append(message)
            match message["type"]:
                case "connection_init":
                    await socket.send('{"type":"connection_ack"}')
                case "ping":
                    await self.on_ping(socket)
                case "subscribe" if "mutation" in message["payload"]["query"]:
                    await self.on_publish(socket, message)
                case "subscribe":
                    await self.on_subscribe(socket, message)

    async def on_ping(self, socket: ServerConnection) -> None:
        await socket.send('{"type":"pong"}')

    async def on_subscribe(self, socket: ServerConnection, message: dict[str, Any]) -> None:
        """Take it."""

    async def on_publish(self, socket: ServerConnection, message: dict[str, Any]) -> None:
        await socket.send(json.dumps({"id": message["id"], "type": "next", "payload": {"data": {"publish": {"offset": 1}}}}))
        await socket.send(json.dumps({"id": message["id"], "type": "complete"}))

    async def deliver(self, operation: str, data: str, offset: int = 1, *, socket: ServerConnection | None = None) -> None:
        """Send one event of a subscription."""
        payload = {"data": {"events": {"data": data, "offset": offset}}}
        await (socket or self.sockets[-1]).send(self.say({"id": operation, "type": "next", "payload": payload}))

    def of(self, kind: str) -> list[dict[str, Any]]:
        """What it was sent of one type."""
        return [message for message in self.seen if message["type"] == kind]
