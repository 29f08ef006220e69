"""One HTTP/1.1 connection that carries one request after another, for drivers whose answers are streams.

`HttpLine` is an asyncio protocol around httptools: it writes a request that was made beforehand, and tells its `Answers` the head, the
body as it comes (once per read, chunks of the transfer joined), and how it ended. A body without a length ends with the connection, as
HTTP has it. Nothing is asked while an answer is under way (no pipelining). Not here: what is asked, what a body means, opening another
connection when this one is gone.
Limits: a head of at most HEAD_LIMIT_BYTES; no redirects, no content encodings, no upgrade.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any, Protocol, cast
from urllib.parse import SplitResult, urlsplit

import httptools
import msgspec

from floodmark.core.errors import UsageError
from floodmark.drivers.base import RefusedError
from floodmark.drivers.sockets import network_reason

HEAD_LIMIT_BYTES = 64 * 1024
PAGE_BYTES_MAX = 1024 * 1024


class Answers(Protocol):
    """Who asks on a line."""

    def head(self, status: int, reason: str, headers: dict[str, str]) -> None:
        """The answer begins; names of headers are in lower case."""

    def body(self, data: bytes, received_ns: int) -> None:
        """HOT: a piece of it, one per read."""

    def complete(self) -> None:
        """It has come to its own end. The line is free unless `lost` follows."""

    def lost(self, line: HttpLine, reason: str) -> None:
        """The line is gone, in the midst of an answer or not. Called once."""


class _BeyondError(Exception):
    """Ends the parser at the beginning of an answer that nobody asked for; it comes out as a HttpParserError."""


class HttpLine(asyncio.Protocol):
    """See the module's docstring. `is_idle`: nothing is under way, so a request may be written."""

    def __init__(self, answers: Answers) -> None:
        self.is_idle = True
        self.is_writable = True
        self.is_foul = False  # the server broke the protocol
        self.opened_ns = time.monotonic_ns()
        self.answered_count = 0
        self._answers = answers
        self._transport: asyncio.Transport | None = None
        self._failure = ""
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._status = 0
        self._reason = b""
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._has_head = False  # told to `Answers`
        self._is_headed = False  # read by the parser
        self._is_complete = False
        self._stays = True
        self._body: list[bytes] = []

    # -- what is asked

    def ask(self, request: bytes) -> None:
        """Write a request. The line must be idle."""
        assert self._transport is not None
        assert self.is_idle
        self.is_idle = False
        self._begin()
        self._transport.write(request)

    # -- what httptools calls

    def on_status(self, reason: bytes) -> None:
        """A piece of the words behind the status."""
        self._reason += reason
        self._head_bytes += len(reason)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; of two with one name the later counts."""
        self._head_bytes += len(name) + len(value)
        if self._head_bytes <= HEAD_LIMIT_BYTES:
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The head is there; one of 1xx announces another one."""
        self._status = self._parser.get_status_code()
        self._is_headed = self._status >= 200
        if not self._is_headed:
            self._headers.clear()
            self._reason = b""

    def on_body(self, data: bytes) -> None:
        """HOT: once per chunk of the transfer."""
        self._body.append(data)

    def on_message_begin(self) -> None:
        """An answer begins; nobody asked for a second one, so what the parser has of it must not be read."""
        if self._is_complete:
            raise _BeyondError

    def on_message_complete(self) -> None:
        """The answer is over, unless it was one of 1xx."""
        self._is_complete = self._is_headed
        self._stays = self._parser.should_keep_alive()  # the parser forgets it after this call

    # -- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """HOT: once per read."""
        received_ns = time.monotonic_ns()
        if self.is_idle:
            self._reject("sent bytes that nobody had asked for")
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            reason = "sent bytes after the end of an answer" if self._is_complete else f"broke the HTTP protocol ({exc})"
            self._failure = self._failure or reason
            self.is_writable = False  # whoever hears of the end in what comes now must not ask on this line
            self._hand_on(received_ns)
            self._reject(reason)
            return
        if self._head_bytes > HEAD_LIMIT_BYTES:
            self._reject(f"sent a head of more than {HEAD_LIMIT_BYTES:,} bytes")
            return
        self._hand_on(received_ns)

    def _hand_on(self, received_ns: int) -> None:
        """Tell what a read has brought, in order."""
        if self._is_headed and not self._has_head:
            self._has_head = True
            self._answers.head(self._status, self._reason.decode("latin-1"), self._headers)
        pieces = self._body
        if pieces:
            self._body = []
            self._answers.body(pieces[0] if len(pieces) == 1 else b"".join(pieces), received_ns)
        if self._is_complete and not self.is_idle:
            self._complete()

    def _complete(self) -> None:
        self.is_idle = True
        self.answered_count += 1
        if not self._stays and self._transport is not None:
            self._failure = self._failure or "closed the connection after an answer, as it had announced"
            self.is_writable = False
            self._transport.close()
        self._answers.complete()

    def eof_received(self) -> bool:
        """The server closed. A body without a length has come to its end with that."""
        if not self.is_idle and self._has_head and not self._is_framed:
            self._failure = self._failure or "closed the connection to end an answer"
            self.is_idle = True
            self.is_writable = False
            self.answered_count += 1
            self._answers.complete()
        return False

    @property
    def _is_framed(self) -> bool:
        return "content-length" in self._headers or "transfer-encoding" in self._headers

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell once why."""
        self._transport = None
        self.is_writable = False
        self._answers.lost(self, self._failure or ("closed the connection" if exc is None else f"broke the connection off ({exc})"))

    def pause_writing(self) -> None:
        """The server takes no more."""
        self.is_writable = False

    def resume_writing(self) -> None:
        """It takes more again."""
        self.is_writable = self._transport is not None and not self._transport.is_closing()

    # -- what its owner calls

    @property
    def transport(self) -> asyncio.Transport | None:
        """The transport while there is one."""
        return self._transport

    def _reject(self, reason: str) -> None:
        """End it at once because of what the server did."""
        self.is_foul = True
        self.drop(reason)

    def drop(self, reason: str) -> None:
        """End it at once."""
        self._failure = self._failure or reason
        self.is_writable = False
        if self._transport is not None:
            self._transport.abort()

    def leave(self) -> None:
        """Close it cleanly."""
        self._failure = self._failure or "was left by us"
        self.is_writable = False
        if self._transport is not None:
            self._transport.close()


async def open_line(
    url: str, answers: Answers, *, limit_s: float, local_host: str | None = None, tls: ssl.SSLContext | None = None
) -> HttpLine:
    """Connect to the server of an http: or https: URL. Raises: RefusedError that says in words why there is no connection."""
    parts = split_url(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    secure = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
    local: dict[str, Any] = {"local_addr": (local_host, 0)} if local_host is not None else {}
    try:
        async with asyncio.timeout(limit_s) as limit:
            _, line = await asyncio.get_running_loop().create_connection(
                lambda: HttpLine(answers), str(parts.hostname), port, ssl=secure, **local
            )
    except TimeoutError as exc:
        why = f"took no connection within {limit_s:g} s" if limit.expired() else "did not answer on the network (ETIMEDOUT)"
        raise RefusedError(url, why) from exc
    except ssl.SSLError as exc:
        raise RefusedError(url, f"refused the TLS handshake ({exc.reason or exc})") from exc
    except OSError as exc:
        raise RefusedError(url, network_reason(exc)) from exc
    return line


class _Page:
    """Reads one whole answer."""

    def __init__(self) -> None:
        self.whole: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._status = 0
        self._data = bytearray()

    def head(self, status: int, reason: str, headers: dict[str, str]) -> None:
        """Take the head."""
        self._status = status

    def body(self, data: bytes, received_ns: int) -> None:
        """Take a piece; one too many is the end."""
        self._data += data
        if len(self._data) > PAGE_BYTES_MAX:
            self._end(None)

    def complete(self) -> None:
        """All of it is there."""
        self._end(bytes(self._data) if self._status == 200 else None)

    def lost(self, line: HttpLine, reason: str) -> None:
        """There is no more."""
        self._end(None)

    def _end(self, data: bytes | None) -> None:
        if not self.whole.done():
            self.whole.set_result(data)


async def fetch_numbers(url: str, *, limit_s: float, tls: ssl.SSLContext | None = None) -> dict[str, float] | None:
    """Read a JSON object and give those of its values that are numbers. None when there is no such page within the limit."""
    parts, page = split_url(url), _Page()
    try:
        async with asyncio.timeout(limit_s):
            line = await open_line(url, page, limit_s=limit_s, tls=tls)
            try:
                host = parts.netloc.rpartition("@")[2]
                line.ask(
                    f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\nConnection: close\r\n\r\n".encode()
                )
                data = await page.whole
            finally:
                line.leave()
        found = msgspec.json.decode(data or b"null", type=dict[str, Any] | None)
    except (RefusedError, TimeoutError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if found is None:
        return None
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float) and not isinstance(value, bool)}


def split_url(url: str) -> SplitResult:
    """Take an http: or https: URL apart. Raises: UsageError."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"driver 'sse' needs a URL like http://127.0.0.1:8000, got {url!r}")
    return parts
