"""What the tests of asking drivers share: a sink that remembers answers, and an HTTP server that says what a test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from floodmark.drivers.asking import Ask
from tests.drivers.harness import Recorder, tcp_server


class Answer:
    """What the sink heard of one answer."""

    def __init__(self) -> None:
        self.accepted = 0
        self.chunks: list[bytes] = []
        self.declared: list[int] = []
        self.finished: list[int] = []
        self.failed: list[str] = []
        self.odd: list[str] = []

    @property
    def text(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def ended(self) -> bool:
        return bool(self.finished or self.failed)


class AskingRecorder(Recorder):
    """A sink that keeps every answer under its token."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[int, Answer] = {}

    def of(self, token: int) -> Answer:
        return self.answers.setdefault(token, Answer())

    def accepted(self, token: int) -> None:
        self.of(token).accepted += 1

    def text(self, token: int, data: bytes, chunk_tokens: int, received_ns: int) -> None:
        answer = self.of(token)
        answer.chunks.append(data)
        answer.declared.append(chunk_tokens)

    def chunks(self, token: int, texts: list[bytes], received_ns: int) -> None:
        for text in texts:
            self.text(token, text, 0, received_ns)

    def finished(self, token: int, tokens_told: int) -> None:
        self.of(token).finished.append(tokens_told)

    def failed(self, token: int, reason: str) -> None:
        self.of(token).failed.append(reason)

    def odd(self, token: int, what: str) -> None:
        self.of(token).odd.append(what)


def ask(token: int, prompt: str = "hello", slot: int = 0, channel: str = "a.0") -> Ask:
    return Ask(slot=slot, channel=channel, prompt=prompt, token=token)


def sse(*events: str | dict[str, Any]) -> bytes:
    """Events as they stand in a body."""
    return b"".join(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n".encode() for event in events)


def delta(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


END = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
PROPER = sse(delta("one "), delta("two"), END, {"choices": [], "usage": {"completion_tokens": 2}}, "[DONE]")


def chunked(*pieces: bytes, last: bool = True) -> bytes:
    """A body in chunks of the transfer."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + (b"0\r\n\r\n" if last else b"")


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"


class Requests:
    """What a played server was asked."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.connections = 0


Respond = Callable[[int, asyncio.StreamWriter], Awaitable[bool]]
"""Answers request number n (from 0, over all connections); says whether the connection stays."""


@asynccontextmanager
async def http_server(respond: Respond) -> AsyncIterator[tuple[str, Requests]]:
    """Serve HTTP/1.1 by hand. Gives the URL and what was asked."""
    seen = Requests()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        stays = True
        while stays:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next((int(line.split(":")[1]) for line in head.lower().split("\r\n") if line.startswith("content-length")), 0)
            seen.heads.append(head)
            seen.bodies.append(await reader.readexactly(length))
            stays = await respond(len(seen.heads) - 1, writer)
            await writer.drain()

    async with tcp_server(behave) as url:
        yield url.replace("ws://", "http://").rstrip("/"), seen


def always(*pieces: bytes, stays: bool = True) -> Respond:
    """Answer every request with these bytes."""

    async def respond(number: int, writer: asyncio.StreamWriter) -> bool:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        return stays

    return respond
