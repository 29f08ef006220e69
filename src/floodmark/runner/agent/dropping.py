"""Drop connections in the midst of an operation, in one of three ways, and see them end.

The request has left this process when the connection is dropped, and its answer has not come. Whoever is dropped with a subscription
throws away what is in its socket, so its window ends a moment before; subscriptions asked for and never confirmed are never required.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Coroutine
from contextlib import suppress
from urllib.parse import urlsplit

from floodmark.core import tasks
from floodmark.core.errors import SystemUnderTestError, UsageError
from floodmark.drivers.base import Connection, Driver, Wanted
from floodmark.faults.drop import Drop
from floodmark.ledger.accounts import Accounts
from floodmark.ledger.stamp import Stamper
from floodmark.runner.agent import clock
from floodmark.runner.agent.receiving import Intake
from floodmark.runner.agent.subscribing import IN_FLIGHT_NS, Crowd, Member

GONE_TICK_S = 0.005
GONE_LIMIT_S = 2.0
_LINGER_NOT = struct.pack("ii", 1, 0)  # close sends a reset


class Dropping:
    """Drops members of one agent. `published_count` are the messages that victims sent at their end, which no account holds."""

    def __init__(
        self, *, crowd: Crowd, driver: Driver, accounts: Accounts, intake: Intake, url: str, names: list[str], warmup_run: int, seed: int
    ) -> None:
        self.published_count = 0
        self._crowd = crowd
        self._accounts = accounts
        self._intake = intake
        self._url = url
        self._names = names
        self._nobody = f"{names[0]}.nobody"
        self._stamper = Stamper(warmup_run, driver.encoding, 128, seed)

    async def drop(self, members: list[Member], plan: Drop) -> None:
        """Drop all of these, each in its own operation; returns when the last one is gone."""
        if not plan.resume:
            self.end_windows(members, in_flight_ns=IN_FLIGHT_NS)
        for member in members:
            self._crowd.excuse(member)
        arrivals = _Arrivals(members) if plan.during == "receive" and members else None
        if arrivals is not None:
            self._intake.on_frames.append(arrivals.look)
        try:
            async with tasks.group() as group:
                for member in members:
                    group.create_task(self._drop_one(member, plan, arrivals))
        finally:
            if arrivals is not None:
                self._intake.on_frames.remove(arrivals.look)

    async def _drop_one(self, member: Member, plan: Drop, arrivals: _Arrivals | None) -> None:
        connection = member.connection
        if connection is None:
            return
        match plan.during:
            case "connect":
                await connection.close()
                await self._connect_and_drop(plan)
                return
            case "subscribe":
                with suppress(SystemUnderTestError, TimeoutError):
                    async with asyncio.timeout(plan.limit_s):
                        await connection.unsubscribe(member.slots)
                member.slots = [self._accounts.open(channel) for channel in member.channels]
                self._crowd.excuse(member)
                pairs = zip(member.slots, member.channels, strict=True)
                await self._amid(connection.subscribe([Wanted(slot=slot, channel=self._names[at]) for slot, at in pairs]), connection, plan)
            case "unsubscribe":
                await self._amid(connection.unsubscribe(member.slots), connection, plan)
            case "publish":
                now_ns = clock.now_ns()
                connection.publish(self._nobody, self._stamper.payload(0, 0, now_ns, now_ns), 0)
                self.published_count += 1
                await asyncio.sleep(0)  # an event loop writes at the end of its turn
                _break(connection, plan.how)
            case "receive":
                if arrivals is not None:
                    await arrivals.wait(member, plan.limit_s)
                _break(connection, plan.how)
        await self._see_it_end(member, connection, plan)

    async def _amid(self, request: Coroutine[None, None, None], connection: Connection, plan: Drop) -> None:
        """Send a request and drop before its answer. That the request then fails is what a clean failure is."""

        async def ask() -> None:
            with suppress(SystemUnderTestError, TimeoutError):
                async with asyncio.timeout(plan.limit_s):
                    await request

        async with tasks.group() as group:
            asking = group.create_task(ask())
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # once to send it, once for the event loop to write it
            _break(connection, plan.how)
            if plan.how == "half-close":
                await asyncio.wait([asking], timeout=plan.limit_s)
                connection.abort()

    async def _connect_and_drop(self, plan: Drop) -> None:
        """Open a connection, say half of what a WebSocket client says first, and drop it."""
        parts = urlsplit(self._url)
        try:
            async with asyncio.timeout(plan.limit_s):
                reader, writer = await asyncio.open_connection(
                    parts.hostname, parts.port or (443 if parts.scheme in ("wss", "https") else 80)
                )
        except (OSError, TimeoutError):
            return  # not even that far
        raw: socket.socket = writer.get_extra_info("socket")
        writer.write(f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n".encode())
        await asyncio.sleep(0)
        if plan.how == "half-close":
            writer.write_eof()
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(plan.limit_s):
                    await reader.read()
        elif plan.how == "reset":
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        writer.transport.abort()

    async def _see_it_end(self, member: Member, connection: Connection, plan: Drop) -> None:
        """Wait until the connection is gone; one that the target does not end in time after a half-close is dropped."""
        half = plan.how == "half-close"
        for limit_s in (plan.limit_s if half else GONE_LIMIT_S, GONE_LIMIT_S):
            with suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    while member.connection is connection:  # noqa: ASYNC110  # `closed` is told to the crowd, which has no event for it
                        await asyncio.sleep(GONE_TICK_S)
                    return
            connection.abort()

    def end_windows(self, members: list[Member], *, in_flight_ns: int) -> None:
        """Require nothing more. Whoever drops its socket throws away what is in it, though the target was right to acknowledge that."""
        now_ns = clock.now_ns()
        for member in members:
            for slot in member.slots:
                self._accounts.close(slot, now_ns - in_flight_ns, dropped_ns=now_ns if in_flight_ns else 0)


class _Arrivals:
    """Tells members of their next delivery."""

    def __init__(self, members: list[Member]) -> None:
        self._events = {member.number: asyncio.Event() for member in members}
        self._owner = {slot: member.number for member in members for slot in member.slots}

    def look(self, batch: list[tuple[int, bytes, int]]) -> None:
        """Take note of a batch of deliveries."""
        for slot, _, _ in batch:
            number = self._owner.get(slot)
            if number is not None:
                self._events[number].set()

    async def wait(self, member: Member, limit_s: float) -> None:
        """Wait for this member's next delivery, not for ever."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._events[member.number].wait()


def _break(connection: Connection, how: str) -> None:
    """End a connection. Raises: UsageError for a driver that does not give its socket, which all ways but `close` need."""
    if how == "close":
        connection.abort()
        return
    raw: socket.socket | None = getattr(connection, "os_socket", None)
    if raw is None:
        if not hasattr(connection, "os_socket"):
            raise UsageError(f"fault 'drop': this driver gives no socket (os_socket), which how = {how!r} needs; use how = 'close'")
        return
    if raw.fileno() < 0:
        return  # it is gone, and `closed` will say so
    # A copy of the descriptor: the event loop's own object does not do such things.
    with socket.fromfd(raw.fileno(), raw.family, raw.type) as copy, suppress(OSError):
        if how == "reset":
            copy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        else:
            copy.shutdown(socket.SHUT_WR)
    if how == "reset":
        connection.abort()
