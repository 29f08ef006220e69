"""Says the words of a script to a fleet's host: those at 0 before the load, the others at their times from its beginning.

One agent of a run says them, whichever is first; the others wait until the fleet stands. A word that cannot be done is a note in the
record, not an exception: it becomes the figure `words_failed`. So is whatever ends the script early. Its connection is its own and is
opened again when it is lost, since a script may take the server away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from floodmark.core.errors import SystemUnderTestError
from floodmark.drivers.base import RefusedError
from floodmark.drivers.fleet_desk import CONTROL, Desk, open_desk, show_played
from floodmark.drivers.fleet_notes import (
    ASSIGNMENT,
    ENDED_MARK,
    FAILED_MARK,
    LATE_MARK,
    LOAD_MARK,
    MEMORY_MARK,
    SAID_MARK,
    SOURCE_MARK,
    Note,
)
from floodmark.drivers.fleet_owners import Board
from floodmark.drivers.fleet_script import OPPOSITES, SAME, Line
from floodmark.drivers.nats_address import Address

CLAIM, READY = "claim", "ready"
WORD_LIMIT_S = 60.0
AGAIN_LIMIT_S = 20.0
LATE_S = 0.05
ENDED = ("Shutdown", "Killed")
_POLL_S = 0.05


class Play:
    """One script of one run."""

    def __init__(self, address: Address, lines: Sequence[Line], *, partitions_count: int, rest_s: float = 0.0) -> None:
        self._address = address
        self._before = [line for line in lines if line.at_s == 0]
        self._timed = [line for line in lines if line.at_s > 0]
        self._partitions_count = partitions_count
        self._rest_s = rest_s
        self._struck: dict[str, int] = {}
        self._source = Source(partitions_count)
        self._desk: Desk | None = None

    async def set_up(self, run: str, *, limit_s: float) -> None:
        """Make the record, say the words at 0, and wait until the fleet stands; whoever comes second only waits.

        A fleet that does not stand in time is a result, not an error: the load begins all the same. Raises: RefusedError.
        """
        deadline_s = time.monotonic() + limit_s
        desk = self._desk = await open_desk(self._address, limit_s=limit_s)
        show_played(desk, run)
        await desk.make_record(run)
        if not await desk.note(CLAIM, first=True):
            while not await desk.noted(READY):
                if time.monotonic() > deadline_s:
                    raise RefusedError(self._address.shown, f"has a fleet that another agent did not get ready within {limit_s:g} s")
                await asyncio.sleep(_POLL_S)
            return
        for line in self._before:
            await self._say(line)
        workers_count = sum(int(line.arguments.get("count", 1)) for line in self._before if line.word == "start")
        if workers_count:
            standing = Standing(workers_count, self._partitions_count, rest_s=self._rest_s)
            await desk.follow_notes(standing.take, standing.reached, limit_s=max(1.0, deadline_s - time.monotonic()))
        await desk.note(READY)

    async def play(self, start_ns: int) -> None:
        """Say the rest, unless another agent does; `start_ns` is when the load began, by the monotonic clock."""
        try:
            await self._play(start_ns)
        except Exception as exc:  # whatever it is: nobody awaits this, and a script that ended early must not pass for one that was played
            why = str(exc) if isinstance(exc, SystemUnderTestError) else f"{type(exc).__name__}: {exc}"
            with suppress(SystemUnderTestError):  # a server that stays away: what was not said is counted
                await self._note(ENDED_MARK, {"error": why})

    async def _play(self, start_ns: int) -> None:
        desk = await self._at_desk()
        if not await desk.note(LOAD_MARK, first=True):
            return
        for line in self._timed:
            due_s = line.at_s - (time.monotonic_ns() - start_ns) / 1e9
            if due_s > 0:
                await asyncio.sleep(due_s)
            late_s = (time.monotonic_ns() - start_ns) / 1e9 - line.at_s
            await self._say(line)
            if late_s > LATE_S:
                await self._note(LATE_MARK, {"word": str(line), "late_s": late_s})

    def close(self) -> None:
        """Drop its connection."""
        if self._desk is not None:
            self._desk.abort()
            self._desk = None

    async def _say(self, line: Line) -> None:
        try:
            if line.word == "measure":
                await self._measure()
                return
            said = await (await self._at_desk()).call(CONTROL, self._request(line), limit_s=WORD_LIMIT_S)
            error = None if said.get("ok") else str(said.get("error", "without a reason"))
        except SystemUnderTestError as exc:
            error = str(exc)
        if error is not None:
            await self._note(FAILED_MARK, {"word": str(line), "error": error})
            return
        await self._note(SAID_MARK, {"word": str(line)})
        if struck := said.get("workers"):
            self._struck[line.word] = int(struck[0].get("number", 0))
        if line.word == "refresh":
            self._source.refresh(line)
            await self._note(SOURCE_MARK, {"partitions": self._source.names})

    def _request(self, line: Line) -> dict[str, Any]:
        """What the host is sent; `same` is the worker that the word before struck of which this is the opposite."""
        request = line.request()
        if request.get("worker") == SAME:
            request["worker"] = self._struck.get(OPPOSITES[line.word], SAME)
        return request

    async def _measure(self) -> None:
        """Note what all workers have now, read from outside where they are on this machine."""
        said = await (await self._at_desk()).call(CONTROL, {"do": "status"}, limit_s=WORD_LIMIT_S)
        workers = said.get("workers")
        if not said.get("ok") or not isinstance(workers, list):
            raise RefusedError(self._address.shown, f"tells no status: {said.get('error', 'without a reason')}")
        await self._note(MEMORY_MARK, look_at(workers, len(self._source.names)))

    async def _note(self, key: str, value: object) -> None:
        """Note it, though the server may be away for a while."""
        deadline_s = time.monotonic() + AGAIN_LIMIT_S
        while True:
            try:
                await (await self._at_desk()).note(key, value)
            except SystemUnderTestError:
                if time.monotonic() > deadline_s:
                    raise
                await asyncio.sleep(_POLL_S)
            else:
                return

    async def _at_desk(self) -> Desk:
        """Its connection, opened again when it was lost. Raises: RefusedError when that takes too long."""
        deadline_s = time.monotonic() + AGAIN_LIMIT_S
        while self._desk is None or self._desk.lost:
            try:
                self._desk = await open_desk(self._address, limit_s=AGAIN_LIMIT_S)
            except RefusedError:
                if time.monotonic() > deadline_s:
                    raise
                await asyncio.sleep(_POLL_S)
        return self._desk


class Source:
    """The partitions that the fleet's source has, as the host changes it: the last ones go, new ones have new numbers."""

    def __init__(self, partitions_count: int) -> None:
        self.names = [f"p{number}" for number in range(partitions_count)]
        self._next = partitions_count

    def refresh(self, line: Line) -> None:
        """Do as the host did."""
        removed, added = int(line.arguments.get("remove", 0)), int(line.arguments.get("add", 0))
        del self.names[len(self.names) - removed :]
        self.names += [f"p{number}" for number in range(self._next, self._next + added)]
        self._next += added


class Standing:
    """Whether a fleet stands: so many workers hold all partitions and say so, and for `rest_s` nothing new was published."""

    def __init__(self, workers_count: int, partitions_count: int, *, rest_s: float) -> None:
        self._wanted = workers_count, partitions_count
        self._rest_s = rest_s
        self._board = Board()
        self._written_s = 0.0

    def take(self, note: Note) -> None:
        """Bring in one note of the record."""
        self._board.take(note)
        if note.kind == ASSIGNMENT:
            self._written_s = time.monotonic()

    def reached(self) -> bool:
        """Whether it stands now."""
        board = self._board
        return time.monotonic() - self._written_s >= self._rest_s and board.assigned(*self._wanted) and board.applied_by_all()


def look_at(workers: Sequence[dict[str, Any]], partitions_count: int) -> dict[str, int]:
    """Sum up what the processes of some workers have: each process once, its proportional share of memory that it has with others.

    A sum without one of them would be too small, and is none: its `bytes`, or `tasks`, are 0 then.
    """
    running = [worker for worker in workers if worker.get("pid") and worker.get("state") not in ENDED]
    of_process = {int(worker["pid"]): worker for worker in running}
    shares = {pid: share_bytes(pid) for pid in sorted(of_process)}
    sizes = [int(of_process[pid].get("rss_bytes") or 0) if share is None else share for pid, share in shares.items()]
    tasks = [int(worker.get("tasks") or 0) for worker in of_process.values()]
    return {
        "workers": len(running),
        "partitions": partitions_count,
        "bytes": sum(sizes) if all(sizes) else 0,
        "tasks": sum(tasks) if all(tasks) else 0,
        "processes": len(of_process),
    }


def share_bytes(pid: int) -> int | None:
    """The proportional set size of a process; None where it cannot be read, as on another machine."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return None
