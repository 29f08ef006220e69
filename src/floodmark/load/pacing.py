"""Give one agent its share of a schedule: which source sends next, and when it was meant to.

Message i of a phase belongs to the source whose turn it is (`turns.py`), so every agent finds its own messages by arithmetic: nothing is
exchanged, and the agents together send exactly the schedule. Pure: the caller says how much of the phase has passed, sends, and records
lag = sent - intended for each message. A late caller gets the messages it missed with their old intended times, never skipped ones
(no coordinated omission). Memory: one round of turns and one batch.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from floodmark.core.errors import HarnessBugError
from floodmark.load.arrivals.schedule import NS_PER_S, Offsets, Schedule, exact

_SPAN_COUNT = 65_536  # offsets computed at once when only a few of them are ours


class Pacer:
    """Walks the messages of some sources in the order of their intended times.

    Args:
        schedule: of the whole phase, all sources together.
        turns: (n,) the round of sources over all agents, which the schedule repeats.
        owned: (k,) ascending source numbers of this agent.
        messages: the phase has this many messages, over all agents; None for no limit.
        duration_s: messages intended at or after this offset do not exist; None for no limit.
    """

    def __init__(
        self,
        schedule: Schedule,
        *,
        turns: npt.NDArray[np.int64],
        owned: npt.NDArray[np.int64],
        messages: int | None,
        duration_s: float | None,
    ) -> None:
        owned = np.asarray(owned, dtype=np.int64)
        if len(owned) and ((np.diff(owned) <= 0).any() or not np.isin(owned, turns).all()):
            raise HarnessBugError(f"owned sources must ascend and have turns, got {owned[:5].tolist()} ..")
        self._places = np.flatnonzero(np.isin(turns, owned))  # of the round, whose turns are ours
        self._schedule, self._turns, self._messages = schedule, turns, messages
        self._end_ns = None if duration_s is None else math.ceil(exact(duration_s) * NS_PER_S)
        self._taken = 0
        self._next_ns = self._look_ahead()

    @property
    def taken(self) -> int:
        """Messages handed out so far."""
        return self._taken

    @property
    def exhausted(self) -> bool:
        """Whether nothing will ever be due again."""
        return self._next_ns is None

    def next_due_ns(self) -> int | None:
        """Return the intended offset of the next message, in the past if it is overdue; None when exhausted."""
        return self._next_ns

    def take(self, elapsed_ns: int, limit: int) -> tuple[npt.NDArray[np.int64], Offsets]:
        """Hand out the next due messages, each once.

        Args:
            elapsed_ns: since the start of the phase.
            limit: at most this many; the rest stay due.
        Returns: sources and intended offsets, (n,) int64 both, in the order of the schedule; n < limit means nothing more is due.
        """
        if self._next_ns is None or self._next_ns > elapsed_ns:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        due = self._owned_below(self._due(elapsed_ns))
        count = max(0, min(due - self._taken, limit))
        index = self._index(self._taken, self._taken + count + 1)  # HOT: one more than wanted, to know the next without asking again
        offsets_ns = self._offsets(index)
        self._taken += count
        self._next_ns = self._existing(int(index[count]), int(offsets_ns[count]))
        return self._turns[index[:count] % len(self._turns)], offsets_ns[:count]

    def _due(self, elapsed_ns: int) -> int:
        """Count the due messages of the whole phase."""
        last_ns = elapsed_ns if self._end_ns is None else min(elapsed_ns, self._end_ns - 1)
        due = self._schedule.due(last_ns)
        return due if self._messages is None else min(due, self._messages)

    def _owned_below(self, count: int) -> int:
        """Count the owned messages among the first `count`."""
        rounds, rest = divmod(count, len(self._turns))
        return rounds * len(self._places) + int(np.searchsorted(self._places, rest))

    def _index(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Number our own messages `start` .. `stop` - 1 in the whole phase."""
        rounds, place = np.divmod(np.arange(start, stop, dtype=np.int64), len(self._places))
        index: npt.NDArray[np.int64] = rounds * len(self._turns) + self._places[place]
        return index

    def _offsets(self, index: npt.NDArray[np.int64]) -> Offsets:
        """Look up intended offsets in bounded pieces: an agent that owns one source in 10,000 must not compute all the others at once."""
        parts: list[Offsets] = []
        at = 0
        while at < len(index):
            first = int(index[at])
            end = int(np.searchsorted(index, first + _SPAN_COUNT))
            parts.append(self._schedule.times_ns(first, int(index[end - 1]) + 1)[index[at:end] - first])
            at = end
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts)

    def _look_ahead(self) -> int | None:
        if not len(self._places):
            return None
        index = int(self._index(self._taken, self._taken + 1)[0])
        return self._existing(index, int(self._schedule.times_ns(index, index + 1)[0]))

    def _existing(self, index: int, offset_ns: int) -> int | None:
        """Return the offset of a message, or None when the phase ends before it."""
        if self._messages is not None and index >= self._messages:
            return None
        return None if self._end_ns is not None and offset_ns >= self._end_ns else offset_ns
