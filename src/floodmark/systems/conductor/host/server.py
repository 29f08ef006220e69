"""Listens, gives every surface a conductor of its own, and adds up what they count.

All conductors share one backend. One task per surface, children of `serve`; a surface that has gone leaves its figures behind and nothing
else. On stop every conductor quits, which its surface is told if it reads.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final

from floodmark.systems.conductor.backend.base import Backend
from floodmark.systems.conductor.conductor import Conductor
from floodmark.systems.conductor.figures import Figures
from floodmark.systems.conductor.host.lies import Liar, Lies
from floodmark.systems.conductor.host.session import Session
from floodmark.systems.conductor.settings import ConductorSettings

GAUGES: Final = ("streams_live", "subscriptions", "kept_bytes", "messages")  # of those that are there
SUMS: Final = ("pruned", "tokens_dropped", "tokens_concatenated")
LARGEST: Final = ("buffered_max",)
STOP_LIMIT_S: Final = 0.5


class Server:
    """The host. `heartbeat_s`: 0 for none. `socket_send_bytes`: what the kernel may hold for each surface; 0 for its own choice."""

    def __init__(
        self, backend: Backend, settings: ConductorSettings, lies: Lies, *, heartbeat_s: float = 30.0, socket_send_bytes: int = 0
    ) -> None:
        self.heartbeat_s = heartbeat_s
        self._socket_send_bytes = socket_send_bytes
        self._backend = backend
        self._settings = settings
        self._lies = lies
        self._sessions: set[Session] = set()  # those with a socket
        self._conversing: set[Session] = set()  # those with a conductor
        self._most_count = 0  # of them at once
        self._earlier: set[asyncio.Task[Any]] = set()  # tasks that are none of ours
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[asyncio.Task[None], Session] = {}
        self._past = Figures()
        self._past_numbers = dict.fromkeys((*SUMS, *LARGEST, "delivered"), 0.0)

    async def serve(self, host: str, port: int, ready: Callable[[int], None], stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then say goodbye to every surface. Closes the backend."""
        self._earlier = asyncio.all_tasks()
        listener = await asyncio.get_running_loop().create_server(lambda: Session(self), host, port, backlog=1024)
        if self._socket_send_bytes:
            for place in listener.sockets:  # whoever is accepted there has it from the listener
                place.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._socket_send_bytes)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                ready(listener.sockets[0].getsockname()[1])
                await stop.wait()
                listener.close()
                await self._send_home()
        finally:
            listener.close()
            await self._backend.aclose()

    async def _send_home(self) -> None:
        """Quit every session at once; what has not ended then is cut off."""
        for session in tuple(self._sessions):
            session.send_home("The host is shutting down.")
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=STOP_LIMIT_S)
        for session in tuple(self._sessions):
            session.cut()
        for task in tuple(self._tasks):
            task.cancel()

    # -- what a session needs

    def make(self, session: Session) -> Conductor:
        """Make a conductor."""
        self._conversing.add(session)
        self._most_count = max(self._most_count, len(self._conversing))
        return Conductor(self._backend, self._settings, owns_backend=False)

    def liar(self) -> Liar | None:
        """What tells the lies that are left."""
        return Liar(self._lies) if self._lies.waiting else None

    def joined(self, session: Session) -> None:
        """Serve it."""
        assert self._group is not None
        self._sessions.add(session)
        task = self._group.create_task(session.serve())
        self._tasks[task] = session
        task.add_done_callback(self._tasks.pop)

    def left(self, session: Session) -> None:
        """Its socket is gone."""
        self._sessions.discard(session)

    def ended(self, session: Session) -> None:
        """Its conductor has quit: keep what it has counted."""
        conductor = session.conductor
        assert conductor is not None
        self._conversing.discard(session)
        report = conductor.report()
        conductor.figures.tokens_sent_count = int(report["tokens_sent"])
        self._past.add(conductor.figures)
        for name in SUMS:
            self._past_numbers[name] += report[name]
        for name in LARGEST:
            self._past_numbers[name] = max(self._past_numbers[name], report[name])
        self._past_numbers["delivered"] += session.delivered_count

    # -- what it counts

    def report(self) -> dict[str, float]:
        """Give the figures of all sessions, those that are past included."""
        total = Figures()
        total.add(self._past)
        numbers = {**self._past_numbers, **dict.fromkeys(GAUGES, 0.0)}
        sent = 0.0
        for session in self._conversing:
            conductor = session.conductor
            assert conductor is not None
            report = conductor.report()
            total.add(conductor.figures)
            sent += report["tokens_sent"] - conductor.figures.tokens_sent_count
            for name in (*SUMS, *GAUGES):
                numbers[name] += report[name]
            for name in LARGEST:
                numbers[name] = max(numbers[name], report[name])
            numbers["delivered"] += session.delivered_count
        told = total.report() | numbers
        told["tokens_sent"] += sent
        told["delivered"] += self._lies.overstated_count
        told["connections"] = float(len(self._conversing))
        told["connections_max"] = float(self._most_count)
        told["heartbeat_rtt_max_s"] = max((session.rtt_s for session in self._conversing), default=0.0)
        told["lies_told"] = float(sum(self._lies.told.values()))
        expected = sum(session.tasks_count for session in self._tasks.values()) + int(numbers["streams_live"])
        told["tasks_left"] = float(max(0, len(asyncio.all_tasks() - self._earlier) - expected))
        return told
