"""A publisher that does not give up: when its connection is cut it connects again and sends again what was not answered.

To whoever publishes it is one connection: nothing is told of the cut, what is due meanwhile waits (`writable` is false), and what was sent
and not answered is sent again in its order under the same tokens, so under the same message ids. Only when it does not come back in time,
or cannot by a mistake of ours, is the connection closed. One that has subscriptions is not brought back here: that is for whoever accounts
for them.
Memory: every message that waits for its answer is kept, which whoever publishes bounds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from floodmark.core.errors import SystemUnderTestError
from floodmark.drivers.base import Connection, Sink, Wanted
from floodmark.ledger.block import Block

if TYPE_CHECKING:
    import socket

PAUSE_S = 0.05
PAUSE_MOST_S = 0.5
Open = Callable[[Sink, float], Awaitable[Connection]]


class RetryingConnection:
    """A connection in the place of several, one after another. It is the sink of each, and passes on what they tell."""

    def __init__(self, open_one: Open, sink: Sink, *, limit_s: float, retry_s: float) -> None:
        self.retries_count = 0
        self.put = sink.put
        self.turn = sink.turn
        self.put_block: Callable[[Block], None] = sink.put_block
        self.ended = sink.ended
        self._open = open_one
        self._sink = sink
        self._limit_s = limit_s
        self._retry_s = retry_s
        self._now: Connection | None = None
        self._waiting: dict[int, tuple[str, bytes]] = {}
        self._subscribes = False
        self._leaving = False
        self._told = False
        self._returning: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, open_one: Open, sink: Sink, *, limit_s: float, retry_s: float) -> RetryingConnection:
        """Connect. Raises: SystemUnderTestError when the first try fails."""
        made = cls(open_one, sink, limit_s=limit_s, retry_s=retry_s)
        made._now = await open_one(made, limit_s)
        return made

    # -- what a connection underneath tells ------------------------------------------------------------------------------------------------

    @property
    def takes_blocks(self) -> bool:
        """As the sink above."""
        return self._sink.takes_blocks

    def acknowledged(self, token: int) -> None:
        """HOT: one is answered."""
        self._waiting.pop(token, None)
        self._sink.acknowledged(token)

    def refused(self, token: int, reason: str) -> None:
        """One is answered, with no."""
        self._waiting.pop(token, None)
        self._sink.refused(token, reason)

    def closed(self, connection: Connection, reason: str) -> None:
        """The connection underneath is gone: come back, or tell."""
        if connection is not self._now and self._now is not None:
            return  # one that was lost on its way in
        self._now = None
        if self._subscribes or self._leaving:
            self._tell(reason)
        elif self._returning is None:
            self._returning = asyncio.get_running_loop().create_task(
                self._return(reason)
            )  # parent: this object; `close` and `abort` end it

    async def _return(self, reason: str) -> None:
        """Come back, or tell why not. Nobody awaits this: whatever goes wrong in here reaches the sink, which would wait for ever."""
        try:
            why = await self._tried(reason)
        except Exception as exc:  # a target that refuses is tried again; this is a mistake of ours, or of whoever set up the driver
            why = f"{reason}; it cannot be brought back ({type(exc).__name__}: {exc})"
        if why is None:
            return
        self._returning = None
        self._leaving = True
        self._tell(why)
        if self._now is not None:
            self._now.abort()

    async def _tried(self, reason: str) -> str | None:
        """Try until it is back; returns why it is not when the time is over."""
        loop = asyncio.get_running_loop()
        until_s, pause_s = loop.time() + self._retry_s, PAUSE_S
        while loop.time() < until_s:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_MOST_S)
            try:
                made = await self._open(self, max(0.1, min(self._limit_s, until_s - loop.time())))
            except SystemUnderTestError:
                continue
            self._returning = None  # from here on a loss begins anew
            self._now = made
            self.retries_count += 1
            for token, (channel, payload) in self._waiting.items():
                made.publish(channel, payload, token)
            return None
        return f"{reason}; it did not come back within {self._retry_s:g} s"

    # -- what a connection is --------------------------------------------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """Whether there is a connection that takes more."""
        return self._now is not None and self._now.writable

    @property
    def os_socket(self) -> socket.socket | None:
        """The socket underneath, for faults that end it in a way of their own."""
        return getattr(self._now, "os_socket", None)

    async def subscribe(self, wanted: Sequence[Wanted]) -> None:
        """Open subscriptions; from now on a loss is told."""
        self._subscribes = True
        await self._required().subscribe(wanted)

    async def unsubscribe(self, slots: Iterable[int]) -> None:
        """End subscriptions."""
        await self._required().unsubscribe(slots)

    def publish(self, channel: str, payload: bytes, token: int) -> None:  # HOT
        """Send one message, and keep it until it is answered."""
        if token:
            self._waiting[token] = (channel, payload)
        if self._now is not None:
            self._now.publish(channel, payload, token)

    def resume_point(self, frame: bytes) -> int | None:
        """As the connection underneath."""
        return self._now.resume_point(frame) if self._now is not None else None

    def pause_reading(self) -> None:
        """Stop reading."""
        if self._now is not None:
            self._now.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._now is not None:
            self._now.resume_reading()

    async def close(self) -> None:
        """Leave; what was not answered stays so."""
        now = self._now
        self._leave()
        if now is not None:
            await now.close()

    def abort(self) -> None:
        """Drop the connection at once."""
        now = self._now
        self._leave()
        if now is not None:
            now.abort()

    def _leave(self) -> None:
        if self._leaving:
            return
        self._leaving = True
        if self._returning is not None:
            self._returning.cancel()
            self._returning = None
            self._tell("was left by us")

    def _tell(self, reason: str) -> None:
        """Tell that it is gone, once."""
        if not self._told:
            self._told = True
            self._sink.closed(self, reason)

    def _required(self) -> Connection:
        if self._now is None:
            raise SystemUnderTestError("the connection is lost and not back yet")
        return self._now
