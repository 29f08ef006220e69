"""One connection through the proxy: two endpoints, two lanes, and the faults that reached it.

A reset from one side travels like data, in order and through the stages, and becomes a reset on the other side. The link is over when
both sockets are gone, or when both directions have ended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from floodmark.faults.wire.endpoint import Endpoint
from floodmark.faults.wire.journal import Journal, Tally
from floodmark.faults.wire.lane import Lane
from floodmark.faults.wire.spec import Direction, Ending, How
from floodmark.faults.wire.stage import Stage

if TYPE_CHECKING:
    from floodmark.faults.wire.active import ActiveFault


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """A look at one connection; `faults` are the numbers of those at work on it, in their order."""

    number: int
    client: str
    age_s: float
    upstream_bytes: int
    downstream_bytes: int
    held_bytes: int
    faults: tuple[int, ...]


class Link:
    """A client and the target, joined."""

    def __init__(self, number: int, client: str, buffer: memoryview, journal: Journal, over: Callable[[Link], None]) -> None:
        self.number = number
        self.client_name = client
        self.client = Endpoint(self, buffer)
        self.target = Endpoint(self, buffer)
        self.upstream = Lane(Direction.UPSTREAM, self, self.client, self.target)
        self.downstream = Lane(Direction.DOWNSTREAM, self, self.target, self.client)
        self.client.outgoing = self.target.incoming = self.upstream
        self.target.outgoing = self.client.incoming = self.downstream
        self._opened_s = time.monotonic()
        self._journal = journal
        self._over: Callable[[Link], None] | None = over
        self._attached: list[ActiveFault] = []
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._ended = False
        self.begun = False

    # What faults do.

    def attach(self, active: ActiveFault) -> None:
        """Put a fault into the lanes here; on a connection that is still being opened it starts with the opening."""
        self._attached.append(active)
        if self.begun:
            self._engage(active)

    def strike(self, active: ActiveFault) -> None:
        """Start the clock of an attached fault that ends connections; apart from `attach`, which can be undone, as an end cannot."""
        ending = active.spec.ending()
        if ending is None or not self.begun:
            return
        if ending.after_s:
            loop = asyncio.get_running_loop()
            self._timers[active.number] = loop.call_later(ending.after_s, self._end_by, active, ending)
        else:
            self._end_by(active, ending)

    def detach(self, active: ActiveFault) -> None:
        """Heal: let go in order of what the fault held; nothing where it never was."""
        if active not in self._attached:
            return
        self._attached.remove(active)
        timer = self._timers.pop(active.number, None)
        if timer is not None:
            timer.cancel()
        for lane in (self.upstream, self.downstream):
            for stage in [one for one in lane.stages if one.fault == active.number and not one.healed]:
                stage.tally.close()
                stage.heal()  # may let go of the end of the connection, and with it of every stage

    def _engage(self, active: ActiveFault) -> None:
        loop = asyncio.get_running_loop()
        for direction in active.spec.lanes:
            lane = self._lane(direction)
            if active.make is None or lane.sink.gone:
                continue
            tally = Tally(
                self._journal,
                active.totals,
                connection=self.number,
                direction=direction.value,
                base_bytes=lane.sent_bytes + lane.held_bytes,
            )
            shaper = active.make(direction, active.generator(self.number, direction), tally)
            lane.append(Stage(active.number, shaper, tally, lane, loop))

    def _end_by(self, active: ActiveFault, ending: Ending) -> None:
        if self._ended:
            return
        held_bytes = self.upstream.held_bytes + self.downstream.held_bytes
        tally = Tally(self._journal, active.totals, connection=self.number)
        tally.hit(held_bytes)
        tally.write(ending.how.value, hits=1, size_bytes=held_bytes)
        self.end(ending.how)

    # How it begins and ends.

    def begin(self) -> None:
        """Both sockets are there: put the faults to work, then let bytes flow. One loop turn, so nothing slips past a fault."""
        self.begun = True
        for active in tuple(self._attached):
            self._engage(active)
        for active in tuple(self._attached):
            self.strike(active)
        if not self._ended:
            self.client.begin()
            self.target.begin()
        self.endpoint_lost()

    def end(self, how: How) -> None:
        """End both sides now; what is held is dropped."""
        self._ended = True
        for endpoint in (self.client, self.target):
            if how is How.RESET:
                endpoint.reset()
            else:
                endpoint.abort()
        self._release()

    def close_gently(self) -> None:
        """Close both sides once what was handed to their sockets is written."""
        self._ended = True
        self.client.close()
        self.target.close()
        self._release()

    def lane_finished(self) -> None:
        """A lane has passed its FIN on; with both done there is nothing left to do."""
        if self.upstream.finished and self.downstream.finished:
            self.close_gently()

    def endpoint_lost(self) -> None:
        """A socket is gone; with both gone the link is over."""
        if self.begun and self.client.lost and self.target.lost and self._over is not None:
            over, self._over = self._over, None
            self._release()
            over(self)

    def _release(self) -> None:
        """Stop every clock and write the sums."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self.upstream.abandon()
        self.downstream.abandon()

    # What can be seen.

    @property
    def dropped_bytes(self) -> int:
        """What was held when the connection ended, or came after."""
        return self.upstream.dropped_bytes + self.downstream.dropped_bytes

    def look(self) -> Connection:
        """Give a snapshot."""
        return Connection(
            number=self.number,
            client=self.client_name,
            age_s=time.monotonic() - self._opened_s,
            upstream_bytes=self.upstream.sent_bytes,
            downstream_bytes=self.downstream.sent_bytes,
            held_bytes=self.upstream.held_bytes + self.downstream.held_bytes,
            faults=tuple(active.number for active in self._attached),
        )

    def _lane(self, direction: Direction) -> Lane:
        return self.upstream if direction is Direction.UPSTREAM else self.downstream
