"""Speak `graphql-transport-ws` to any server: subscribe, publish by mutation, resume after an offset.

Subscriptions are operations with the fixed-width ids s0000000.. (the same on every connection, so that a server may share frames);
publishes are operations p<token>. The stamp travels as text inside the document's data; where it sits does not matter.

HOT path of a delivery: one slice of the frame (its head, that is everything up to the operation's type) and one dict look-up. The head's
length is learnt from the first delivery of each connection, so any order of keys and any white space will do.

Limits: one ping/pong after the subscribe operations stands for their confirmation, since the protocol has none; a server that starts
operations in the background is caught by the warm-up, which waits for a first message on every subscription.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from floodmark.core.errors import UsageError
from floodmark.drivers.base import Connection, Encoding, Options, RefusedError, Sink, Wanted, take_options
from floodmark.drivers.sockets import describe_close, fetch_prometheus, open_socket

DEFAULTS: dict[str, str | int | float | bool] = {
    "subscribe": "subscription S($channel: String!, $after: Int) { events(channel: $channel, after: $after) { data offset } }",
    "publish": "mutation P($channel: String!, $data: JSON!) { publish(channel: $channel, data: $data) { offset } }",
    "offset_key": "offset",
    "token": "",
    "frame_limit_bytes": 16 * 1024 * 1024,
    "metrics_path": "/metrics",
    "metrics_prefix": "floodmark_hub_",
}
_STATISTICS = {
    "delivered": "total_events_delivered",
    "published": "total_events_published",
    "connections": "active_connections",
    "subscriptions": "active_subscriptions",
}


class _Frame(msgspec.Struct):
    """What the slow path needs of a server's message."""

    type: str
    id: str = ""
    payload: msgspec.Raw = msgspec.Raw(b"null")


_decode = msgspec.json.Decoder(_Frame).decode


class GraphQLConnection(WSListener):
    """One connection. See `drivers.base.Connection` for the contract."""

    def __init__(self, driver: GraphQLDriver, url: str, sink: Sink) -> None:
        self._driver = driver
        self._url = url
        self._sink = sink
        self._put = sink.put
        self._turn = sink.turn
        self._transport: WSTransport | None = None
        self._slots: dict[str, int] = {}
        self._heads: dict[bytes, int] = {}
        self._head_bytes = 0
        self._next_operation = 0
        self._waiter: asyncio.Future[str] | None = None
        self._pongs: list[asyncio.Future[None]] = []
        self._refusal = ""
        self._partial: bytearray | None = None
        self.writable = True

    # -- what picows calls ---------------------------------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # HOT: once per delivery
        received_ns = time.monotonic_ns()
        data = frame.get_payload_as_bytes()
        slot = self._heads.get(data[: self._head_bytes])
        if slot is not None and frame.fin:
            self._put((slot, data, received_ns))
        else:
            self._on_rare_frame(frame, data, received_ns)
        if frame.last_in_buffer:
            self._turn()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        reason = self._refusal or describe_close(transport)
        self.writable = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(RefusedError(self._url, reason))
        for pong in self._pongs:
            if not pong.done():
                pong.set_exception(RefusedError(self._url, reason))
        self._pongs.clear()
        self._transport = None
        self._sink.closed(self, reason)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = self._transport is not None

    # -- the slow path: everything that is not a delivery with a known head ----------------------------------------------------------

    def _on_rare_frame(self, frame: WSFrame, data: bytes, received_ns: int) -> None:
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            transport = self._transport
            if transport is not None:
                transport.send_close(frame.get_close_code())
                transport.disconnect()
            return
        if kind not in (WSMsgType.TEXT, WSMsgType.CONTINUATION):
            return
        if not frame.fin or self._partial is not None:
            self._partial = (self._partial or bytearray()) + data
            if not frame.fin:
                return
            data, self._partial = bytes(self._partial), None
        try:
            message = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._fail(f"sent something that is not graphql-transport-ws: {data[:60]!r}")
            return
        match message.type:
            case "next" if message.id in self._slots:
                self._learn_head(data, message.id)
                self._put((self._slots[message.id], data, received_ns))
            case "next" if message.id.startswith("p"):
                self._answer(message)
            case "pong":
                if self._pongs:
                    pong = self._pongs.pop(0)
                    if not pong.done():
                        pong.set_result(None)
            case "ping":
                self._send(b'{"type":"pong"}')
            case "error":
                self._on_error(message)
            case "complete" if message.id in self._slots:
                self._forget(message.id, "the server completed it")
            case "connection_ack":
                if self._waiter is not None and not self._waiter.done():
                    self._waiter.set_result("ack")

    def _answer(self, message: _Frame) -> None:
        payload = bytes(message.payload)
        token = int(message.id[1:])
        if b'"errors"' in payload:
            self._sink.refused(token, _first_message(payload))
        else:
            self._sink.acknowledged(token)

    def _on_error(self, message: _Frame) -> None:
        text = _first_message(bytes(message.payload))
        if message.id.startswith("p"):
            self._sink.refused(int(message.id[1:]), text)
            return
        if message.id in self._slots:
            self._refusal = self._refusal or f"refused a subscription: {text}"
            self._forget(message.id, text)

    def _forget(self, operation: str, reason: str) -> None:
        slot = self._slots.pop(operation, None)
        if slot is not None:
            self._heads = {head: kept for head, kept in self._heads.items() if kept != slot}
            self._sink.ended(slot, reason)

    def _learn_head(self, data: bytes, operation: str) -> None:
        """Remember how this server's deliveries begin, up to the end of both its id and its type."""
        quoted = f'"{operation}"'.encode()
        ends = (data.find(quoted) + len(quoted), data.find(b'"next"') + 6)
        if min(data.find(quoted), data.find(b'"next"')) < 0 or max(ends) > 128:
            return  # an id or a type behind the payload: such a server stays on the slow path
        if self._head_bytes != max(ends):
            self._head_bytes = max(ends)
            self._heads.clear()
        self._heads[data[: self._head_bytes]] = self._slots[operation]

    # -- what the agent calls --------------------------------------------------------------------------------------------------------

    async def start(self, limit_s: float) -> None:
        """Send connection_init and wait for its acknowledgement."""
        self._waiter = asyncio.get_running_loop().create_future()
        self._send(self._driver.init_frame)
        try:
            async with asyncio.timeout(limit_s) as limit:
                await self._waiter
        except TimeoutError as exc:
            self.abort()
            if not limit.expired():
                raise
            raise RefusedError(self._url, f"sent no connection_ack within {limit_s:g} s; is it a graphql-transport-ws server?") from exc
        finally:
            self._waiter = None

    async def subscribe(self, wanted: Sequence[Wanted]) -> None:
        self._refusal = ""
        for want in wanted:
            operation = f"s{self._next_operation:07d}"
            self._next_operation += 1
            self._slots[operation] = want.slot
            self._send(self._driver.subscribe_frame(operation, want))
        await self._barrier()
        if self._refusal:
            raise RefusedError(self._url, self._refusal)

    async def unsubscribe(self, slots: Iterable[int]) -> None:
        leaving = set(slots)
        for operation in [name for name, slot in self._slots.items() if slot in leaving]:
            self._send(b'{"id":"%b","type":"complete"}' % operation.encode())
        await self._barrier()
        self._slots = {name: slot for name, slot in self._slots.items() if slot not in leaving}
        self._heads = {head: slot for head, slot in self._heads.items() if slot not in leaving}

    async def _barrier(self) -> None:
        """Wait until the server has worked off everything sent so far: it answers a ping in order."""
        pong: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        self._send(b'{"type":"ping"}')
        await pong

    def publish(self, channel: str, payload: bytes, token: int) -> None:  # HOT
        before, after = self._driver.publish_frame(channel)
        self._send(b'{"id":"p%d%b%b%b' % (token, before, payload, after))

    def resume_point(self, frame: bytes) -> int | None:
        match = self._driver.offset_pattern.search(frame)
        return int(match.group(1)) if match is not None else None

    def pause_reading(self) -> None:
        if self._transport is not None:
            self._transport.underlying_transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None:
            self._transport.underlying_transport.resume_reading()

    async def close(self) -> None:
        transport = self._transport
        if transport is not None:
            transport.send_close()
            transport.disconnect()
            try:
                async with asyncio.timeout(2.0):
                    await transport.wait_disconnected()
            except TimeoutError:
                transport.disconnect(graceful=False)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def _send(self, frame: bytes) -> None:
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, frame)
        elif self._pongs or self._waiter is not None:
            raise RefusedError(self._url, self._refusal or "closed the connection")

    def _fail(self, reason: str) -> None:
        self._refusal = reason
        self.abort()


def _first_message(payload: bytes) -> str:
    """The first error's text, from either `[{message}]` or `{errors: [{message}]}`."""
    match = re.search(rb'"message"\s*:\s*"((?:[^"\\]|\\.)*)"', payload)
    return msgspec.json.decode(b'"' + match.group(1) + b'"') if match else payload[:120].decode("utf-8", "replace")


class GraphQLDriver:
    """Builds the documents once; see `DEFAULTS` for the options. A `subscribe` document that uses $after makes it resumable."""

    encoding: Encoding = "text"
    acknowledges = True

    def __init__(self, options: Options) -> None:
        chosen = take_options("graphql-ws", options, DEFAULTS)
        self._subscribe = str(chosen["subscribe"])
        self._publish = str(chosen["publish"])
        for name, document, variables in (("subscribe", self._subscribe, ["$channel"]), ("publish", self._publish, ["$channel", "$data"])):
            for variable in variables:
                if variable not in document:
                    raise UsageError(
                        f"driver 'graphql-ws': the {name} document does not use {variable}; it must take {' and '.join(variables)}"
                    )
        self.resumes = "$after" in self._subscribe
        self._frame_limit_bytes = int(chosen["frame_limit_bytes"])
        self._metrics_path, self._metrics_prefix = str(chosen["metrics_path"]), str(chosen["metrics_prefix"])
        self.offset_pattern = re.compile(rb'"' + re.escape(str(chosen["offset_key"])).encode() + rb'"\s*:\s*"?(\d+)')
        token = str(chosen["token"])
        self.init_frame = msgspec.json.encode(
            {"type": "connection_init", "payload": {"authorization": f"Bearer {token}"}} if token else {"type": "connection_init"}
        )
        self._publish_parts: dict[str, tuple[bytes, bytes]] = {}

    def subscribe_frame(self, operation: str, want: Wanted) -> bytes:
        """The frame that opens one subscription."""
        variables: dict[str, str | int | None] = {"channel": want.channel}
        if self.resumes:
            variables["after"] = want.after
        return msgspec.json.encode({"id": operation, "type": "subscribe", "payload": {"query": self._subscribe, "variables": variables}})

    def publish_frame(self, channel: str) -> tuple[bytes, bytes]:
        """What stands before and behind the payload in a publish to this channel, after the token; built once per channel."""
        parts = self._publish_parts.get(channel)
        if parts is None:
            body = {"query": self._publish, "variables": {"channel": channel, "data": "\x00"}}
            before, after = msgspec.json.encode(body).split(b"\\u0000")
            parts = (b'","type":"subscribe","payload":' + before, after + b"}")
            self._publish_parts[channel] = parts
        return parts

    async def connect(self, url: str, channel: str, sink: Sink, *, limit_s: float, local_host: str | None = None) -> Connection:
        connection: GraphQLConnection = await open_socket(
            lambda: GraphQLConnection(self, url, sink),
            url,
            subprotocol="graphql-transport-ws",
            limit_s=limit_s,
            frame_limit_bytes=self._frame_limit_bytes,
            local_host=local_host,
        )
        await connection.start(limit_s)
        return connection

    async def statistics(self, url: str) -> dict[str, float] | None:
        parts = urlsplit(url)
        scheme = "https" if parts.scheme == "wss" else "http"
        seen = await fetch_prometheus(f"{scheme}://{parts.netloc}{self._metrics_path}")
        if seen is None:
            return None
        return {ours: seen[self._metrics_prefix + theirs] for ours, theirs in _STATISTICS.items() if self._metrics_prefix + theirs in seen}
