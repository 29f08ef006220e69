"""Any server that speaks the OpenAI protocol: streamed chat completions over server-sent events (vLLM, llama.cpp, Ollama's /v1 ...).

An answer is complete when `data: [DONE]` was read, and only then. An error object fails it, in mid-stream too; so does an event that cannot
be read. A chunk is handed on as the one string that it holds, however many tokens those are: how many the server counted stands in the
terminal, if it tells. Only the first choice and its `content` are read; what a model thinks in other fields is not shown.
"""

from __future__ import annotations

import os
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from floodmark.core.errors import UsageError
from floodmark.systems.conductor.backend.base import Failed, Request, Terminal
from floodmark.systems.conductor.backend.http import PIECE_LIMIT_S, REASON_CHARS, HttpBackend, completed, message_of
from floodmark.systems.conductor.backend.sse import SseError, SseReader
from floodmark.systems.conductor.vocabulary import Role

DONE: Final = b"[DONE]"


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    completion_tokens: int | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    model: str | None = None
    error: Any = None
    object: str | None = None
    message: Any = None  # of an error in vLLM's older shape


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


_decode = msgspec.json.Decoder(_Chunk).decode


class ChatReader:
    """Reads the body of one streamed chat completion."""

    __slots__ = ("_events", "_model", "_piece_count", "_usage", "terminal")

    def __init__(self) -> None:
        self._events = SseReader()
        self._piece_count = 0
        self._usage: int | None = None
        self._model = ""
        self.terminal: Terminal | None = None

    def feed(self, data: bytes) -> list[str]:
        """HOT: the texts that these bytes complete."""
        texts: list[str] = []
        try:
            for name, event in self._events.feed(data):
                if self.terminal is not None:
                    break  # nothing after the end counts
                if event == DONE:
                    self._done(len(texts))
                elif name == "error":
                    self._fail(event.decode("utf-8", "replace"))
                else:
                    self._chunk(_decode(event), texts)
        except SseError as exc:
            self._fail(str(exc))
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            self._fail(f"an event cannot be read: {exc}")
        self._piece_count += len(texts)
        return texts

    def finish(self) -> list[str]:
        """The body has ended: only a [DONE] without its empty line still counts."""
        if self.terminal is None and self._events.finish() == DONE:
            self._done(0)
        return []

    def _chunk(self, chunk: _Chunk, texts: list[str]) -> None:
        if chunk.error is not None or chunk.object == "error":
            self._fail(message_of(chunk.error if chunk.error is not None else chunk.message))
            return
        if chunk.choices:
            delta = chunk.choices[0].delta
            if delta is not None and delta.content:
                texts.append(delta.content)
        if chunk.usage is not None and chunk.usage.completion_tokens is not None:
            self._usage = chunk.usage.completion_tokens
        if chunk.model:
            self._model = chunk.model

    def _done(self, fresh_count: int) -> None:
        self.terminal = completed(self._piece_count + fresh_count, self._usage, self._model)

    def _fail(self, reason: str) -> None:
        self.terminal = Failed(reason=f"error event: {reason}"[:REASON_CHARS])


class OpenAIBackend(HttpBackend):
    """Asks a server for chat completions."""

    name = "openai"

    def __init__(self, url: str = "", *, model: str = "", api_key: str = "", piece_limit_s: float = PIECE_LIMIT_S) -> None:
        """Take the server's address, with or without /v1.

        Args:
            url: else OPENAI_BASE_URL.
            model: else the first that the server names.
            api_key: else OPENAI_API_KEY.
            piece_limit_s: the longest silence within an answer.
        """
        url = url or os.environ.get("OPENAI_BASE_URL", "")
        if not url:
            raise UsageError("the backend openai needs the address of a server: --url http://127.0.0.1:8080, or OPENAI_BASE_URL")
        if not urlsplit(url).path.strip("/"):
            url = url.rstrip("/") + "/v1"
        api_key = api_key or os.environ.get("OPENAI_API_KEY", "")
        super().__init__(url, model=model, api_key=api_key, piece_limit_s=piece_limit_s)

    def answer_path(self) -> str:
        return "/chat/completions"

    def body(self, request: Request, model: str) -> dict[str, Any]:
        system = [{"role": Role.SYSTEM.value, "content": request.system}] if request.system else []
        before = [{"role": said.role.value, "content": said.content} for said in request.context]
        body: dict[str, Any] = {
            "model": model,
            "messages": [*system, *before, {"role": Role.USER.value, "content": request.prompt}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": request.temperature,
        }
        return body | {"max_tokens": request.max_tokens} if request.max_tokens else body

    def reader(self) -> ChatReader:
        return ChatReader()

    def models_in(self, document: bytes) -> list[str]:
        return [model.id for model in msgspec.json.decode(document, type=_Models).data]
