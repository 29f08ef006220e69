"""Speak to any JSON or binary WebSocket service that can be described by templates.

Templates are texts with $-names: `$channel`, `$payload`, `$token` (a number that identifies the publish). For example
    subscribe = '{"action": "subscribe", "room": "$channel"}'      publish = '{"action": "say", "room": "$channel", "text": "$payload"}'
The URL may hold `$channel` as well, for services with a path per channel. The stamp is found wherever it sits in a frame.

Which subscription a frame belongs to: the only one of its connection, or else the one whose channel stands under `channel_key`.
Confirmation of a subscribe: a frame that contains `subscribed`, one per subscription; without that option, a WebSocket ping/pong.
Acknowledgement of a publish: `acknowledged`, a regular expression whose first group is the token; without it, a publish handed to an
open connection counts as acknowledged. Refusal: `refused`, likewise; where its group holds no number, the subscribe under way is refused.

Limits: a frame without an undamaged marker of the stamp is taken for the service's own talk, so a delivery whose marker is hit by
corruption counts as lost. Subscribe and unsubscribe go out as text frames, also where payloads are binary.
"""

from __future__ import annotations

import asyncio
import re
import string
import time
from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np
from picows import WSFrame, WSMsgType, WSTransport

from floodmark.core.errors import UsageError
from floodmark.drivers.base import Connection, Encoding, Options, RefusedError, Sink, Wanted, json_headers, take_options
from floodmark.drivers.sockets import SocketConnection, open_socket
from floodmark.ledger.block import Block
from floodmark.ledger.stamp import MAGIC, MARKER

DEFAULTS: dict[str, str | int | float | bool] = {
    "hello": "",
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
    "headers": "",
    "frame_limit_bytes": 16 * 1024 * 1024,
}
MEANINGS = {
    "hello": "Sent once on every connection, publishers' too, as text: a login, a join. May use `$channel`, the connection's first.",
    "subscribe": "Sent for each subscription, as text. May use `$channel` and `$after`. Empty: nothing is sent, the URL says it all.",
    "unsubscribe": "Sent to end one. May use `$channel`. Empty: nothing is sent.",
    "publish": "Sent for each message. Must use `$payload`; may use `$channel` and `$token`, a number that identifies this publish.",
    "encoding": "`text` or `binary`: how payloads and their stamps are written, and which kind of frame a publish is.",
    "channel_key": "The JSON key under which a delivered frame names its channel; needed with several subscriptions per connection.",
    "subscribed": "What a frame contains that confirms a subscribe. Empty: a WebSocket ping, answered in order, stands for it.",
    "acknowledged": "A regular expression for the frame that confirms a publish; its first group is the token. Empty: none is expected.",
    "refused": "A regular expression for an error frame; its first group is the token of the publish, or else a subscribe is refused.",
    "resume_key": "The JSON key of a delivered frame's position; with `$after` in `subscribe` a subscription can be resumed.",
    "subprotocol": "The WebSocket sub-protocol to ask for and insist on.",
    "headers": "HTTP headers of the WebSocket handshake, a JSON object of text.",
    "frame_limit_bytes": "The longest message taken from the target; a longer one ends the connection.",
}
_MARKS: dict[Encoding, bytes] = {"text": MARKER, "binary": MAGIC}


class WebSocketConnection(SocketConnection):
    """One connection. See `drivers.base.Connection` for the contract."""

    def __init__(self, driver: WebSocketDriver, url: str, sink: Sink, bound_channel: str | None) -> None:
        super().__init__(url, sink, driver.frame_limit_bytes)
        self._driver = driver
        self._bound_channel = bound_channel
        self._only: int | None = None
        self._slots: dict[bytes, int] = {}
        self._channels: dict[int, str] = {}
        self._pongs: deque[asyncio.Future[None]] = deque()
        self._confirmation: asyncio.Future[None] | None = None
        self._unconfirmed_count = 0
        self._mark = _MARKS[driver.encoding]

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

    def take_run(self, rows: np.ndarray, header_bytes: int, received_ns: int) -> bool:  # HOT: once per run of deliveries
        slot = self._only
        if slot is None or self._partial is not None or not self._sink.takes_blocks:
            return False
        at = rows[0].tobytes().find(self._mark, header_bytes)
        if at < 0 or not (rows[:, at : at + len(self._mark)] == rows[0, at : at + len(self._mark)]).all():
            return False
        self._sink.put_block(Block(slot, rows.tobytes(), rows.shape[1], header_bytes, received_ns))
        return True

    def _on_other_frame(self, frame: WSFrame, data: bytes, received_ns: int) -> None:
        self.tap(frame)
        if frame.msg_type == WSMsgType.PONG and self._pongs:
            pong = self._pongs.popleft()
            if not pong.done():
                pong.set_result(None)
            return
        whole = self.whole_message(frame, data)
        if whole is None:
            return
        driver = self._driver
        if self._mark in whole and not (driver.acknowledged is not None and driver.acknowledged.search(whole)):
            slot = self._only if self._only is not None else self._slot_by_key(whole)
            if slot is not None:
                self._put((slot, whole, received_ns))
                return
        if driver.refused is not None and (match := driver.refused.search(whole)) is not None:
            self._on_refused(match, whole)
        elif driver.acknowledged is not None and (match := driver.acknowledged.search(whole)) is not None:
            if (token := _token(match)) is not None:
                self._sink.acknowledged(token)
        elif driver.subscribed and driver.subscribed in whole:
            self._unconfirmed_count -= 1
            if self._unconfirmed_count <= 0:
                self._settle(None)

    def _on_refused(self, match: re.Match[bytes], whole: bytes) -> None:
        text, token = whole[:120].decode("utf-8", "replace"), _token(match)
        if token is not None:
            self._sink.refused(token, text)
        else:
            self._settle(RefusedError(self._url, f"refused a subscription: {text}"))

    def _slot_by_key(self, data: bytes) -> int | None:
        pattern = self._driver.channel_pattern
        match = pattern.search(data) if pattern is not None else None
        if match is None or not self._slots:
            return None  # the service's own talk
        slot = self._slots.get(match.group(1))
        # A message for a channel that nobody here asked for: some subscription gets it, and the ledger tells from its stamp.
        return slot if slot is not None else next(iter(self._slots.values()))

    def _settle(self, error: RefusedError | None) -> None:
        """End the wait of the subscribe under way, if there is one."""
        for wait in (self._confirmation, *(self._pongs if error is not None else ())):
            if wait is None or wait.done():
                continue
            if error is not None:
                wait.set_exception(error)
            else:
                wait.set_result(None)

    def on_lost(self, error: RefusedError) -> None:
        self._settle(error)
        self._pongs.clear()

    async def subscribe(self, wanted: Sequence[Wanted]) -> None:
        self.require_open()
        self._admit(wanted)
        template = self._driver.subscribe
        confirmed = template is not None and bool(self._driver.subscribed)
        confirmation: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._confirmation, self._unconfirmed_count = (confirmation, len(wanted)) if confirmed else (None, 0)
        if template is not None:
            for want in wanted:
                after = "" if want.after is None else str(want.after)
                self.say(template.substitute(channel=want.channel, after=after))
        try:
            await (confirmation if confirmed else self._barrier())
        finally:
            self._confirmation = None

    def _admit(self, wanted: Sequence[Wanted]) -> None:
        """Enter the subscriptions, so that their first frame finds them. Raises: UsageError where frames could not be told apart."""
        for want in wanted:
            self._require_bound(want.channel)
            channel = want.channel.encode()
            if channel in self._slots and self._slots[channel] != want.slot:
                raise UsageError(
                    "driver 'websocket': two subscriptions of one connection have the same channel, and nothing in a frame tells them "
                    "apart; use at least as many channels as subscriptions_per_connection"
                )
            self._slots[channel] = want.slot
            self._channels[want.slot] = want.channel
        self._only = next(iter(self._slots.values())) if len(self._slots) == 1 else None
        if self._only is None and self._driver.channel_pattern is None:
            raise UsageError(
                "driver 'websocket': several subscriptions share a connection, so its option channel_key must say "
                "under which JSON key a frame names its channel; or use one subscription per connection"
            )

    def _require_bound(self, channel: str) -> None:
        if self._bound_channel is not None and channel != self._bound_channel:
            raise UsageError(
                "driver 'websocket': the URL names the channel, so a connection serves one only; use one subscription per connection "
                "and as many publishers as channels"
            )

    async def unsubscribe(self, slots: Iterable[int]) -> None:
        self.require_open()
        template = self._driver.unsubscribe
        for slot in list(slots):
            channel = self._channels.pop(slot, None)
            if channel is not None and template is not None:
                self.say(template.substitute(channel=channel))
        await self._barrier()
        kept = set(self._channels)
        self._slots = {channel: slot for channel, slot in self._slots.items() if slot in kept}
        self._only = next(iter(self._slots.values())) if len(self._slots) == 1 else None

    async def _barrier(self) -> None:
        """Wait until the service has read everything sent so far: a ping is answered in order."""
        transport = self._transport
        if transport is None:
            raise RefusedError(self._url, self._failure or "closed the connection")
        pong: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        transport.send_ping(b"floodmark")
        await pong

    def publish(self, channel: str, payload: bytes, token: int) -> None:  # HOT
        if self._bound_channel is not None:
            self._require_bound(channel)
        self._send(self._driver.publish_frame(channel, payload, token), text=self._driver.encoding == "text")

    def resume_point(self, frame: bytes) -> int | None:
        pattern = self._driver.resume_pattern
        match = pattern.search(frame) if pattern is not None else None
        return int(match.group(1)) if match is not None else None

    def say(self, command: str) -> None:
        """Send a command of the service's own."""
        self._send(command.encode(), text=True)

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
        self._hello = _template("hello", str(chosen["hello"]), {"channel"})
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
        self._headers = json_headers("websocket", str(chosen["headers"]))
        self.frame_limit_bytes = int(chosen["frame_limit_bytes"])
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
        bound_channel = channel if place != url else None
        connection: WebSocketConnection = await open_socket(
            lambda: WebSocketConnection(self, place, sink, bound_channel),
            place,
            subprotocol=self._subprotocol,
            limit_s=limit_s,
            frame_limit_bytes=self.frame_limit_bytes,
            local_host=local_host,
            headers=self._headers,
        )
        connection.hand_over()
        if self._hello is not None:
            connection.say(self._hello.substitute(channel=channel))
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


def _token(match: re.Match[bytes]) -> int | None:
    """The number in a pattern's first group; None when there is none, whatever a service sends."""
    digits = match.group(1)
    return int(digits) if digits is not None and digits.isdigit() and len(digits) < 20 else None


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
