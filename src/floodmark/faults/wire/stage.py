"""One fault at work in one lane: the queue, the timer and the back-pressure around a shaper's decisions.

Items leave in the order in which they came, each when its shaper lets it and what follows can take it. A stage is full at its shaper's
capacity; then whoever feeds it waits. It takes one more chunk than that, never refuses one.
Healing keeps the order: a healed stage lets go of all it holds, as fast as what follows takes it, and leaves the lane when it is empty.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from typing import TYPE_CHECKING

from floodmark.faults.wire.journal import Tally
from floodmark.faults.wire.shaper import BLOCK_BYTES, End, Item, Shaper

if TYPE_CHECKING:
    from floodmark.faults.wire.lane import Lane

_ITEM_COST_BYTES = 200  # a queued item's own memory (tuple, floats, object header), so that tiny chunks are bounded too
_TURN_PIECES = 256  # let other connections have their turn after so many pieces
_TURN_BYTES = 4 * 1024 * 1024
_TICK_S = 0.001  # what the event loop's timers can tell apart


class Stage:
    """A link of a lane's chain."""

    __slots__ = (
        "_booked_bytes",
        "_booked_s",
        "_clear_s",
        "_ended",
        "_lane",
        "_loop",
        "_payload_bytes",
        "_position",
        "_pumping",
        "_queue",
        "_timer",
        "fault",
        "healed",
        "held_bytes",
        "shaper",
        "tally",
    )

    def __init__(self, fault: int, shaper: Shaper, tally: Tally, lane: Lane, loop: asyncio.AbstractEventLoop) -> None:
        self.fault = fault
        self.shaper = shaper
        self.tally = tally
        self.healed = False
        self.held_bytes = 0  # with the items' own cost
        self._payload_bytes = 0  # of the items, what has left of the head included
        self._lane = lane
        self._loop = loop
        self._queue: deque[tuple[float, Item]] = deque()  # (earliest time to leave, item)
        self._position = 0  # bytes of the head that have left
        self._booked_bytes = 0  # size of the head's next piece, 0 when none is booked
        self._booked_s = 0.0
        self._clear_s = 0.0  # when what follows last began to take items again
        self._ended = False  # the shaper closed the lane: nothing more is taken
        self._timer: asyncio.Handle | None = None
        self._pumping = False

    @property
    def full(self) -> bool:
        """Whoever feeds this stage should wait."""
        return self.held_bytes >= self.shaper.capacity_bytes

    @property
    def waiting_bytes(self) -> int:
        """Payload bytes held."""
        return self._payload_bytes - self._position

    def feed(self, item: Item) -> None:
        """Take an item from whoever comes before."""
        if self._ended:
            self._lane.dropped_bytes += _size_bytes(item)
            return
        now_s = time.monotonic()
        due_s = now_s if self.healed else self.shaper.admit(item, now_s)
        self._queue.append((due_s, item))
        self.held_bytes += _cost_bytes(item)
        self._payload_bytes += _size_bytes(item)
        if len(self._queue) == 1:
            self.pump()

    def heal(self) -> None:
        """Let everything go and leave the lane."""
        self.healed = True
        self._ended = False
        self.pump()

    def cancel(self) -> None:
        """Throw away what is held and stop the clock: the lane is over."""
        self._queue.clear()
        self.held_bytes = self._payload_bytes = self._position = self._booked_bytes = 0
        self._disarm()

    def resume(self) -> None:
        """What follows takes items again."""
        self._clear_s = time.monotonic()
        self.pump()

    def pump(self) -> None:
        """Let go of what may go now. HOT: runs for every chunk of a lane with faults."""
        if self._pumping:  # an item that we let go of came back as an event; the loop below goes on anyway
            return
        self._pumping = True
        was_full = self.full
        self._disarm()
        try:
            self._let_go()
        finally:
            self._pumping = False
        if self.healed and not self._queue:
            self._lane.unlink(self)
        elif was_full and not self.full:
            self._lane.freed(self)

    def _let_go(self) -> None:
        now_s = time.monotonic()
        pieces = size_bytes = 0
        while self._queue and not self._lane.blocked_after(self):
            if pieces >= _TURN_PIECES or size_bytes >= _TURN_BYTES:
                self._timer = self._loop.call_soon(self._on_timer)
                return
            leaves_s, piece_bytes = self._next(now_s)
            if leaves_s > now_s:
                now_s = time.monotonic()
                if leaves_s > now_s:
                    self._arm(leaves_s - now_s)
                    return
            pieces += 1
            size_bytes += piece_bytes
            self._release(piece_bytes)

    def _next(self, now_s: float) -> tuple[float, int]:
        """Give when the next piece leaves and its size."""
        due_s, item = self._queue[0]
        left_bytes = _size_bytes(item) - self._position
        if self.healed:
            return now_s, left_bytes
        if due_s > now_s:
            return due_s, 0
        if not self._booked_bytes:
            self._booked_bytes = self.shaper.cut(left_bytes) if left_bytes else 0
            self._booked_s = self.shaper.book(self._booked_bytes, max(due_s, self._clear_s))
        return self._booked_s, self._booked_bytes

    def _release(self, piece_bytes: int) -> None:
        _, item = self._queue[0]
        if isinstance(item, End):
            self._drop_head(item)
            self._lane.pass_on(self, item)
            return
        start, stop = self._position, self._position + piece_bytes
        piece = item if piece_bytes == len(item) else bytes(item[start:stop])  # a piece does not keep a whole block
        self._booked_bytes = 0
        if stop == len(item):
            self._drop_head(item)
        else:
            self._position = stop
        if self.healed:
            self._lane.pass_on(self, piece)
            return
        touched, end = self.shaper.touch(piece)
        if touched:
            self._lane.pass_on(self, touched)
        if end is not None:
            self._lane.dropped_bytes += self.waiting_bytes
            self.cancel()
            self._ended = True
            self._lane.pass_on(self, end)

    def _drop_head(self, item: Item) -> None:
        self._queue.popleft()
        self._position = 0
        self.held_bytes -= _cost_bytes(item)
        self._payload_bytes -= _size_bytes(item)

    def _arm(self, after_s: float) -> None:
        if after_s != math.inf:
            # Rounded up to whole ticks: a timer that fires early would only be set again.
            self._timer = self._loop.call_later(math.ceil(after_s / _TICK_S) * _TICK_S, self._on_timer)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        self.pump()


def _size_bytes(item: Item) -> int:
    return 0 if isinstance(item, End) else len(item)


def _cost_bytes(item: Item) -> int:
    """What an item costs in memory: one that lies in a block costs the whole block."""
    return _ITEM_COST_BYTES + (BLOCK_BYTES if isinstance(item, memoryview) else _size_bytes(item))
