"""What the WebSocket drivers share: opening a picows connection, what every connection does alike, and words for the ways in which it ends.

Not here: what a frame means (graphql_ws.py, websocket.py).
Memory: picows allocates its read buffer per connection, so it starts at 1 KiB and grows with the frames. A message in fragments is
collected up to the same limit as a frame.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Self, TypeVar, cast
from urllib.parse import urlsplit

import numpy as np
from picows import WSCloseCode, WSFrame, WSHandshakeError, WSListener, WSMsgType, WSTransport, ws_connect

from floodmark.drivers.base import RefusedError, Sink
from floodmark.drivers.tap import Library, Tap

Listener = TypeVar("Listener", bound=WSListener)

READ_BUFFER_BYTES = 1024
RECEIVE_BUFFER_BYTES = 512 * 1024
CLOSE_LIMIT_S = 2.0
PAGE_BYTES_MAX = 4 * 1024 * 1024
logging.getLogger("picows").setLevel(logging.CRITICAL)  # what goes wrong is told by RefusedError and Sink.closed


async def open_socket(
    make: Callable[[], Listener],
    url: str,
    *,
    subprotocol: str | None,
    limit_s: float,
    frame_limit_bytes: int,
    local_host: str | None = None,
    headers: dict[str, str] | None = None,
) -> Listener:
    """Connect and shake hands; the listener that `make` built is returned once it is connected.

    Raises: RefusedError that says in words how the target refused.
    """
    extra = dict(headers or {})
    if subprotocol is not None:
        extra["Sec-WebSocket-Protocol"] = subprotocol
    try:
        async with asyncio.timeout(limit_s) as limit:
            transport, made = await ws_connect(
                make,
                url,
                websocket_handshake_timeout=None,  # one limit, the one around this block
                enable_auto_pong=True,
                max_frame_size=frame_limit_bytes,
                extra_headers=extra,
                use_aiofastnet=False,
                max_redirects=0,
                read_buffer_init_size=READ_BUFFER_BYTES,
                local_addr=(local_host, 0) if local_host is not None else None,
            )
    except TimeoutError as exc:
        if not limit.expired():  # a socket's ETIMEDOUT is a TimeoutError too
            raise RefusedError(url, "did not answer on the network (ETIMEDOUT)") from exc
        raise RefusedError(url, f"took no WebSocket handshake within {limit_s:g} s") from exc
    except WSHandshakeError as exc:
        raise RefusedError(url, _handshake_reason(exc)) from exc
    except OSError as exc:
        raise RefusedError(url, network_reason(exc)) from exc
    if transport.response is None:  # picows takes a clean end of the stream before any answer for no error
        raise RefusedError(url, "closed or broke off the WebSocket handshake (it sent nothing)")
    answered = transport.response.headers.get("Sec-WebSocket-Protocol")
    if subprotocol is not None and answered != subprotocol:
        transport.disconnect(graceful=False)
        raise RefusedError(url, f"does not speak {subprotocol} (it answered with sub-protocol {answered!r})")
    _bound_receive_buffer(transport)
    # Nobody reads the handshake again, and its parsed headers are a fifth of an idle connection's memory.
    transport.request.headers.clear()
    transport.response.headers.clear()
    return cast("Listener", made)


def _bound_receive_buffer(transport: WSTransport) -> None:
    """On loopback, keep what the kernel holds for us small: picows grows its own buffer to whatever one read can bring.

    A hundred connections with frames of 1 MB cost 1.2 GB otherwise. Over a real network the kernel needs the room, so it is left alone.
    """
    raw = transport.underlying_transport.get_extra_info("socket")
    if raw is None or raw.fileno() < 0 or raw.family != socket.AF_INET:
        return  # the second: it was lost right after the handshake, which `hand_over` tells
    with suppress(OSError):  # or in this very moment
        if raw.getpeername()[0].startswith("127."):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)


def _handshake_reason(exc: WSHandshakeError) -> str:
    response = exc.response
    if response is None:
        seen = bytes(exc.raw_header or b"")[:60]
        return f"closed or broke off the WebSocket handshake ({exc}{f', it sent {seen!r}' if seen else ''})"
    body = bytes(exc.raw_body or b"")[:200].decode("utf-8", "replace").strip()
    status = int(response.status)
    return f"refused the WebSocket handshake with HTTP {status}{f': {body}' if body else ''}"


OUR_LIMITS = ("this process is out of file descriptors", "no local port is left")
"""What a connection may fail by on our side, as `network_reason` says it: the target was not even asked."""


def network_reason(exc: OSError) -> str:
    """Say in words why a connection could not be made."""
    match exc.errno:
        case errno.ECONNREFUSED:
            return "refuses connections: nothing listens there"
        case errno.EMFILE | errno.ENFILE:
            return f"cannot be reached: {OUR_LIMITS[0]} (floodmark doctor says how to get more)"
        case errno.EADDRNOTAVAIL:
            return f"cannot be reached: {OUR_LIMITS[1]} (floodmark doctor says how to get more)"
        case _ if isinstance(exc, socket.gaierror):
            return f"cannot be found: {exc.strerror}"
        case _:
            return f"cannot be reached: {exc.strerror or exc}"


class SocketConnection(WSListener):
    """One connection, without a protocol on top: the transport, back-pressure, fragments, and how it ends.

    `Sink.closed` is called only for a connection that was handed over; what fails before is told by the RefusedError of `connect`.
    """

    def __init__(self, url: str, sink: Sink, frame_limit_bytes: int) -> None:
        self._url = url
        self._sink = sink
        self._put = sink.put
        self._turn = sink.turn
        self._transport: WSTransport | None = None
        self._partial: bytearray | None = None
        self._frame_limit_bytes = frame_limit_bytes
        self._failure = ""
        self._handed_over = False
        self._tapped = False
        self.writable = True

    # -- what picows calls ---------------------------------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._failure = self._failure or describe_close(transport, self._frame_limit_bytes)
        _silence(transport)
        self._transport = None
        self._partial = None
        self.writable = False
        self.on_lost(RefusedError(self._url, self._failure))
        if self._handed_over:
            self._sink.closed(self, self._failure)  # type: ignore[arg-type]  # the protocol on top makes it a whole Connection

    def take_run(self, rows: np.ndarray, header_bytes: int, received_ns: int) -> bool:
        """HOT: take a run of like frames, a (n, frame bytes) array valid during the call; False leaves them to `on_ws_frame`."""
        return False

    def tap(self, frame: WSFrame) -> None:
        """Put a tap in front of picows, for `take_run`. Only at a frame's end: picows must not hold the beginning of another one."""
        transport = self._transport
        if self._tapped or transport is None or transport.is_secure or frame.tail_size:
            return
        self._tapped = True
        socket_transport = transport.underlying_transport
        socket_transport.set_protocol(Tap(cast("Library", socket_transport.get_protocol()), self.take_run))

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = self._transport is not None

    # -- for the protocol on top -----------------------------------------------------------------------------------------------------

    def on_lost(self, error: RefusedError) -> None:
        """The connection is gone: end every wait with this error."""

    def hand_over(self) -> Self:
        """Give the connection to whoever asked for it. Raises: RefusedError when it was lost meanwhile."""
        self.require_open()
        self._handed_over = True
        return self

    def require_open(self) -> None:
        """Raise RefusedError with the reason when the connection is gone."""
        if self._transport is None:
            raise RefusedError(self._url, self._failure or "closed the connection")

    def whole_message(self, frame: WSFrame, data: bytes) -> bytes | None:
        """The message that this frame completes; None for a control frame or a part. A closing handshake is answered here."""
        kind = frame.msg_type
        handshake = self._transport.close_handshake if self._transport is not None else None
        if handshake is not None and handshake.recv is None:
            return None  # picows found the stream broken and is closing it; what follows is the wreckage
        if kind == WSMsgType.CLOSE:
            self._answer_close(frame)
            return None
        if kind in (WSMsgType.PING, WSMsgType.PONG):
            return None
        if (kind == WSMsgType.CONTINUATION) != (self._partial is not None):
            self.fail("broke the WebSocket protocol: its fragments are out of order")
            return None
        if frame.fin and self._partial is None:
            return data
        partial = self._partial = bytearray() if self._partial is None else self._partial
        partial += data
        if len(partial) > self._frame_limit_bytes:
            self.fail(_too_long(self._frame_limit_bytes))
            return None
        if not frame.fin:
            return None
        self._partial = None
        return bytes(partial)

    def _answer_close(self, frame: WSFrame) -> None:
        transport, code = self._transport, frame.get_close_code()
        if transport is not None:
            transport.send_close(WSCloseCode.OK if code == WSCloseCode.NO_INFO else code)  # 1005 may not stand on the wire
            transport.disconnect()

    def fail(self, reason: str) -> None:
        """End the connection at once because of what the target did."""
        self._failure = self._failure or reason
        self.abort()

    # -- what the agent calls --------------------------------------------------------------------------------------------------------

    @property
    def os_socket(self) -> socket.socket | None:
        """The socket underneath, for faults that end it in a way of their own; None when it is gone."""
        raw: socket.socket | None = self._transport.underlying_transport.get_extra_info("socket") if self._transport is not None else None
        return raw

    def pause_reading(self) -> None:
        if self._transport is not None:
            self._transport.underlying_transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None:
            self._transport.underlying_transport.resume_reading()

    async def close(self) -> None:
        transport = self._transport
        if transport is not None:
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()
            try:
                async with asyncio.timeout(CLOSE_LIMIT_S):
                    await transport.wait_disconnected()
            except TimeoutError:
                transport.disconnect(graceful=False)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.disconnect(graceful=False)


def describe_close(transport: WSTransport, frame_limit_bytes: int) -> str:
    """One line that says how a connection ended."""
    handshake = transport.close_handshake
    received = handshake.recv if handshake is not None else None
    sent = handshake.sent if handshake is not None else None
    if received is not None and received.code == WSCloseCode.NO_INFO:
        return "closed the connection without a code"
    if received is not None:
        reason = received.reason or ""
        return f"closed the connection with code {int(received.code.value)}{f' ({reason})' if reason else ''}"
    if sent is None:
        return "broke the connection off without a closing handshake"
    if sent.code == WSCloseCode.MESSAGE_TOO_BIG:
        return _too_long(frame_limit_bytes)
    if sent.code == WSCloseCode.OK:
        return "was left by us"
    return f"broke the WebSocket protocol: {sent.reason or 'what it sent is no frame'}"


def _silence(transport: WSTransport) -> None:
    """Take note of the error with which picows ended a connection: unseen, asyncio would log it as never retrieved.

    It comes out of `wait_disconnected` only, after this very call. A cancelled shield takes note of it without a task that waits.
    """
    waiting = transport.wait_disconnected()
    shield = waiting.send(None)
    if shield is not None:
        shield.cancel()
    waiting.close()


def _too_long(limit_bytes: int) -> str:
    return f"sent a message longer than {limit_bytes:,} bytes, which is the driver's option frame_limit_bytes"


async def fetch_prometheus(url: str, *, limit_s: float = 5.0) -> dict[str, float] | None:
    """Read a Prometheus text page: sample name (with labels as they stand) to value. None when there is no such page, or no end to it."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    try:
        async with asyncio.timeout(limit_s):
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port or (443 if secure else 80), ssl=secure or None, limit=PAGE_BYTES_MAX
            )
            try:
                request = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: text/plain\r\nConnection: close\r\n\r\n"
                writer.write(request.encode())
                head = await reader.readuntil(b"\r\n\r\n")
                body = await _body(head, reader)
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None
    if body is None:
        return None
    page = body
    samples: dict[str, float] = {}
    for line in page.decode("utf-8", "replace").splitlines():
        name, _, value = line.rpartition(" ")
        if name and not line.startswith("#"):
            try:
                samples[name.strip()] = float(value)
            except ValueError:
                continue
    return samples


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes | None:
    """The body of an HTTP answer; None for anything but 200, or beyond the limit."""
    status, *lines = head.decode("latin-1").split("\r\n")
    if status.split(" ")[1:2] != ["200"]:
        return None
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if fields.get("transfer-encoding", "").lower() == "chunked":
        page = bytearray()
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            page += (await reader.readexactly(size + 2))[:-2]
            if len(page) > PAGE_BYTES_MAX:
                return None
        return bytes(page)
    if "content-length" in fields:
        length = int(fields["content-length"])
        return await reader.readexactly(length) if 0 <= length <= PAGE_BYTES_MAX else None
    page = bytearray()
    while chunk := await reader.read(65536):
        page += chunk
        if len(page) > PAGE_BYTES_MAX:
            return None
    return bytes(page)
