"""One HTTP client that asks for streams of events, and outlives the connections that its answers come on.

One keep-alive connection at a time, one answer at a time on it. A server that closes between two answers, or in the midst of one, has not
lost the client: the answer has failed, another connection is opened, and only a server that takes none any more has closed for good. One
that closes a connection at once, without an answer, is not called again.

Not here: what is asked and where (sse.py), HTTP (http.py), events (sse_events.py), their order (sse_shape.py).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from floodmark.drivers.asking import REFUSED, UNREADABLE, Ask, AskingSink, reason_of
from floodmark.drivers.base import RefusedError, Wanted
from floodmark.drivers.http import HttpLine, open_line
from floodmark.drivers.sockets import CLOSE_LIMIT_S
from floodmark.drivers.sse_events import EventCutter, EventTooLongError
from floodmark.drivers.sse_shape import Shape, shown

REFUSAL_BYTES_MAX = 4096  # of a refusal's body that are kept for its first line
YOUNG_NS = 1_000_000_000  # a connection that dies younger than this and without an answer is no reason to open another one


class Place(NamedTuple):
    """Where requests go: the header `Host`, and what stands before the path."""

    host: str
    prefix: str


class Requests(Protocol):
    """What a client needs of its driver."""

    event_limit_bytes: int
    tls: ssl.SSLContext | None

    def place(self, url: str) -> Place:
        """Where requests to this URL go."""

    def request(self, ask: Ask, place: Place) -> bytes:
        """The bytes of one."""

    def shape(self) -> Shape:
        """What checks the answer."""


class SSEConnection:
    """One client: asks, and hands on what comes. See `AskingConnection`."""

    def __init__(self, driver: Requests, url: str, sink: AskingSink, *, limit_s: float, local_host: str | None) -> None:
        self._driver = driver
        self._place = driver.place(url)
        self._url = url
        self._sink = sink
        self._limit_s = limit_s
        self._local_host = local_host
        self._line: HttpLine | None = None
        self._reopening: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()
        self._failure = ""
        self._is_handed_over = False
        self._is_paused = False
        self._is_given_away = False  # somebody has our socket, to break it
        self._token = 0  # of the answer under way; 0: there is none, or it is not wanted any more
        self._is_accepted = False
        self._is_told = False  # that the answer finished or failed
        self._refusal: tuple[str, bytearray] | None = None
        self._shape: Shape = driver.shape()
        self._cutter = EventCutter()

    # -- what the agent calls

    @property
    def writable(self) -> bool:
        """False while there is no connection, or the server takes nothing."""
        return self._line is not None and self._line.is_writable

    async def open(self) -> None:
        """Connect for the first time. Raises: RefusedError."""
        self._line = await self._open_line()
        self._is_handed_over = True

    async def subscribe(self, wanted: Sequence[Wanted]) -> None:
        """Nothing is sent: an answer begins with its request."""
        if self._line is None and self._reopening is None:
            raise RefusedError(self._url, self._failure or "closed the connection")

    async def unsubscribe(self, slots: Iterable[int]) -> None:
        """Nothing is sent."""

    def free(self, slot: int) -> bool:
        """Whether no answer is under way: all slots share the one connection."""
        return self._line is not None and self._line.is_idle

    def ask(self, ask: Ask) -> None:
        """Send one request."""
        line = self._line
        if line is None or not line.is_writable:
            return
        driver = self._driver
        self._token, self._is_accepted, self._is_told, self._refusal = ask.token, False, False, None
        self._shape, self._cutter = driver.shape(), EventCutter(driver.event_limit_bytes)
        line.ask(driver.request(ask, self._place))

    def drop_answer(self, token: int) -> None:
        """Give the answer up by closing what it comes on; another connection is opened for the next one."""
        if token == self._token and self._line is not None and not self._line.is_idle:
            self._token = 0
            self._line.drop("was left by us")

    def publish(self, channel: str, payload: bytes, token: int) -> None:
        """Never called: nobody publishes to such a system."""
        raise NotImplementedError("a driver that asks does not publish")

    def resume_point(self, frame: bytes) -> int | None:
        """An answer cannot be resumed."""
        return None

    @property
    def os_socket(self) -> socket.socket | None:
        """The socket underneath, for faults that end it in a way of their own; the client does not come back by itself after that."""
        transport = self._line.transport if self._line is not None else None
        if transport is None:
            return None
        self._is_given_away = True
        raw: socket.socket | None = transport.get_extra_info("socket")
        return raw

    def pause_reading(self) -> None:
        """Stop reading the socket, and that of a connection that takes its place."""
        self._is_paused = True
        if self._line is not None and self._line.transport is not None:
            self._line.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._is_paused = False
        if self._line is not None and self._line.transport is not None:
            self._line.transport.resume_reading()

    async def close(self) -> None:
        """Close the connection; an answer under way ends with it."""
        self._leave()
        if self._line is not None:
            self._line.leave()
            try:
                async with asyncio.timeout(CLOSE_LIMIT_S):
                    await self._gone.wait()
            except TimeoutError:
                self.abort()
        self._close_for_good("was left by us")

    def abort(self) -> None:
        """Drop it at once."""
        self._leave()
        if self._line is not None:
            self._line.drop("was left by us")
        else:
            self._close_for_good("was left by us")

    def _leave(self) -> None:
        self._failure = self._failure or "was left by us"
        self._token = 0
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None

    # -- what the line calls

    def head(self, status: int, reason: str, headers: dict[str, str]) -> None:
        """Take the head of an answer."""
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if status == 200 and kind == "text/event-stream" and encoding == "identity":
            self._is_accepted = True
            if self._token:
                self._sink.accepted(self._token)
            return
        words = f"HTTP {status} {reason}".rstrip()
        if status == 200:
            words += (
                f" with {kind or 'no content type'} instead of text/event-stream" if encoding == "identity" else f" encoded as {encoding}"
            )
        self._refusal = words, bytearray()

    def body(self, data: bytes, received_ns: int) -> None:
        """HOT: once per read."""
        if self._refusal is not None:
            kept = self._refusal[1]
            kept += data[: REFUSAL_BYTES_MAX - len(kept)]
            return
        token = self._token
        if not token:
            return
        shape = self._shape
        try:
            texts = shape.take(self._cutter.feed(data))
        except EventTooLongError as exc:
            self._fail(UNREADABLE, str(exc))
            self.drop_answer(token)
            return
        if texts:
            self._sink.chunks(token, texts, received_ns)
        if shape.settled or shape.odd:
            self._tell()
        self._sink.turn()

    def complete(self) -> None:
        """The answer's body is over."""
        if self._refusal is not None:
            words, kept = self._refusal
            line = shown(bytes(kept).strip().partition(b"\n")[0])
            self._fail(REFUSED, f"{words}: {line}" if line else words)
            return
        self._shape.end()
        self._tell()

    def lost(self, line: HttpLine, reason: str) -> None:
        """The line is gone: the answer on it has failed, and another line is opened unless there is no point in it."""
        if line is not self._line:
            return
        self._line = None
        if not line.is_idle:
            if self._is_accepted:
                self._shape.end(reason)
                self._tell()
            else:
                self._fail(REFUSED, f"{reason} without an answer")
            self._sink.turn()
        elif line.is_foul and self._token:
            self._sink.odd(self._token, reason)
        hopeless = not line.answered_count and line.is_idle and time.monotonic_ns() - line.opened_ns < YOUNG_NS
        if self._failure or self._is_given_away or hopeless:
            self._close_for_good(reason)
        else:
            # Its parent is this connection, which cancels it when it is left.
            self._reopening = asyncio.get_running_loop().create_task(self._reopen())

    def _tell(self) -> None:
        """Tell the sink how the answer stands, once, and what is odd."""
        token, shape = self._token, self._shape
        if not token:
            return
        if shape.settled and not self._is_told:
            self._is_told = True
            if shape.failure:
                self._sink.failed(token, reason_of("", shape.failure))
            else:
                self._sink.finished(token, shape.told)
        for what in shape.odd:
            self._sink.odd(token, what)
        shape.odd.clear()

    def _fail(self, kind: str, said: str) -> None:
        if self._token and not self._is_told:
            self._is_told = True
            self._sink.failed(self._token, reason_of(kind, said))

    # -- opening

    async def _open_line(self) -> HttpLine:
        line = await open_line(self._url, self, limit_s=self._limit_s, local_host=self._local_host, tls=self._driver.tls)
        if line.transport is None:
            raise RefusedError(self._url, "closed the connection at once")
        if self._is_paused:
            line.transport.pause_reading()
        return line

    async def _reopen(self) -> None:
        try:
            self._line = await self._open_line()
        except RefusedError as exc:
            self._close_for_good(exc.reason)
        self._reopening = None

    def _close_for_good(self, reason: str) -> None:
        self._failure = self._failure or reason
        if not self._gone.is_set():
            self._gone.set()
            if self._is_handed_over:
                self._sink.closed(self, self._failure)
