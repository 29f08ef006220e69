"""The processes that a fault may touch: the one that the runner started, and what came out of it. Nobody else, ever.

A process is a PID with its start time. Signals go through a pidfd that is opened first and compared with the start time after, so that they
reach that very process or none. The tree: the root, its descendants, the members of the session that the root leads (orphans, too, are in
it), and whoever was in the tree at an earlier look and is still the same process.
Limits: Linux 5.3 for pidfds; an orphan in a session of its own that was never looked at before is not found.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from floodmark.core.errors import SystemUnderTestError, UsageError
from floodmark.faults.process import procfs


class ForeignProcessError(SystemUnderTestError):
    """A process of the tree does not take orders from us: it runs as another user, or is closed to its own."""

    def __init__(self, pid: int, what: str) -> None:
        super().__init__(pid, what)
        self.pid, self.what = pid, what

    def __str__(self) -> str:
        return f"process {self.pid} of the target does not let us {self.what}; run floodmark as the user that this process runs as"


@dataclass(frozen=True, slots=True, order=True)
class Process:
    """One process for good: the start time tells it from a later one with the same PID. Ordered by age."""

    started_ticks: int
    pid: int

    def look(self) -> procfs.Stat | None:
        """Look at it; None when it is gone, whoever has its PID now."""
        look = procfs.stat(self.pid)
        return look if look is not None and look.started_ticks == self.started_ticks else None

    @property
    def alive(self) -> bool:
        """Not gone and not a zombie."""
        look = self.look()
        return look is not None and not look.ended

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; False when the process has ended. Raises: ForeignProcessError."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            # INVARIANT: compared after opening. A process that has this start time now had this PID when the handle was opened.
            if not self.alive:
                return False
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        except PermissionError as exc:
            raise ForeignProcessError(self.pid, f"send it {number.name}") from exc
        finally:
            os.close(handle)
        return True


class Tree:
    """The tree below a process that the caller has started.

    Raises: UsageError for a PID that can be nobody's target: this process, what it came from, or the first process of the machine.
    """

    def __init__(self, pid: int, started_ticks: int) -> None:
        if pid <= 1 or pid in _line_of(os.getpid()):
            raise UsageError(f"process {pid} cannot be the target of a process fault: floodmark itself hangs on it")
        self.root = Process(started_ticks, pid)
        self._known: set[Process] = {self.root}
        self._held: set[str] = set()

    @classmethod
    def of(cls, pid: int) -> Tree:
        """Take the start time as it is now: safe only for a child that was not waited for yet. Raises: UsageError when there is none."""
        look = procfs.stat(pid)
        if look is None:
            raise UsageError(f"there is no process {pid} to put a fault on; start it first")
        return cls(pid, look.started_ticks)

    def processes(self) -> list[Process]:
        """Look for everyone alive in it, parents before their children."""
        looks = procfs.everyone()
        below: dict[int, list[procfs.Stat]] = {}
        for look in looks.values():
            below.setdefault(look.parent, []).append(look)
        waiting = [known for process in sorted(self._known) if (known := _same(process, looks)) is not None]
        root = _same(self.root, looks)
        if root is not None and root.session == root.pid:
            waiting.extend(sorted((look for look in looks.values() if look.session == root.pid), key=lambda look: look.started_ticks))
        found: dict[Process, procfs.Stat] = {}
        for look in waiting:  # grows while it is walked
            process = Process(look.started_ticks, look.pid)
            if process not in found:
                found[process] = look
                waiting.extend(below.get(look.pid, ()))
        if any(process.pid == os.getpid() for process in found):
            raise UsageError(f"process {self.root.pid} cannot be the target of a process fault: floodmark itself hangs on it")
        self._known = set(found) | {self.root}
        return [process for process, look in found.items() if not look.ended]

    @contextmanager
    def claimed(self, what: str) -> Iterator[None]:
        """Keep others from doing the same to it meanwhile: two that overlap could not both put back what they found."""
        if what in self._held:
            raise UsageError(f"the target's {what} is still held by an earlier fault; let every_s be longer than for_s")
        self._held.add(what)
        try:
            yield
        finally:
            self._held.discard(what)


def _same(process: Process, looks: dict[int, procfs.Stat]) -> procfs.Stat | None:
    look = looks.get(process.pid)
    return look if look is not None and look.started_ticks == process.started_ticks else None


def _line_of(pid: int) -> set[int]:
    """This process and its ancestors."""
    line: set[int] = set()
    while pid > 0 and pid not in line:
        line.add(pid)
        look = procfs.stat(pid)
        pid = 0 if look is None else look.parent
    return line
