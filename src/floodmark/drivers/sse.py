"""Streams of server-sent events over HTTP: any server that speaks OpenAI's chat completions, and plain ones described by options.

Each connection of the population is an HTTP client of its own (sse_client.py): one keep-alive connection, one answer at a time on it, so
that a request waits for the one before (that wait is response latency).

Accepted is a request whose answer is `200` with `text/event-stream`; anything else is a refusal, told with its status and first line.
What makes an answer finished or failed is the part of sse_shape.py, what makes an event that of sse_events.py, HTTP that of http.py.

Templates (`path`, `body`) are texts with $-names: `$prompt`, `$model`, `$channel`; escaped for JSON in the body, for URLs in the path.
Limits: no HTTP/2, no redirects, no content encoding; answers beyond the first (`n` > 1) are not read.
"""

from __future__ import annotations

import os
import ssl
import string
from collections.abc import Callable
from typing import ClassVar
from urllib.parse import quote

import msgspec

from floodmark.core.errors import UsageError
from floodmark.drivers.asking import (
    ASKING_DEFAULTS,
    ASKING_MEANINGS,
    Ask,
    AskingDriver,
)
from floodmark.drivers.base import Connection, Options, Sink, json_headers, take_options
from floodmark.drivers.http import fetch_numbers, split_url
from floodmark.drivers.sse_client import Place, SSEConnection
from floodmark.drivers.sse_events import EVENT_LIMIT_BYTES
from floodmark.drivers.sse_shape import OpenAIShape, PlainRules, PlainShape, Shape, marker, path_of

STATISTICS_LIMIT_S = 5.0
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
        self._make_shape = self._shapes(chosen)
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

    def shape(self) -> Shape:
        """What checks an answer."""
        return self._make_shape()

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
