"""What the tests of backends and of the token server share: an event loop with a limit, and HTTP servers that do as they are told."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import uvloop

from floodmark.systems.conductor.backend.base import TokenStream
from floodmark.systems.conductor.tokens.lies import Lies
from floodmark.systems.conductor.tokens.server import TokenServer, TokenSettings

LIMIT_S = 30.0
POLL_S = 0.001
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
END = b"0\r\n\r\n"

Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def scenario(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on uvloop, LIMIT_S at most."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def limited() -> None:
            async with asyncio.timeout(LIMIT_S):
                await test(*args, **kwargs)

        uvloop.run(limited())

    return run


def chunked(data: bytes) -> bytes:
    """A piece of a body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(content: str, **fields: object) -> bytes:
    """A chunk of an answer, as an OpenAI-compatible server sends it."""
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": content}}], **fields}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


class Asked:
    """The requests that a told server saw."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []


def says(*pieces: bytes, head: bytes = HEAD, end: bytes = END) -> Play:
    """Answer with these pieces of a body, then with `end`."""

    async def play(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for piece in pieces:
            writer.write(chunked(piece))
            await writer.drain()
        writer.write(end)
        await writer.drain()

    return play


def refuses(status: int, body: bytes) -> Play:
    """Answer with a status that is no success."""
    return says(head=b"HTTP/1.1 %d No\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (status, len(body)) + body, end=b"")


@asynccontextmanager
async def told(*plays: Play) -> AsyncIterator[tuple[str, Asked]]:
    """An HTTP server that plays one after the other, the last for ever; gives its URL and what it was asked."""
    asked = Asked()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
            asked.bodies.append(await reader.readexactly(length))
            asked.heads.append(head)
            await plays[min(len(asked.heads), len(plays)) - 1](reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def token_server(*lies: str, settings: TokenSettings | None = None) -> AsyncIterator[tuple[str, TokenServer]]:
    """The token server within this process; gives its URL."""
    server = TokenServer(settings if settings is not None else TokenSettings(prose_rate_hz=0), Lies(lies))
    async with server.serving("127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}", server


async def ask(session: aiohttp.ClientSession, url: str, prompt: str, **fields: object) -> bytes:
    """Ask for a streamed answer and give its whole body."""
    body = {"messages": [{"role": "user", "content": prompt}], "stream": True, **fields}
    async with session.post(f"{url}/v1/chat/completions", json=body) as response:
        return await response.read()


def documents(body: bytes) -> list[Any]:
    """The events of a body, decoded; `[DONE]` stays text."""
    events = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")]
    return ["[DONE]" if data == b"[DONE]" else json.loads(data) for data in events]


def text_in(found: Iterable[Any]) -> str:
    """What the chunks say."""
    return "".join(choice["delta"].get("content", "") for one in found if isinstance(one, dict) for choice in one.get("choices", []))


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds; the scenario's limit bounds it."""
    while not holds():  # noqa: ASYNC110 - what is waited for happens in a server that tells nobody
        await asyncio.sleep(POLL_S)


async def drained(stream: TokenStream) -> list[str]:
    """Everything that a stream gives until its terminal."""
    texts: list[str] = []
    while stream.terminal is None:
        await stream.wait()
        texts += stream.take(1000)
    return texts
