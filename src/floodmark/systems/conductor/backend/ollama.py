"""Ollama's own interface: one JSON object per line from /api/generate, and /api/tags for the models.

An answer is complete when a line said `"done": true`. As /api/generate takes one text, what was said before goes in front of the prompt,
each message under the name of who said it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from floodmark.systems.conductor.backend.base import Failed, Request, Terminal
from floodmark.systems.conductor.backend.http import PIECE_LIMIT_S, REASON_CHARS, HttpBackend, completed, message_of
from floodmark.systems.conductor.vocabulary import Role

URL: Final = "http://127.0.0.1:11434"
LINE_BYTES: Final = 1_048_576


class _Line(msgspec.Struct):
    response: str | None = None
    done: bool = False
    eval_count: int | None = None  # tokens of the answer, in the last line
    model: str | None = None
    error: Any = None


class _Model(msgspec.Struct):
    name: str


class _Tags(msgspec.Struct):
    models: list[_Model]


_decode = msgspec.json.Decoder(_Line).decode


class LineReader:
    """Reads the body of one streamed answer; lines may be cut anywhere."""

    __slots__ = ("_held_bytes", "_parts", "_piece_count", "terminal")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._held_bytes = 0
        self._piece_count = 0
        self.terminal: Terminal | None = None

    def feed(self, data: bytes) -> list[str]:
        """HOT: the texts that these bytes complete."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"".join((*self._parts, lines[0]))
            self._parts.clear()
            self._held_bytes = 0
        texts = self._texts(lines)
        if rest:
            self._parts.append(rest)
            self._held_bytes += len(rest)
            if self._held_bytes > LINE_BYTES:
                self._fail(f"a line has more than {LINE_BYTES} bytes")
        return texts

    def finish(self) -> list[str]:
        """The body has ended: a last line without its line end counts if it is whole."""
        line = b"".join(self._parts)
        return self._texts([line]) if self.terminal is None and line.strip().endswith(b"}") else []

    def _texts(self, lines: list[bytes]) -> list[str]:
        texts: list[str] = []
        try:
            for raw in lines:
                if self.terminal is not None:
                    break
                if not raw.strip():
                    continue
                line = _decode(raw)
                if line.error is not None:
                    self._fail(message_of(line.error))
                    break
                if line.response:
                    texts.append(line.response)
                if line.done:
                    self.terminal = completed(self._piece_count + len(texts), line.eval_count, line.model or "")
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            self._fail(f"a line cannot be read: {exc}")
        self._piece_count += len(texts)
        return texts

    def _fail(self, reason: str) -> None:
        self.terminal = self.terminal or Failed(reason=f"error event: {reason}"[:REASON_CHARS])


class OllamaBackend(HttpBackend):
    """Asks an Ollama server."""

    name = "ollama"
    models_path = "/api/tags"

    def __init__(self, url: str = "", *, model: str = "", piece_limit_s: float = PIECE_LIMIT_S) -> None:
        """`url`: the server, else the port of this machine where Ollama listens; `model`: else the server's first."""
        super().__init__(url or URL, model=model, piece_limit_s=piece_limit_s)

    def answer_path(self) -> str:
        return "/api/generate"

    def body(self, request: Request, model: str) -> dict[str, Any]:
        options: dict[str, Any] = {"temperature": request.temperature}
        if request.max_tokens:
            options["num_predict"] = request.max_tokens
        body: dict[str, Any] = {"model": model, "prompt": _with_context(request), "stream": True, "options": options}
        return body | {"system": request.system} if request.system else body

    def reader(self) -> LineReader:
        return LineReader()

    def models_in(self, document: bytes) -> list[str]:
        return [model.name for model in msgspec.json.decode(document, type=_Tags).models]

    async def has_model(self, name: str) -> bool:
        """Tell if the server has a model of this name; one without a tag is the latest. Raises: BackendError."""
        return not {name, f"{name}:latest"}.isdisjoint(await self.list_models())


def _with_context(request: Request) -> str:
    if not request.context:
        return request.prompt
    said = [f"{message.role.value.capitalize()}: {message.content}" for message in request.context]
    return "\n\n".join([*said, f"{Role.USER.value.capitalize()}: {request.prompt}", f"{Role.ASSISTANT.value.capitalize()}:"])
