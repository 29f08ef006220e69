"""Listens, reads frames, and keeps one channel per drain.

One task a channel and one for each answer that has to wait, never one per record; the server's task group is their parent. A connection
that is lost takes the channels along that it drains: their streams are stopped. Whoever breaks the protocol is cut off.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

import msgspec

from floodmark.core.errors import FloodmarkError
from floodmark.systems.pipeline import Pipeline
from floodmark.systems.pipeline.errors import reason_of
from floodmark.systems.pipeline.host import wire
from floodmark.systems.pipeline.host.channel import Channel
from floodmark.systems.pipeline.host.figures import Figures, Groups
from floodmark.systems.pipeline.host.intake import Ticket
from floodmark.systems.pipeline.host.lies import Lies
from floodmark.systems.pipeline.host.measure import measure
from floodmark.systems.pipeline.host.network import Network, NetworkError, checked_faults
from floodmark.systems.pipeline.host.options import Options
from floodmark.systems.pipeline.host.run_in import run_in_table

log = logging.getLogger(__name__)
MEASURE_LIMIT_S = 60.0
REPORT_LIMIT_S = 2.0


class BrokenProtocolError(FloodmarkError):
    """A client sent what the protocol does not know."""


class Open(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON of OPEN."""

    channel: str
    options: Options = Options()


class Server:
    """All connections and channels."""

    def __init__(self, pipeline: Pipeline, folder: Path, lies: Lies) -> None:
        self.figures = Figures()
        self.connections: set[Connection] = set()
        self.channels: dict[str, Channel] = {}
        self._pipeline = pipeline
        self._folder = folder
        self._lies = lies
        self._group: asyncio.TaskGroup | None = None
        self._running: dict[str, asyncio.Task[None]] = {}
        self._measuring: asyncio.Task[None] | None = None
        self._running_in: asyncio.Task[None] | None = None
        self._connecting: asyncio.Task[str] | None = None
        self._network: Network | None = None
        self._reported = asyncio.Event()
        self.groups_told = 0  # to drains that are to check them
        self._measured: dict[str, float] = {}

    async def serve(self, host: str, port: int, ready: Callable[[int], None], stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then stop every stream."""
        listener = await asyncio.get_running_loop().create_server(lambda: Connection(self), host, port)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                ready(listener.sockets[0].getsockname()[1])
                await stop.wait()
                listener.close()
                for task in (*self._running.values(), self._measuring, self._running_in, self._connecting):
                    if task is not None:
                        task.cancel()
        finally:
            listener.close()
            for connection in tuple(self.connections):
                connection.cut()
            await self._pipeline.aclose()
            if self._network is not None:
                await self._network.close()

    def open(self, ask: Open, drain: DrainEnd) -> Channel:
        """Begin a channel. Raises: FloodmarkError when it is drained already."""
        if ask.channel in self.channels:
            raise BrokenProtocolError(f"the channel {ask.channel!r} is drained already")
        channel = Channel(
            ask.channel,
            ask.options,
            pipeline=self._pipeline,
            drain=drain,
            figures=self.figures,
            lies=self._lies,
            folder=self._folder,
            network=lambda: self._network,
        )
        assert self._group is not None
        self.channels[ask.channel] = channel
        self._running[ask.channel] = self._group.create_task(channel.run())
        if ask.options.measure_records and self._measuring is None:
            self._measuring = self._group.create_task(self._measure(ask.options, drain))
        return channel

    def when_ready(self, options: Options, then: Callable[[str], None]) -> None:
        """Call `then` when whatever such streams use has been used once, or with the reason why they cannot be."""
        if options.store == "memory":
            then("")
            return
        assert self._group is not None
        if options.store == "sqlite":
            if self._running_in is None:
                self._running_in = self._group.create_task(run_in_table(self._pipeline, self._folder))
            self._running_in.add_done_callback(lambda _: then(""))
            return
        if self._connecting is None:
            self._connecting = self._group.create_task(self._connect(options))
        self._connecting.add_done_callback(lambda task: then("the host ends" if task.cancelled() else task.result()))

    async def _connect(self, options: Options) -> str:
        """Put up the network that pages come over; why it could not be, or nothing."""
        network = Network(self._folder, checked_faults(options.network))
        try:
            await network.start()
        except NetworkError as exc:
            await network.close()
            return str(exc)
        except BaseException:
            await network.close()
            raise
        self._network = network
        return ""

    def close(self, name: str, then: Callable[[], None]) -> None:
        """End a channel, and call `then` when nothing of it is left. From now on nobody drains it."""
        channel, task = self.channels.pop(name), self._running.pop(name)

        def ended(_: asyncio.Task[None]) -> None:
            channel.intake.close()  # one that was cancelled before its first step has run none of its code
            then()

        task.cancel()
        task.add_done_callback(ended)

    async def _measure(self, options: Options, drain: DrainEnd) -> None:
        speed_hz, groups = await measure(self._pipeline, options)
        self._measured["measured_hz"] = speed_hz
        drain.groups(groups)

    def take_report(self, unasked: int, checked: int, wrong: int) -> None:
        """Add up what a drain has found."""
        self.figures.unasked += unasked
        self.figures.groups_checked += checked
        self.figures.groups_wrong += wrong
        self._reported.set()

    def answer_statistics(self, connection: Connection) -> None:
        """Send the figures, once what is measured beside the streams is through and the drains have reported on their groups."""
        assert self._group is not None
        self._group.create_task(self._tell(connection))

    async def _tell(self, connection: Connection) -> None:
        if self._measuring is not None:
            await asyncio.wait({self._measuring}, timeout=MEASURE_LIMIT_S)
        with suppress(TimeoutError):  # a drain that has gone reports nothing
            async with asyncio.timeout(REPORT_LIMIT_S):
                while self.figures.groups_checked < self.groups_told:
                    self._reported.clear()
                    await self._reported.wait()
        network = {} if self._network is None else await self._network.figures()
        connection.send(wire.STATISTICS, msgspec.json.encode({**self.statistics(connection), **network}))

    def statistics(self, asking: Connection) -> dict[str, float]:
        """Every figure by its name; the connection that asks is left out."""
        live_count = len(self._pipeline.registry.live())
        return {
            **self.figures.numbers(),
            **self._measured,
            "connections": float(len(self.connections - {asking})),
            "subscriptions": float(len(self.channels)),
            "streams_live": float(live_count),
            "entries_left": float(len(self._pipeline.registry) - live_count),
            "tasks_left": float(len(self._pipeline.supervisor.children)),
        }


class DrainEnd:
    """The far edge of a channel's pipeline: the connection that drains it."""

    def __init__(self, server: Server, connection: Connection, handle: int) -> None:
        self._server = server
        self._connection = connection
        self._handle = wire.ONE.pack(handle)

    def rows(self, payloads: list[bytes]) -> None:
        """HOT: send records, those of one length in one frame."""
        if not payloads:
            return
        joined, length = b"".join(payloads), len(payloads[0])
        if len(joined) == length * len(payloads) and all(len(payload) == length for payload in payloads):
            self._connection.send(wire.ROWS, self._handle, wire.ONE.pack(length), joined)
            return
        for length, run in itertools.groupby(payloads, len):
            self._connection.send(wire.ROWS, self._handle, wire.ONE.pack(length), b"".join(run))

    def groups(self, groups: Groups) -> None:
        """Send the groups of a stream."""
        self._server.groups_told += groups.groups
        self._connection.send(wire.GROUPS, self._handle, msgspec.json.encode(groups))

    def ended(self, reason: str) -> None:
        """Say that nothing more comes."""
        self._connection.send(wire.ENDED, self._handle, reason.encode())

    async def room(self) -> None:
        """Wait while the socket takes nothing."""
        await self._connection.room()


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._rest = bytearray()
        self._names: dict[int, str] = {}
        self._drained: dict[int, str] = {}
        self._taken: deque[int] = deque()
        self._holds_count = 0
        self._writable = asyncio.Event()
        self._writable.set()

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop what it drains."""
        self._transport = None
        self._writable.set()
        self._server.connections.discard(self)
        for name in self._drained.values():
            self._server.close(name, lambda: None)
        self._drained.clear()

    def pause_writing(self) -> None:
        """The client does not read."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """He reads again."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Work off whole frames."""
        # HOT: once per read.
        rest = self._rest
        rest += data
        at = 0
        try:
            while len(rest) - at >= wire.LENGTH.size:
                (length,) = wire.LENGTH.unpack_from(rest, at)
                if not 0 < length <= wire.FRAME_BYTES_MAX:
                    raise BrokenProtocolError(f"a frame of {length} bytes")
                end = at + wire.LENGTH.size + length
                if end > len(rest):
                    break
                kind = rest[at + wire.LENGTH.size]
                self._take(kind, bytes(memoryview(rest)[at + wire.HEAD.size : end]))
                at = end
        except (FloodmarkError, msgspec.MsgspecError, struct.error, KeyError, ValueError) as exc:
            log.warning("a client is cut off: %s", reason_of(exc))
            self.cut()
            return
        del rest[:at]

    # -- what the host does with it

    def send(self, kind: int, *parts: bytes) -> None:
        """HOT: send a frame; nothing happens once the connection is lost."""
        if self._transport is not None:
            self._transport.write(wire.frame(kind, *parts))

    async def room(self) -> None:
        """Wait while the client does not read."""
        await self._writable.wait()

    def cut(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def taken(self, token: int) -> None:
        """Answer an offer; answers of one turn of the loop go out together."""
        if token == 0:
            return
        if not self._taken:
            asyncio.get_running_loop().call_soon(self._send_taken)
        self._taken.append(token)

    def _send_taken(self) -> None:
        self.send(wire.TAKEN, struct.pack(f"<{len(self._taken)}Q", *self._taken))
        self._taken.clear()

    def hold(self) -> None:
        """A channel is full: read no more."""
        self._holds_count += 1
        if self._holds_count == 1 and self._transport is not None:
            self._transport.pause_reading()

    def let(self) -> None:
        """It has room again."""
        self._holds_count -= 1
        if self._holds_count == 0 and self._transport is not None:
            self._transport.resume_reading()

    def _take(self, kind: int, body: bytes) -> None:
        match kind:
            case wire.OFFER:
                self._offer(body)
            case wire.ASK:
                handle, count = wire.TWO.unpack(body)
                name = self._drained[handle]
                self._server.channels[name].ask(count)
            case wire.NAME:
                (handle,) = wire.ONE.unpack_from(body)
                self._names[handle] = body[wire.ONE.size :].decode()
            case wire.OPEN:
                self._open(body)
            case wire.CLOSE:
                (handle,) = wire.ONE.unpack(body)
                self._server.close(self._drained.pop(handle), lambda: self.send(wire.CLOSED, body))
            case wire.REPORT:
                self._server.take_report(*wire.THREE.unpack(body))
            case wire.STATISTICS:
                self._server.answer_statistics(self)
            case wire.SEEN:
                self._seen(*wire.SEEN_BODY.unpack(body))
            case _:
                raise BrokenProtocolError(f"an unknown kind of frame, {kind}")

    def _seen(self, what: int, number: int) -> None:
        figures = self._server.figures
        match what:
            case wire.SEEN_FIRST:
                figures.first_seen.note(number / 1e9)
            case wire.SEEN_AHEAD:
                figures.ahead_seen = max(figures.ahead_seen or 0, number)
            case wire.SEEN_IN_FLIGHT:
                figures.in_flight_seen = max(figures.in_flight_seen or 0, number)
            case _:
                raise BrokenProtocolError(f"something unknown was seen, {what}")

    def _open(self, body: bytes) -> None:
        (handle,) = wire.ONE.unpack_from(body)
        try:
            ask = msgspec.json.decode(body[wire.ONE.size :], type=Open)
            self._server.open(ask, DrainEnd(self._server, self, handle))
        except (FloodmarkError, msgspec.MsgspecError) as exc:
            self.send(wire.REJECTED, body[: wire.ONE.size], str(exc).encode())
            return
        self._drained[handle] = ask.channel
        self._server.when_ready(ask.options, lambda why: self._opened(handle, why))

    def _opened(self, handle: int, why: str) -> None:
        if not why:
            self.send(wire.OPENED, wire.ONE.pack(handle))
            return
        self.send(wire.REJECTED, wire.ONE.pack(handle), why.encode())
        if handle in self._drained:
            self._server.close(self._drained.pop(handle), lambda: None)

    def _offer(self, body: bytes) -> None:
        """HOT: once per offer."""
        token, count = wire.OFFER_HEAD.unpack_from(body)
        numbers = struct.unpack_from(f"<{2 * count}I", body, wire.OFFER_HEAD.size)
        at = wire.OFFER_HEAD.size + 8 * count
        if at + sum(numbers[count:]) != len(body):
            raise BrokenProtocolError("an offer whose lengths do not add up")
        if not all(numbers[count:]):
            raise BrokenProtocolError("a record of no length, which nobody could count on its way out")
        records: dict[int, list[bytes]] = {}
        for handle, length in zip(numbers[:count], numbers[count:], strict=True):  # HOT: once per record
            end = at + length
            if handle in records:
                records[handle].append(body[at:end])
            else:
                records[handle] = [body[at:end]]
            at = end
        self._server.figures.published += count
        ticket = Ticket(self, token, count)
        for handle, payloads in records.items():
            channel = self._server.channels.get(self._names[handle])
            if channel is None:
                ticket.take(len(payloads))  # nobody drains it
            else:
                channel.intake.put(payloads, ticket, self)
