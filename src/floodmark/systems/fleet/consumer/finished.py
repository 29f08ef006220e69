"""Which messages are finished, by their sequence in the stream: one whose acknowledgement did not reach the server comes again.

Memory: 8 bytes for each of the last so many; what is older than that, and comes again, is handled again (at least once).
"""

from __future__ import annotations

from array import array


class Finished:
    """The last `count` sequences that were finished.

    >>> finished = Finished(2)
    >>> for sequence in (5, 7, 9): finished.note(sequence)
    >>> 5 in finished, 7 in finished, 9 in finished
    (False, True, True)
    """

    __slots__ = ("_at", "_count", "_ring", "_top")

    def __init__(self, count: int) -> None:
        self._ring = array("Q")
        self._count = count
        self._at = 0
        self._top = 0

    def note(self, sequence: int) -> None:  # HOT: once per message
        """Remember this one."""
        if len(self._ring) < self._count:
            self._ring.append(sequence)
        else:
            self._ring[self._at] = sequence
        self._at = (self._at + 1) % self._count
        if sequence > self._top:
            self._top = sequence

    def __contains__(self, sequence: int) -> bool:  # HOT: what is new lies above everything that is finished, and is not looked for
        return sequence <= self._top and sequence in self._ring
