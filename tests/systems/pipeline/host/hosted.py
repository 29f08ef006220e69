"""A host within the test's own loop, and the driver's connection to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from floodmark.drivers.base import BatchConnection, Options, Wanted
from floodmark.drivers.pulled import PulledDriver
from floodmark.systems.pipeline import Pipeline
from floodmark.systems.pipeline.host.lies import Lies
from floodmark.systems.pipeline.host.server import Server
from tests.drivers.harness import Recorder, eventually

CHANNEL = "room.0"


class Hosted:
    """A host, and what a test needs to speak to it."""

    def __init__(self, server: Server, url: str) -> None:
        self.server = server
        self.url = url
        self.recorder = Recorder()

    async def connect(self, options: Options, *, channel: str = CHANNEL, recorder: Recorder | None = None) -> BatchConnection:
        """Connect and drain a channel, in slot 3."""
        driver = PulledDriver(options)
        connection = await driver.connect(self.url, channel, recorder or self.recorder, limit_s=15.0)
        await connection.subscribe([Wanted(slot=3, channel=channel)])
        return connection  # type: ignore[return-value]  # every connection of this driver batches

    @property
    def payloads(self) -> list[bytes]:
        """What came out, in order."""
        return [frame for _, frame, _ in self.recorder.frames]

    async def came(self, count: int) -> None:
        """Wait until so many records have come out."""
        await eventually(lambda: len(self.recorder.frames) >= count)

    async def statistics(self) -> dict[str, float]:
        """What the host tells."""
        found = await PulledDriver({}).statistics(self.url)
        assert found is not None
        return found

    async def settled(self) -> dict[str, float]:
        """What the host tells once a stream has ended and is counted: that comes after its last record."""
        await eventually(lambda: self.server.figures.completed > 0)
        return await self.statistics()


@asynccontextmanager
async def hosted(folder: Path, *lies: str) -> AsyncIterator[Hosted]:
    """Serve until the block is left."""
    stop = asyncio.Event()
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with Pipeline() as pipeline:
        server = Server(pipeline, folder, Lies(lies))
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve("127.0.0.1", 0, port.set_result, stop))
            try:
                yield Hosted(server, f"tcp://127.0.0.1:{await port}")
            finally:
                stop.set()


def records(count: int, *, first: int = 0, length: int = 12) -> list[bytes]:
    """Payloads that differ, all of one length."""
    return [f"{number:0{length}d}".encode() for number in range(first, first + count)]


def offers(payloads: list[bytes], channel: str = CHANNEL) -> list[tuple[str, bytes]]:
    """The same for `publish_batch`."""
    return [(channel, payload) for payload in payloads]
