"""Remember, for one account, which sequences below the next expected one did not arrive intact, in bounded memory.

A hole is a range of sequences that are MISSING, or DAMAGED: one whose message came but with a broken checksum. Holes open at the top (a
sequence was jumped over) and are filled anywhere (a late message). When there are more ranges than the limit, the lowest one is written
off: it is counted, its place is forgotten, and the account is inexact below `floor_seq` from then on.
"""

from __future__ import annotations

from bisect import bisect_right

SAMPLE_COUNT = 8
MISSING, DAMAGED = 0, 1  # kinds of holes
DUPLICATED, REORDERED, CORRUPTED = range(3)  # kinds of tallies


class Tally:
    """How often one kind of anomaly was seen, its lowest and highest sequence, and the first few."""

    __slots__ = ("count", "high", "low", "sample")

    def __init__(self, count: int = 0, low: int = -1, high: int = -1, sample: list[int] | None = None) -> None:
        self.count, self.low, self.high, self.sample = count, low, high, sample or []

    def add(self, seq: int) -> None:
        """Count one; a sequence of -1 (the stamp could not be read) does not bound anything."""
        self.count += 1
        if seq >= 0:
            self.low = seq if self.low < 0 else min(self.low, seq)
            self.high = max(self.high, seq)
        if len(self.sample) < SAMPLE_COUNT:
            self.sample.append(seq)

    def wire(self) -> tuple[int, int, int, list[int]]:
        """Give the arguments that make the same tally again."""
        return self.count, self.low, self.high, self.sample


NOTHING = Tally()  # read where no tally was begun; never added to


class Holes:
    """The anomalies of one account: its holes, oldest first, and what was seen twice, late or damaged."""

    __slots__ = ("damaged_written_off", "ends", "floor_seq", "kinds", "missing_written_off", "starts", "tallies")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.kinds: list[int] = []
        self.floor_seq = self.missing_written_off = self.damaged_written_off = 0
        self.tallies: dict[int, Tally] = {}  # begun when needed: most accounts with holes are late joiners and never need one

    def add(self, kind: int, seq: int) -> None:
        """Count one duplicated, reordered or corrupted message."""
        tally = self.tallies.get(kind)
        if tally is None:
            tally = self.tallies[kind] = Tally()
        tally.add(seq)

    def tally(self, kind: int) -> Tally:
        """Give what was counted of a kind, to read."""
        return self.tallies.get(kind, NOTHING)

    def open(self, start: int, end: int, kind: int, limit: int) -> None:
        """Open [start, end) above every other hole; beyond `limit` ranges the lowest are written off."""
        if self.ends and self.ends[-1] == start and self.kinds[-1] == kind:
            self.ends[-1] = end
            return
        self.starts.append(start)
        self.ends.append(end)
        self.kinds.append(kind)
        self._bound(limit)

    def fill(self, seq: int, limit: int) -> int | None:
        """Close the hole at `seq`; give what kind it was, None when there is none (it was delivered before)."""
        i = bisect_right(self.starts, seq) - 1
        if i < 0 or seq >= self.ends[i]:
            # Below the floor nobody knows which one this is: as long as some there are written off as missing, call it late, not twice.
            if seq < self.floor_seq and self.missing_written_off:
                self.missing_written_off -= 1
                return MISSING
            return None
        start, end, kind = self.starts[i], self.ends[i], self.kinds[i]
        if end - start == 1:
            del self.starts[i], self.ends[i], self.kinds[i]
        elif seq == start:
            self.starts[i] = seq + 1
        elif seq == end - 1:
            self.ends[i] = seq
        else:
            self.ends[i] = seq
            self._insert(i + 1, seq + 1, end, kind)
            self._bound(limit)
        return kind

    def only_damaged(self, start: int, end: int) -> bool:
        """Whether nothing intact came for [start, end), `end` being the top; true of an empty range."""
        for i in range(len(self.starts) - 1, -1, -1):
            if start >= end or self.kinds[i] != DAMAGED or self.ends[i] != end:
                break
            end = self.starts[i]
        return start >= end

    def damage(self, seq: int, limit: int) -> bool:
        """Turn a missing sequence into a damaged one; False when it is not missing."""
        i = bisect_right(self.starts, seq) - 1
        if i < 0 or seq >= self.ends[i] or self.kinds[i] != MISSING:
            return False
        self.fill(seq, limit + 2)  # the bound is restored below
        i = bisect_right(self.starts, seq)
        self._insert(i, seq, seq + 1, DAMAGED)
        self._bound(limit)
        return True

    def _insert(self, i: int, start: int, end: int, kind: int) -> None:
        self.starts.insert(i, start)
        self.ends.insert(i, end)
        self.kinds.insert(i, kind)

    def _bound(self, limit: int) -> None:
        while len(self.starts) > limit:
            start, end, kind = self.starts.pop(0), self.ends.pop(0), self.kinds.pop(0)
            self.floor_seq = end
            if kind == MISSING:
                self.missing_written_off += end - start
            else:
                self.damaged_written_off += end - start
