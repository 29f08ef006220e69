"""One surface on a socket and the conductor that it gets.

A connection begins with a `handshake`; before it only `statistics` may be asked. From then on four things run, all children of `serve`: the
conductor polls, what it says is written, what the surface says is handled in order, and a heartbeat notices a surface that has died. What
the conductor says is written as far as the socket takes it and no further, so that a surface that is slow to read makes the conductor's
channel fill, which makes its backend wait: nothing is lost and nothing piles up here.

`quit_requested` overtakes whatever the surface has said before it and is still waiting for room.
Memory: the conductor's channel, WRITE_BUFFER_BYTES of the socket, and INBOX_COUNT events of the surface, beyond which it is not read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol, cast

from floodmark.core import tasks
from floodmark.systems.conductor.conductor import Conductor
from floodmark.systems.conductor.host.heartbeat import MISSED_MAX, Heartbeat
from floodmark.systems.conductor.host.lies import LINGER_S, STALL_S, Liar
from floodmark.systems.conductor.host.wire import BrokenProtocolError, FrameReader, frames
from floodmark.systems.conductor.vocabulary import (
    PROTOCOL_VERSION,
    ConductorEvent,
    Handshake,
    Pong,
    QuitRequested,
    StatisticsReport,
    StreamToken,
    SurfaceEvent,
    Token,
)
from floodmark.systems.conductor.vocabulary import Statistics as StatisticsAsked

log = logging.getLogger(__name__)

HANDSHAKE_LIMIT_S: Final = 5.0
WRITE_BUFFER_BYTES: Final = 256 * 1024
FRAME_AIM_BYTES: Final = 64 * 1024  # a frame is about this long while much is waiting
FRAME_COUNT_MAX: Final = 1024
INBOX_COUNT: Final = 64
LEAVE_LIMIT_S: Final = 1.0  # for the last words to get through to a surface that reads


class Host(Protocol):
    """What a session needs of its host."""

    heartbeat_s: float

    def make(self, session: Session) -> Conductor:
        """Make a conductor for a surface that shakes hands."""

    def liar(self) -> Liar | None:
        """What changes what is said; None in an honest host."""

    def joined(self, session: Session) -> None:
        """A socket is there."""

    def left(self, session: Session) -> None:
        """It is gone."""

    def ended(self, session: Session) -> None:
        """Its conductor has quit."""

    def report(self) -> dict[str, float]:
        """The figures of all sessions."""


class Session(asyncio.Protocol):
    """See the module's docstring."""

    def __init__(self, host: Host) -> None:
        self.conductor: Conductor | None = None
        self.delivered_count = 0  # tokens written to the socket
        self._host = host
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._inbox: deque[SurfaceEvent] = deque()
        self._said = asyncio.Event()
        self._quit: QuitRequested | None = None
        self._quitting = asyncio.Event()
        self._gone = asyncio.Event()
        self._roomy = asyncio.Event()
        self._roomy.set()
        self._liar: Liar | None = None
        self._last_words = "Goodbye."
        self._heartbeat = Heartbeat()
        self._is_reading = True
        self._crew: list[asyncio.Task[None]] = []

    # -- the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the host, which runs `serve`."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._host.joined(self)

    def data_received(self, data: bytes) -> None:
        """Take what the surface says; who breaks the protocol is cut off."""
        try:
            events = self._reader.feed(data)
        except BrokenProtocolError as exc:
            log.warning("a surface broke the protocol and is cut off: %s", exc)
            self.cut()
            return
        for event in events:
            if isinstance(event, QuitRequested):
                self._quit = self._quit or event
                self._quitting.set()
                self._said.set()
            elif isinstance(event, Pong):
                self._heartbeat.pong(event, time.monotonic())
            else:
                self._inbox.append(event)
        if self._inbox:
            self._said.set()
        if len(self._inbox) > INBOX_COUNT and self._transport is not None and self._is_reading:
            self._is_reading = False
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End everything."""
        self._transport = None
        self._gone.set()
        self._roomy.set()
        self._said.set()
        self._quitting.set()
        self._host.left(self)

    def pause_writing(self) -> None:
        """The surface does not read."""
        self._roomy.clear()

    def resume_writing(self) -> None:
        """It does again."""
        self._roomy.set()

    def send_home(self, message: str) -> None:
        """Have the conductor quit, with these last words; a surface that has not shaken hands yet is cut off."""
        self._last_words = message
        self._quitting.set()
        self._said.set()

    def cut(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def rtt_s(self) -> float:
        """How long heartbeats take to be answered; 0: none was."""
        return self._heartbeat.rtt_s

    @property
    def tasks_count(self) -> int:
        """Tasks that it has, `serve` among them."""
        return 1 + sum(not task.done() for task in self._crew)

    # -- the life of a session

    async def serve(self) -> None:
        """Serve the surface until it has left. A fault in here ends this session and no other."""
        try:
            handshake = await self._first()
            if handshake is not None:
                await self._converse(handshake)
        except Exception:
            log.exception("a session failed")
        finally:
            await self._close()

    async def _first(self) -> Handshake | None:
        """Wait for the handshake; statistics may be asked before it. None: there was none."""
        try:
            async with asyncio.timeout(HANDSHAKE_LIMIT_S):
                while not self._gone.is_set() and (self._inbox or not self._quitting.is_set()):
                    event = await self._next()
                    if isinstance(event, Handshake):
                        return event
                    if isinstance(event, StatisticsAsked):
                        await self._tell_figures()
                    elif event is not None:
                        log.warning("a surface began with %s instead of a handshake and is cut off", type(event).__name__)
                        return None
        except TimeoutError:
            log.warning("a surface did not shake hands within %g s and is cut off", HANDSHAKE_LIMIT_S)
        return None

    async def _converse(self, handshake: Handshake) -> None:
        conductor = self.conductor = self._host.make(self)
        self._liar = self._host.liar()
        try:
            async with tasks.group() as crew:
                jobs = (conductor.run(), self._listen(conductor, handshake), self._leave(conductor), self._beat())
                self._crew = [crew.create_task(job) for job in jobs]
                await self._write(conductor)
                for task in self._crew:
                    task.cancel()
        finally:
            await conductor.quit()
            self._host.ended(self)

    async def _listen(self, conductor: Conductor, handshake: Handshake) -> None:
        """Start, which takes as long as the backend takes to say how it is; then handle what the surface says, in order."""
        await conductor.start(announce=False)
        await conductor.handle(handshake)
        if handshake.protocol_version != PROTOCOL_VERSION:
            await conductor.quit(message="The handshake was rejected.")
            return
        while not self._gone.is_set():
            event = await self._next()
            if isinstance(event, StatisticsAsked):
                await self._tell_figures()
            elif event is not None:
                await conductor.handle(event)

    async def _next(self) -> SurfaceEvent | None:
        """What the surface says next; None when something else has happened."""
        if not self._inbox:
            self._said.clear()
            if self._gone.is_set():
                return None
            await self._said.wait()
        if not self._inbox:
            return None
        event = self._inbox.popleft()
        if not self._inbox and self._transport is not None and not self._is_reading:
            self._is_reading = True
            self._transport.resume_reading()
        return event

    async def _leave(self, conductor: Conductor) -> None:
        """Quit when the surface asks for it, or is gone."""
        await self._quitting.wait()
        if self._quit is not None:
            if self._liar is not None and self._liar.lingers():
                await asyncio.sleep(LINGER_S)
            await conductor.handle(self._quit)
        else:
            await conductor.quit(message=self._last_words)

    async def _beat(self) -> None:
        """Ask whether the surface lives; one that is only slow has a full socket, and is not asked, nor is one that is not read."""
        every_s = self._host.heartbeat_s
        while every_s > 0:
            await asyncio.sleep(every_s)
            if not self._roomy.is_set() or not self._is_reading:
                continue
            if self._heartbeat.dead:
                log.warning("a surface has answered none of %d heartbeats and is cut off", MISSED_MAX)
                self.cut()
                return
            self._send([self._heartbeat.ping(time.monotonic())])

    # -- what the conductor says

    async def _write(self, conductor: Conductor) -> None:
        """Write until the conductor has quit and all of it is written. HOT: its loop runs once per frame."""
        output, liar, room = conductor.output, self._liar, self._roomy
        count = FRAME_COUNT_MAX
        while await output.wait():
            events = output.take_many(count)
            taken_count = len(events)
            if liar is not None:
                events = liar.rewrite(events)
            written_bytes = self._send(events)
            count = max(1, min(FRAME_COUNT_MAX, FRAME_AIM_BYTES * taken_count // max(1, written_bytes)))
            if not room.is_set():
                await room.wait()
            if liar is not None and liar.stalls(events):
                await asyncio.sleep(STALL_S)

    def _send(self, events: Sequence[ConductorEvent]) -> int:
        """HOT: write events, once per frame. Returns: bytes."""
        transport = self._transport
        if transport is None or not events:
            return 0
        data = b"".join(frames(events))
        transport.write(data)
        delivered_count = 0
        for event in events:
            kind = type(event)
            if kind is Token or kind is StreamToken:
                delivered_count += event.count  # type: ignore[union-attr]  # as just seen
        self.delivered_count += delivered_count
        return len(data)

    async def _tell_figures(self) -> None:
        await self._roomy.wait()
        self._send([StatisticsReport(figures=self._host.report())])

    async def _close(self) -> None:
        """Close the socket once everything is through, or after a while."""
        transport = self._transport
        if transport is None:
            return
        transport.close()
        try:
            async with asyncio.timeout(LEAVE_LIMIT_S):
                await self._gone.wait()
        except TimeoutError:
            self.cut()
