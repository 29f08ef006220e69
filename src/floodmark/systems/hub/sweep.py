"""The one timer of the hub: it looks at every connection in turn, instead of a timer for each.

Closes those that sent no connection_init in time (4408), whose credential ran out (4401), that did not answer a ping (1002, reason
`pong_timeout`), and cuts those that did not answer our close frame. Sends pings. Ends subscriptions whose life time is over. A connection
from which the hub itself has stopped reading is not held to its pong; one whose socket drains is alive without one.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from floodmark.systems.hub.protocol import Close, ConnectionState

if TYPE_CHECKING:
    from floodmark.systems.hub.connection import Connection
    from floodmark.systems.hub.hub import Hub

_TICK_MAX_S = 0.25


class Sweep:
    """The timer and its rules."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        settings = hub.settings
        shortest_s = min(settings.init_limit_s, settings.ping_interval_s, settings.pong_limit_s)
        self._tick_s = min(_TICK_MAX_S, shortest_s / 4)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to tick."""
        self._loop = loop
        self._handle = loop.call_later(self._tick_s, self._tick)

    def stop(self) -> None:
        """Tick no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _tick(self) -> None:
        assert self._loop is not None
        self._handle = self._loop.call_later(self._tick_s, self._tick)
        self._hub.now_s = time.monotonic()
        self.look()

    def look(self) -> None:
        """Look at every connection once, at the hub's present time."""
        for connection in list(self._hub.connections):
            self._look_at(connection)

    def _look_at(self, connection: Connection) -> None:
        hub, now_s = self._hub, self._hub.now_s
        settings = hub.settings
        if connection.state is ConnectionState.WAITING:
            if now_s - connection.opened_s >= settings.init_limit_s:
                connection.close(Close.INIT_LATE, "connection_init did not come in time")
        elif connection.state is ConnectionState.CLOSING:
            if now_s - connection.closed_s >= settings.shutdown_grace_s:
                connection.abort()
        elif connection.state is ConnectionState.CONNECTED:
            if connection.credential is not None and not hub.credentials.valid(connection.credential):
                connection.close(Close.UNAUTHORIZED, "the credential has expired or was revoked")
            else:
                if settings.subscription_lifetime_s:
                    connection.end_expired(now_s)
                connection.beat(now_s, settings.ping_interval_s, settings.pong_limit_s)
