"""Speak `graphql-transport-ws` to any server: subscribe, publish by mutation, resume after an offset.

Subscriptions are operations with the fixed-width ids s0000000.. (the same on every connection, so that a server may share frames);
publishes are operations p<token>, probes of the warm-up w<number>. The stamp travels as text inside the document's data; where it sits
does not matter.

HOT path of a delivery: one slice of the frame (its head, that is everything up to the operation's type) and one dict look-up. The head's
length is learnt from the first delivery of each connection, so any order of keys and any white space will do; a server that puts the
payload first is decoded frame by frame, which costs a few microseconds each.

Limits: one ping/pong after the subscribe operations stands for their confirmation, since the protocol has none; a server that starts
operations in the background is caught by the warm-up, which waits for a first message on every subscription.
"""

from __future__ import annotations

import asyncio
import functools
import re
import time
from collections import deque
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

import msgspec
import numpy as np
from picows import WSFrame, WSMsgType, WSTransport

from floodmark.core.errors import UsageError
from floodmark.drivers.base import Connection, Encoding, Options, RefusedError, Sink, Wanted, json_headers, json_object, take_options
from floodmark.drivers.sockets import SocketConnection, fetch_prometheus, open_socket
from floodmark.ledger.block import Block
from floodmark.ledger.stamp import MARKER

DEFAULTS: dict[str, str | int | float | bool] = {
    "subscribe": "subscription S($channel: String!, $after: Int) { events(channel: $channel, after: $after) { data offset } }",
    "publish": "mutation P($channel: String!, $data: JSON!) { publish(channel: $channel, data: $data) { offset } }",
    "publish_batch": "",
    "offset_key": "offset",
    "token": "",
    "init": "",
    "headers": "",
    "frame_limit_bytes": 16 * 1024 * 1024,
    "metrics_path": "/metrics",
    "metrics_prefix": "floodmark_hub_",
}
MEANINGS = {
    "subscribe": "The subscription document. Its variable `$channel` is the channel; if it uses `$after`, a subscription can be resumed.",
    "publish": "The mutation document; it must take `$channel` and `$data`, the payload as a string.",
    "publish_batch": "A mutation that publishes many messages at once, for targets that have one: it takes `$events`, a list of "
    "`{channel, data}`. Empty: every message is published on its own.",
    "offset_key": "The JSON key under which a delivered event carries its position, for resuming: the first whole number behind it.",
    "token": 'Sent in `connection_init` as `{"authorization": "Bearer ..."}`.',
    "init": "The whole payload of `connection_init`, a JSON object as text, for servers that want something else.",
    "headers": "HTTP headers of the WebSocket handshake, a JSON object of text.",
    "frame_limit_bytes": "The longest message taken from the target; a longer one ends the connection.",
    "metrics_path": "Where the target shows Prometheus metrics, on the same host and port; a target that has none is not compared.",
    "metrics_prefix": "What the names of its metrics begin with.",
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


class _Answer(msgspec.Struct):
    """The top level of an operation's result."""

    errors: list[msgspec.Raw] | None = None


_decode = msgspec.json.Decoder(_Frame).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode
HEAD_BYTES_MAX = 128
HEADS_PER_SLOT = 4  # a server whose heads vary more than that stays on the slow path


class GraphQLConnection(SocketConnection):
    """One connection. See `drivers.base.Connection` for the contract."""

    def __init__(self, driver: GraphQLDriver, url: str, sink: Sink) -> None:
        super().__init__(url, sink, driver.frame_limit_bytes)
        self._driver = driver
        self._slots: dict[str, int] = {}
        self._opening: set[str] = set()
        self._heads: dict[bytes, int] = {}
        self._head_bytes = 0
        self._next_operation = 0
        self._next_probe = 0
        self._waiter: asyncio.Future[None] | None = None
        self._pongs: deque[asyncio.Future[None]] = deque()
        self._refusal = ""

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

    def take_run(self, rows: np.ndarray, header_bytes: int, received_ns: int) -> bool:  # HOT: once per run of deliveries
        end = header_bytes + self._head_bytes
        if not self._head_bytes or end > rows.shape[1] or self._partial is not None or not self._sink.takes_blocks:
            return False
        heads = rows[:, header_bytes:end]
        slot = self._heads.get(heads[0].tobytes())
        if slot is None or not (heads == heads[0]).all():
            return False  # several subscriptions share the connection: one by one
        self._sink.put_block(Block(slot, rows.tobytes(), rows.shape[1], header_bytes, received_ns))
        return True

    def on_lost(self, error: RefusedError) -> None:
        for wait in (self._waiter, *self._pongs):
            if wait is not None and not wait.done():
                wait.set_exception(error)
        self._pongs.clear()

    # -- the slow path: everything that is not a delivery with a known head ----------------------------------------------------------

    def _on_rare_frame(self, frame: WSFrame, data: bytes, received_ns: int) -> None:
        self.tap(frame)
        whole = self.whole_message(frame, data)
        if whole is None:
            return
        try:
            message = _decode(whole)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.fail(f"sent something that is not graphql-transport-ws: {whole[:60]!r}")
            return
        match message.type:
            case "next" if message.id in self._slots:
                self._learn_head(whole, message.id)
                self._put((self._slots[message.id], whole, received_ns))
            case "next" if self._is_misplaced(message.id, whole):
                self._put((next(iter(self._slots.values())), whole, received_ns))
            case "next":
                self._answer(message)
            case "pong":
                if self._pongs:
                    pong = self._pongs.popleft()
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
                    self._waiter.set_result(None)

    def _is_misplaced(self, operation: str, whole: bytes) -> bool:
        """Whether a message of ours came under an operation that was never ours: the ledger tells from its stamp."""
        known = operation.startswith("s") and operation[1:].isdecimal() and int(operation[1:]) < self._next_operation
        return bool(self._slots) and not known and _token(operation) is None and MARKER in whole

    def _answer(self, message: _Frame) -> None:
        token = _token(message.id)
        if token is None:
            return  # an operation that we ended a moment ago
        payload = bytes(message.payload)
        if b'"errors"' in payload and _has_errors(payload):
            self._sink.refused(token, _first_message(payload))
        else:
            self._sink.acknowledged(token)

    def _on_error(self, message: _Frame) -> None:
        text = _first_message(bytes(message.payload))
        token = _token(message.id)
        if token is not None:
            self._sink.refused(token, text)
        elif message.id in self._slots:
            self._forget(message.id, text)

    def _forget(self, operation: str, reason: str) -> None:
        """A subscription ended unasked: a refusal while it is being opened, and a loss later."""
        slot = self._slots.pop(operation)
        self._heads = {head: kept for head, kept in self._heads.items() if kept != slot}
        if operation in self._opening:
            self._refusal = self._refusal or f"refused a subscription: {reason}"
        else:
            self._sink.ended(slot, reason)

    def _learn_head(self, data: bytes, operation: str) -> None:
        """Remember how this server's deliveries begin, up to the end of both its id and its type."""
        quoted = f'"{operation}"'.encode()
        at_id, at_type = data.find(quoted), data.find(b'"next"')
        end = max(at_id + len(quoted), at_type + len(b'"next"'))
        if min(at_id, at_type) < 0 or end > HEAD_BYTES_MAX or MARKER in data[:end]:
            return  # an id or a type behind the payload: such a server stays on the slow path
        if self._head_bytes != end:
            self._head_bytes = end
            self._heads.clear()
        if len(self._heads) < HEADS_PER_SLOT * len(self._slots):
            self._heads[data[:end]] = self._slots[operation]

    # -- what the agent calls --------------------------------------------------------------------------------------------------------

    async def start(self, limit_s: float) -> None:
        """Send connection_init and wait for its acknowledgement; leaves nothing open when that fails."""
        self.require_open()
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
        except BaseException:
            self.abort()
            raise
        finally:
            self._waiter = None

    async def subscribe(self, wanted: Sequence[Wanted]) -> None:
        self._refusal = ""
        self._opening.clear()
        for want in wanted:
            operation = f"s{self._next_operation:07d}"
            self._next_operation += 1
            self._slots[operation] = want.slot
            self._opening.add(operation)
            self._send(self._driver.subscribe_frame(operation, want))
        try:
            await self._barrier()
        finally:
            self._opening.clear()
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
        self.require_open()
        pong: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        self._send(b'{"type":"ping"}')
        await pong

    def publish(self, channel: str, payload: bytes, token: int) -> None:  # HOT
        before, after = self._driver.publish_frame(channel)
        if token:
            self._send(b'{"id":"p%d%b%b%b' % (token, before, payload, after))
        else:  # a probe: ids must differ while operations are under way, or a strict server closes with 4409
            self._next_probe += 1
            self._send(b'{"id":"w%d%b%b%b' % (self._next_probe, before, payload, after))

    def publish_batch(self, items: Sequence[tuple[str, bytes]], token: int) -> None:  # HOT: once per batch
        before_all, after_all = self._driver.batch_parts
        before, after = self._driver.batch_item, b'"}'
        body = b",".join([before(channel) + payload + after for channel, payload in items])
        self._send(b'{"id":"p%d%b%b%b' % (token, before_all, body, after_all))

    def resume_point(self, frame: bytes) -> int | None:
        match = self._driver.offset_pattern.search(frame)
        return int(match.group(1)) if match is not None else None

    def _send(self, frame: bytes) -> None:
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, frame)


def _batch_item(channel: str) -> bytes:
    return b'{"channel":' + msgspec.json.encode(channel) + b',"data":"'


def _token(operation: str) -> int | None:
    """The token of a publish, from its operation's id; None for any other id, whatever a server makes up."""
    digits = operation[1:]
    return int(digits) if operation.startswith("p") and digits.isascii() and digits.isdigit() and len(digits) < 20 else None


def _has_errors(payload: bytes) -> bool:
    """Whether there are errors at the top level of a result; a field of that name inside the data is none."""
    try:
        return bool(_decode_answer(payload).errors)
    except msgspec.DecodeError:
        return True


def _first_message(payload: bytes) -> str:
    """The first error's text, from either `[{message}]` or `{errors: [{message}]}`."""
    match = re.search(rb'"message"\s*:\s*"((?:[^"\\]|\\.)*)"', payload)
    try:
        return msgspec.json.decode(b'"' + match.group(1) + b'"', type=str) if match else payload[:120].decode("utf-8", "replace")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return payload[:120].decode("utf-8", "replace")


class GraphQLDriver:
    """Builds the documents once; see `DEFAULTS` for the options. A `subscribe` document that uses $after makes it resumable."""

    encoding: Encoding = "text"
    acknowledges = True

    def __init__(self, options: Options) -> None:
        chosen = take_options("graphql-ws", options, DEFAULTS)
        self._subscribe = str(chosen["subscribe"])
        self._publish = str(chosen["publish"])
        self._publish_batch = str(chosen["publish_batch"])
        documents = [("subscribe", self._subscribe, ["$channel"]), ("publish", self._publish, ["$channel", "$data"])]
        if self._publish_batch:
            documents.append(("publish_batch", self._publish_batch, ["$events"]))
        for name, document, variables in documents:
            for variable in variables:
                if variable not in document:
                    raise UsageError(
                        f"driver 'graphql-ws': the {name} document does not use {variable}; it must take {' and '.join(variables)}"
                    )
        self.resumes = "$after" in self._subscribe
        self.batches = bool(self._publish_batch)
        self.frame_limit_bytes = int(chosen["frame_limit_bytes"])
        self._metrics_path, self._metrics_prefix = str(chosen["metrics_path"]), str(chosen["metrics_prefix"])
        self.offset_pattern = re.compile(rb'"' + re.escape(str(chosen["offset_key"])).encode() + rb'"\s*:\s*"?(\d+)')
        token, init = str(chosen["token"]), json_object("graphql-ws", "init", str(chosen["init"]))
        if token and init:
            raise UsageError("driver 'graphql-ws': token and init both fill connection_init; put the token into init")
        payload: dict[str, object] = {"authorization": f"Bearer {token}"} if token else init
        self.init_frame = msgspec.json.encode({"type": "connection_init", "payload": payload} if payload else {"type": "connection_init"})
        self._headers = json_headers("graphql-ws", str(chosen["headers"]))
        self._publish_parts: dict[str, tuple[bytes, bytes]] = {}
        query = msgspec.json.encode(self._publish_batch)
        self.batch_parts = (b'","type":"subscribe","payload":{"query":' + query + b',"variables":{"events":[', b"]}}}")
        self.batch_item = functools.lru_cache(maxsize=None)(_batch_item)
        """What stands before the payload of one message of a batch, by its channel."""

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
            frame_limit_bytes=self.frame_limit_bytes,
            local_host=local_host,
            headers=self._headers,
        )
        await connection.start(limit_s)
        return connection.hand_over()

    async def statistics(self, url: str) -> dict[str, float] | None:
        parts = urlsplit(url)
        scheme = "https" if parts.scheme == "wss" else "http"
        seen = await fetch_prometheus(f"{scheme}://{parts.netloc}{self._metrics_path}")
        if seen is None:
            return None
        return {ours: seen[self._metrics_prefix + theirs] for ours, theirs in _STATISTICS.items() if self._metrics_prefix + theirs in seen}
