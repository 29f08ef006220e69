"""Streams of server-sent events over HTTP: any server that speaks OpenAI's chat completions, and plain ones described by options.

Each connection of the population is an HTTP client of its own: one keep-alive connection, one answer at a time on it, so that a request
waits for the one before (that wait is response latency). A server that closes between two answers, or in the midst of one, has not lost
the client: the answer has failed, another connection is opened, and only a server that takes none any more has closed for good.

Accepted is a request whose answer is `200` with `text/event-stream`; anything else is a refusal, told with its status and first line.
What makes an answer finished or failed is the part of sse_shape.py, what makes an event that of sse_events.py, HTTP that of http.py.

Templates (`path`, `body`) are texts with $-names: `$prompt`, `$model`, `$channel`; escaped for JSON in the body, for URLs in the path.
Limits: no HTTP/2, no redirects, no content encoding; answers beyond the first (`n` > 1) are not read.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import string
import time
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, NamedTuple
from urllib.parse import quote

import msgspec

from floodmark.core.errors import UsageError
from floodmark.drivers.asking import (
    ASKING_DEFAULTS,
    ASKING_MEANINGS,
    REFUSED,
    UNREADABLE,
    Ask,
    AskingDriver,
    AskingSink,
    reason_of,
)
from floodmark.drivers.base import Connection, Options, RefusedError, Sink, Wanted, json_headers, take_options
from floodmark.drivers.http import HttpLine, fetch_numbers, open_line, split_url
from floodmark.drivers.sockets import CLOSE_LIMIT_S
from floodmark.drivers.sse_events import EVENT_LIMIT_BYTES, EventCutter, EventTooLongError
from floodmark.drivers.sse_shape import OpenAIShape, PlainRules, PlainShape, Shape, marker, path_of, shown

REFUSAL_BYTES_MAX = 4096  # of a refusal's body that are kept for its first line
STATISTICS_LIMIT_S = 5.0
YOUNG_NS = 1_000_000_000  # a connection that dies younger than this and without an answer is no reason to open another one
OPENAI_BODY = '{"model":"$model","messages":[{"role":"user","content":"$prompt"}],"stream":true,"stream_options":{"include_usage":true}}'

DEFAULTS: Options = {
    **ASKING_DEFAULTS,
    "protocol": "openai",
    "path": "/v1/chat/completions",
    "method": "POST",
    "model": "floodmark-numbered",
    "body": OPENAI_BODY,
    "headers": "",
    "api_key_env": "",
    "text_path": "",
    "usage_path": "",
    "done": "[DONE]",
    "error": "event:error",
    "event_limit_bytes": EVENT_LIMIT_BYTES,
    "verify_tls": True,
    "statistics_path": "/statistics",
}
MEANINGS: dict[str, str] = {
    **ASKING_MEANINGS,
    "protocol": "`openai`: chunks of a chat completion, ended by a `finish_reason` and `[DONE]`; `plain`: what the options below describe",
    "path": "Where to ask, behind the target's URL (a `/v1` that both have counts once). May use `$prompt`, `$model`, `$channel`.",
    "method": "`POST`, or `GET`, which sends no body.",
    "model": "the model asked for, `$model`",
    "body": "The request's JSON. May use `$prompt`, `$model`, `$channel`, each within quotation marks.",
    "headers": "HTTP headers of every request, a JSON object of text.",
    "api_key_env": "Name of the environment variable with the API key, which goes out as `Authorization: Bearer ...`; so no key stands in "
    "a scenario or a run folder.",
    "text_path": "`plain`: where the text is in an event's JSON, such as `choices.0.text`. Empty: the event's data is the text.",
    "usage_path": "`plain`: where the count of tokens is in the JSON of an event. Empty: none is told.",
    "done": "`plain`: the terminal event, known by its data, or by its name as `event:NAME`.",
    "error": "`plain`: an event that says that the answer failed, known likewise. Empty: there is none.",
    "event_limit_bytes": "The longest event taken; a longer one fails its answer.",
    "verify_tls": "Whether the certificate of an https target must be in order.",
    "statistics_path": "Where the target shows its own numbers, a JSON object, on the same host and port. Empty: do not look.",
}


class Place(NamedTuple):
    """Where requests go: the header `Host`, and what stands before the path."""

    host: str
    prefix: str


class SSEConnection:
    """One client: asks, and hands on what comes. See `AskingConnection`."""

    def __init__(self, driver: SSEDriver, url: str, sink: AskingSink, *, limit_s: float, local_host: str | None) -> None:
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


class SSEDriver(AskingDriver):
    """Asks over HTTP; `DEFAULTS` and `MEANINGS` hold its options."""

    DEFAULTS: ClassVar[Options] = DEFAULTS

    def __init__(self, options: Options) -> None:
        self.options = take_options("sse", options, DEFAULTS)
        chosen = {name: value for name, value in self.options.items() if isinstance(value, str)}
        self.event_limit_bytes = int(self.options["event_limit_bytes"])
        if self.event_limit_bytes < 1:
            raise UsageError(f"option 'event_limit_bytes' of driver 'sse' must be at least 1, got {self.event_limit_bytes}")
        if chosen["method"] not in ("GET", "POST"):
            raise UsageError(f"option 'method' of driver 'sse' must be GET or POST, got {chosen['method']!r}")
        self.shape = self._shapes(chosen)
        self._path = _template("path", chosen["path"])
        self._body = _template("body", chosen["body"] if chosen["method"] == "POST" else "")
        self._model = chosen["model"]
        self._method = chosen["method"]
        self._headers = self._fields(chosen)
        self.tls: ssl.SSLContext | None = None if self.options["verify_tls"] else _lenient()

    def _shapes(self, chosen: dict[str, str]) -> Callable[[], Shape]:
        match chosen["protocol"]:
            case "openai":
                return OpenAIShape
            case "plain":
                rules = PlainRules(
                    text_path=path_of(chosen["text_path"], option="text_path"),
                    usage_path=path_of(chosen["usage_path"], option="usage_path"),
                    done=marker(chosen["done"]),
                    error=marker(chosen["error"]),
                )
                return lambda: PlainShape(rules)
            case other:
                raise UsageError(f"option 'protocol' of driver 'sse' must be openai or plain, got {other!r}")

    def _fields(self, chosen: dict[str, str]) -> str:
        """The lines of the head that are the same for every request."""
        fields = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "User-Agent": "floodmark"}
        if self._method == "POST":
            fields["Content-Type"] = "application/json"
        name = chosen["api_key_env"]
        if name:
            key = os.environ.get(name, "")
            if not key or not key.isascii() or not key.isprintable():
                raise UsageError(f"option 'api_key_env' of driver 'sse': the environment variable {name!r} holds no key; set it to one")
            fields["Authorization"] = f"Bearer {key}"
        fields |= json_headers("sse", chosen["headers"])
        return "".join(f"{name}: {value}\r\n" for name, value in fields.items())

    def request(self, ask: Ask, place: Place) -> bytes:
        """The bytes of one request."""
        names = {"prompt": ask.prompt, "model": self._model, "channel": ask.channel}
        path = place.prefix + self._path.substitute({name: quote(value, safe="") for name, value in names.items()})
        body = self._body.substitute({name: msgspec.json.encode(value)[1:-1].decode() for name, value in names.items()}).encode()
        length = f"Content-Length: {len(body)}\r\n" if self._method == "POST" else ""
        return f"{self._method} {path or '/'} HTTP/1.1\r\nHost: {place.host}\r\n{self._headers}{length}\r\n".encode() + body

    async def connect(self, url: str, channel: str, sink: Sink, *, limit_s: float, local_host: str | None = None) -> Connection:
        """Open a client. `channel` is not needed: a request names its own. The sink must be an `AskingSink`."""
        if self.tls is None and split_url(url).scheme == "https":
            self.tls = ssl.create_default_context()
        connection = SSEConnection(self, url, sink, limit_s=limit_s, local_host=local_host)  # type: ignore[arg-type]  # the agent's is
        await connection.open()
        return connection

    def place(self, url: str) -> Place:
        """What requests need of the URL. Its path counts where `path` does not begin with it. Raises: UsageError."""
        parts = split_url(url)
        base, path = parts.path.rstrip("/"), self._path.template
        if base and (path == base or path.startswith(f"{base}/")):
            base = ""
        elif base.endswith("/v1") and path.startswith("/v1/"):
            base = base.removesuffix("/v1")
        else:
            base = base.removesuffix(path)
        return Place(parts.netloc.rpartition("@")[2], base)

    async def statistics(self, url: str) -> dict[str, float] | None:
        """The numbers of the target's page of statistics, if it has one."""
        path = str(self.options["statistics_path"])
        if not path:
            return None
        parts = split_url(url)
        return await fetch_numbers(f"{parts.scheme}://{parts.netloc}{path}", limit_s=STATISTICS_LIMIT_S, tls=self.tls)


def _template(name: str, text: str) -> string.Template:
    template = string.Template(text)
    if not template.is_valid():
        raise UsageError(f"driver 'sse': the {name} template {text!r} has a stray $; write $$ for a dollar sign")
    unknown = set(template.get_identifiers()) - {"prompt", "model", "channel"}
    if unknown:
        raise UsageError(f"driver 'sse': the {name} template uses ${min(unknown)}; it may use $prompt, $model, $channel")
    return template


def _lenient() -> ssl.SSLContext:
    """For servers whose certificate nobody signed."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
