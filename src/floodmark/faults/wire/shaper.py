"""The decisions a fault makes about what travels in one lane of one connection. Pure: the stage holds the bytes and the clock.

For each item that arrives the stage asks, in this order: when may it leave at the earliest (`admit`); once it is at the head, how much of
it leaves as one piece (`cut`) and when (`book`); and what becomes of the piece (`touch`). All four pass everything unchanged until a
fault overrides one. A shaper that was healed is asked nothing any more.
"""

from __future__ import annotations

import enum

KIB = 1024
MIB = 1024 * KIB
BLOCK_BYTES = 256 * KIB  # what one read of the proxy can give


class End(enum.Enum):
    """What can follow the bytes of a lane."""

    FIN = "fin"  # the sender has nothing more to say; the other direction goes on
    RST = "rst"  # the sender broke the connection
    CLOSE = "close"  # our own: deliver what came before, then close both sides


Chunk = bytes | memoryview  # a memoryview is all or most of a block that nobody else writes to
Item = Chunk | End


class Shaper:
    """Passes everything at once and unchanged; the base of every lane fault."""

    #: what the stage may hold before it makes the sender wait
    capacity_bytes: int = 256 * KIB

    def admit(self, item: Item, now_s: float) -> float:
        """Give the earliest time at which an item that arrives now may leave; infinity holds it until the fault is removed."""
        return now_s

    def cut(self, size_bytes: int) -> int:
        """Give how many of the head's bytes leave as one piece, 1 or more."""
        return size_bytes

    def book(self, size_bytes: int, from_s: float) -> float:
        """Give when a piece leaves that could leave at `from_s`; asked once per piece."""
        return from_s

    def touch(self, piece: Chunk) -> tuple[Chunk, End | None]:
        """Give what goes on instead of the piece, and whether the lane ends there."""
        return piece, None
