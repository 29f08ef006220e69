"""What was done to which processes, and when it was put right: a bounded journal, newest entries kept.

`applied` and `healed` of one fault carry the same number. A fault that touched nothing is written too, with 0 hits and the reason.
No clock of its own: times come from the caller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from floodmark.faults.process.tree import Process

ENTRIES_MAX = 10_000
PIDS_MAX = 256


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was done at `at_s` by the caller's clock.

    `hits` is how many it was done to, `pids` the first PIDS_MAX of them; `values` are what each was given, where it was given a figure.
    """

    at_s: float
    action: str
    number: int
    kind: str
    occasion: int = 0
    hits: int = 0
    pids: tuple[int, ...] = ()
    values: tuple[int, ...] = ()
    note: str = ""


class Journal:
    """The newest entries, oldest first."""

    def __init__(self, clock: Callable[[], float], *, entries_max: int = ENTRIES_MAX) -> None:
        self._clock = clock
        self._entries: deque[Entry] = deque(maxlen=entries_max)
        self._acts = 0
        self.forgotten_count = 0

    def act(self, kind: str, occasion: int) -> Act:
        """Begin a fault: what it writes has one number."""
        self._acts += 1
        return Act(self, self._acts, kind, occasion)

    def write(self, entry: Entry) -> None:
        """Add an entry; a full journal forgets its oldest."""
        self.forgotten_count += len(self._entries) == self._entries.maxlen
        self._entries.append(entry)

    def now_s(self) -> float:
        """The caller's clock."""
        return self._clock()

    def entries(self) -> tuple[Entry, ...]:
        """Give what is remembered."""
        return tuple(self._entries)


class Act:
    """One fault on one occasion, writing its part of the journal."""

    def __init__(self, journal: Journal, number: int, kind: str, occasion: int) -> None:
        self._journal = journal
        self.number = number
        self.kind = kind
        self.occasion = occasion

    def applied(self, processes: Sequence[Process], *, values: Sequence[int] = (), note: str = "") -> Entry:
        """Write down who was hit."""
        return self._write("applied", processes, values, note)

    def nothing(self, why: str) -> Entry:
        """Write down that nobody was hit, and why."""
        return self._write("applied", (), (), why)

    def healed(self, processes: Sequence[Process], *, note: str = "") -> Entry:
        """Write down who was put right."""
        return self._write("healed", processes, (), note)

    def _write(self, action: str, processes: Sequence[Process], values: Sequence[int], note: str) -> Entry:
        entry = Entry(
            at_s=self._journal.now_s(),
            action=action,
            number=self.number,
            kind=self.kind,
            occasion=self.occasion,
            hits=len(processes),
            pids=tuple(process.pid for process in processes[:PIDS_MAX]),
            values=tuple(values[:PIDS_MAX]),
            note=note,
        )
        self._journal.write(entry)
        return entry
