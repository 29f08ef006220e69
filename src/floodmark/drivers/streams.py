"""Ready-made parts for a driver of one's own over plain TCP: the socket's life for any protocol, and all but the words for one of lines.

Lines: derive a connection from `LineConnection` and write what the protocol says: `subscribe`, `unsubscribe`, `publish` and `on_line`;
derive a driver from `LineDriver` and name that connection. `examples/echo_driver.py` is a whole one. Anything else: derive from
`TcpConnection` and write `data_received` too; `pulled.py` does. The URL is `tcp://host:port`.

Limits: no TLS; lines end in a line feed and are at most LINE_BYTES_MAX long. Whatever a line makes the code on top raise ends the
connection with the reason in words, so a target that talks nonsense is refused and not a crash of ours.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, ClassVar, Protocol, TypeVar, cast
from urllib.parse import urlsplit

from floodmark.core.errors import UsageError
from floodmark.drivers.base import BaseDriver, Connection, RefusedError, Sink, Wanted
from floodmark.drivers.sockets import CLOSE_LIMIT_S, network_reason

LINE_BYTES_MAX = 16 * 1024 * 1024
AnyConnection = TypeVar("AnyConnection", bound="TcpConnection")


class TcpConnection(asyncio.Protocol):
    """One TCP connection, from its making to its loss. `sink` may be None where nobody waits for messages."""

    def __init__(self, url: str, sink: Sink | None) -> None:
        self.url = url
        self.writable = True
        self._told = sink
        self._transport: asyncio.Transport | None = None
        self._failure = ""
        self._handed_over = False
        self._lost = asyncio.Event()

    # -- what the protocol on top writes -------------------------------------------------------------------------------------------

    async def subscribe(self, wanted: Sequence[Wanted]) -> None:
        """Open subscriptions."""
        raise NotImplementedError

    async def unsubscribe(self, slots: Iterable[int]) -> None:
        """End subscriptions."""
        raise NotImplementedError

    def publish(self, channel: str, payload: bytes, token: int) -> None:
        """HOT: send one message; a text payload holds letters, digits and a colon, a binary one any byte."""
        raise NotImplementedError

    def resume_point(self, frame: bytes) -> int | None:
        """No position; a driver that sets `resumes` reads it from the frame."""
        return None

    def on_lost(self, reason: str) -> None:
        """The connection is gone: end every wait. The sink is told afterwards."""

    # -- what the protocol on top calls --------------------------------------------------------------------------------------------

    def fail(self, reason: str) -> None:
        """End the connection because of what the target did or said; `reason` is one line that goes on after the URL."""
        self._failure = self._failure or reason
        self.abort()

    def require_open(self) -> None:
        """Raises: RefusedError when the connection is lost, or about to be."""
        if self._transport is None or self._transport.is_closing():
            raise RefusedError(self.url, self._failure or "closed the connection")

    # -- the rest is done ----------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End every wait and tell the sink."""
        reason = self._failure = self._failure or ("closed the connection" if exc is None else f"broke the connection off ({exc})")
        self._transport = None
        self.writable = False
        self._lost.set()
        self.on_lost(reason)
        if self._handed_over and self._told is not None:
            self._told.closed(self, reason)

    def pause_writing(self) -> None:
        """The target does not take what we send."""
        self.writable = False

    def resume_writing(self) -> None:
        """It takes more again."""
        self.writable = self._transport is not None

    @property
    def os_socket(self) -> socket.socket | None:
        """The socket underneath, for faults that end it in a way of their own; None when it is gone."""
        raw: socket.socket | None = self._transport.get_extra_info("socket") if self._transport is not None else None
        return raw

    def pause_reading(self) -> None:
        """Stop reading the socket."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._transport is not None:
            self._transport.resume_reading()

    async def close(self) -> None:
        """Send what is left, then close."""
        if self._transport is not None:
            self._failure = self._failure or "was left by us"
            self._transport.close()
            await self._until_lost(CLOSE_LIMIT_S)

    async def _until_lost(self, limit_s: float) -> None:
        """Wait until it is gone; drop it when that takes too long."""
        try:
            async with asyncio.timeout(limit_s):
                await self._lost.wait()
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._transport is not None:
            self._failure = self._failure or "was left by us"
            self._transport.abort()

    def hand_over(self) -> Connection:
        """Give the connection to whoever asked for it. Raises: RefusedError when it was lost meanwhile."""
        self.require_open()
        self._handed_over = True
        return self


class Telling(Protocol):
    """A connection by which a target tells its own figures."""

    async def statistics(self) -> dict[str, float]:
        """Ask for them."""

    def abort(self) -> None:
        """Drop the connection at once."""


async def statistics_of(connecting: Awaitable[Telling], *, limit_s: float) -> dict[str, float] | None:
    """Ask on a connection of its own, which is dropped afterwards; None when it takes too long."""
    try:
        async with asyncio.timeout(limit_s):
            connection = await connecting
            try:
                return await connection.statistics()
            finally:
                connection.abort()
    except TimeoutError:
        return None


async def open_tcp(
    driver: str, url: str, make: Callable[[], AnyConnection], *, limit_s: float, local_host: str | None = None
) -> AnyConnection:
    """Connect to the host and port of a URL.

    Args: `driver`: its name, for whoever gave a wrong URL; `make`: makes the connection's object.
    Raises: UsageError for a URL without host and port; RefusedError when nobody answers there within `limit_s`.
    """
    parts = urlsplit(url)
    if not parts.hostname or not parts.port:
        raise UsageError(f"driver {driver} needs a URL like tcp://127.0.0.1:7000, got {url!r}")
    options: dict[str, Any] = {"local_addr": (local_host, 0)} if local_host is not None else {}
    try:
        async with asyncio.timeout(limit_s) as limit:
            _, made = await asyncio.get_running_loop().create_connection(make, parts.hostname, parts.port, **options)
    except TimeoutError as exc:
        why = f"took no connection within {limit_s:g} s" if limit.expired() else "did not answer on the network (ETIMEDOUT)"
        raise RefusedError(url, why) from exc
    except OSError as exc:
        raise RefusedError(url, network_reason(exc)) from exc
    return made


class LineConnection(TcpConnection):
    """One TCP connection that speaks lines. `slots` is for the protocol on top: which slot of the ledger a channel's messages go to.

    `subscribe` enters them in `slots`, does `send` for each, then `await self.confirmations(len(wanted))`; `unsubscribe` likewise.
    """

    def __init__(self, url: str, sink: Sink) -> None:
        super().__init__(url, sink)
        self.sink = sink
        self.slots: dict[bytes, int] = {}
        self._rest = b""
        self._confirmed: asyncio.Future[None] | None = None
        self._confirmations_due = 0

    # -- what the protocol on top writes -------------------------------------------------------------------------------------------

    def on_line(self, line: bytes, received_ns: int) -> None:
        """HOT: take one line, without its line feed: `sink.put`, `sink.acknowledged`, `sink.refused`, `confirm` or `fail`."""
        raise NotImplementedError

    # -- what the protocol on top calls --------------------------------------------------------------------------------------------

    def send(self, line: bytes) -> None:
        """HOT: send one line; nothing happens on a connection that is lost."""
        if self._transport is not None:
            self._transport.write(line + b"\n")

    async def confirmations(self, count: int) -> None:
        """Wait until `confirm` was called this often. Raises: RefusedError when the connection is lost or was failed meanwhile."""
        self.require_open()
        if count == 0:
            return
        self._confirmations_due = count
        self._confirmed = asyncio.get_running_loop().create_future()
        try:
            await self._confirmed
        finally:
            self._confirmed = None

    def confirm(self) -> None:
        """The target confirmed one of the requests that are waited for."""
        self._confirmations_due -= 1
        if self._confirmed is not None and self._confirmations_due <= 0 and not self._confirmed.done():
            self._confirmed.set_result(None)

    # -- the rest is done ----------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:  # HOT: once per read
        received_ns = time.monotonic_ns()
        *lines, self._rest = (self._rest + data).split(b"\n")
        try:
            for line in lines:
                self.on_line(line, received_ns)
        except Exception as exc:  # what it said made no sense to the code on top
            self.fail(f"sent a line that its driver could not read: {line[:60]!r} ({type(exc).__name__}: {exc})")
        if len(self._rest) > LINE_BYTES_MAX:
            self.fail(f"sent a line of more than {LINE_BYTES_MAX:,} bytes")
        self.sink.turn()

    def on_lost(self, reason: str) -> None:
        """Nobody will confirm anything any more."""
        self._rest = b""
        if self._confirmed is not None and not self._confirmed.done():
            self._confirmed.set_exception(RefusedError(self.url, reason))


class LineDriver(BaseDriver):
    """A driver for such a protocol: name the connection's class; set `encoding`, `acknowledges` and `resumes` where they differ."""

    connection: ClassVar[type[LineConnection]]

    async def connect(self, url: str, channel: str, sink: Sink, *, limit_s: float, local_host: str | None = None) -> Connection:
        """Open a connection. `channel` is not needed: lines name their channels."""
        name = type(self).__name__
        return (await open_tcp(name, url, lambda: self.connection(url, sink), limit_s=limit_s, local_host=local_host)).hand_over()
