"""What backends over HTTP share: one answer per response body, read no faster than it is shown, with time-outs, tries and honest ends.

A subclass says where to ask, with what body, and brings a `Reader` that turns bytes into tokens and one terminal. Here is the rest:

- Connecting has 5 s, a health check 5 s, and 30 s may pass between two pieces of an answer; time in which the stream is full does not
  count.
- A refused or lost connection and the statuses that mean "later" are tried 3 times in all, after 0.1 s and 0.2 s: only before the first
  token, as nobody may see the beginning of an answer twice.
- A body that ends before its terminal event is `Failed`, never `Complete`.
- Cancelling a stream closes its connection at once, which is how a server learns that it may stop.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import aiohttp
import msgspec

from floodmark.core.errors import UsageError
from floodmark.systems.conductor.backend.base import HEALTH_LIMIT_S, Complete, Failed, Producers, Request, Terminal, TokenStream
from floodmark.systems.conductor.backend.gather import gather
from floodmark.systems.conductor.errors import BackendError

CONNECT_LIMIT_S: Final = 5.0
PIECE_LIMIT_S: Final = 30.0
TRY_COUNT: Final = 3
RETRY_S: Final = 0.1  # before the second try; twice that before each further one
LATER: Final = frozenset({408, 429, 500, 502, 503, 504})
REASON_CHARS: Final = 500
ENDED: Final = "ended without its terminal event"
_ERROR_BYTES: Final = 65_536
_DOCUMENT_BYTES: Final = 8_388_608


class Reader(Protocol):
    """Turns the body of an answer into tokens and one terminal. No I/O."""

    terminal: Terminal | None  # set once it was read; nothing after it counts

    def feed(self, data: bytes) -> list[str]:
        """The tokens that these bytes complete."""

    def finish(self) -> list[str]:
        """The body has ended cleanly: what was complete but for its last line end. May set the terminal."""


class HttpBackend:
    """A backend behind a URL. Opens its connections when first asked, inside the running loop; `aclose` closes them."""

    name = "http"
    models_path = "/models"

    def __init__(self, url: str, *, model: str = "", api_key: str = "", piece_limit_s: float = PIECE_LIMIT_S) -> None:
        """`url`: up to and with the version of the interface; `piece_limit_s`: the longest silence within an answer."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r} is not the address of a server for the backend {self.name}; it looks like http://127.0.0.1:8080")
        self._url = url.rstrip("/")
        self._model = model
        self._api_key = api_key
        self._piece_limit_s = piece_limit_s
        self._producers = Producers()
        self._session: aiohttp.ClientSession | None = None

    # ---- what a subclass brings

    def answer_path(self) -> str:
        """Where answers are asked for."""
        raise NotImplementedError

    def body(self, request: Request, model: str) -> dict[str, Any]:
        """The document that asks for a streamed answer."""
        raise NotImplementedError

    def reader(self) -> Reader:
        """A reader for one answer."""
        raise NotImplementedError

    def models_in(self, document: bytes) -> list[str]:
        """The names in the list of models. Raises: msgspec.MsgspecError for one that cannot be read."""
        raise NotImplementedError

    # ---- the Backend protocol

    @property
    def live_count(self) -> int:
        """Answers that are being read."""
        return self._producers.live_count

    async def health_check(self) -> None:
        """Ask for the list of models. Raises: BackendError when it does not come within HEALTH_LIMIT_S."""
        await self.list_models()

    def send_streaming(self, request: Request) -> TokenStream:
        """Ask; whatever goes wrong is the stream's terminal."""
        stream = TokenStream()
        self._producers.start(stream, self._produce(stream, request))
        return stream

    async def send(self, request: Request) -> str:
        """The whole answer. Raises: BackendError."""
        return await gather(self.name, self.send_streaming(request))

    async def list_models(self) -> list[str]:
        """The models that the server has. Raises: BackendError."""
        try:
            async with asyncio.timeout(HEALTH_LIMIT_S), self._open().get(self._url + self.models_path, headers=self._headers()) as response:
                if response.status != 200:
                    raise await self._refusal(response)
                return self.models_in(await _bounded(response.content, _DOCUMENT_BYTES))
        except TimeoutError as exc:
            raise BackendError(self.name, f"no answer from {self._url} within {HEALTH_LIMIT_S:g} s", retryable=True) from exc
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise BackendError(self.name, f"{self._url}{self.models_path} is no list of models: {exc}") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise BackendError(self.name, self._told(exc), retryable=True) from exc

    async def has_model(self, name: str) -> bool:
        """Tell if the server has a model of this name. Raises: BackendError."""
        return name in await self.list_models()

    async def aclose(self) -> None:
        """Stop every answer and close every connection."""
        await self._producers.aclose()
        if self._session is not None:
            await self._session.close()
            self._session = None

    # ---- one answer

    async def _produce(self, stream: TokenStream, request: Request) -> None:
        try:
            terminal = await self._tries(stream, request)
        except BackendError as exc:
            terminal = Failed(reason=exc.reason, retryable=exc.retryable)
        if isinstance(terminal, Failed):
            terminal = Failed(reason=self._masked(terminal.reason), retryable=terminal.retryable)
        stream.finish(terminal)

    async def _tries(self, stream: TokenStream, request: Request) -> Terminal:
        pause_s = RETRY_S
        for _ in range(TRY_COUNT - 1):
            try:
                return await self._try(stream, request)
            except BackendError as exc:
                if not exc.retryable or stream.put_count:
                    raise
            await asyncio.sleep(pause_s)
            pause_s *= 2
        return await self._try(stream, request)

    async def _try(self, stream: TokenStream, request: Request) -> Terminal:
        """Ask once and read to the end. Raises: BackendError, retryable where another try may help."""
        model = request.model or self._model or await self._first_model()
        body = msgspec.json.encode(self.body(request, model))
        headers = self._headers() | {"Content-Type": "application/json"}
        try:
            async with asyncio.timeout(self._piece_limit_s):
                response = await self._open().post(self._url + self.answer_path(), data=body, headers=headers)
            try:
                if response.status != 200:
                    async with asyncio.timeout(self._piece_limit_s):
                        raise await self._refusal(response)
                return await self._read(stream, response.content, self.reader())
            finally:
                response.close()  # at once, also when cancelled: the connection is of no use in the middle of a body
        except aiohttp.ServerTimeoutError as exc:
            raise BackendError(self.name, f"refused: no connection to {self._url} within {CONNECT_LIMIT_S:g} s", retryable=True) from exc
        except TimeoutError as exc:
            raise BackendError(self.name, f"cut off: nothing came for {self._piece_limit_s:g} s") from exc
        except aiohttp.ClientConnectorError as exc:
            raise BackendError(self.name, f"refused: {self._told(exc)}", retryable=True) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise BackendError(self.name, f"cut off: {self._told(exc)}", retryable=True) from exc

    async def _read(self, stream: TokenStream, content: aiohttp.StreamReader, reader: Reader) -> Terminal:
        """HOT: one turn per piece of the body. While the stream is full nothing is read, and the server has to wait."""
        while reader.terminal is None:
            async with asyncio.timeout(self._piece_limit_s):
                data = await content.readany()
            texts = reader.feed(data) if data else reader.finish()
            if texts:
                await stream.put_many(texts)
            if not data:
                break
        return reader.terminal if reader.terminal is not None else Failed(reason=ENDED)

    async def _first_model(self) -> str:
        """What a server calls its first model, for a user who named none."""
        models = await self.list_models()
        if not models:
            raise BackendError(self.name, f"{self._url} has no model; load one there, or name one")
        self._model = models[0]
        return self._model

    async def _refusal(self, response: aiohttp.ClientResponse) -> BackendError:
        text = error_text(await _bounded(response.content, _ERROR_BYTES)) or response.reason or ""
        return BackendError(self.name, f"refused: HTTP {response.status}: {self._masked(text)}", retryable=response.status in LATER)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_LIMIT_S)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))  # streams are limited elsewhere
        return self._session

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}

    def _told(self, exc: BaseException) -> str:
        return self._masked(f"{self._url}: {exc or type(exc).__name__}")

    def _masked(self, text: str) -> str:
        """Short, and without the key, which servers like to quote."""
        text = text.replace(self._api_key, "...") if self._api_key else text
        return text[:REASON_CHARS]


async def _bounded(content: aiohttp.StreamReader, limit_bytes: int) -> bytes:
    """A whole document; what goes beyond the limit is left."""
    document = bytearray()
    while len(document) < limit_bytes and (data := await content.readany()):
        document += data
    return bytes(document[:limit_bytes])


def error_text(document: bytes) -> str:
    """What an error object says, in any of the shapes in use; the text itself when it is no JSON.

    >>> error_text(b'{"error": {"message": "no such model"}}'), error_text(b'{"error": "no such model"}'), error_text(b'busy')
    ('no such model', 'no such model', 'busy')
    """
    try:
        found = msgspec.json.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return document.decode("utf-8", "replace").strip()
    return message_of(found)


def message_of(found: object) -> str:
    """The message in a decoded error."""
    if isinstance(found, dict):
        inner = found.get("error", found.get("message", found.get("detail")))
        return message_of(inner) if inner is not None else str(found)
    return str(found)


def completed(token_count: int, usage: int | None, model: str) -> Complete:
    """A proper end. What the server counted goes before what was counted here, as one piece may hold several tokens."""
    return Complete(token_count=token_count if usage is None else usage, usage=usage, model=model)
