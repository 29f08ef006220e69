"""What was offered to a channel and not taken on yet, and who waits to hear of it.

Bounded: an offer beyond the limit is kept, but whoever made it is held up, which reaches the feeder as the back-pressure of his socket.
INVARIANT: a ticket is answered once, when the last of its records was taken.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol


class Feeder(Protocol):
    """A connection that offers."""

    def taken(self, token: int) -> None:
        """All records of an offer were taken on."""

    def hold(self) -> None:
        """Read no more from it, until `let` was called as often."""

    def let(self) -> None:
        """See `hold`."""


class Ticket:
    """One offer, whose records may be for several channels."""

    __slots__ = ("_feeder", "_left_count", "_token")

    def __init__(self, feeder: Feeder, token: int, count: int) -> None:
        self._feeder = feeder
        self._token = token
        self._left_count = count

    def take(self, count: int) -> None:
        """So many of its records were taken on."""
        self._left_count -= count
        if self._left_count == 0:
            self._feeder.taken(self._token)


class Intake:
    """First in, first out."""

    def __init__(self, limit_count: int) -> None:
        self.offered_count = 0
        self.is_closed = False
        self._limit_count = limit_count
        self._payloads: deque[bytes] = deque()
        self._tickets: deque[tuple[Ticket, int]] = deque()
        self._held: list[Feeder] = []
        self._wanted_count = 0
        self._enough = asyncio.Event()

    def __len__(self) -> int:
        return len(self._payloads)

    def put(self, payloads: list[bytes], ticket: Ticket, feeder: Feeder) -> None:
        """Take an offer in."""
        # HOT: once per offer and channel.
        count = len(payloads)
        self.offered_count += count
        if self.is_closed:  # nobody drains it any more
            ticket.take(count)
            return
        self._payloads.extend(payloads)
        self._tickets.append((ticket, count))
        if len(self._payloads) >= self._wanted_count:
            self._enough.set()
        if len(self._payloads) >= self._limit_count and feeder not in self._held:
            self._held.append(feeder)
            feeder.hold()

    async def wait(self, count: int) -> None:
        """Wait until there are so many. One waiter at a time; `count` must be within the limit."""
        while len(self._payloads) < count:
            self._wanted_count = count
            self._enough.clear()
            await self._enough.wait()

    def take(self, count: int) -> tuple[list[bytes], list[tuple[Ticket, int]]]:
        """The next records, and the tickets to `answer` once they are safe."""
        pop = self._payloads.popleft
        payloads = [pop() for _ in range(min(count, len(self._payloads)))]
        left_count, tickets = len(payloads), []
        while left_count:
            ticket, ticket_count = self._tickets.popleft()
            if ticket_count > left_count:
                self._tickets.appendleft((ticket, ticket_count - left_count))
                ticket_count = left_count
            tickets.append((ticket, ticket_count))
            left_count -= ticket_count
        if self._held and len(self._payloads) < self._limit_count:
            held, self._held = self._held, []
            for feeder in held:
                feeder.let()
        return payloads, tickets

    def close(self) -> None:
        """Nobody drains this any more: what is here and what still comes is taken on and dropped."""
        self.is_closed = True
        answer(self.take(len(self._payloads))[1])


def answer(tickets: list[tuple[Ticket, int]]) -> None:
    """Say of records that they were taken on."""
    for ticket, count in tickets:
        ticket.take(count)
