"""Carry out what faults do to the operations of this client: hold publishes and deliveries back, fail publishes and subscribes.

`Withheld` stands between a schedule and the publisher: what a fault delays is due later (and was then meant to go out later, so neither
the generator's lag nor the target's latency has it), what a fault fails is journalled as dropped by us and never sent. `LateInbox` stands
between the sockets and the ledger: what is delayed is accounted for later, with the time at which it really arrived.
Both are delay lines, not brakes, and keep the order: of each publisher's messages, and of each subscription's deliveries.
Memory: at most HELD_COUNT messages are held by each; beyond it they go on at once, since a client's memory has an end.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from floodmark.faults.failure import Failing
from floodmark.faults.latency import Delays

HELD_COUNT = 200_000
Frame = tuple[int, bytes, int]
Ints = npt.NDArray[np.int64]


class Paced(Protocol):
    """What the publisher asks of a schedule; `load.pacing.Pacer` has the words."""

    @property
    def exhausted(self) -> bool:
        """Whether nothing will ever be due again."""

    def next_due_ns(self) -> int | None:
        """The offset at which to ask again."""

    def take(self, elapsed_ns: int, limit: int) -> tuple[Ints, Ints]:
        """Sources and intended offsets of what is due."""


class Standing:
    """The faults in place now, by the operation that they are about. The lists are the very ones that everybody looks into."""

    def __init__(self) -> None:
        self.delays: dict[str, list[Delays]] = {"publish": [], "subscribe": [], "receive": []}
        self.failing: dict[str, list[Failing]] = {"publish": [], "subscribe": []}


class Withheld:
    """A schedule out of which the faults in place hold messages back or take them away.

    Args:
        pacer: the schedule.
        standing: the faults in place, which come and go while the schedule runs.
        drop: told the source of each message that a fault fails.
    """

    def __init__(self, pacer: Paced, *, standing: Standing, drop: Callable[[int], None]) -> None:
        self._pacer = pacer
        self._delays = standing.delays["publish"]
        self._failing = standing.failing["publish"]
        self._drop = drop
        self._held: list[tuple[int, int, int]] = []  # (due offset, number, source)
        self._number = 0
        self._last_ns: dict[int, int] = {}

    @property
    def exhausted(self) -> bool:
        """Whether nothing will ever be due again."""
        return self._pacer.exhausted and not self._held

    def next_due_ns(self) -> int | None:
        """The offset of the next message, scheduled or held, whichever comes first."""
        scheduled_ns = self._pacer.next_due_ns()
        if not self._held:
            return scheduled_ns
        return self._held[0][0] if scheduled_ns is None else min(scheduled_ns, self._held[0][0])

    def take(self, elapsed_ns: int, limit: int) -> tuple[Ints, Ints]:
        """Hand out what is due: scheduled messages that no fault touches, and held ones whose time has come."""
        delays, failing = self._delays, self._failing
        if not delays and not failing and not self._held:
            return self._pacer.take(elapsed_ns, limit)
        room = min(limit, HELD_COUNT - len(self._held))
        sources, offsets_ns = self._pacer.take(elapsed_ns, room)
        for source, offset_ns in zip(sources.tolist(), offsets_ns.tolist(), strict=True):
            # Every fault is asked, so that each counts the same operations whichever others are in place.
            if sum(fault.fails(source) for fault in failing):
                self._drop(source)
                continue
            due_ns = offset_ns + sum(fault.draw_ns() for fault in delays)
            self._last_ns[source] = due_ns = max(due_ns, self._last_ns.get(source, 0))
            heapq.heappush(self._held, (due_ns, self._number, source))
            self._number += 1
        taken: list[tuple[int, int]] = []
        while self._held and self._held[0][0] <= elapsed_ns and len(taken) < limit:
            due_ns, _, source = heapq.heappop(self._held)
            taken.append((source, due_ns))
        if not self._held:
            self._last_ns.clear()
        pairs = np.array(taken, np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]


class LateInbox:
    """Holds deliveries back on their way to the ledger. `put` goes on at once while no fault is in place and nothing is held."""

    def __init__(self, put: Callable[[Frame], None], standing: Standing) -> None:
        self._put = put
        self._delays = standing.delays["receive"]
        self._held: list[tuple[int, int, Frame]] = []
        self._number = 0
        self._last_ns: dict[int, int] = {}

    @property
    def holding(self) -> bool:
        """Whether a delivery may be held, now or a moment later."""
        return bool(self._held or self._delays)

    def put(self, frame: Frame) -> None:
        """HOT: take one delivery."""
        delays = self._delays
        if (not delays and not self._held) or len(self._held) >= HELD_COUNT:
            if self._held:
                self.release_all()
            self._put(frame)
            return
        slot, _, received_ns = frame
        due_ns = max(received_ns + sum(fault.draw_ns() for fault in delays), self._last_ns.get(slot, 0))
        self._last_ns[slot] = due_ns
        heapq.heappush(self._held, (due_ns, self._number, frame))
        self._number += 1

    def release(self) -> None:
        """Hand on what is due now."""
        if self._held:
            self._release_until(time.monotonic_ns())

    def release_all(self) -> None:
        """Hand on everything, in order: the fault is healed, or somebody needs to know what has arrived."""
        self._release_until(None)

    def _release_until(self, now_ns: int | None) -> None:
        while self._held and (now_ns is None or self._held[0][0] <= now_ns):
            self._put(heapq.heappop(self._held)[2])
        if not self._held:
            self._last_ns.clear()
