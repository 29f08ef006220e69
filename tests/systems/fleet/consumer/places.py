"""A nats-server with a work queue, and workers on it that write down what they handle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.js.api import RetentionPolicy

from floodmark.core.nats_server import EmbeddedNats
from floodmark.systems.fleet.consumer import ConsumerSettings, DurableConsumer, Message
from floodmark.systems.fleet.metrics import Counters
from floodmark.systems.fleet.partition import Partition

LIMIT_S = 30.0
STREAM = "FM_IN"


async def until(true: Callable[[], bool], what: str) -> None:
    """Wait for a condition."""
    try:
        async with asyncio.timeout(LIMIT_S):
            while not true():  # noqa: ASYNC110 what is waited for has no event
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"not within {LIMIT_S:g} s: {what}")


def parts(*names: str) -> list[Partition]:
    return [Partition(keys=(name,)) for name in names]


def settings(**changes: Any) -> ConsumerSettings:
    known: dict[str, Any] = {"stream": STREAM, "fetch_s": 2.0, "jitter_s": 0.05, "operation_s": 2.0}
    return ConsumerSettings(**(known | changes))


class Log:
    """What a handler was given: (worker, subject, sequence), in order."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def handler(self, worker: str) -> Callable[[Message], Any]:
        async def handle(message: Message) -> None:
            self.entries.append((worker, message.subject, message.sequence))
            await self.gate.wait()

        return handle

    def sequences(self, subject: str = "", worker: str = "") -> list[int]:
        return [number for who, what, number in self.entries if subject in ("", what) and worker in ("", who)]


class Place:
    """A server and a connection to it."""

    def __init__(self, server: EmbeddedNats, nc: Client) -> None:
        self.server = server
        self.nc = nc
        self.js = nc.jetstream()
        self.log = Log()

    async def publish(self, subject: str, count: int = 1) -> None:
        for _ in range(count):
            await self.js.publish(subject, b"x")

    async def left(self) -> int:
        """Messages in the stream: on a work queue, those that nobody has acknowledged."""
        return (await self.js.stream_info(STREAM)).state.messages

    async def until_empty(self) -> None:
        await self.until_left(0)

    async def until_left(self, count: int) -> None:
        async with asyncio.timeout(LIMIT_S):
            while await self.left() != count:  # noqa: ASYNC110 the server does not tell
                await asyncio.sleep(0.01)

    async def durables(self) -> dict[str, Sequence[str]]:
        infos = await self.js.consumers_info(STREAM)
        return {info.name: sorted(info.config.filter_subjects or [info.config.filter_subject or ""]) for info in infos}

    def consumer(self, worker: str, *, metrics: Counters | None = None, nc: Client | None = None, **changes: Any) -> DurableConsumer:
        return DurableConsumer(
            nc or self.nc, settings(**changes), self.log.handler(worker), metrics=metrics, rng=Random(worker), on_error=lambda exc: None
        )


@asynccontextmanager
async def place(*, retention: RetentionPolicy = RetentionPolicy.WORK_QUEUE, again_after_s: float = 0.0) -> AsyncIterator[Place]:
    """A place of its own: `async with place() as here`; with `again_after_s`, a server that is killed comes back after that."""
    async with EmbeddedNats(keep=again_after_s > 0, again_after_s=again_after_s) as server:
        nc = await nats.connect(server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05, error_cb=_silent)
        try:
            await nc.jetstream().add_stream(name=STREAM, subjects=["in.>"], retention=retention)
            yield Place(server, nc)
        finally:
            await nc.close()


async def _silent(exc: Exception) -> None:
    pass
