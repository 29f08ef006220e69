"""A host of conductors within the test's own loop, and surfaces that connect to it over the socket."""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from floodmark.drivers.base import Options, Wanted
from floodmark.drivers.conductor import ConductorConnection, ConductorDriver
from floodmark.systems.conductor.backend.base import Backend
from floodmark.systems.conductor.backend.mock import MockBackend
from floodmark.systems.conductor.host.lies import Lies
from floodmark.systems.conductor.host.server import Server
from floodmark.systems.conductor.settings import ConductorSettings, stress_settings
from tests.drivers.asked import AskingRecorder, ask
from tests.drivers.harness import WAIT_LIMIT_S, eventually


class Hosted:
    """A host, and what a test needs to speak to it."""

    def __init__(self, server: Server, url: str) -> None:
        self.server = server
        self.url = url
        self.sink = AskingRecorder()

    async def connect(self, *channels: str, options: Options | None = None, sink: AskingRecorder | None = None) -> ConductorConnection:
        """A surface with a conversation for each channel, the first of them the main one, in slots from 0."""
        connection = await ConductorDriver(options or {}).connect(self.url, "a", sink or self.sink, limit_s=15.0)
        assert isinstance(connection, ConductorConnection)
        await connection.subscribe([Wanted(slot=slot, channel=channel) for slot, channel in enumerate(channels or ("a",))])
        return connection

    async def answer(self, connection: ConductorConnection, token: int, prompt: str, *, slot: int = 0) -> str:
        """Ask and wait for the end; the text that came."""
        connection.ask(ask(token, prompt, slot=slot))
        await eventually(lambda: self.sink.of(token).ended)
        return self.sink.of(token).text.decode()

    async def statistics(self) -> dict[str, float]:
        """What the host tells."""
        found = await ConductorDriver({}).statistics(self.url)
        assert found is not None
        return found

    async def until(self, condition: Callable[[dict[str, float], dict[str, float]], bool]) -> dict[str, float]:
        """Wait until something holds of two statistics, one asked some time after the other; the later one."""
        before = await self.statistics()
        async with asyncio.timeout(WAIT_LIMIT_S):
            while True:
                await asyncio.sleep(0.05)
                now = await self.statistics()
                if condition(before, now):
                    return now
                before = now


@asynccontextmanager
async def hosted(
    *lies: str, settings: ConductorSettings | None = None, backend: Backend | None = None, heartbeat_s: float = 0.0
) -> AsyncIterator[Hosted]:
    """Serve until the block is left."""
    stop = asyncio.Event()
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    server = Server(backend or MockBackend(), settings or stress_settings(), Lies(lies), heartbeat_s=heartbeat_s)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve("127.0.0.1", 0, port.set_result, stop))
        try:
            yield Hosted(server, f"tcp://127.0.0.1:{await port}")
        finally:
            stop.set()


class Raw:
    """A surface by hand: frames as a test writes them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def say(self, *events: dict[str, Any]) -> None:
        """Write events as one frame."""
        body = json.dumps(list(events) if len(events) > 1 else events[0]).encode()
        self.writer.write(struct.pack(">II", len(body), zlib.crc32(body)) + body)

    async def frame(self) -> list[dict[str, Any]]:
        """Read one frame. Raises: IncompleteReadError at the end."""
        length, checksum = struct.unpack(">II", await self.reader.readexactly(8))
        body = await self.reader.readexactly(length)
        assert zlib.crc32(body) == checksum
        events: list[dict[str, Any]] = json.loads(body)
        return events

    async def until(self, kind: str) -> list[dict[str, Any]]:
        """Read until an event of this kind; all that came."""
        events: list[dict[str, Any]] = []
        while not any(event["kind"] == kind for event in events):
            events += await self.frame()
        return events

    async def rest(self) -> list[dict[str, Any]]:
        """Read until the host hangs up; all that came."""
        events: list[dict[str, Any]] = []
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                events += await self.frame()
        return events


@asynccontextmanager
async def raw(url: str, *, shakes_hands: bool = True) -> AsyncIterator[Raw]:
    """A surface by hand, after its handshake."""
    host, _, port = url.removeprefix("tcp://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    surface = Raw(reader, writer)
    try:
        if shakes_hands:
            surface.say({"kind": "handshake", "event_id": "evt_0"})
            await surface.until("state_snapshot")
        yield surface
    finally:
        writer.close()


HANDSHAKE = {"kind": "handshake", "event_id": "evt_0"}
