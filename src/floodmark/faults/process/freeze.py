"""Stop a whole tree so that none of it runs, forks or ends by itself, and let it go again whatever happens.

A stop takes a moment to arrive, and a process may fork in that moment: the tree is looked at again until a look finds nobody new, and every
thread rests. This is what makes a fault on many processes one fault. A process that was stopped by somebody else stays stopped.
Cancelled or failing half-way, everything that was stopped by us goes on; one that does not let us is an error, since it would stand still
to the end of the run by our doing.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from floodmark.core.errors import SystemUnderTestError
from floodmark.faults.process import procfs
from floodmark.faults.process.tree import ForeignProcessError, Process, Tree

STOP_LIMIT_S = 2.0
POLL_S = 0.0005


class WillNotStopError(SystemUnderTestError):
    """A tree kept running, or kept growing, while it was being stopped."""

    def __init__(self, pid: int, limit_s: float) -> None:
        super().__init__(pid, limit_s)
        self.pid, self.limit_s = pid, limit_s

    def __str__(self) -> str:
        return f"process {self.pid} and its descendants did not stand still within {self.limit_s:g} s; the machine may be overloaded"


class Frozen:
    """A tree at rest. `processes` are all of it, parents first; also those that somebody else had stopped."""

    def __init__(self) -> None:
        self.processes: list[Process] = []
        self._ours: dict[Process, None] = {}

    def stop(self, process: Process) -> None:
        """Stop one more; its release is certain from here on."""
        self.processes.append(process)
        look = process.look()
        if look is not None and not look.stopped:
            self._ours[process] = None
            process.send(signal.SIGSTOP)

    def held(self) -> list[Process]:
        """Those that are stopped by us and alive."""
        return [process for process in self._ours if process.alive]

    def release(self, processes: Iterable[Process]) -> list[Process]:
        """Let these go on, if they were stopped by us; returns those that are still there. Never awaits.

        Raises: ForeignProcessError when one of them stays stopped, once all others go on.
        """
        ours = [process for process in processes if process in self._ours]
        for process in ours:
            del self._ours[process]
        went: list[Process] = []
        stuck: ForeignProcessError | None = None
        for process in reversed(ours):  # children first: a parent that wakes finds them running
            try:
                if process.send(signal.SIGCONT):
                    went.append(process)
            except ForeignProcessError as exc:  # it changed its user since: the others must still go on
                if (look := process.look()) is not None and look.stopped:
                    stuck = exc
        if stuck is not None:
            raise stuck
        return went[::-1]

    def release_all(self) -> list[Process]:
        """Let everyone go on."""
        return self.release(list(self._ours))


@asynccontextmanager
async def frozen(tree: Tree) -> AsyncIterator[Frozen]:
    """Hold the tree still for the block.

    Raises: WillNotStopError; ForeignProcessError.
    """
    still = Frozen()
    until_s = time.monotonic() + STOP_LIMIT_S
    try:
        while new := [process for process in tree.processes() if process not in set(still.processes)]:
            for process in new:
                still.stop(process)
            while not all(_rests(process) for process in new):
                if time.monotonic() > until_s:
                    raise WillNotStopError(tree.root.pid, STOP_LIMIT_S)
                await asyncio.sleep(POLL_S)
        yield still
    finally:
        # INVARIANT: nothing here awaits, so no cancellation can leave a process stopped.
        still.release_all()


def _rests(process: Process) -> bool:
    return process.look() is None or procfs.at_rest(process.pid)
