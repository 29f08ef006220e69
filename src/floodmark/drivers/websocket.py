"""Speak to any JSON or binary WebSocket service that can be described by templates.

Templates are texts with $-names: `$channel`, `$payload`, `$token` (a number that identifies the publish). For example
    subscribe = '{"action": "subscribe", "room": "$channel"}'      publish = '{"action": "say", "room": "$channel", "text": "$payload"}'
The URL may hold `$channel` as well, for services with a path per channel. The stamp is found wherever it sits in a frame.

Which subscription a frame belongs to: the only one of its connection, or else the one whose channel stands under `channel_key`.
Confirmation of a subscribe: a frame that contains `subscribed`, one per subscription; without that option, a WebSocket ping/pong.
Acknowledgement of a publish: `acknowledged`, a regular expression whose first group is the token; without it, a publish handed to an
open connection counts as acknowledged.
"""

from __future__ import annotations

import asyncio
import re
import string
import time
from collections.abc import Iterable, Sequence

from picows import WSFrame, WSListener, WSMsgType, WSTransport

from floodmark.core.errors import UsageError
from floodmark.drivers.base import Connection, Encoding, Options, RefusedError, Sink, Wanted, take_options
from floodmark.drivers.sockets import describe_close, open_socket

DEFAULTS: dict[str, str | int | float | bool] = {
    "subscribe": "",
    "unsubscribe": "",
    "publish": "$payload",
    "encoding": "text",
    "channel_key": "",
    "subscribed": "",
    "acknowledged": "",
    "refused": "",
    "resume_key": "",
    "subprotocol": "",
    "frame_limit_bytes": 16 * 1024 * 1024,
}
_MARKS = {"text": b"fm1:", "binary": b"\xf1\x0dM1"}


class WebSocketConnection(WSListener):
    """One connection. See `drivers.base.Connection` for the contract."""

    def __init__(self, driver: WebSocketDriver, url: str, sink: Sink) -> None:
        self._driver = driver
        self._url = url
        self._sink = sink
        self._put = sink.put
        self._turn = sink.turn
        self._transport: WSTransport | None = None
        self._only: int | None = None
        self._slots: dict[bytes, int] = {}
        self._channels: dict[int, str] = {}
        self._waiters: list[asyncio.Future[None]] = []
        self._subscribed: asyncio.Semaphore = asyncio.Semaphore(0)
        self._partial: bytearray | None = None
        self._mark = _MARKS[driver.encoding]
        self.writable = True

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # HOT: once per delivery
        received_ns = time.monotonic_ns()
        data = frame.get_payload_as_bytes()
        slot = self._only
        if slot is not None and self._mark in data and frame.fin and self._partial is None:
            self._put((slot, data, received_ns))
        else:
            self._on_other_frame(frame, data, received_ns)
        if frame.last_in_buffer:
            self._turn()

    def _on_other_frame(self, frame: WSFrame, data: bytes, received_ns: int) -> None:
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            transport = self._transport
            if transport is not None:
                transport.send_close(frame.get_close_code())
                transport.disconnect()
            return
        if kind == WSMsgType.PONG:
            if self._waiters:
                waiter = self._waiters.pop(0)
                if not waiter.done():
                    waiter.set_result(None)
            return
        if kind == WSMsgType.PING:
            return
        if not frame.fin or self._partial is not None:
            self._partial = (self._partial or bytearray()) + data
            if not frame.fin:
                return
            data, self._partial = bytes(self._partial), None
        driver = self._driver
        if self._mark in data and not (driver.acknowledged is not None and driver.acknowledged.search(data)):
            slot = self._only if self._only is not None else self._slot_by_key(data)
            if slot is not None:
                self._put((slot, data, received_ns))
                return
        if driver.refused is not None and (match := driver.refused.search(data)) is not None:
            self._sink.refused(int(match.group(1)), data[:120].decode("utf-8", "replace"))
        elif driver.acknowledged is not None and (match := driver.acknowledged.search(data)) is not None:
            self._sink.acknowledged(int(match.group(1)))
        elif driver.subscribed and driver.subscribed in data:
            self._subscribed.release()

    def _slot_by_key(self, data: bytes) -> int | None:
        pattern = self._driver.channel_pattern
        match = pattern.search(data) if pattern is not None else None
        return self._slots.get(match.group(1)) if match is not None else None

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        reason = describe_close(transport)
        self._transport = None
        self.writable = False
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(RefusedError(self._url, reason))
        self._waiters.clear()
        for _ in self._channels:
            self._subscribed.release()  # whoever waits for a confirmation finds the connection gone
        self._sink.closed(self, reason)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = self._transport is not None

    async def subscribe(self, wanted: Sequence[Wanted]) -> None:
        for want in wanted:
            self._slots[want.channel.encode()] = want.slot
            self._channels[want.slot] = want.channel
        self._only = next(iter(self._slots.values())) if len(self._slots) == 1 else None
        if self._only is None and self._driver.channel_pattern is None:
            raise UsageError(
                "driver 'websocket': several subscriptions share a connection, so its option channel_key must say "
                "under which JSON key a frame names its channel; or use one subscription per connection"
            )
        template = self._driver.subscribe
        if template is not None:
            for want in wanted:
                after = "" if want.after is None else str(want.after)
                self._send(template.substitute(channel=want.channel, after=after).encode(), text=True)
        if template is not None and self._driver.subscribed:
            for _ in wanted:
                await self._subscribed.acquire()
                if self._transport is None:
                    raise RefusedError(self._url, "closed the connection before it confirmed a subscription")
        else:
            await self._barrier()

    async def unsubscribe(self, slots: Iterable[int]) -> None:
        for slot in list(slots):
            channel = self._channels.pop(slot, None)
            if channel is None:
                continue
            if self._driver.unsubscribe is not None:
                self._send(self._driver.unsubscribe.substitute(channel=channel).encode(), text=True)
        await self._barrier()
        kept = set(self._channels)
        self._slots = {channel: slot for channel, slot in self._slots.items() if slot in kept}
        self._only = next(iter(self._slots.values())) if len(self._slots) == 1 else None

    async def _barrier(self) -> None:
        if self._transport is None:
            raise RefusedError(self._url, "closed the connection")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._transport.send_ping(b"floodmark")
        await waiter

    def publish(self, channel: str, payload: bytes, token: int) -> None:  # HOT
        self._send(self._driver.publish_frame(channel, payload, token), text=self._driver.encoding == "text")

    def resume_point(self, frame: bytes) -> int | None:
        pattern = self._driver.resume_pattern
        match = pattern.search(frame) if pattern is not None else None
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

    def _send(self, frame: bytes, *, text: bool) -> None:
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT if text else WSMsgType.BINARY, frame)


class WebSocketDriver:
    """Reads the templates once; see the module's docstring and `DEFAULTS` for the options."""

    def __init__(self, options: Options) -> None:
        chosen = take_options("websocket", options, DEFAULTS)
        encoding = chosen["encoding"]
        if encoding not in ("text", "binary"):
            raise UsageError(f"driver 'websocket': encoding must be 'text' or 'binary', got {encoding!r}")
        self.encoding: Encoding = "text" if encoding == "text" else "binary"
        self.subscribe = _template("subscribe", str(chosen["subscribe"]), {"channel", "after"})
        self.unsubscribe = _template("unsubscribe", str(chosen["unsubscribe"]), {"channel"})
        publish = _template("publish", str(chosen["publish"]), {"channel", "payload", "token"})
        if publish is None or "payload" not in publish.get_identifiers():
            raise UsageError("driver 'websocket': the publish template must contain $payload, or nothing could be accounted for")
        self._publish = publish
        self.subscribed = str(chosen["subscribed"]).encode()
        self.acknowledged = _pattern("acknowledged", str(chosen["acknowledged"]))
        self.refused = _pattern("refused", str(chosen["refused"]))
        if self.acknowledged is not None and "token" not in publish.get_identifiers():
            raise UsageError("driver 'websocket': with the option acknowledged the publish template must contain $token")
        self.acknowledges = self.acknowledged is not None
        self.channel_pattern = _key(str(chosen["channel_key"]), rb'"([^"]*)"')
        self.resume_pattern = _key(str(chosen["resume_key"]), rb'"?(\d+)')
        self.resumes = self.resume_pattern is not None and self.subscribe is not None and "after" in self.subscribe.get_identifiers()
        self._subprotocol = str(chosen["subprotocol"]) or None
        self._frame_limit_bytes = int(chosen["frame_limit_bytes"])
        self._parts: dict[str, tuple[bytes, ...]] = {}

    def publish_frame(self, channel: str, payload: bytes, token: int) -> bytes:
        """HOT: fill the publish template, whose pieces are cached per channel."""
        parts = self._parts.get(channel)
        if parts is None:
            text = self._publish.substitute(channel=channel, payload="\x01", token="\x02")
            parts = tuple(piece.encode() for piece in re.split("([\x01\x02])", text))
            self._parts[channel] = parts
        if parts == (b"", b"\x01", b""):
            return payload
        return b"".join([payload if part == b"\x01" else b"%d" % token if part == b"\x02" else part for part in parts])

    async def connect(self, url: str, channel: str, sink: Sink, *, limit_s: float, local_host: str | None = None) -> Connection:
        place = string.Template(url).safe_substitute(channel=channel)
        connection: Connection = await open_socket(
            lambda: WebSocketConnection(self, place, sink),
            place,
            subprotocol=self._subprotocol,
            limit_s=limit_s,
            frame_limit_bytes=self._frame_limit_bytes,
            local_host=local_host,
        )
        return connection

    async def statistics(self, url: str) -> dict[str, float] | None:
        return None


def _template(name: str, text: str, allowed: set[str]) -> string.Template | None:
    if not text:
        return None
    template = string.Template(text)
    if not template.is_valid():
        raise UsageError(f"driver 'websocket': the {name} template {text!r} has a stray $; write $$ for a dollar sign")
    unknown = set(template.get_identifiers()) - allowed
    if unknown:
        raise UsageError(
            f"driver 'websocket': the {name} template uses ${min(unknown)}; it may use {', '.join('$' + a for a in sorted(allowed))}"
        )
    return template


def _pattern(name: str, text: str) -> re.Pattern[bytes] | None:
    if not text:
        return None
    try:
        pattern = re.compile(text.encode())
    except re.error as exc:
        raise UsageError(f"driver 'websocket': option {name} is not a regular expression: {exc}") from exc
    if pattern.groups < 1:
        raise UsageError(f"driver 'websocket': option {name} needs a group that captures the token, for example '\"ref\":(\\\\d+)'")
    return pattern


def _key(key: str, value: bytes) -> re.Pattern[bytes] | None:
    return re.compile(rb'"' + re.escape(key).encode() + rb'"\s*:\s*' + value) if key else None
