"""The JSON of the OpenAI protocol, as far as this server speaks it: what a request may hold, and the bytes of every kind of event.

The parts of a chunk that do not change within an answer are put together once. Fields of a request that are not named here are ignored,
as clients send many. No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

MODEL = "floodmark-numbered"
DONE = b"data: [DONE]\n\n"


class Part(msgspec.Struct):
    """A piece of a message's content."""

    type: str = "text"
    text: str = ""


class Said(msgspec.Struct):
    """One message of the conversation so far."""

    role: str
    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        """What was said, without what is not text."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(msgspec.Struct):
    """What else a stream shall tell."""

    include_usage: bool = False
    continuous_usage_stats: bool = False  # vLLM's: the count so far in every chunk


class ChatRequest(msgspec.Struct):
    """The body of POST /v1/chat/completions."""

    messages: list[Said]
    model: str = MODEL
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None

    @property
    def prompt(self) -> str:
        """The last message of the user."""
        return next((said.text for said in reversed(self.messages) if said.role == "user"), "")

    @property
    def prompt_tokens(self) -> int:
        """Words of all messages."""
        return sum(len(said.text.split()) for said in self.messages)

    @property
    def limit(self) -> int:
        """Tokens that the answer may have; 0: any number."""
        return self.max_completion_tokens or self.max_tokens or 0


def usage_of(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """How many tokens went in and came out."""
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": prompt_tokens + completion_tokens}


def error_of(message: str, kind: str) -> dict[str, Any]:
    """An error object."""
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def completion(answer_id: str, created: int, model: str, content: str, reason: str, usage: dict[str, int]) -> bytes:
    """An answer that is not streamed."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": reason}
    return msgspec.json.encode(
        {"id": answer_id, "object": "chat.completion", "created": created, "model": model, "choices": [choice], "usage": usage}
    )


class ChunkWriter:
    """Writes the events of one streamed answer."""

    __slots__ = ("_between", "_counts", "_escapes", "_head", "_prompt_tokens", "_start", "_tail")

    def __init__(self, answer_id: str, created: int, model: str, *, prompt_tokens: int, counts: bool, escapes: bool) -> None:
        """`counts`: every chunk tells the count so far; `escapes`: the text may hold what JSON must escape."""
        start = msgspec.json.encode({"id": answer_id, "object": "chat.completion.chunk", "created": created, "model": model}).decode()
        self._start = f"data: {start[:-1]}"
        self._head = self._start + ',"choices":[{"index":0,"delta":{"content":"'
        self._tail = '"},"finish_reason":null}]}\n\n'
        self._between = self._tail + self._head
        self._prompt_tokens = prompt_tokens
        self._counts = counts
        self._escapes = escapes

    def first(self) -> bytes:
        """The event before the first token: who speaks."""
        return (self._start + ',"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n').encode()

    def chunks(self, pieces: list[str], count_of: Callable[[str], int], sent_count: int) -> bytes:
        """HOT: one event per piece. `count_of`: the tokens in a piece; `sent_count`: the tokens that went out before these."""
        shown = [msgspec.json.encode(piece).decode()[1:-1] for piece in pieces] if self._escapes else pieces
        if not self._counts:
            return (self._head + self._between.join(shown) + self._tail).encode()
        events: list[str] = []
        for piece, text in zip(pieces, shown, strict=True):
            sent_count += count_of(piece)
            usage = msgspec.json.encode(usage_of(self._prompt_tokens, sent_count)).decode()
            events.append(f'{self._head}{text}"}},"finish_reason":null}}],"usage":{usage}}}\n\n')
        return "".join(events).encode()

    def end(self, reason: str, usage_tokens: int | None) -> bytes:
        """The terminal events: why it ended, the usage if it is told, [DONE]."""
        text = self._start + f',"choices":[{{"index":0,"delta":{{}},"finish_reason":"{reason}"}}]}}\n\n'
        if usage_tokens is not None:
            usage = msgspec.json.encode(usage_of(self._prompt_tokens, usage_tokens)).decode()
            text += self._start + f',"choices":[],"usage":{usage}}}\n\n'
        return text.encode() + DONE

    @staticmethod
    def error(message: str) -> bytes:
        """An error in mid-stream."""
        return b"data: " + msgspec.json.encode(error_of(message, "server_error")) + b"\n\n"
