"""Real sockets around a proxy: targets that echo, collect or greet, and clients that measure."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import uvloop

from floodmark.faults.wire.parse import parse_fault
from floodmark.faults.wire.proxy import Proxy, running

T = TypeVar("T")
LIMIT_S = 20.0
SEED = 7
HOST = "127.0.0.1"

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
Handler = Callable[[Reader, Writer], Awaitable[None]]


def play(job: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine on the loop that floodmark uses, with a limit; an error in any callback or timer fails it."""
    errors: list[str] = []

    async def limited() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(repr(context)))
        async with asyncio.timeout(LIMIT_S):
            return await job

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(limited())
    assert not errors, errors
    return result


async def until(holds: Callable[[], object]) -> None:
    """Wait for a condition; the limit of the test ends it when it never comes."""
    while not holds():  # noqa: ASYNC110 - sockets and snapshots have no event to wait for
        await asyncio.sleep(0.002)


async def at_rest(look: Callable[[], int]) -> None:
    """Wait until a figure has stayed the same for a tenth of a second."""
    before = None
    while before != (before := look()):  # noqa: ASYNC110 - that nothing happens is no event
        await asyncio.sleep(0.1)


async def echo(reader: Reader, writer: Writer) -> None:
    """Send back what comes; pass the half-close on."""
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()
    if not writer.is_closing():
        writer.write_eof()


async def silent(reader: Reader, writer: Writer) -> None:
    """Take everything, say nothing, end with the client."""
    while await reader.read(65536):
        pass


class Target:
    """A server whose connections stay open until they end by themselves or the block does."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.errors: list[OSError] = []
        self.writers: list[Writer] = []
        self.opened = 0
        self.ended = 0

    async def serve(self, reader: Reader, writer: Writer) -> None:
        """Handle one connection."""
        self.opened += 1
        self.writers.append(writer)
        try:
            await self._handler(reader, writer)
            await writer.drain()
        except OSError as exc:
            self.errors.append(exc)
        finally:
            self.ended += 1
            writer.close()


@asynccontextmanager
async def target(handler: Handler = echo) -> AsyncIterator[tuple[Target, int]]:
    """A target on a free port."""
    served = Target(handler)
    server = await asyncio.start_server(served.serve, HOST, 0)
    try:
        yield served, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in served.writers:
            writer.transport.abort()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if "Target.serve" in repr(task.get_coro()):
                await asyncio.wait([task])
        await asyncio.sleep(0)


@asynccontextmanager
async def relay(*faults: str, handler: Handler = echo, seed: int = SEED) -> AsyncIterator[tuple[Proxy, Target]]:
    """A target behind a proxy with faults."""
    async with target(handler) as (served, port), running((HOST, 0), (HOST, port), seed=seed) as proxy:
        for text in faults:
            proxy.add(parse_fault(text))
        yield proxy, served


@asynccontextmanager
async def client(proxy: Proxy) -> AsyncIterator[tuple[Reader, Writer]]:
    """A client of the proxy; aborted at the end if it is still open."""
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def clients(proxy: Proxy, count: int) -> AsyncIterator[list[tuple[Reader, Writer]]]:
    """Many clients, opened one after the other, each joined to the target."""
    opened: list[tuple[Reader, Writer]] = []
    try:
        for _ in range(count):
            opened.append(await asyncio.open_connection(HOST, proxy.port))  # noqa: PERF401 - those opened before a failure are closed too
        await asyncio.gather(*(ask(reader, writer, b"?") for reader, writer in opened))
        yield opened
    finally:
        for _, writer in opened:
            writer.transport.abort()
        await asyncio.sleep(0)


async def ask(reader: Reader, writer: Writer, payload: bytes) -> tuple[bytes, float]:
    """Send a payload to an echo and read as much back; give it and how long that took."""
    before_s = time.monotonic()
    writer.write(payload)
    answer = await reader.readexactly(len(payload))
    return answer, time.monotonic() - before_s


async def exchange(reader: Reader, writer: Writer, payload: bytes) -> tuple[bytes, float]:
    """Send a big payload and the end, while reading all that comes back."""
    before_s = time.monotonic()

    async def send() -> None:
        for start in range(0, len(payload), 1 << 20):
            writer.write(payload[start : start + (1 << 20)])
            await writer.drain()
        writer.write_eof()

    sender = asyncio.create_task(send())
    try:
        answer = await reader.read(-1)
    finally:
        await asyncio.wait([sender])
    sender.result()
    return answer, time.monotonic() - before_s


async def how_it_ends(reader: Reader) -> str:
    """Read to the end: `closed` for FIN, `reset` for RST."""
    try:
        while await reader.read(65536):
            pass
    except ConnectionResetError:
        return "reset"
    return "closed"


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server((HOST, 0)) as sock:
        port: int = sock.getsockname()[1]
    return port


def stream(count: int, seed: int = 1) -> bytes:
    """Bytes in which no stretch repeats."""
    return random.Random(seed).randbytes(count)
