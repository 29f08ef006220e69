"""What the proxy did to whom: a bounded journal of events, and a tally per fault, connection and direction.

What happens once is written at once (a reset, a flipped bit with its offset). What happens to every chunk is counted, and written as one
entry when the connection ends or the fault is removed. The journal keeps the newest entries; how many it forgot is told, so that a
full one is not taken for the whole story. No clock of its own: times come from the caller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import msgspec

ENTRIES_MAX = 10_000
OFFSETS_MAX = 256


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened, `at_s` seconds after the proxy started.

    `fault` is the number of the fault that did it, 0 when none did. `first_offset_bytes` and `offsets` count from 0 in what the receiver
    of that direction would have got; `bits` are the bits that were flipped at these offsets, 0 the lowest.
    """

    at_s: float
    action: str
    fault: int = 0
    kind: str = ""
    connection: int = 0
    direction: str = ""
    hits: int = 0
    size_bytes: int = 0
    first_offset_bytes: int = 0
    offsets: tuple[int, ...] = ()
    bits: tuple[int, ...] = ()
    note: str = ""


class Journal:
    """The newest entries, oldest first."""

    def __init__(self, clock: Callable[[], float], *, entries_max: int = ENTRIES_MAX) -> None:
        self._clock = clock
        self._entries: deque[Entry] = deque(maxlen=entries_max)
        self.forgotten_count = 0

    def write(
        self,
        action: str,
        *,
        fault: int = 0,
        kind: str = "",
        connection: int = 0,
        direction: str = "",
        hits: int = 0,
        size_bytes: int = 0,
        first_offset_bytes: int = 0,
        offsets: tuple[int, ...] = (),
        bits: tuple[int, ...] = (),
        note: str = "",
    ) -> None:
        """Add an entry; a full journal forgets its oldest."""
        self.forgotten_count += len(self._entries) == self._entries.maxlen
        self._entries.append(
            Entry(
                at_s=self._clock(),
                action=action,
                fault=fault,
                kind=kind,
                connection=connection,
                direction=direction,
                hits=hits,
                size_bytes=size_bytes,
                first_offset_bytes=first_offset_bytes,
                offsets=offsets,
                bits=bits,
                note=note,
            )
        )

    def entries(self) -> tuple[Entry, ...]:
        """Give what is remembered."""
        return tuple(self._entries)


class Totals:
    """What one fault did to all connections together."""

    def __init__(self, number: int, kind: str) -> None:
        self.number = number
        self.kind = kind
        self.hits = 0
        self.size_bytes = 0


class Tally:
    """What one fault did to one connection (in one direction), also added to the fault's totals."""

    __slots__ = ("_journal", "_totals", "base_bytes", "connection", "direction", "hits", "size_bytes")

    def __init__(self, journal: Journal, totals: Totals, *, connection: int, direction: str = "", base_bytes: int = 0) -> None:
        self._journal = journal
        self._totals = totals
        self.connection = connection
        self.direction = direction
        self.base_bytes = base_bytes  # what the receiver had got when the fault reached this lane
        self.hits = 0
        self.size_bytes = 0

    def hit(self, size_bytes: int) -> None:
        """Count one piece that was touched."""
        self.hits += 1
        self.size_bytes += size_bytes
        self._totals.hits += 1
        self._totals.size_bytes += size_bytes

    def flipped(self, offsets: Sequence[int], bits: Sequence[int]) -> None:
        """Count and write down flipped bits by their offsets since the fault was added."""
        count = len(offsets)
        self.hits += count
        self.size_bytes += count
        self._totals.hits += count
        self._totals.size_bytes += count
        for start in range(0, count, OFFSETS_MAX):
            where = tuple(self.base_bytes + offset for offset in offsets[start : start + OFFSETS_MAX])
            self.write("flipped", hits=len(where), size_bytes=len(where), offsets=where, bits=tuple(bits[start : start + OFFSETS_MAX]))

    def write(self, action: str, *, hits: int = 0, size_bytes: int = 0, offsets: tuple[int, ...] = (), bits: tuple[int, ...] = ()) -> None:
        """Write an entry in the name of this fault, connection and direction."""
        self._journal.write(
            action,
            fault=self._totals.number,
            kind=self._totals.kind,
            connection=self.connection,
            direction=self.direction,
            hits=hits,
            size_bytes=size_bytes,
            first_offset_bytes=self.base_bytes,
            offsets=offsets,
            bits=bits,
        )

    def close(self) -> None:
        """Write the sum; a fault that touched nothing says so with 0 hits."""
        self.write("touched", hits=self.hits, size_bytes=self.size_bytes)
