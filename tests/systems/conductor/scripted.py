"""A backend that does what a test tells it, and a way to run a conductor for the length of a block."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from floodmark.core.clock import Clock
from floodmark.systems.conductor.backend.base import Complete, Producers, Request, TokenStream
from floodmark.systems.conductor.conductor import Conductor
from floodmark.systems.conductor.errors import BackendError
from floodmark.systems.conductor.settings import ConductorSettings, stress_settings
from floodmark.systems.conductor.surface.base import attach
from floodmark.systems.conductor.surface.headless import HeadlessSurface

Script = Callable[[TokenStream, Request], Awaitable[None]]
LIMIT_S = 20.0


def says(texts: Sequence[str], *, batch_count: int = 256, usage: int | None = None) -> Script:
    """Give these tokens in batches, then end as one should."""

    async def script(stream: TokenStream, request: Request) -> None:
        for at in range(0, len(texts), batch_count):
            if not await stream.put_many(list(texts[at : at + batch_count])):
                return
        stream.finish(Complete(token_count=len(texts), usage=usage, model="scripted"))

    return script


async def hangs(stream: TokenStream, request: Request) -> None:
    """Say nothing, for ever."""
    await asyncio.Event().wait()


class Scripted:
    """A backend whose answers are scripts, one after another; the last one again and again."""

    name = "scripted"

    def __init__(self, *scripts: Script, capacity_count: int = 256, ill: str = "", models: Sequence[str] = ("small", "large")) -> None:
        self.scripts = list(scripts) or [says(["ok"])]
        self.capacity_count, self.ill, self.models = capacity_count, ill, list(models)
        self.requests: list[Request] = []
        self.streams: list[TokenStream] = []
        self.producers = Producers()
        self.refuse = ""

    async def health_check(self) -> None:
        if self.ill:
            raise BackendError(self.name, self.ill)

    def send_streaming(self, request: Request) -> TokenStream:
        if self.refuse:
            raise BackendError(self.name, self.refuse)
        stream = TokenStream(capacity_count=self.capacity_count)
        script = self.scripts[min(len(self.requests), len(self.scripts) - 1)]
        self.requests.append(request)
        self.streams.append(stream)
        self.producers.start(stream, self._run(script, stream, request))
        return stream

    async def _run(self, script: Script, stream: TokenStream, request: Request) -> None:
        await script(stream, request)

    async def send(self, request: Request) -> str:
        stream, texts = self.send_streaming(request), []
        while stream.terminal is None:
            await stream.wait()
            texts += stream.take(1000)
        return "".join(texts)

    async def list_models(self) -> list[str]:
        return self.models

    async def has_model(self, name: str) -> bool:
        return name in self.models

    async def aclose(self) -> None:
        await self.producers.aclose()


@asynccontextmanager
async def conducting(
    backend: Scripted,
    settings: ConductorSettings | None = None,
    *,
    surface: HeadlessSurface | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[tuple[Conductor, HeadlessSurface]]:
    """Start a conductor, run it with a surface beside the block, and quit at its end."""
    conductor = Conductor(backend, settings or stress_settings(), clock=clock)
    surface = surface or HeadlessSurface(keep_texts=True)
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(conductor.run())
        await conductor.start()
        tasks.create_task(attach(conductor, surface))
        try:
            yield conductor, surface
        finally:
            await conductor.quit()


async def until(condition: Callable[[], bool], *, limit_s: float = LIMIT_S) -> None:
    """Let everything go on until the condition holds; fail when it does not in time."""
    ends_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < ends_s, "what was waited for did not happen"
        await asyncio.sleep(0)
