"""A small client for tests of the hub, or against it: sends what it is told, right or wrong, and keeps what it gets.

It is not the load generator: it decodes every message and holds at most `INBOX_MAX` of them. Pings are answered unless a test forbids it.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, cast

import msgspec
import picows

from floodmark.systems.hub.event import encode_json

INBOX_MAX = 1_000_000
EVENTS = "subscription($c: String!, $a: Int) { events(channel: $c, after: $a) { data offset } }"
PUBLISH = "mutation($c: String!, $d: JSON!) { publish(channel: $c, data: $d) { id offset } }"
PUBLISH_MANY = "mutation($c: String!, $d: [JSON!]!) { publishMany(channel: $c, data: $d) { firstOffset count } }"
PUBLISH_EACH = "mutation($e: [EventInput!]!) { publishEach(events: $e) { count } }"


P = ParamSpec("P")


def scenario(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a coroutine as a test: in a loop of its own, within 60 s."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def limited() -> None:
            async with asyncio.timeout(60):
                await test(*args, **kwargs)

        asyncio.run(limited())

    return run


async def eventually(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    """Wait until something holds that no event announces.

    Raises: TimeoutError.
    """
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110  nothing signals it
            await asyncio.sleep(0.005)


class Gone(Exception):
    """The connection ended while a message was awaited."""


class HubClient(picows.WSListener):
    """One connection to a hub."""

    def __init__(self, *, answers_pings: bool = True) -> None:
        self.inbox: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(INBOX_MAX)
        self.ws_pings = 0
        self.close_code: int | None = None
        self.close_reason = ""
        self._answers_pings = answers_pings
        self.transport: picows.WSTransport
        self.gone = asyncio.Event()

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        """The handshake is done."""
        self.transport = transport

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Keep a message, answer a ping, note a close."""
        if frame.msg_type == picows.WSMsgType.CLOSE:
            self.close_code, self.close_reason = int(cast("int", frame.get_close_code())), frame.get_close_reason() or ""
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif frame.msg_type == picows.WSMsgType.PING:
            self.ws_pings += 1
            if self._answers_pings:
                transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type == picows.WSMsgType.TEXT:
            message = msgspec.json.decode(frame.get_payload_as_bytes())
            if message["type"] == "ping" and self._answers_pings:
                self.send({"type": "pong"})
            else:
                self.inbox.put_nowait(message)

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        """Wake whoever waits."""
        self.gone.set()
        self.inbox.put_nowait(None)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message as it is."""
        self.send_text(encode_json(message))

    def send_text(self, text: bytes) -> None:
        """Send any text."""
        self.transport.send(picows.WSMsgType.TEXT, text)

    async def recv(self, limit_s: float = 20.0) -> dict[str, Any]:
        """Give the next message.

        Raises: Gone when the connection ended; TimeoutError.
        """
        async with asyncio.timeout(limit_s):
            message = await self.inbox.get()
        if message is None:
            self.inbox.put_nowait(None)
            raise Gone(self.close_code, self.close_reason)
        return message

    async def init(self, payload: dict[str, Any] | None = None) -> dict[str, Any]:
        """Say hello and wait for the acknowledgement."""
        self.send({"type": "connection_init"} if payload is None else {"type": "connection_init", "payload": payload})
        return await self.recv()

    def start(self, operation_id: str, query: str, **variables: Any) -> None:
        """Start an operation."""
        self.send({"id": operation_id, "type": "subscribe", "payload": {"query": query, "variables": variables}})

    async def ask(self, operation_id: str, query: str, **variables: Any) -> Any:
        """Run a query or mutation; gives its data, or the errors it ended with."""
        self.start(operation_id, query, **variables)
        answer = await self.recv()
        if answer["type"] == "error":
            return answer["payload"]
        done = await self.recv()
        assert done == {"id": operation_id, "type": "complete"}, done
        return answer["payload"]["data"]

    async def subscribe(self, operation_id: str, channel: str, after: int | None = None) -> None:
        """Subscribe, and wait until the hub has acted on it."""
        variables = {"c": channel} if after is None else {"c": channel, "a": after}
        self.start(operation_id, EVENTS, **variables)
        await self.synced()

    async def synced(self) -> None:
        """Wait until the hub has read all that was sent so far. Only for a client that expects nothing else."""
        self.send({"type": "ping", "payload": {"sync": True}})
        while (message := await self.recv()) != {"type": "pong", "payload": {"sync": True}}:
            raise AssertionError(f"unexpected while waiting for the pong: {message}")

    async def closed(self, limit_s: float = 20.0) -> int | None:
        """Wait for the end of the connection; gives the close code of the hub."""
        async with asyncio.timeout(limit_s):
            await self.gone.wait()
        return self.close_code

    def stop_reading(self) -> None:
        """Become a reader that does not read."""
        self.transport.underlying_transport.pause_reading()

    def read_again(self) -> None:
        """Read on."""
        self.transport.underlying_transport.resume_reading()


@asynccontextmanager
async def connected(
    url: str, *, protocol: str | None = "graphql-transport-ws", init: bool = True, answers_pings: bool = True, receive_bytes: int = 0
) -> AsyncIterator[HubClient]:
    """Open one connection.

    Args:
        protocol: what to offer; None offers nothing.
        init: send connection_init and wait for the acknowledgement.
        receive_bytes: SO_RCVBUF, to be slow sooner; 0 for the kernel's choice.
    """

    def small_socket(parsed: Any) -> socket.socket | None:
        if not receive_bytes:
            return None
        raw = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        raw.connect((parsed.host, parsed.port))
        raw.setblocking(False)
        return raw

    headers = [("Sec-WebSocket-Protocol", protocol)] if protocol else []
    _, listener = await picows.ws_connect(
        lambda: HubClient(answers_pings=answers_pings),
        url,
        extra_headers=headers,
        enable_auto_pong=False,
        socket_factory=small_socket,
    )
    client = cast("HubClient", listener)
    try:
        if init:
            await client.init()
        yield client
    finally:
        client.transport.disconnect(False)
        async with asyncio.timeout(20):
            await client.gone.wait()
